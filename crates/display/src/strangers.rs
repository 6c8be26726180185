//! Connections of whoever has not shown yet that they may be here.

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
};

use crate::lock;

/// Most of them at a time. One more ends the oldest: whoever may be here needs a moment only to show it, so the others can keep nobody
/// out.
const MAX_STRANGERS: usize = 16;

/// Strangers, the oldest first.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    streams: VecDeque<(u64, TcpStream)>,
}

impl Strangers {
    /// Takes one in, and ends the oldest if there are too many.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub(crate) fn greet(self: &Arc<Self>, stream: &TcpStream) -> io::Result<Stranger> {
        let stream = stream.try_clone()?;
        let mut state = lock(&self.0);
        let id = state.next;
        state.next += 1;
        state.streams.push_back((id, stream));
        if state.streams.len() > MAX_STRANGERS
            && let Some((_, oldest)) = state.streams.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        drop(state);
        Ok(Stranger { all: self.clone(), id })
    }
}

/// One of them. Dropped when it is none any more, or gone.
pub(crate) struct Stranger {
    all: Arc<Strangers>,
    id: u64,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        lock(&self.all.0).streams.retain(|(id, _)| *id != self.id);
    }
}
