//! What happened, and what must not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::objc::class::lock;

/// How long a test waits for what queues still do.
const PATIENCE: Duration = Duration::from_secs(10);

/// An error that a call of the framework is to end with: domain, code, text.
pub(crate) type Fault = (&'static str, isize, &'static str);

/// The domain of the framework's errors.
pub(crate) const DOMAIN: &str = "VZErrorDomain";

#[derive(Default)]
struct Journal {
    wrong: Vec<String>,
    said: Vec<String>,
    alive: BTreeMap<&'static str, isize>,
    faults: HashMap<&'static str, Fault>,
    hidden: HashSet<&'static str>,
}

static JOURNAL: Mutex<Option<Journal>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

fn with<R>(f: impl FnOnce(&mut Journal) -> R) -> R {
    let result = f(lock(&JOURNAL).get_or_insert_default());
    CHANGED.notify_all();
    result
}

pub(crate) fn born(what: &'static str) {
    with(|j| *j.alive.entry(what).or_default() += 1);
}

pub(crate) fn died(what: &'static str) {
    with(|j| *j.alive.entry(what).or_default() -= 1);
}

/// Notes what must not happen.
pub(crate) fn wrong(what: String) {
    with(|j| j.wrong.push(what));
}

/// Notes a message that counts.
pub(crate) fn say(what: impl Into<String>) {
    with(|j| j.said.push(what.into()));
}

pub(crate) fn fault(selector: &str) -> Option<Fault> {
    with(|j| j.faults.get(selector).copied())
}

pub(crate) fn is_hidden(name: &str) -> bool {
    with(|j| j.hidden.contains(name))
}

/// A test's time with the runtime, which it has for itself.
pub(crate) struct Session {
    _alone: MutexGuard<'static, ()>,
}

impl Session {
    pub(crate) fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = lock(&ALONE);
        *lock(&JOURNAL) = Some(Journal::default());
        Self { _alone: alone }
    }

    /// Has the calls of `selector` end with an error.
    pub(crate) fn fail(&self, selector: &'static str, code: isize, text: &'static str) {
        with(|j| j.faults.insert(selector, (DOMAIN, code, text)));
    }

    /// They work again, or it is there.
    pub(crate) fn mend(&self, name: &'static str) {
        with(|j| (j.faults.remove(name), j.hidden.remove(name)));
    }

    /// Has this macOS lack a class, or a method.
    pub(crate) fn hide(&self, name: &'static str) {
        with(|j| j.hidden.insert(name));
    }

    /// As [`Self::end`], with the messages that counted.
    pub(crate) fn end_said(self) -> (Vec<String>, Vec<String>) {
        let wrong = wait(PATIENCE);
        (wrong, with(|j| std::mem::take(&mut j.said)))
    }

    /// What must not have happened, with what is left over when all queues have done their work.
    pub(crate) fn end(self) -> Vec<String> {
        self.end_within(PATIENCE)
    }

    /// The same for tests which leave something over on purpose.
    pub(crate) fn end_within(self, patience: Duration) -> Vec<String> {
        wait(patience)
    }
}

fn wait(patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    let mut journal = lock(&JOURNAL);
    let left = |j: &Option<Journal>| -> Vec<String> {
        let alive = j.iter().flat_map(|j| &j.alive);
        alive.filter(|(_, n)| **n != 0).map(|(what, n)| format!("{n} {what} left over")).collect()
    };
    while !left(&journal).is_empty() && Instant::now() < deadline {
        let waited = CHANGED.wait_timeout(journal, deadline.saturating_duration_since(Instant::now()));
        journal = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    let left = left(&journal);
    journal
        .as_mut()
        .map(|j| std::mem::take(&mut j.wrong))
        .unwrap_or_default()
        .into_iter()
        .chain(left)
        .collect()
}
