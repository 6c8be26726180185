//! SMBIOS 3 (DSP0134): what the machine calls itself, and texts for the guest.

/// Who the machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// A number that no other machine has.
    pub uuid: [u8; 16],
    /// OEM strings (type 11): systemd takes credentials from them.
    pub strings: Vec<String>,
}

const ANCHOR: usize = 24;

impl Identity {
    /// The anchor, whose address and checksum are for firmware to set, and the tables that it leads to.
    pub fn smbios(&self) -> (Vec<u8>, Vec<u8>) {
        let mut anchor = tables(self, 0);
        let tables = anchor.split_off(ANCHOR);
        (anchor, tables)
    }
}

/// The anchor, for address `at`, and the tables right behind it.
pub(crate) fn tables(identity: &Identity, at: u64) -> Vec<u8> {
    let mut tables = Vec::new();
    // Firmware: strings, no address, characteristics: UEFI is supported, and a virtual machine.
    let mut bios = vec![1, 2, 0, 0, 3, 0];
    bios.extend(8u64.to_le_bytes());
    bios.extend([0, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    put(&mut tables, 0, &bios, &["Tearless", env!("CARGO_PKG_VERSION"), "01/01/2026"]);
    let mut system = vec![1, 2, 3, 0];
    system.extend(identity.uuid);
    // Woken by the power switch.
    system.extend([6, 0, 0]);
    put(&mut tables, 1, &system, &["Tearless", "Tearless Virtual Machine", env!("CARGO_PKG_VERSION")]);
    // An enclosure of kind "other"; its state is unknown.
    put(&mut tables, 3, &[1, 1, 0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0], &["Tearless"]);
    if !identity.strings.is_empty() {
        let strings: Vec<&str> = identity.strings.iter().take(255).map(String::as_str).collect();
        put(&mut tables, 11, &[strings.len() as u8], &strings);
    }
    put(&mut tables, 127, &[], &[]);
    let mut anchor = b"_SM3_\0\x18\x03\x05\0\x01\0".to_vec();
    anchor.extend((tables.len() as u32).to_le_bytes());
    anchor.extend((at + ANCHOR as u64).to_le_bytes());
    let sum = anchor.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    if let Some(slot) = anchor.get_mut(5) {
        *slot = sum;
    }
    anchor.extend(tables);
    anchor
}

/// Adds a structure: its handle is its type, as there is one of each.
fn put(tables: &mut Vec<u8>, kind: u8, data: &[u8], strings: &[&str]) {
    tables.extend([kind, data.len() as u8 + 4, kind, 0]);
    tables.extend(data);
    for string in strings {
        tables.extend(string.bytes().filter(|byte| *byte != 0));
        tables.push(0);
    }
    if strings.is_empty() {
        tables.push(0);
    }
    tables.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_sums_up_and_the_structures_have_their_lengths() {
        let identity = Identity { uuid: [7; 16], strings: vec!["io.systemd.credential:a=b".to_owned()] };
        let bytes = tables(&identity, 0x1000);
        assert_eq!(bytes[..ANCHOR].iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
        assert_eq!(bytes[16..24], 0x1018u64.to_le_bytes());
        let mut rest = &bytes[ANCHOR..];
        let mut kinds = vec![];
        while let [kind, len, ..] = *rest {
            kinds.push((kind, len));
            rest = &rest[usize::from(len)..];
            let end = rest.windows(2).position(|w| w == [0, 0]).unwrap();
            rest = &rest[end + 2..];
        }
        // The lengths that the specification gives for version 3.
        assert_eq!(kinds, [(0, 0x18 + 2), (1, 0x1b), (3, 0x16), (11, 5), (127, 4)]);
    }
}
