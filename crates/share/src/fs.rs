//! What a file system must do to be served.

use tearless_state::{Encoded, StateError};

use crate::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// A file as the guest names it. 1 is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the share.
    pub const ROOT: Self = Self(1);
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// A name in a directory: one component, neither `.` nor `..`, no slash, no NUL, 1 to 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Errno::NAMETOOLONG`], or [`Errno::INVAL`] for what is no single component.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let special = bytes.is_empty() || bytes == b"." || bytes == b"..";
        if special || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(Errno::INVAL);
        }
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// Seconds and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Since 1970, or of a duration.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanos: u32,
}

/// What a guest sees of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub atime: Time,
    /// Last written.
    pub mtime: Time,
    /// Last changed.
    pub ctime: Time,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub links: u32,
    /// The guest's user.
    pub uid: u32,
    /// The guest's group.
    pub gid: u32,
    /// Of a device, in the encoding of the protocol.
    pub rdev: u32,
    /// What to read and write at once.
    pub block_size: u32,
    /// It lies on another file system than its folder.
    pub submount: bool,
}

/// A file that was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// From now on its name; counts as one reference until forgotten.
    pub node: NodeId,
    /// Differs between two files that have had the same node.
    pub generation: u64,
    /// What it is.
    pub attr: Attr,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Until released.
    pub handle: Handle,
    /// What the guest has of its content is still right.
    pub keep_cache: bool,
}

/// Who asks, in the guest.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Changes of attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// An open file to work on.
    pub handle: Option<Handle>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last read; `None` inside is now.
    pub atime: Option<Option<Time>>,
    /// Last written; `None` inside is now.
    pub mtime: Option<Option<Time>>,
    /// The change takes set-user-ID and set-group-ID away.
    pub kill_privileges: bool,
}

/// How a rename treats a target that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails.
    Keep,
    /// Swaps the two.
    Exchange,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteMode {
    /// At the end, wherever that is now.
    pub append: bool,
    /// The change takes set-user-ID and set-group-ID away.
    pub kill_privileges: bool,
}

/// What setting an extended attribute expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing.
    Any,
    /// It is not there.
    Create,
    /// It is there.
    Replace,
}

/// What a file is, as `d_type` of a directory entry: the type bits of the mode, shifted right by 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Its file's number.
    pub inode: u64,
    /// Where the entry after it is.
    pub next: u64,
    /// Its file's type.
    pub kind: Kind,
    /// Its name; `.` and `..` too.
    pub name: &'a [u8],
}

/// Where a directory's entries go.
pub trait DirSink {
    /// Whether an entry with a name of that many bytes fits.
    fn fits(&self, name: usize) -> bool;
    /// Takes an entry that fits, looked up or not.
    fn add(&mut self, entry: &DirEntry<'_>, found: Option<&Entry>);
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Space {
    /// Blocks.
    pub blocks: u64,
    /// Blocks that are free.
    pub free: u64,
    /// Blocks that are free for users.
    pub available: u64,
    /// Files that there can be.
    pub files: u64,
    /// Files that there can be besides those that are.
    pub files_free: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Bytes of the longest name.
    pub longest_name: u32,
}

/// What a guest can make the host keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files that the guest has looked up and not forgotten, each some 300 bytes of the host.
    pub nodes: usize,
    /// File descriptors for them; beyond, files are opened anew by name when they are used.
    pub descriptors: usize,
    /// Files and directories that the guest has open, each a file descriptor.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 1 << 18, descriptors: 512, handles: 256 }
    }
}

/// Files that nobody needs any more, not yet closed.
pub type Leftovers = Box<dyn std::any::Any + Send>;

