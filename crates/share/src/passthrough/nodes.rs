//! The files that the guest knows, by number.
//!
//! A node is a file of the host, named by its file system, number and time of birth, and held open by an `O_PATH`
//! descriptor: that cannot be led astray, whatever is renamed or replaced meanwhile. Descriptors are few, though, and a
//! guest remembers many files; so those unused for longest are closed, and opened anew by folder and name when needed.
//! What is found there then must be the same file.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::fs::{self, Mode, OFlags, Statx};
use serde::{Deserialize, Serialize};

use super::{
    owner::TYPE,
    share::{Share, stat},
};
use crate::{Errno, Name, NodeId};

type Result<T> = std::result::Result<T, Errno>;

/// Folders within folders; a path of Linux has at most 4095 bytes, but folders can be nested deeper.
const MAX_DEPTH: usize = 8192;

pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What makes two looks at a file looks at the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) device: (u32, u32),
    inode: u64,
    born: (i64, u32),
    kind: u32,
}

impl Key {
    pub(super) fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
            kind: u32::from(stat.stx_mode) & TYPE,
        }
    }
}

/// What a file's content was when the guest last opened it: time of change and length.
pub(super) type Stamp = ((i64, u32), (i64, u32), u64);

/// A descriptor of a node, for as long as a call needs it.
#[derive(Debug)]
pub(super) enum Held<'a> {
    Root(BorrowedFd<'a>),
    Other(Arc<OwnedFd>),
}

impl AsFd for Held<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Other(fd) => fd.as_fd(),
        }
    }
}

#[derive(Debug)]
struct Place {
    parent: NodeId,
    name: Box<[u8]>,
}

/// A file that the guest knows.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) key: Key,
    place: Mutex<Place>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// How often it is open: then its descriptor stays, for it may have lost its name.
    pub(super) open: AtomicUsize,
    pub(super) stamp: Mutex<Option<Stamp>>,
}

impl Node {
    /// The type bits of its mode.
    pub(super) fn kind(&self) -> u32 {
        self.key.kind
    }
}

/// A node as a saved VM has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedNode {
    id: u64,
    lookups: u64,
    pub(super) key: Key,
    parent: u64,
    name: SavedName,
}

/// A name: text, which it should be, or bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum SavedName {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Box<[u8]>> for SavedName {
    fn from(bytes: Box<[u8]>) -> Self {
        String::from_utf8(bytes.into()).map_or_else(|e| Self::Bytes(e.into_bytes()), Self::Text)
    }
}

impl From<SavedName> for Box<[u8]> {
    fn from(name: SavedName) -> Self {
        match name {
            SavedName::Text(text) => text.into_bytes().into(),
            SavedName::Bytes(bytes) => bytes.into(),
        }
    }
}

pub(super) struct Slot {
    node: Arc<Node>,
    lookups: u64,
}

struct Table {
    by_id: HashMap<NodeId, Slot>,
    by_key: HashMap<Key, NodeId>,
    next: u64,
    /// Nodes that have a descriptor, the oldest first; some of them are gone.
    descriptors: VecDeque<NodeId>,
    held: usize,
}

pub(super) struct Nodes {
    table: Mutex<Table>,
    root: Arc<Node>,
    max_nodes: usize,
    max_descriptors: usize,
}

impl Nodes {
    pub(super) fn new(share: &Share, max_nodes: usize, max_descriptors: usize) -> Result<Self> {
        let root = Arc::new(Node {
            id: NodeId::ROOT,
            key: Key::of(&stat(share.root())?),
            place: Mutex::new(Place { parent: NodeId::ROOT, name: Box::default() }),
            fd: Mutex::default(),
            open: AtomicUsize::new(0),
            stamp: Mutex::default(),
        });
        let table = Table {
            by_id: HashMap::new(),
            by_key: HashMap::new(),
            next: NodeId::ROOT.0 + 1,
            descriptors: VecDeque::new(),
            held: 0,
        };
        Ok(Self { table: Mutex::new(table), root, max_nodes, max_descriptors })
    }

    /// Takes out all but the root.
    pub(super) fn clear(&self) -> HashMap<NodeId, Slot> {
        let mut table = lock(&self.table);
        table.by_key.clear();
        table.descriptors.clear();
        table.held = 0;
        std::mem::take(&mut table.by_id)
    }

    pub(super) fn root_key(&self) -> Key {
        self.root.key
    }

    /// For a saved VM: the nodes, and the next number.
    pub(super) fn save(&self) -> (Vec<SavedNode>, u64) {
        let table = lock(&self.table);
        let nodes = table.by_id.values().map(|slot| {
            let place = lock(&slot.node.place);
            SavedNode {
                id: slot.node.id.0,
                lookups: slot.lookups,
                key: slot.node.key,
                parent: place.parent.0,
                name: place.name.clone().into(),
            }
        });
        (nodes.collect(), table.next)
    }

    /// Takes over what was saved. The files are opened when they are used: what is not there then, or is another file, is
    /// stale. `false` when that cannot have been saved.
    pub(super) fn restore(&self, next: u64, nodes: Vec<SavedNode>) -> bool {
        let mut table = lock(&self.table);
        if nodes.len() > self.max_nodes || !table.by_id.is_empty() {
            return false;
        }
        table.next = next;
        for saved in nodes {
            let (id, name) = (NodeId(saved.id), Box::<[u8]>::from(saved.name));
            // One that never had a name is not found again. Other names must not lead elsewhere.
            let named = name.is_empty() || Name::new(&name).is_ok();
            if !named || id.0 <= NodeId::ROOT.0 || id.0 >= next || table.by_id.contains_key(&id) {
                return false;
            }
            let node = Arc::new(Node {
                id,
                key: saved.key,
                place: Mutex::new(Place { parent: NodeId(saved.parent), name }),
                fd: Mutex::default(),
                open: AtomicUsize::new(0),
                stamp: Mutex::default(),
            });
            table.by_id.insert(id, Slot { node, lookups: saved.lookups });
            table.by_key.insert(saved.key, id);
        }
        true
    }

