//! The host's side of the guest agent: run programs in a guest, copy files, ask for addresses, end it, set its clock.
//!
//! [`Agent`] needs a way to connect with the agent's socket port, and nothing else: in the VM's own process that is the
//! hub of its socket device, elsewhere the VM's control socket.

#![forbid(unsafe_code)]

mod agent;
mod error;
mod files;
mod session;

pub use agent::{Agent, Frozen};
pub use error::{Error, Result};
pub use files::{Copied, Progress};
pub use session::{Event, Remote, Session};
pub use tearless_guest_proto::{
    AGENT_PORT, Address, Ended, Exec, Failure, FailureKind, Info, Power, READY_PORT, WindowSize,
};

/// The agent for Linux guests: a static ARM64 program.
pub static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tearless-agent"));
/// The systemd unit that starts it from `/run/tearless/agent`.
pub static AGENT_UNIT: &str = include_str!("../../guest-agent/src/linux/tearless-agent.service");

#[cfg(test)]
mod tests {
    #[test]
    fn the_agent_is_a_static_arm64_program() {
        let header = super::AGENT.first_chunk::<20>().unwrap();
        assert_eq!((&header[..6], header[18]), (&b"\x7fELF\x02\x01"[..], 183));
        assert!(!super::AGENT.windows(9).any(|w| w == b"ld-linux-"), "it would need a dynamic linker");
    }
}
