//! A RAM disk in the "newc" cpio format, as Linux unpacks it into its root file system at start
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The same entries give the same bytes: modification times are zero, inode numbers count up, everything belongs to
//! root. Parent folders are made on the way.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// The longest path taken, `PATH_MAX` of the kernel with its terminator.
const MAX_PATH: usize = 4095;
/// The longest component, `NAME_MAX` of the kernel.
const MAX_NAME: usize = 255;
/// A file's size is written as eight hexadecimal digits.
const MAX_FILE: usize = u32::MAX as usize;

const TYPE_DIR: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHAR: u32 = 0o020_000;
const TYPE_BLOCK: u32 = 0o060_000;
const TYPE_FIFO: u32 = 0o010_000;
const PERMISSIONS: u32 = 0o7777;

/// The kinds of special files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A named pipe; it has no device number.
    Fifo,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

/// Collects the entries of a RAM disk. Paths are relative to the root ("bin/sh"); a later entry replaces an earlier
/// one of the same path.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    // Sorted by path, thus a folder comes before what it holds.
    entries: BTreeMap<String, Entry>,
}

impl Initramfs {
    /// An empty RAM disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder with permission bits `mode`.
    ///
    /// # Errors
    /// [`Error::Initramfs`] for a path that the guest's kernel would refuse; so do the methods below.
    pub fn dir(&mut self, path: &str, mode: u32) -> Result<&mut Self> {
        self.add(path, TYPE_DIR | mode & PERMISSIONS, (0, 0), Vec::new())
    }

    /// A regular file.
    ///
    /// # Errors
    /// As [`Self::dir`], and for data of 4 GiB and more.
    pub fn file(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>) -> Result<&mut Self> {
        self.add(path, TYPE_FILE | mode & PERMISSIONS, (0, 0), data.into())
    }

    /// A symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Self::dir`], and for an impossible target.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self> {
        if target.is_empty() || target.len() > MAX_PATH || target.contains('\0') {
            return Err(Error::Initramfs(format!("symbolic link `{path}` has an impossible target")));
        }
        self.add(path, TYPE_SYMLINK | 0o777, (0, 0), target.into())
    }

    /// A special file with its (major, minor) device number.
    ///
    /// # Errors
    /// As [`Self::dir`].
    pub fn node(&mut self, path: &str, mode: u32, kind: NodeKind, device: (u32, u32)) -> Result<&mut Self> {
        let kind = match kind {
            NodeKind::Char => TYPE_CHAR,
            NodeKind::Block => TYPE_BLOCK,
            NodeKind::Fifo => TYPE_FIFO,
        };
        self.add(path, kind | mode & PERMISSIONS, device, Vec::new())
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), data: Vec<u8>) -> Result<&mut Self> {
        let bad_name =
            |n: &str| n.is_empty() || n == "." || n == ".." || n.len() > MAX_NAME || n.contains('\0');
        if path.len() > MAX_PATH || path == TRAILER || path.split('/').any(bad_name) {
            return Err(Error::Initramfs(format!("`{}` is not a usable path", path.escape_debug())));
        }
        if data.len() > MAX_FILE {
            return Err(Error::Initramfs(format!("`{path}` is larger than 4 GiB")));
        }
        for (slash, _) in path.match_indices('/') {
            let parent = self
                .entries
                .entry(path[..slash].into())
                .or_insert(Entry { mode: TYPE_DIR | 0o755, ..Entry::default() });
            if parent.mode & !PERMISSIONS != TYPE_DIR {
                return Err(Error::Initramfs(format!("`{path}` lies under something that is no folder")));
            }
        }
        self.entries.insert(path.into(), Entry { mode, device, data });
        Ok(self)
    }

    /// The archive.
    pub fn finish(&self) -> Vec<u8> {
        let size: usize = self.entries.iter().map(|(path, e)| 120 + path.len() + e.data.len()).sum();
        let mut out = Vec::with_capacity(size + 512);
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            write_entry(&mut out, inode, path, entry);
        }
        write_entry(&mut out, 0, TRAILER, &Entry::default());
        // Boot loaders and the kernel read whole blocks; padding keeps a second archive appendable.
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

