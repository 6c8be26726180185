//! The network device (virtio 1.3, section 5.1).
//!
//! It has no thread: its card is worked by the thread of what it is plugged into (`tearless_net::Endpoint`), and a kick
//! wakes that. So a frame is copied once on its way between the guest's memory and a socket's buffer. Commands of the
//! control queue touch no file of the host, and are done by the vCPU that kicks.

mod card;
mod control;
mod device;
mod spec;
mod steering;

pub use device::Net;

#[cfg(test)]
mod tests;
