//! A file system tree in the making: names and metadata in memory, contents in a spool file.
//!
//! Paths are followed the way a kernel would with this tree as root: symbolic links in the middle of a path lead on
//! (Debian's `/bin` is one), bounded, and `..` never leaves the tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::deb::{Entry, EntryKind};
use crate::error::{Error, Kind, Result};

/// As many links in one path as Linux follows.
const LINK_LIMIT: u32 = 40;

/// Index of a node; the root is 0.
pub type NodeId = usize;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Names in it.
    Directory(BTreeMap<String, NodeId>),
    /// Where its content is in the spool.
    File {
        /// Offset in the spool.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Target, verbatim.
    Symlink(String),
    /// Character device: major, minor.
    CharDevice(u32, u32),
    /// Block device: major, minor.
    BlockDevice(u32, u32),
    /// Named pipe.
    Fifo,
}

/// Owner, permissions and time of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
}

impl Meta {
    /// Owned by root.
    pub fn root(mode: u16, mtime: u64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime }
    }
}

/// A file, folder, link, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Whose it is.
    pub meta: Meta,
}

/// The tree.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    spool: File,
    spooled: u64,
}

impl Tree {
    /// An empty root folder; its spool is a nameless file in `folder`.
    ///
    /// # Errors
    /// The spool cannot be made.
    pub fn new(folder: &std::path::Path, mtime: u64) -> Result<Self> {
        let spool = tempfile::tempfile_in(folder)
            .map_err(|e| Error::local("make a temporary file in", folder, &e))?;
        let root = Node { kind: NodeKind::Directory(BTreeMap::new()), meta: Meta::root(0o755, mtime) };
        Ok(Self { nodes: vec![root], spool, spooled: 0 })
    }

    /// All nodes, by id. Replaced and removed ones stay in here but are in no folder.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Adds an entry of a package as dpkg would: a folder that is there stays as it is, also when it is a link to one;
    /// anything else replaces what had the name.
    ///
    /// # Errors
    /// The path goes through something that is no folder, or the content cannot be read.
    pub fn add(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let meta = Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
        match &entry.kind {
            EntryKind::Directory => return self.directory(&entry.path, meta),
            EntryKind::File => {
                let kind = self.spool(&entry.path, content)?;
                self.place(&entry.path, kind, meta)?;
            }
            EntryKind::Symlink(target) => {
                let replaces_folder = self.find(&entry.path, false).is_some_and(|id| self.is_directory(id));
                if !replaces_folder {
                    self.place(&entry.path, NodeKind::Symlink(target.clone()), meta)?;
                }
            }
            EntryKind::HardLink(target) => {
                let id = self
                    .find(target, false)
                    .ok_or_else(|| refused(&entry.path, "it links to a file that is not there"))?;
                if self.is_directory(id) {
                    return Err(refused(&entry.path, "it is a hard link to a folder"));
                }
                let (parent, name) = self.parent_of(&entry.path)?;
                self.attach(parent, name, id);
            }
            EntryKind::CharDevice(major, minor) => {
                self.place(&entry.path, NodeKind::CharDevice(*major, *minor), meta)?;
            }
            EntryKind::BlockDevice(major, minor) => {
                self.place(&entry.path, NodeKind::BlockDevice(*major, *minor), meta)?;
            }
            EntryKind::Fifo => self.place(&entry.path, NodeKind::Fifo, meta)?,
        }
        Ok(())
    }

    /// Makes a folder, unless there is one (or a link to one).
    ///
    /// # Errors
    /// The path goes through something that is no folder.
    pub fn directory(&mut self, path: &str, meta: Meta) -> Result<()> {
        match self.find(path, true) {
            Some(id) if self.is_directory(id) => Ok(()),
            _ => self.place(path, NodeKind::Directory(BTreeMap::new()), meta),
        }
    }

    /// Writes a file, following a link of that name; the folders on the way are made.
    ///
    /// # Errors
    /// The path goes through something that is no folder, or the spool cannot be written.
    pub fn write(&mut self, path: &str, content: &[u8], meta: Meta) -> Result<()> {
        let kind = self.spool(path, &mut &content[..])?;
        match self.find(path, true) {
            Some(id) if !self.is_directory(id) => {
                self.nodes[id] = Node { kind, meta };
                Ok(())
            }
            _ => self.place(path, kind, meta),
        }
    }

