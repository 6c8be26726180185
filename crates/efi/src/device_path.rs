//! Device paths (UEFI 10): lists of nodes, each with type, subtype and length, that name devices and files.

use crate::{
    abi::{Guid, INVALID_PARAMETER, Status},
    guest::{Guest, utf16},
    media::partition::{Partition, Signature},
};

/// The longest path that is taken from a guest.
const MAX: usize = 16 << 10;

const HARDWARE: u8 = 1;
const ACPI: u8 = 2;
const MEDIA: u8 = 4;
const END: u8 = 0x7f;
const WHOLE: u8 = 0xff;
/// Of [`MEDIA`].
pub(crate) const HARD_DRIVE: u8 = 1;
const CD_ROM: u8 = 2;
pub(crate) const FILE: u8 = 4;

/// The end of a path.
pub(crate) const END_NODE: [u8; 4] = [END, WHOLE, 4, 0];

fn node(kind: u8, subtype: u8, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u16 + 4).to_le_bytes();
    [&[kind, subtype, len[0], len[1]], data].concat()
}

/// The device in slot `slot` of the PCIe host bridge.
pub(crate) fn pci(slot: u8) -> Vec<u8> {
    /// "PNP0A03".
    const PCI_ROOT: [u8; 8] = [0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0];
    [node(ACPI, 1, &PCI_ROOT), node(HARDWARE, 1, &[0, slot])].concat()
}

/// Something that only we know, by name.
pub(crate) fn vendor(guid: Guid) -> Vec<u8> {
    node(HARDWARE, 4, &guid.0)
}

/// A medium that only we know, by name.
pub(crate) fn media(guid: Guid) -> Vec<u8> {
    node(MEDIA, 3, &guid.0)
}

/// A partition of a disk.
pub(crate) fn partition(p: &Partition) -> Vec<u8> {
    let (start, len) = ((p.start / 512).to_le_bytes(), (p.len / 512).to_le_bytes());
    let mut id = [0; 16];
    let (format, kind) = match p.signature {
        Signature::Gpt(guid) => {
            id = guid;
            (2, 2)
        }
        Signature::Mbr(number) => {
            id.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
            (1, 1)
        }
        Signature::Cd(entry) => {
            let (start, len) = ((p.start / 2048).to_le_bytes(), (p.len / 512).to_le_bytes());
            return node(MEDIA, CD_ROM, &[&entry.to_le_bytes()[..], &start, &len].concat());
        }
    };
    node(MEDIA, HARD_DRIVE, &[&p.number.to_le_bytes()[..], &start, &len, &id, &[format, kind]].concat())
}

/// A file, by its path with backslashes.
pub(crate) fn file(path: &str) -> Vec<u8> {
    node(MEDIA, FILE, &utf16(path))
}

/// The nodes of a path: type, subtype, all of it.
pub(crate) fn nodes(path: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let [kind, subtype, low, high] = *rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        if kind == END || len < 4 {
            return None;
        }
        let (node, behind) = rest.split_at_checked(len)?;
        rest = behind;
        Some((kind, subtype, node))
    })
}

/// The path at `at`, with its end.
pub(crate) fn read(guest: &Guest, at: u64) -> Result<Vec<u8>, Status> {
    let mut path = Vec::new();
    loop {
        let head = at.checked_add(path.len() as u64).ok_or(INVALID_PARAMETER)?;
        let mut node = [0; 4];
        guest.read(head, &mut node)?;
        let len = u64::from(u16::from_le_bytes([node[2], node[3]]));
        if len < 4 || path.len() as u64 + len > MAX as u64 {
            return Err(INVALID_PARAMETER);
        }
        if node[0] == END && node[1] == WHOLE {
            path.extend(END_NODE);
            return Ok(path);
        }
        path.extend(guest.bytes(head, len)?);
    }
}

pub(crate) fn without_end(path: &[u8]) -> &[u8] {
    path.strip_suffix(&END_NODE).unwrap_or(path)
}

/// The file that the nodes of `path` name, as one path; `None` when they name something else too.
pub(crate) fn file_name(path: &[u8]) -> Option<String> {
    let mut name = String::new();
    for (kind, subtype, node) in nodes(path) {
        if (kind, subtype) != (MEDIA, FILE) {
            return None;
        }
        let units =
            node.get(4..)?.chunks_exact(2).filter_map(|c| Some(u16::from_le_bytes(*c.first_chunk()?)));
        let part: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        name.push('\\');
        name.push_str(&String::from_utf16_lossy(&part));
    }
    (!name.is_empty()).then_some(name)
}

/// What a path says, for people (10.6), shortly.
pub(crate) fn text(path: &[u8]) -> String {
    let parts = nodes(path).map(|(kind, subtype, node)| {
        let word = |at: usize| {
            node.get(at..at + 4).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
        };
        let byte = |at: usize| node.get(at).copied().unwrap_or(0);
        let wide = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        match (kind, subtype) {
            (ACPI, 1) if word(4) == 0x0a03_41d0 => format!("PciRoot(0x{:X})", word(8)),
            (HARDWARE, 1) => format!("Pci(0x{:X},0x{:X})", byte(5), byte(4)),
            (MEDIA, HARD_DRIVE) if byte(41) == 2 => {
                let id: [u8; 16] =
                    node.get(24..40).and_then(|b| b.first_chunk()).copied().unwrap_or_default();
                format!("HD({},GPT,{:?},0x{:X},0x{:X})", word(4), Guid(id), wide(8), wide(16))
            }
            (MEDIA, HARD_DRIVE) => {
                format!("HD({},MBR,0x{:08X},0x{:X},0x{:X})", word(4), word(24), wide(8), wide(16))
            }
            (MEDIA, CD_ROM) => format!("CDROM(0x{:X},0x{:X},0x{:X})", word(4), wide(8), wide(16)),
            (MEDIA, FILE) => file_name(node).unwrap_or_default().trim_start_matches('\\').to_owned(),
            _ => {
                let data: String =
                    node.get(4..).unwrap_or_default().iter().map(|b| format!("{b:02X}")).collect();
                format!("Path({kind},{subtype},{data})")
            }
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_built_and_read_back() {
        let part = Partition {
            number: 1,
            start: 2048 * 512,
            len: 512 << 10,
            signature: Signature::Gpt([0x11; 16]),
            is_system: true,
        };
        let path = [pci(3), partition(&part), file("\\EFI\\BOOT\\BOOTAA64.EFI"), END_NODE.to_vec()].concat();
        assert_eq!(
            text(&path),
            "PciRoot(0x0)/Pci(0x3,0x0)/HD(1,GPT,11111111-1111-1111-1111-111111111111,0x800,0x400)/EFI\\BOOT\\BOOTAA64.EFI"
        );
        let last = nodes(&path).last().unwrap().2;
        assert_eq!(file_name(last).unwrap(), "\\\\EFI\\BOOT\\BOOTAA64.EFI");
        assert_eq!(file_name(&path), None);
        assert_eq!(without_end(&path).len() + 4, path.len());
        for len in 0..path.len() {
            nodes(&path[..len]).for_each(drop);
            let _ = text(&path[..len]);
        }
    }
}
