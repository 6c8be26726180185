//! Shared folders: a FUSE server over byte slices and a passthrough to a folder of the host.
//!
//! ```text
//!   request bytes ──► Server ──► FileSystem (trait) ──► Passthrough: files of one host folder
//!   reply bytes   ◄──    │
//!                        └ decodes, checks lengths and names, negotiates, encodes
//! ```
//! The server knows the protocol (FUSE 7.38, `include/uapi/linux/fuse.h`) and no files; the passthrough knows files and
//! no protocol; neither knows how requests travel. docs/devices/share.md says what a guest and a user can rely on.
//!
//! The guest is hostile: every length, name, node and handle is checked where it enters ([`wire::Fields`], [`Name`], the
//! tables of the passthrough), and what it can make the host keep is bounded by [`Limits`].

#![forbid(unsafe_code)]

mod error;
mod fs;
#[cfg(target_os = "linux")]
mod passthrough;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod passthrough;
mod server;
mod wire;

pub use error::{Errno, ShareError};
pub use fs::{
    Attr, Caller, DirEntry, DirSink, Entry, FileSystem, Handle, Kind, Leftovers, Limits, Name, NodeId,
    Opened, RenameMode, SetAttr, Space, Time, WriteMode, XattrMode,
};
pub use passthrough::{Passthrough, Share};
pub use server::{MAX_REPLY, MAX_REQUEST, Server};
pub use wire::{Reply, is_forget, opcode};

/// What a share is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOptions {
    /// Refuse every change.
    pub read_only: bool,
    /// The guest's user and group that the host's user appears as.
    pub guest_owner: u32,
}