    pub(super) fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        if id == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        lock(&self.table).by_id.get(&id).map(|slot| slot.node.clone()).ok_or(Errno::STALE)
    }

    /// The node of the file `fd`, which was found as `name` in `parent`; one reference more.
    pub(super) fn found(&self, parent: NodeId, name: &[u8], fd: OwnedFd, stat: &Statx) -> Result<Arc<Node>> {
        let key = Key::of(stat);
        if key == self.root.key {
            // A folder that contains itself: a bind mount. Linux refuses to see one folder in two places.
            return Err(Errno::LOOP);
        }
        let mut table = lock(&self.table);
        let table = &mut *table;
        if let Some(slot) = table.by_key.get(&key).and_then(|id| table.by_id.get_mut(id)) {
            slot.lookups = slot.lookups.saturating_add(1);
            let node = slot.node.clone();
            *lock(&node.place) = Place { parent, name: name.into() };
            if lock(&node.fd).is_none() {
                self.give(table, &node, Arc::new(fd));
            }
            return Ok(node);
        }
        if table.by_id.len() >= self.max_nodes {
            return Err(Errno::NFILE);
        }
        let id = NodeId(table.next);
        table.next += 1;
        let node = Arc::new(Node {
            id,
            key,
            place: Mutex::new(Place { parent, name: name.into() }),
            fd: Mutex::default(),
            open: AtomicUsize::new(0),
            stamp: Mutex::default(),
        });
        table.by_id.insert(id, Slot { node: node.clone(), lookups: 1 });
        table.by_key.insert(key, id);
        self.give(table, &node, Arc::new(fd));
        Ok(node)
    }

    pub(super) fn forget(&self, id: NodeId, count: u64) {
        let mut table = lock(&self.table);
        let Some(slot) = table.by_id.get_mut(&id) else { return };
        slot.lookups = slot.lookups.saturating_sub(count);
        if slot.lookups > 0 {
            return;
        }
        let Some(slot) = table.by_id.remove(&id) else { return };
        if table.by_key.get(&slot.node.key) == Some(&id) {
            table.by_key.remove(&slot.node.key);
        }
        if lock(&slot.node.fd).take().is_some() {
            table.held = table.held.saturating_sub(1);
        }
    }

    /// The file with `key` is now `name` in `parent`.
    pub(super) fn moved(&self, key: &Key, parent: NodeId, name: &[u8]) {
        let table = lock(&self.table);
        if let Some(slot) = table.by_key.get(key).and_then(|id| table.by_id.get(id)) {
            *lock(&slot.node.place) = Place { parent, name: name.into() };
        }
    }

    /// A descriptor of `node`.
    pub(super) fn hold<'a>(&self, share: &'a Share, node: &Arc<Node>) -> Result<Held<'a>> {
        if node.id == NodeId::ROOT {
            return Ok(Held::Root(share.root()));
        }
        if let Some(fd) = lock(&node.fd).clone() {
            return Ok(Held::Other(fd));
        }
        // Up to a folder that has a descriptor, then down again.
        let mut way = vec![node.clone()];
        let mut at = loop {
            let parent = way.last().map_or(NodeId::ROOT, |node| lock(&node.place).parent);
            if parent == NodeId::ROOT {
                break Held::Root(share.root());
            }
            let parent = self.get(parent)?;
            if let Some(fd) = lock(&parent.fd).clone() {
                break Held::Other(fd);
            }
            if way.len() == MAX_DEPTH {
                return Err(Errno::STALE);
            }
            way.push(parent);
        };
        for node in way.iter().rev() {
            let name = lock(&node.place).name.clone();
            let fd = open_path(at.as_fd(), &name).map_err(|_| Errno::STALE)?;
            if Key::of(&stat(fd.as_fd())?) != node.key {
                return Err(Errno::STALE);
            }
            let fd = Arc::new(fd);
            let mut table = lock(&self.table);
            if table.by_id.contains_key(&node.id) && lock(&node.fd).is_none() {
                self.give(&mut table, node, fd.clone());
            }
            at = Held::Other(fd);
        }
        Ok(at)
    }

    /// Leaves `fd` with `node`, and closes others' if there are too many.
    fn give(&self, table: &mut Table, node: &Node, fd: Arc<OwnedFd>) {
        *lock(&node.fd) = Some(fd);
        table.held += 1;
        table.descriptors.push_back(node.id);
        // As many looks as there could be open nodes, so that these do not keep others from being closed.
        let mut looks = table.descriptors.len();
        while table.held > self.max_descriptors && looks > 0 {
            looks -= 1;
            let Some(id) = table.descriptors.pop_front() else { break };
            let Some(slot) = table.by_id.get(&id) else { continue };
            if slot.node.open.load(Ordering::Relaxed) > 0 {
                table.descriptors.push_back(id);
            } else if lock(&slot.node.fd).take().is_some() {
                table.held -= 1;
            }
        }
        if table.descriptors.len() > 2 * self.max_descriptors + 64 {
            let has = |id: &NodeId| table.by_id.get(id).is_some_and(|slot| lock(&slot.node.fd).is_some());
            table.descriptors.retain(has);
        }
    }

    /// Nodes and descriptors.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.by_id.len(), table.held)
    }
}

/// Opens the file `name` in `parent` itself, be it a link, a device or whatever, and not for reading or writing.
pub(super) fn open_path(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
