//! The console device (section 5.3): terminals and named byte streams.
//!
//! A device is either a lone console (`hvc0` in Linux), which has two queues and tells its size in the configuration,
//! or a set of ports with control queues (`VIRTIO_CONSOLE_F_MULTIPORT`): streams that a Linux guest finds as
//! `/dev/virtio-ports/NAME`, and consoles. Nothing is lost or reordered:
//!
//! * Guest to host: each port has a thread that hands the guest's bytes to its [`CharSink`](tearless_bus::CharSink) and
//!   returns the buffer only then. A slow sink holds up its own port and nothing else.
//! * Host to guest: [`Port`] takes up to 64 KiB per port and says when it is full. Bytes wait there until the guest has
//!   opened the port, because Linux throws away what arrives earlier, and until it offers buffers.
//! * The end of a stream ([`Port::close`]) is announced after the last byte that was pushed before it.
//!
//! One more thread moves the input of all ports and speaks the control queues, if there are any.

mod device;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Console, ConsoleError, ConsolePort};
pub use worker::Port;