/// A file system. Every method may be called from several threads at once, with any node and handle: the guest chooses.
///
/// All methods fail with [`Errno::STALE`] for a node and [`Errno::BADF`] for a handle that does not exist, with what the
/// host says, and with [`Errno::ROFS`] for changes to what is read-only.
#[allow(missing_docs, reason = "the operations are those of POSIX")]
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait FileSystem: Send + Sync {
    /// Prepares the thread that calls it for calling the other methods.
    fn enter(&self) -> std::io::Result<()>;
    /// Forgets all nodes but the root and all handles. Dropping what it returns closes them, which may take a while.
    fn reset(&self) -> Leftovers;
    /// Which nodes and handles there are, for a saved VM.
    fn save(&self) -> std::result::Result<Encoded, StateError>;
    /// Takes over nodes and handles, in a file system that has none. Files that are gone are no error: what uses them fails
    /// with [`Errno::STALE`].
    fn restore(&self, state: &Encoded) -> std::result::Result<(), StateError>;

    fn lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Entry>;
    fn forget(&self, node: NodeId, count: u64);
    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<Attr>;
    fn setattr(&self, node: NodeId, change: &SetAttr) -> Result<Attr>;
    fn access(&self, node: NodeId, mask: u32) -> Result<()>;
    fn readlink(&self, node: NodeId) -> Result<Vec<u8>>;

    fn symlink(&self, by: Caller, parent: NodeId, name: Name<'_>, target: &[u8]) -> Result<Entry>;
    /// `device` is a device's number, in the encoding of the protocol.
    fn mknod(&self, by: Caller, parent: NodeId, name: Name<'_>, mode: u32, device: u32) -> Result<Entry>;
    fn mkdir(&self, by: Caller, parent: NodeId, name: Name<'_>, mode: u32) -> Result<Entry>;
    fn unlink(&self, parent: NodeId, name: Name<'_>) -> Result<()>;
    fn rmdir(&self, parent: NodeId, name: Name<'_>) -> Result<()>;
    fn rename(&self, from: (NodeId, Name<'_>), to: (NodeId, Name<'_>), mode: RenameMode) -> Result<()>;
    fn link(&self, node: NodeId, parent: NodeId, name: Name<'_>) -> Result<Entry>;

    /// `flags` are those of Linux's `open` on arm64.
    fn open(&self, node: NodeId, flags: u32, kill_privileges: bool) -> Result<Opened>;
    /// Creates a regular file and opens it; one that exists is only opened, unless `flags` says exclusively.
    fn create(
        &self,
        by: Caller,
        at: (NodeId, Name<'_>),
        flags: u32,
        mode: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)>;
    /// Creates a regular file without a name and opens it.
    fn tmpfile(&self, by: Caller, parent: NodeId, flags: u32, mode: u32) -> Result<(Entry, Opened)>;
    fn read(&self, handle: Handle, offset: u64, into: &mut [u8]) -> Result<usize>;
    fn write(&self, handle: Handle, offset: u64, from: &[u8], mode: WriteMode) -> Result<usize>;
    fn flush(&self, handle: Handle) -> Result<()>;
    fn fsync(&self, handle: Handle, data_only: bool) -> Result<()>;
    fn release(&self, handle: Handle) -> Result<()>;
    /// `mode` is that of Linux's `fallocate`.
    fn fallocate(&self, handle: Handle, mode: u32, offset: u64, len: u64) -> Result<()>;
    /// `whence` is 3, the next data, or 4, the next hole.
    fn seek(&self, handle: Handle, offset: u64, whence: u32) -> Result<u64>;
    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: u64) -> Result<u64>;

    fn opendir(&self, node: NodeId) -> Result<Handle>;
    /// Fills `sink` from the entry at `offset` on, with each entry looked up if `plus`.
    fn readdir(&self, handle: Handle, offset: u64, plus: bool, sink: &mut dyn DirSink) -> Result<()>;

    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>>;
    /// The names, each with a NUL behind.
    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>>;
    fn setxattr(&self, node: NodeId, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()>;
    fn removexattr(&self, node: NodeId, name: &[u8]) -> Result<()>;

    fn statfs(&self) -> Result<Space>;
    fn sync(&self) -> Result<()>;
}
