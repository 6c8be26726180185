//! The thread that serves a display's queues.

use std::sync::{Arc, Mutex};

use super::commands::Display;
use crate::{Chain, Ring, RingError, VirtQueue, Wake, lock};

pub(super) fn run(queues: &[Arc<VirtQueue>; 2], display: &Mutex<Display>, wake: &Wake) {
    let mut chain = Chain::default();
    while wake.wait() {
        for queue in queues {
            let more = || !queue.is_stopping() && !wake.is_shut_down();
            while queue.with(|ring| serve(ring, &mut chain, display)) == Some(true) && more() {}
        }
    }
}

/// Serves one request; returns whether there may be more.
fn serve(ring: &mut Ring, chain: &mut Chain, display: &Mutex<Display>) -> Result<bool, RingError> {
    if !ring.pop_or_arm(chain)? {
        return Ok(false);
    }
    let written = lock(display).answer(chain, ring.memory())?;
    ring.push(chain.head(), written)?;
    ring.notify()?;
    Ok(true)
}
