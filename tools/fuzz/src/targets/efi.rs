//! What EFI in the VMM reads of disks: programs, partition tables, file systems.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tearless_efi::{
    media::{
        Volume,
        fat::{Fat, Node},
        partition::partitions,
    },
    pe,
};
use tearless_storage::Disk;

/// A disk in memory.
pub struct MemoryDisk(Mutex<Vec<u8>>);

impl MemoryDisk {
    /// A disk with this content, cut to whole sectors.
    pub fn new(mut content: Vec<u8>) -> Arc<Self> {
        content.truncate(content.len() & !511);
        Arc::new(Self(Mutex::new(content)))
    }

    /// What is on it now.
    pub fn content(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, offset: u64, len: usize, then: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = start.checked_add(len).and_then(|end| content.get_mut(start..end));
        part.map(then).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Disk for MemoryDisk {
    fn name(&self) -> &str {
        "memory"
    }

    fn size(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(offset, data.len(), |part| data.copy_from_slice(part))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.with(offset, data.len(), |part| part.copy_from_slice(data))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.with(offset, usize::try_from(len).map_err(io::Error::other)?, |part| part.fill(0))
    }
}

/// Loads a program twice: at one address and at another.
pub fn efi_program(data: &[u8]) {
    let Ok(image) = pe::parse(data) else { return };
    // Larger ones are the caller's to bound, by the guest's memory.
    if image.size > 16 << 20 {
        return;
    }
    for base in [0x4000_0000, 0xbfff_0000] {
        if let Ok(memory) = image.load(base) {
            assert!(memory.len() as u64 == image.size && image.entry < image.size);
        }
    }
}

/// Partitions: GPT, MBR, El Torito; and the file systems in them and in the whole.
pub fn efi_disk(data: &[u8]) {
    let whole = Volume::whole(MemoryDisk::new(data.to_vec()));
    let mut volumes = vec![whole.clone()];
    for partition in partitions(&whole).into_iter().take(4) {
        let volume = whole.part(partition.start, partition.len);
        assert!(volume.is_some(), "{partition:?} lies outside of its disk");
        volumes.extend(volume);
    }
    for volume in volumes {
        if let Ok(fat) = Fat::open(volume) {
            walk(fat);
        }
    }
}

/// Reads what there is, then writes. Errors are answers; that all this ends is what is looked at.
fn walk(mut fat: Fat) {
    let root = fat.root();
    let mut at = 0;
    let mut found: Vec<Node> = Vec::new();
    while let Ok(Some((node, next))) = fat.list(&root, at) {
        assert!(next > at);
        at = next;
        found.push(node);
        if found.len() == 32 {
            break;
        }
    }
    let mut buffer = vec![0; 4096];
    for node in &mut found {
        _ = fat.find(&root, &node.name);
        _ = fat.list(node, 0);
        _ = fat.read(node, u64::from(node.size / 2), &mut buffer);
    }
    let now = (0x5a21, 0);
    if let Ok(mut file) = fat.create(&root, "a new file", false, now) {
        _ = fat.write(&mut file, 100, &buffer);
        _ = fat.resize(&mut file, 50);
        _ = fat.rename(&root, &file, "another").and_then(|file| fat.remove(&file));
    }
    for mut node in found {
        if node.size < 1 << 20 {
            _ = fat.write(&mut node, 10, b"changed");
        }
        _ = fat.remove(&node);
    }
    _ = fat.space();
}
