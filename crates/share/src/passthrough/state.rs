//! The nodes and handles of a saved VM.
//!
//! A node is saved with its folder, its name and what makes it the file that it is; a handle with its node and how it was
//! opened. A file that was deleted or replaced meanwhile is stale for the guest, by whatever it knows it. So is one that
//! was open without a name: the host forgets such files with the process that has them open.

use std::{os::fd::AsFd as _, sync::Arc};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tearless_state::{Encoded, StateError};

use super::{
    Passthrough, Result,
    file::guest,
    handles::{Reopened, Saved},
    nodes::{Key, Node, SavedNode},
    owner::DIRECTORY,
};
use crate::{Errno, Handle, NodeId};

/// The version of the format.
const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFiles {
    /// The folder itself. A host that was started anew may have given its file system another number.
    root: Key,
    next_node: u64,
    nodes: Vec<SavedNode>,
    next_handle: u64,
    handles: Vec<SavedHandle>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHandle {
    id: u64,
    /// Its node; `None` when it was gone already.
    node: Option<u64>,
    /// How it was opened; `None` for a directory.
    flags: Option<u32>,
}

impl Passthrough {
    pub(super) fn save_files(&self) -> std::result::Result<Encoded, StateError> {
        let (nodes, next_node) = self.nodes.save();
        let Saved { open, gone, next: next_handle } = self.handles.save();
        let open = open.iter().map(|(id, file)| SavedHandle {
            id: id.0,
            node: Some(file.node().id.0),
            flags: file.flags,
        });
        let gone = gone.iter().map(|id| SavedHandle { id: id.0, node: None, flags: None });
        let handles = open.chain(gone).collect();
        let root = self.nodes.root_key();
        Encoded::new(STATE_VERSION, &SavedFiles { root, next_node, nodes, next_handle, handles })
    }

    pub(super) fn restore_files(&self, state: &Encoded) -> std::result::Result<(), StateError> {
        let mut saved: SavedFiles = state.decode(STATE_VERSION)?;
        let now = self.nodes.root_key();
        for node in saved.nodes.iter_mut().filter(|node| node.key.device == saved.root.device) {
            node.key.device = now.device;
        }
        let other =
            |what: &str| StateError::malformed(format!("its {what} cannot be those of a shared folder"));
        if !self.nodes.restore(saved.next_node, saved.nodes) {
            return Err(other("files"));
        }
        let reopen = |handle: SavedHandle| {
            let reopened = handle.node.and_then(|node| self.reopen(NodeId(node), handle.flags).ok());
            if reopened.is_none() {
                tracing::info!(
                    node = handle.node,
                    "a file of a shared folder that the guest had open is gone"
                );
            }
            (Handle(handle.id), reopened)
        };
        let handles = saved.handles.into_iter().map(reopen).collect();
        if !self.handles.restore(saved.next_handle, handles) {
            return Err(other("open files"));
        }
        Ok(())
    }

    fn reopen(&self, id: NodeId, flags: Option<u32>) -> Result<Reopened> {
        let node: Arc<Node> = self.nodes.get(id)?;
        let fd = match flags {
            Some(flags) => self.open_regular(&node, self.flags(flags & guest::KEPT)?)?,
            None if node.kind() != DIRECTORY => return Err(Errno::NOTDIR),
            None => {
                let held = self.hold(&node)?;
                self.share.open_again(held.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?
            }
        };
        Ok((node, fd, flags))
    }
}
