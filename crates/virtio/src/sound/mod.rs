//! The sound card (virtio 1.3, section 5.14): one stream that plays, one that records, each if the host's side has it.
//!
//! ```text
//!   control ─► Card ─► Stream (Lifecycle, Clock) ─► tearless_sound::{Playback, Capture}
//!   tx, rx  ─►          10 ms at a time, each when its time has come
//! ```
//! A buffer goes back to the driver when its sound has been played, so a guest's time in a stream is the host's time. What
//! is played is fetched as late as possible: older Linux drivers offer a buffer first and write into it afterwards.

mod card;
mod clock;
mod device;
mod lifecycle;
mod spec;
mod stream;
#[cfg(test)]
mod tests;

pub use device::Sound;
