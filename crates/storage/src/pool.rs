//! A queue on threads: for images that are not raw, and where the host has nothing better.
//!
//! Each thread copies through a buffer of its own. Two copies of the data per request are the price of safe code on every
//! host; the format's own work costs more.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use tearless_memory::GuestMemory;

use crate::{Completion, Disk, Queue, Request, queue::perform};

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    done: Vec<Completion>,
    rung: bool,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, disk: &dyn Disk, memory: &GuestMemory) {
        let mut buffer = Vec::new();
        let mut state = self.lock();
        loop {
            if let Some(request) = state.waiting.pop_front() {
                drop(state);
                let result = perform(disk, memory, &request, 0, &mut buffer);
                state = self.lock();
                state.done.push(Completion { request, result });
                self.news.notify_one();
            } else if state.ended {
                return;
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// A queue whose requests are served by threads.
pub(crate) struct Pool {
    disk: Arc<dyn Disk>,
    memory: GuestMemory,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    in_progress: usize,
}

impl Pool {
    pub(crate) fn new(disk: Arc<dyn Disk>, memory: GuestMemory) -> Self {
        Self { disk, memory, shared: Arc::default(), threads: Vec::new(), in_progress: 0 }
    }

    /// Starts another thread if there is more to do than there are. Returns whether anybody serves.
    fn staff(&mut self) -> bool {
        if self.threads.len() < self.disk.parallel().min(self.in_progress) {
            let (shared, disk, memory) = (self.shared.clone(), self.disk.clone(), self.memory.clone());
            let thread = thread::Builder::new().name("disk".into());
            if let Ok(thread) = thread.spawn(move || shared.serve(&*disk, &memory)) {
                self.threads.push(thread);
            }
        }
        !self.threads.is_empty()
    }
}

impl Queue for Pool {
    fn submit(&mut self, request: Request) {
        self.in_progress += 1;
        if self.staff() {
            self.shared.lock().waiting.push_back(request);
            self.shared.work.notify_one();
        } else {
            // A host without a thread to spare: slow, but it goes on.
            let result = perform(&*self.disk, &self.memory, &request, 0, &mut Vec::new());
            self.shared.lock().done.push(Completion { request, result });
        }
    }

    fn wait(&mut self, done: &mut Vec<Completion>) {
        let mut state = self.shared.lock();
        while state.done.is_empty() && !state.rung && self.in_progress > 0 {
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.rung = false;
        self.in_progress -= state.done.len();
        done.append(&mut state.done);
    }

    fn in_progress(&self) -> usize {
        self.in_progress
    }

    fn bell(&self) -> Arc<dyn Fn() + Send + Sync> {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            shared.lock().rung = true;
            shared.news.notify_one();
        })
    }
}

impl Drop for Pool {
    /// Waits for the requests in progress: the disk is closed when this returns.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
        for thread in mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a disk thread ended with a panic");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::queue::tests::conformance(|disk, memory| Box::new(Pool::new(disk.clone(), memory.clone())));
    }
}
