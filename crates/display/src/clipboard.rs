//! The clipboard: the text that was copied last, by the guest or a viewer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::lock;

/// Most bytes of a text. What is longer is not taken: both sides are strangers.
pub const MAX_TEXT: usize = 1 << 20;

/// Is called when another party has copied something.
type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    text: Arc<str>,
    /// How many texts there have been.
    version: u64,
    /// Whose it is.
    owner: u64,
    next: u64,
    listeners: BTreeMap<u64, Listener>,
}

/// A clipboard that any number of parties share.
#[derive(Default)]
pub struct Clipboard {
    state: Mutex<State>,
}

impl Clipboard {
    /// A new party. It hears, by `listener`, of what others copy from now on.
    pub fn join(self: &Arc<Self>, listener: impl Fn() + Send + Sync + 'static) -> Party {
        let mut state = lock(&self.state);
        // The owner of nothing is nobody.
        state.next += 1;
        let id = state.next;
        state.listeners.insert(id, Arc::new(listener));
        Party { clipboard: self.clone(), id, seen: Mutex::new(state.version) }
    }
}

/// Somebody with a keyboard, or the guest.
pub struct Party {
    clipboard: Arc<Clipboard>,
    id: u64,
    /// The version that it knows.
    seen: Mutex<u64>,
}

impl Party {
    /// Copies `text`, unless it is too long or nothing new.
    pub fn copy(&self, text: &str) {
        let listeners: Vec<_> = {
            let mut state = lock(&self.clipboard.state);
            if text.len() > MAX_TEXT || *state.text == *text {
                return;
            }
            state.text = text.into();
            state.version += 1;
            state.owner = self.id;
            state.listeners.iter().filter(|(id, _)| **id != self.id).map(|(_, l)| l.clone()).collect()
        };
        listeners.iter().for_each(|listener| listener());
    }

    /// What another party has copied since this was asked last.
    pub fn news(&self) -> Option<Arc<str>> {
        let state = lock(&self.clipboard.state);
        let seen = std::mem::replace(&mut *lock(&self.seen), state.version);
        (seen != state.version && state.owner != self.id).then(|| state.text.clone())
    }

    /// What is there to be pasted, whoever copied it.
    pub fn text(&self) -> Arc<str> {
        lock(&self.clipboard.state).text.clone()
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        lock(&self.clipboard.state).listeners.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn others_hear_of_what_is_copied() {
        let clipboard = Arc::new(Clipboard::default());
        let heard = Arc::new(AtomicU32::new(0));
        let count = heard.clone();
        let guest = clipboard.join(|| ());
        let viewer = clipboard.join(move || _ = count.fetch_add(1, Ordering::SeqCst));
        guest.copy("a");
        guest.copy("a");
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        assert_eq!((viewer.news().as_deref(), viewer.news()), (Some("a"), None));
        viewer.copy("b");
        assert_eq!((guest.news().as_deref(), viewer.news()), (Some("b"), None));
        assert_eq!(heard.load(Ordering::SeqCst), 1, "nobody hears of what is their own");
        guest.copy(&"x".repeat(MAX_TEXT + 1));
        let late = clipboard.join(|| ());
        assert_eq!((late.news(), &*late.text()), (None, "b"));
        drop(viewer);
        guest.copy("c");
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    }
}
