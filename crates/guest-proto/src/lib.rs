//! What the host and the guest agent say to each other.
//!
//! The host connects to the agent's socket port; each connection serves one request:
//!
//! ```text
//!   host                                   agent
//!   hello, Request          ────────►
//!                           ◄────────      hello, Reply
//!   frames of data and messages, as the request needs; the end of the connection ends what it started
//! ```
//! Everything after the hello is a [`frame`]: a kind, a length and up to 64 KiB. Messages are `postcard`-encoded; data is
//! as it is. Both sides check what they read: the host trusts no guest, and the agent serves only the host.

#![forbid(unsafe_code)]

pub mod frame;
mod hello;
mod message;
pub mod tree;

pub use hello::{HELLO_SIZE, VERSION, hello, read_hello};
pub use message::{
    Address, Control, Ended, Exec, Failure, FailureKind, Info, Power, Put, Reply, Request, WindowSize,
    printable,
};

/// The agent's socket port in the guest. Only root may listen below 1024, so no other program can pretend to be it.
pub const AGENT_PORT: u32 = 1017;
/// The host's socket port that an agent connects to when it serves.
pub const READY_PORT: u32 = 1018;
/// How much input for a program the host may send ahead of [`Reply::Window`].
pub const STDIN_WINDOW: u32 = 256 << 10;
