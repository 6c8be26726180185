//! The control socket of a running VM.
//!
//! Each VM is a process of its own and listens on a unix socket ([`place`] says where). A connection carries one request
//! ([`protocol`]), a line of JSON, and its answer, another one. Where the answer is [`Reply::Stream`] the connection is a
//! pipe of bytes from there on: a console, or a connection to a port in the guest.
//!
//! ```text
//!   client                                       VM process
//!     {"version":1,"request":"state"}      ──►
//!                                          ◄──   {"reply":"state","phase":"running",...}
//! ```
//! Only processes of the same user (and root) get that far: the folder and the socket are theirs alone, and on Linux the
//! server looks at who called.
#![forbid(unsafe_code)]

mod client;
mod files;
mod line;
pub mod page;
mod peer;
pub mod place;
pub mod protocol;
mod server;
pub mod taking;

pub use client::Client;
pub use protocol::{
    Balloon, Forwarded, GuestMemory, OpenDisk, Phase, Reply, Request, State, Step, StopOutcome, VERSION,
};
pub use server::{Answer, Control, Server, Socket, tell};

/// Why a VM cannot be reached, or what it answered. Each message says what failed, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error(
        "cannot reach VM {0}\n  because: it is not running\n  try: `tearless start {0}`; `tearless list` shows the states"
    )]
    NotRunning(String),
    /// The socket cannot be made or used.
    #[error(
        "cannot {doing} {path}\n  because: {source}\n  try: make the folder accessible to you alone, or set XDG_RUNTIME_DIR to one that is"
    )]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// The connection broke, or what came is no answer.
    #[error(
        "lost the connection to the VM\n  because: {0}\n  try: `tearless list` shows whether it still runs"
    )]
    Broken(String),
    /// The VM refused.
    #[error("{0}")]
    Refused(String),
}
