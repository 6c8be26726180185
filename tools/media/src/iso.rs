//! Writes CD images: ISO 9660 with Rock Ridge names, and an El Torito entry for EFI.

use std::collections::{BTreeMap, BTreeSet};

const BLOCK: usize = 2048;
const FIRST_DESCRIPTOR: usize = 16;
/// Primary descriptor, boot record, terminator, boot catalogue, and both path tables.
const FIRST_FREE: usize = FIRST_DESCRIPTOR + 6;
const FLAG_DIRECTORY: u8 = 2;
/// The `SP` entry, which says that there are Rock Ridge entries.
const SUSP: [u8; 7] = [b'S', b'P', 7, 1, 0xbe, 0xef, 0];

/// Collects the files of a CD. Paths have slashes and small letters.
#[derive(Default)]
pub struct IsoBuilder {
    files: BTreeMap<String, Vec<u8>>,
    boot: Vec<u8>,
}

fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// A number in both byte orders.
fn both32(n: usize) -> [u8; 8] {
    let n = n as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn both16(n: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (n.to_le_bytes(), n.to_be_bytes());
    [a, b, c, d]
}

/// A directory record (9.1) of `name` as ISO 9660 has it, with the entries `system` behind.
fn record(name: &[u8], (block, len, flags): (usize, usize, u8), system: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(block));
    record.extend(both32(len));
    // When: never.
    record.extend([70, 1, 1, 0, 0, 0, 0, flags, 0, 0]);
    record.extend(both16(1));
    record.push(name.len() as u8);
    record.extend(name);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record.extend(system);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

fn rock_ridge(name: &str) -> Vec<u8> {
    [&[b'N', b'M', name.len() as u8 + 5, 1, 0], name.as_bytes()].concat()
}

/// Packs records into blocks, none across two.
fn pack(records: Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for record in records {
        if bytes.len() % BLOCK + record.len() > BLOCK {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(record);
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

impl IsoBuilder {
    /// Puts a file onto it.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    /// What EFI boots: the image of a FAT.
    pub fn boot(mut self, image: Vec<u8>) -> Self {
        self.boot = image;
        self
    }

    /// The folders, the root first, each before what is in it.
    fn folders(&self) -> Vec<String> {
        let mut all = BTreeSet::from([String::new()]);
        for path in self.files.keys() {
            all.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
        all.into_iter().collect()
    }

    /// The image.
    pub fn finish(self) -> Vec<u8> {
        let folders = self.folders();
        // Sizes of folders do not depend on where things are.
        let mut places: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut next = FIRST_FREE;
        for folder in &folders {
            let len = self.folder(folder, &folders, &places).len();
            places.insert(format!("{folder}/"), (next, len));
            next += blocks(len);
        }
        for (path, content) in &self.files {
            places.insert(path.clone(), (next, content.len()));
            next += blocks(content.len()).max(1);
        }
        let boot = next;
        next += blocks(self.boot.len());
        let mut image = vec![0; next * BLOCK];
        let mut put = |block: usize, bytes: &[u8]| {
            image[block * BLOCK..block * BLOCK + bytes.len()].copy_from_slice(bytes);
        };
        for folder in &folders {
            put(places[&format!("{folder}/")].0, &self.folder(folder, &folders, &places));
        }
        for (path, content) in &self.files {
            put(places[path].0, content);
        }
        put(boot, &self.boot);
        let root = places["/"];
        for (at, big) in [(FIRST_FREE - 2, false), (FIRST_FREE - 1, true)] {
            put(at, &path_table(root.0, big));
        }
        put(FIRST_DESCRIPTOR, &primary(next, root));
        put(FIRST_DESCRIPTOR + 1, &boot_record(FIRST_DESCRIPTOR + 3));
        put(FIRST_DESCRIPTOR + 2, b"\xffCD001\x01");
        put(FIRST_DESCRIPTOR + 3, &catalogue(boot, self.boot.len()));
        image
    }

    fn folder(&self, folder: &str, folders: &[String], places: &BTreeMap<String, (usize, usize)>) -> Vec<u8> {
        let place = |path: &str| places.get(path).copied().unwrap_or_default();
        let at = |path: &str, flags: u8| {
            let (block, len) = place(path);
            (block, len, flags)
        };
        let own = at(&format!("{folder}/"), FLAG_DIRECTORY);
        let above = at(&format!("{}/", parent(folder)), FLAG_DIRECTORY);
        let mark: &[u8] = if folder.is_empty() { &SUSP } else { &[] };
        let mut records = vec![record(&[0], own, mark), record(&[1], above, &[])];
        for sub in folders.iter().filter(|sub| !sub.is_empty() && parent(sub) == folder) {
            let plain = name(sub).to_ascii_uppercase();
            let place = at(&format!("{sub}/"), FLAG_DIRECTORY);
            records.push(record(plain.as_bytes(), place, &rock_ridge(name(sub))));
        }
        for path in self.files.keys().filter(|path| parent(path) == folder) {
            let plain = format!("{};1", name(path).to_ascii_uppercase());
            records.push(record(plain.as_bytes(), at(path, 0), &rock_ridge(name(path))));
        }
        pack(records)
    }
}

/// The root only: systems of today walk directories.
fn path_table(root: usize, big: bool) -> Vec<u8> {
    let (block, up) = if big {
        ((root as u32).to_be_bytes(), 1u16.to_be_bytes())
    } else {
        ((root as u32).to_le_bytes(), 1u16.to_le_bytes())
    };
    [&[1, 0][..], &block, &up, &[0, 0]].concat()
}

fn primary(total: usize, (root, len): (usize, usize)) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, b"\x01CD001\x01");
    put(8, &[b' '; 64]);
    put(40, b"TEARLESS_TEST");
    put(80, &both32(total));
    for at in [120, 124] {
        put(at, &both16(1));
    }
    put(128, &both16(BLOCK as u16));
    put(132, &both32(10));
    put(140, &((FIRST_FREE - 2) as u32).to_le_bytes());
    put(148, &((FIRST_FREE - 1) as u32).to_be_bytes());
    put(156, &record(&[0], (root, len, FLAG_DIRECTORY), &[]));
    put(190, &[b' '; 623]);
    for at in [813, 830, 847, 864] {
        put(at, b"0000000000000000\0");
    }
    put(881, &[1]);
    bytes
}

fn boot_record(catalogue: usize) -> Vec<u8> {
    let mut bytes = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    bytes.resize(71, 0);
    bytes.extend((catalogue as u32).to_le_bytes());
    bytes
}

/// The boot catalogue: validation, and one entry for EFI.
fn catalogue(boot: usize, len: usize) -> Vec<u8> {
    const PLATFORM_EFI: u8 = 0xef;
    let mut entry = [0; 64];
    entry[..2].copy_from_slice(&[1, PLATFORM_EFI]);
    entry[30..32].copy_from_slice(&[0x55, 0xaa]);
    let sum = entry[..32]
        .chunks(2)
        .fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
    entry[28..30].copy_from_slice(&0u16.wrapping_sub(sum).to_le_bytes());
    entry[32] = 0x88;
    let sectors = u16::try_from(len.div_ceil(512)).unwrap_or(u16::MAX);
    entry[38..40].copy_from_slice(&sectors.to_le_bytes());
    entry[40..44].copy_from_slice(&(boot as u32).to_le_bytes());
    entry.to_vec()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tearless_image::installer::Iso;

    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let mut builder = IsoBuilder::default().file(".disk/info", "Debian").boot(vec![7; 5000]);
        for i in 0..100 {
            builder = builder.file(&format!("install.a64/a file with a long name {i}"), vec![i; i.into()]);
        }
        let image = builder.file("install.a64/deeper/x", "y").finish();
        let mut iso = Iso::open(Cursor::new(&image)).unwrap();
        let mut read = |path: &str| {
            let node = iso.find(path).unwrap()?;
            Some(iso.read(node, 1000).unwrap())
        };
        assert_eq!(read(".disk/info").unwrap(), b"Debian");
        assert_eq!(read("install.a64/A FILE with a long name 99").unwrap(), vec![99; 99]);
        assert_eq!(read("install.a64/deeper/x").unwrap(), b"y");
        for missing in ["x", "install.a64/x", ".disk/info/x"] {
            assert_eq!(read(missing), None, "{missing}");
        }
    }
}
