//! The agent in a running VM, for the VM's own process.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tearless_guest::{AGENT_PORT, Agent, READY_PORT};
use tearless_virtio::vsock::Hub;

/// How long a guest may take to answer a connection: its vCPUs may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent of the guest that `hub` connects with. It is there once the guest has started it, see [`Readiness`].
pub fn agent(hub: Arc<Hub>) -> Agent {
    Agent::new(move || hub.connect(AGENT_PORT, PATIENCE))
}

/// Whether the guest's agent serves.
#[derive(Clone, Default)]
pub struct Readiness(Arc<(Mutex<bool>, Condvar)>);

impl Readiness {
    /// Watches for the agent of the guest that `hub` connects with: it says when it serves.
    pub fn watch(hub: &Hub) -> Self {
        let readiness = Self::default();
        let state = readiness.0.clone();
        hub.listen(READY_PORT, move |_| {
            *state.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            state.1.notify_all();
        });
        readiness
    }

    /// Whether the agent has said that it serves, since the VM started.
    pub fn is_ready(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest has reset itself: its agent has yet to start again.
    pub fn reset(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits until the agent serves, at most until `deadline`. Returns whether it does.
    pub fn wait(&self, deadline: Instant) -> bool {
        let (ready, changed) = &*self.0;
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(ready, left, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