    /// Makes a symbolic link, replacing what had the name.
    ///
    /// # Errors
    /// The path goes through something that is no folder.
    pub fn symlink(&mut self, path: &str, target: &str, mtime: u64) -> Result<()> {
        self.place(path, NodeKind::Symlink(target.to_owned()), Meta::root(0o777, mtime))
    }

    /// Takes a name away; nothing happens when it is not there.
    pub fn remove(&mut self, path: &str) {
        let (parent, name) = split(path);
        if let Some(id) = self.find(parent, true)
            && let NodeKind::Directory(names) = &mut self.nodes[id].kind
        {
            names.remove(name);
        }
    }

    /// The content of a file, following links; `None` when there is no such file.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(id) = self.find(path, true) else { return Ok(None) };
        let NodeKind::File { offset, len } = self.nodes[id].kind else { return Ok(None) };
        let mut bytes = Vec::new();
        self.content(offset, len)
            .and_then(|mut r| r.read_to_end(&mut bytes))
            .map_err(|e| spool_failed(path, &e))?;
        Ok(Some(bytes))
    }

    /// A file's content as text; empty when there is no such file.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn read_text(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path)?.unwrap_or_default()).into_owned())
    }

    /// A reader over a stretch of the spool.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn content(&mut self, offset: u64, len: u64) -> io::Result<impl Read + '_> {
        self.spool.seek(SeekFrom::Start(offset))?;
        Ok((&mut self.spool).take(len))
    }

    /// The names in a folder, following links; none when there is no such folder.
    pub fn list(&self, path: &str) -> Vec<String> {
        match self.find(path, true).and_then(|id| self.nodes.get(id)).map(|n| &n.kind) {
            Some(NodeKind::Directory(names)) => names.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a path leads to anything, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.find(path, true).is_some()
    }

    /// Where a symbolic link points, itself not followed.
    pub fn link_target(&self, path: &str) -> Option<&str> {
        match &self.nodes[self.find(path, false)?].kind {
            NodeKind::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// Changes owner and permissions, links followed.
    ///
    /// # Errors
    /// There is no such file.
    pub fn set_meta(&mut self, path: &str, change: impl FnOnce(&mut Meta)) -> Result<()> {
        let id = self.find(path, true).ok_or_else(|| refused(path, "it is not there"))?;
        change(&mut self.nodes[id].meta);
        Ok(())
    }

    fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.nodes[id].kind, NodeKind::Directory(_))
    }

    fn place(&mut self, path: &str, kind: NodeKind, meta: Meta) -> Result<()> {
        let (parent, name) = self.parent_of(path)?;
        let id = self.nodes.len();
        self.nodes.push(Node { kind, meta });
        self.attach(parent, name, id);
        Ok(())
    }

    fn attach(&mut self, parent: NodeId, name: String, id: NodeId) {
        if let NodeKind::Directory(names) = &mut self.nodes[parent].kind {
            names.insert(name, id);
        }
    }

    /// The folder that a path's last name belongs in, made if need be.
    fn parent_of(&mut self, path: &str) -> Result<(NodeId, String)> {
        let (parent, name) = split(path);
        if name.is_empty() || name == "." || name == ".." || name.len() > 255 {
            return Err(refused(path, "its last part is no name for a file"));
        }
        if let Some(id) = self.find(parent, true) {
            return if self.is_directory(id) {
                Ok((id, name.to_owned()))
            } else {
                Err(refused(path, "it goes through something that is no folder"))
            };
        }
        if self.find(parent, false).is_some() {
            return Err(refused(path, "a link on the way leads nowhere"));
        }
        let mtime = self.nodes[0].meta.mtime;
        let id = self.nodes.len();
        self.place(parent, NodeKind::Directory(BTreeMap::new()), Meta::root(0o755, mtime))?;
        Ok((self.find(parent, true).unwrap_or(id), name.to_owned()))
    }

    /// The node that a path leads to; `follow` says whether a link at its end is followed.
    fn find(&self, path: &str, follow: bool) -> Option<NodeId> {
        let mut links = 0;
        self.walk(0, &[0], path, follow, &mut links).and_then(|trail| trail.last().copied())
    }

    /// Walks from `base` (a trail of folders from the root) and returns the trail to the end.
    fn walk(
        &self,
        root: NodeId,
        base: &[NodeId],
        path: &str,
        follow: bool,
        links: &mut u32,
    ) -> Option<Vec<NodeId>> {
        let mut trail = if path.starts_with('/') { vec![root] } else { base.to_vec() };
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
        for (at, part) in parts.iter().enumerate() {
            if *part == ".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let NodeKind::Directory(names) = &self.nodes.get(*trail.last()?)?.kind else { return None };
            let id = *names.get(*part)?;
            match &self.nodes.get(id)?.kind {
                NodeKind::Symlink(target) if follow || at + 1 < parts.len() => {
                    *links += 1;
                    if *links > LINK_LIMIT {
                        return None;
                    }
                    trail = self.walk(root, &trail, target, true, links)?;
                }
                _ => trail.push(id),
            }
        }
        Some(trail)
    }

    fn spool(&mut self, path: &str, content: &mut dyn Read) -> Result<NodeKind> {
        let offset = self.spooled;
        let end = self.spool.seek(SeekFrom::Start(offset)).map_err(|e| spool_failed(path, &e))?;
        let mut buffer = [0; 64 * 1024];
        let mut len = 0;
        loop {
            let n =
                content.read(&mut buffer).map_err(|e| Error::format(format!("cannot unpack {path}"), e))?;
            if n == 0 {
                break;
            }
            self.spool.write_all(&buffer[..n]).map_err(|e| spool_failed(path, &e))?;
            len += n as u64;
        }
        self.spooled = end + len;
        Ok(NodeKind::File { offset, len })
    }
}

