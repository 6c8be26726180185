//! The socket device (section 5.10): byte streams between programs of the guest and of the host, without a network.
//!
//! ```text
//!   host programs ── Hub ── unix stream sockets ──┐
//!                                                 Worker ── rings ── the guest's AF_VSOCK sockets
//!   other hubs' users ── listeners ───────────────┘
//! ```
//! [`Hub`] is what the rest of the program knows: it lives as long as the VM, while the device is made anew with each
//! reset. One thread moves all data: it sleeps in `poll` over the host's sockets and a bell that the guest's kicks ring.
//!
//! Flow control works on both sides. Towards the guest a host socket is read only when the guest has credit and a
//! buffer, so nothing piles up here. From the guest each connection may send as much as its buffer has room; a guest
//! that sends more loses the connection. Connections, buffers and owed answers are all bounded, see `worker`.

mod connection;
mod device;
mod hub;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Vsock;
pub use hub::{Dialed, Hub};