fn write_entry(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let links = if entry.mode & !PERMISSIONS == TYPE_DIR { 2 } else { 1 };
    let (major, minor) = entry.device;
    let header = [
        inode,
        entry.mode,
        0, // uid
        0, // gid
        links,
        0, // modification time
        entry.data.len() as u32,
        0, // device of the file system, major
        0, // and minor
        major,
        minor,
        path.len() as u32 + 1,
        0, // checksum, of the "crc" variant only
    ];
    out.extend(b"070701");
    for field in header {
        out.extend(format!("{field:08x}").as_bytes());
    }
    out.extend(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(&entry.data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Path, mode, device, data.
    pub(crate) type Read = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive back.
    pub(crate) fn parse(mut archive: &[u8]) -> Vec<Read> {
        let total = archive.len();
        let mut found = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |i: usize| {
                u32::from_str_radix(std::str::from_utf8(&archive[6 + 8 * i..14 + 8 * i]).unwrap(), 16)
                    .unwrap()
            };
            let (mode, size, device, name) = (field(1), field(6), (field(9), field(10)), field(11) as usize);
            let path = std::str::from_utf8(&archive[110..110 + name - 1]).unwrap().to_owned();
            assert_eq!(archive[110 + name - 1], 0);
            let data = (110 + name).next_multiple_of(4);
            let end = data + size as usize;
            if path == TRAILER {
                assert!(archive[end..].iter().all(|&b| b == 0) && total.is_multiple_of(512));
                return found;
            }
            found.push((path, mode, device, archive[data..end].to_vec()));
            archive = &archive[end.next_multiple_of(4)..];
        }
    }

    #[test]
    fn writes_every_kind_and_makes_parents() {
        let mut fs = Initramfs::new();
        fs.file("sbin/init", 0o755, "run").unwrap().symlink("bin", "sbin").unwrap();
        fs.node("dev/console", 0o600, NodeKind::Char, (5, 1)).unwrap().dir("root", 0o700).unwrap();
        fs.node("dev/vda", 0o660, NodeKind::Block, (254, 0)).unwrap();
        fs.node("dev/queue", 0o600, NodeKind::Fifo, (0, 0)).unwrap();
        let list = parse(&fs.finish());
        let expected = [
            ("bin", 0o120_777, (0, 0), "sbin"),
            ("dev", 0o040_755, (0, 0), ""),
            ("dev/console", 0o020_600, (5, 1), ""),
            ("dev/queue", 0o010_600, (0, 0), ""),
            ("dev/vda", 0o060_660, (254, 0), ""),
            ("root", 0o040_700, (0, 0), ""),
            ("sbin", 0o040_755, (0, 0), ""),
            ("sbin/init", 0o100_755, (0, 0), "run"),
        ];
        assert_eq!(list, expected.map(|(p, m, d, b)| (p.to_owned(), m, d, b.as_bytes().to_vec())));
    }

    #[test]
    fn refuses_impossible_paths() {
        let long = "x".repeat(256);
        for path in ["", "/bin", "bin/", "a//b", "a/../b", ".", "nul\0", TRAILER, &long] {
            assert!(Initramfs::new().dir(path, 0o755).is_err(), "{path}");
        }
        assert!(Initramfs::new().symlink("a", "").is_err());
        let mut fs = Initramfs::new();
        fs.file("a", 0o644, "").unwrap();
        assert!(fs.file("a/b", 0o644, "").is_err());
    }

    proptest! {
        #[test]
        fn reads_back(files in proptest::collection::btree_map("[a-z]{1,9}(/[a-z]{1,40}){0,3}x[0-9]{1,5}",
            (0u32..0o10000, proptest::collection::vec(any::<u8>(), 0..300)), 0..12)) {
            let mut fs = Initramfs::new();
            let mut reversed = Initramfs::new();
            for (path, (mode, data)) in &files {
                fs.file(path, *mode, data.clone()).unwrap();
            }
            for (path, (mode, data)) in files.iter().rev() {
                reversed.file(path, *mode, data.clone()).unwrap();
            }
            let archive = fs.finish();
            prop_assert_eq!(&archive, &reversed.finish(), "the order of calls does not matter");
            let mut seen = std::collections::BTreeSet::new();
            let mut count = 0;
            for (path, mode, _, data) in parse(&archive) {
                let parent = path.rsplit_once('/').map_or("", |(p, _)| p).to_owned();
                prop_assert!(parent.is_empty() || seen.contains(&parent), "parent first");
                if mode & !PERMISSIONS == TYPE_FILE {
                    prop_assert_eq!(&(mode & PERMISSIONS, data), &files[&path]);
                    count += 1;
                }
                seen.insert(path);
            }
            prop_assert_eq!(count, files.len());
        }
    }
}
