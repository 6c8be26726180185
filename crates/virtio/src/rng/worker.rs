//! The thread that fills the guest's buffers.

use std::sync::Once;

use crate::{Chain, Ring, RingError, VirtQueue, Wake};

/// Most bytes per request. The device may fill less than it is offered (section 5.4.6); without a limit one request
/// for 4 GiB would keep the host's generator busy for as long as the guest likes.
const LIMIT: usize = 4096;

/// A guest can ask for ever; the user is told once.
static COMPLAINED: Once = Once::new();

pub(super) fn run(queue: &VirtQueue, wake: &Wake) {
    let mut chain = Chain::default();
    while wake.wait() {
        while queue.with(|ring| serve(ring, &mut chain)) == Some(true) && !wake.is_shut_down() {}
    }
}

/// Serves one request; returns whether there may be more.
fn serve(ring: &mut Ring, chain: &mut Chain) -> Result<bool, RingError> {
    if !ring.pop_or_arm(chain)? {
        return Ok(false);
    }
    let len = usize::try_from(chain.writable_len()).unwrap_or(LIMIT).min(LIMIT);
    let mut buffer = [0; LIMIT];
    let (bytes, _) = buffer.split_at_mut(len);
    let written = match getrandom::fill(bytes) {
        Ok(()) => chain.write(ring.memory(), 0, bytes)?,
        Err(error) => {
            // An empty answer tells the driver to try elsewhere; predictable bytes would be worse.
            COMPLAINED.call_once(|| tracing::error!(%error, "the host has no random bytes for its guest"));
            0
        }
    };
    ring.push(chain.head(), written as u32)?;
    ring.notify()?;
    Ok(true)
}
