//! The agent that runs in the guest, as root, and does what the host asks.
//!
//! It serves each connection of the host on a thread of its own, see `tearless-guest-proto`. Nobody but the host is
//! served: a connection that comes from the guest itself is refused, so that the agent is no way to become root.

// Nothing of it makes sense elsewhere, but the workspace is checked as a whole on every host.
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "cannot serve\n  because: this agent is for Linux guests\n  try: running it in a virtual machine that runs Linux"
    );
    std::process::ExitCode::FAILURE
}
