//! Hosts without a passthrough: opening a share says so.

use std::{path::Path, sync::Arc};

use tearless_state::{Encoded, StateError};

use crate::{
    Attr, Caller, DirSink, Entry, Errno, FileSystem, Handle, Leftovers, Limits, Name, NodeId, Opened,
    RenameMode, SetAttr, ShareError, ShareOptions, Space, WriteMode, XattrMode,
};

/// A folder of the host. On this host there is none.
#[derive(Debug)]
pub enum Share {}

impl Share {
    /// Refuses.
    ///
    /// # Errors
    /// [`ShareError::Unsupported`].
    pub fn open(path: &Path, _: ShareOptions) -> Result<Arc<Self>, ShareError> {
        Err(ShareError::Unsupported(path.to_owned()))
    }
}

/// The files of a [`Share`]. On this host there are none.
#[derive(Debug)]
pub struct Passthrough(Arc<Share>);

impl Passthrough {
    /// For a share that cannot exist.
    ///
    /// # Errors
    /// None.
    pub fn new(share: Arc<Share>, _: Limits) -> std::io::Result<Self> {
        Ok(Self(share))
    }
}

/// Methods that cannot be called, for there is no value to call them on.
macro_rules! unreachable_methods {
    ($(fn $name:ident($($type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $(_: $type),*) -> $result {
            match *self.0 {}
        })*
    };
}

impl FileSystem for Passthrough {
    unreachable_methods! {
        fn enter() -> std::io::Result<()>;
        fn reset() -> Leftovers;
        fn save() -> Result<Encoded, StateError>;
        fn restore(&Encoded) -> Result<(), StateError>;
        fn lookup(NodeId, Name<'_>) -> Result<Entry, Errno>;
        fn forget(NodeId, u64) -> ();
        fn getattr(NodeId, Option<Handle>) -> Result<Attr, Errno>;
        fn setattr(NodeId, &SetAttr) -> Result<Attr, Errno>;
        fn access(NodeId, u32) -> Result<(), Errno>;
        fn readlink(NodeId) -> Result<Vec<u8>, Errno>;
        fn symlink(Caller, NodeId, Name<'_>, &[u8]) -> Result<Entry, Errno>;
        fn mknod(Caller, NodeId, Name<'_>, u32, u32) -> Result<Entry, Errno>;
        fn mkdir(Caller, NodeId, Name<'_>, u32) -> Result<Entry, Errno>;
        fn unlink(NodeId, Name<'_>) -> Result<(), Errno>;
        fn rmdir(NodeId, Name<'_>) -> Result<(), Errno>;
        fn rename((NodeId, Name<'_>), (NodeId, Name<'_>), RenameMode) -> Result<(), Errno>;
        fn link(NodeId, NodeId, Name<'_>) -> Result<Entry, Errno>;
        fn open(NodeId, u32, bool) -> Result<Opened, Errno>;
        fn create(Caller, (NodeId, Name<'_>), u32, u32, bool) -> Result<(Entry, Opened), Errno>;
        fn tmpfile(Caller, NodeId, u32, u32) -> Result<(Entry, Opened), Errno>;
        fn read(Handle, u64, &mut [u8]) -> Result<usize, Errno>;
        fn write(Handle, u64, &[u8], WriteMode) -> Result<usize, Errno>;
        fn flush(Handle) -> Result<(), Errno>;
        fn fsync(Handle, bool) -> Result<(), Errno>;
        fn release(Handle) -> Result<(), Errno>;
        fn fallocate(Handle, u32, u64, u64) -> Result<(), Errno>;
        fn seek(Handle, u64, u32) -> Result<u64, Errno>;
        fn copy((Handle, u64), (Handle, u64), u64) -> Result<u64, Errno>;
        fn opendir(NodeId) -> Result<Handle, Errno>;
        fn readdir(Handle, u64, bool, &mut dyn DirSink) -> Result<(), Errno>;
        fn getxattr(NodeId, &[u8]) -> Result<Vec<u8>, Errno>;
        fn listxattr(NodeId) -> Result<Vec<u8>, Errno>;
        fn setxattr(NodeId, &[u8], &[u8], XattrMode) -> Result<(), Errno>;
        fn removexattr(NodeId, &[u8]) -> Result<(), Errno>;
        fn statfs() -> Result<Space, Errno>;
        fn sync() -> Result<(), Errno>;
    }
}