fn split(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path.trim_end_matches('/')))
}

fn refused(path: &str, why: &str) -> Error {
    Error::new(Kind::Format, format!("cannot place /{path} on the disk"), why, "")
}

fn spool_failed(path: &str, why: &io::Error) -> Error {
    let what = format!("cannot keep the content of /{path} in a temporary file");
    Error::new(Kind::Local, what, why, "free some space on the disk that holds the new disk image")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::new(&std::env::temp_dir(), 5).unwrap()
    }

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.into(), kind, mode: 0o640, uid: 1, gid: 2, mtime: 3, size: 0 }
    }

    #[test]
    fn packages_follow_the_merged_usr() {
        let mut tree = tree();
        tree.directory("usr/bin", Meta::root(0o755, 0)).unwrap();
        tree.symlink("bin", "usr/bin", 0).unwrap();
        tree.add(&entry("bin", EntryKind::Directory), &mut io::empty()).unwrap();
        tree.add(&entry("bin/sh", EntryKind::File), &mut &b"#!"[..]).unwrap();
        assert_eq!(
            tree.link_target("bin"),
            Some("usr/bin"),
            "the folder of a package does not replace the link"
        );
        assert_eq!(tree.read("usr/bin/sh").unwrap().unwrap(), b"#!");
        assert_eq!(tree.list("bin"), ["sh"]);
        tree.add(&entry("usr/bin/dash", EntryKind::HardLink("bin/sh".into())), &mut io::empty()).unwrap();
        assert_eq!(tree.find("usr/bin/dash", true), tree.find("bin/sh", true));
    }

    #[test]
    fn links_are_followed_inside_and_bounded() {
        let mut tree = tree();
        tree.symlink("a/loop", "loop", 0).unwrap();
        tree.symlink("a/up", "../../../etc/passwd", 0).unwrap();
        tree.symlink("abs", "/etc", 0).unwrap();
        tree.write("etc/passwd", b"x", Meta::root(0o644, 0)).unwrap();
        assert!(!tree.exists("a/loop"));
        assert_eq!(tree.read_text("a/up").unwrap(), "x", ".. stops at the root");
        tree.write("abs/passwd", b"y", Meta::root(0o600, 9)).unwrap();
        assert_eq!(tree.read_text("etc/passwd").unwrap(), "y");
        tree.remove("abs/passwd");
        assert!(!tree.exists("etc/passwd"));
        assert_eq!(tree.read("etc/passwd").unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut tree = tree();
        tree.write("file", b"", Meta::root(0o644, 0)).unwrap();
        assert!(tree.write("file/below", b"", Meta::root(0o644, 0)).is_err());
        assert!(tree.add(&entry("x", EntryKind::HardLink("none".into())), &mut io::empty()).is_err());
        assert!(tree.write(&"n".repeat(256), b"", Meta::root(0o644, 0)).is_err());
        tree.symlink("dangling", "nowhere", 0).unwrap();
        assert!(tree.write("dangling/x", b"", Meta::root(0o644, 0)).is_err());
        assert!(tree.set_meta("none", |_| ()).is_err());
    }
}
