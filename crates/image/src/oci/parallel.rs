//! Several pieces at once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Kind, Result};

/// Tells the others that one has failed.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Fails once another piece has; nobody sees this error, for the first one counts.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            let why = "another piece failed before";
            return Err(io::Error::other(Error::new(Kind::Request, "stopped", why, "")));
        }
        Ok(())
    }
}

/// Does `work` on all `items`, on `jobs` threads. The results are in the order of the items; the first error ends all.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T, &Stop) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let stop = Stop::default();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let first = Mutex::new(None);
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index).filter(|_| stop.check().is_ok()) else { return };
            match work(item, &stop) {
                Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result)),
                Err(error) => {
                    first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    stop.0.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(worker);
        }
    });
    if let Some(error) = first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_all() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(in_parallel(4, &items, |n, _| Ok(n * 2)).unwrap()[99], 198);
        assert!(in_parallel(4, &[] as &[u32], |n, _| Ok(*n)).unwrap().is_empty());
        let ran = AtomicUsize::new(0);
        let failed = in_parallel(1, &items, |n, _| {
            ran.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(Error::new(Kind::Request, "x", "y", "z")) } else { Ok(()) }
        });
        assert_eq!((failed.unwrap_err().what(), ran.load(Ordering::Relaxed)), ("x", 4));
    }
}
