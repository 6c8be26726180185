//! All keys for the guest, where the host lets a program have them.

#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(target_os = "linux")]
mod x11;

#[cfg(not(target_os = "linux"))]
pub use none::Grabber;
#[cfg(target_os = "linux")]
pub use x11::Grabber;
