//! A thread that serves one queue, beside others.

use std::sync::Arc;

use tearless_share::{FileSystem, MAX_REQUEST, Reply, Server};

use crate::{Chain, Ring, RingError, VirtQueue, Wake};

pub(super) struct Worker<F> {
    server: Arc<Server<F>>,
    chain: Chain,
    /// The request; it grows with need.
    request: Vec<u8>,
    reply: Reply,
}

/// A request that was copied out of its ring.
struct Taken {
    epoch: u64,
    len: usize,
    room: usize,
    /// There are more, for another worker.
    more: bool,
}

impl<F: FileSystem> Worker<F> {
    pub(super) fn new(server: Arc<Server<F>>) -> Self {
        Self { server, chain: Chain::default(), request: Vec::new(), reply: Reply::default() }
    }

    pub(super) fn run(&mut self, queue: &VirtQueue, wake: &Wake) {
        if let Err(error) = self.server.files().enter() {
            // Without the rights of the folder's owner it would work with too many.
            tracing::error!(%error, "a shared folder cannot be served");
            return;
        }
        while wake.wait() {
            while self.serve(queue, wake) && !wake.is_shut_down() {}
        }
    }

    /// Serves one request. Returns whether there was one.
    fn serve(&mut self, queue: &VirtQueue, wake: &Wake) -> bool {
        let Some(Some(taken)) = queue.with(|ring| self.take(ring)) else { return false };
        if taken.more {
            wake.signal();
        }
        let request = self.request.get(..taken.len).unwrap_or_default();
        self.server.handle(request, taken.room, &mut self.reply);
        let (chain, reply) = (&self.chain, self.reply.bytes());
        queue.with_epoch(taken.epoch, |ring| {
            let written = chain.write(ring.memory(), 0, reply)?;
            ring.push(chain.head(), written as u32)?;
            ring.notify()
        });
        true
    }

    fn take(&mut self, ring: &mut Ring) -> Result<Option<Taken>, RingError> {
        let Some(more) = ring.pop_shared(&mut self.chain)? else { return Ok(None) };
        let len = usize::try_from(self.chain.readable_len()).unwrap_or(usize::MAX);
        if len > MAX_REQUEST {
            return Err(RingError::Chain("a request to a shared folder of more than 1 MiB"));
        }
        if self.request.len() < len {
            self.request.resize(len, 0);
        }
        let into = self.request.get_mut(..len).unwrap_or_default();
        self.chain.read(ring.memory(), 0, into)?;
        let room = usize::try_from(self.chain.writable_len()).unwrap_or(usize::MAX);
        Ok(Some(Taken { epoch: ring.epoch(), len, room, more }))
    }
}
