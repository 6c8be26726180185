//! Serial dispatch queues: a thread each.

use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use super::class::lock;
use crate::journal;

type Job = Box<dyn FnOnce() + Send>;
type Work = extern "C" fn(*mut c_void);

/// A queue. It stays in memory.
pub(crate) struct Queue {
    label: String,
    count: AtomicUsize,
    /// Gone when nobody refers to the queue; the thread ends when it has done what it was given.
    jobs: Mutex<Option<Sender<Job>>>,
}

/// A reference that counts.
pub(crate) struct Handle(&'static Queue);

thread_local! {
    static CURRENT: Cell<*const Queue> = const { Cell::new(ptr::null()) };
}

impl Handle {
    pub(crate) fn to(queue: *const Queue) -> Option<Self> {
        // SAFETY: queues stay in memory.
        let queue = unsafe { queue.as_ref() }?;
        queue.count.fetch_add(1, Ordering::SeqCst);
        Some(Self(queue))
    }

    /// Whether this thread works for the queue now.
    pub(crate) fn is_current(&self) -> bool {
        ptr::eq(CURRENT.get(), self.0)
    }

    pub(crate) fn label(&self) -> &'static str {
        &self.0.label
    }

    /// Has the queue do something later.
    pub(crate) fn later(&self, job: impl FnOnce() + Send + 'static) {
        // It is there until that is done.
        let keep = self.clone();
        self.0.push(Box::new(move || {
            job();
            drop(keep);
        }));
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        Self(self.0)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Queue {
    fn push(&self, job: Job) {
        if lock(&self.jobs).as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            journal::wrong(format!("the queue {} was used when it was gone", self.label));
        }
    }

    fn release(&self) {
        match self.count.fetch_sub(1, Ordering::SeqCst) {
            1 => drop(lock(&self.jobs).take()),
            0 => journal::wrong(format!("the queue {} was released too often", self.label)),
            _ => {}
        }
    }
}

/// What a caller passes from one thread to another, as `dispatch_sync_f` and `dispatch_async_f` let it.
struct Context(*mut c_void);

// SAFETY: dispatch2 passes on only what is `Send`.
unsafe impl Send for Context {}

impl Context {
    fn work(self, work: Work) {
        work(self.0);
    }
}

// SAFETY, for all that follows: dispatch2 calls these as libdispatch documents them.

#[unsafe(no_mangle)]
unsafe extern "C" fn dispatch_queue_create(label: *const c_char, _attributes: *const c_void) -> *const Queue {
    let (sender, jobs) = channel::<Job>();
    let label = unsafe { CStr::from_ptr(label) }.to_string_lossy().into_owned();
    let queue: &'static Queue =
        Box::leak(Box::new(Queue { label, count: AtomicUsize::new(1), jobs: Mutex::new(Some(sender)) }));
    journal::born("queue");
    thread::spawn(move || {
        CURRENT.set(queue);
        jobs.into_iter().for_each(|job| job());
        journal::died("queue");
    });
    queue
}

#[unsafe(no_mangle)]
extern "C" fn dispatch_retain(queue: *const Queue) {
    Handle::to(queue).map(std::mem::forget).unwrap_or_default();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn dispatch_release(queue: *const Queue) {
    unsafe { &*queue }.release();
}

#[unsafe(no_mangle)]
extern "C" fn dispatch_sync_f(queue: *const Queue, context: *mut c_void, work: Work) {
    let Some(queue) = Handle::to(queue) else { return };
    if queue.is_current() {
        journal::wrong(format!("the queue {} waits for itself for ever", queue.label()));
        return work(context);
    }
    let (done, wait) = channel();
    let context = Context(context);
    queue.later(move || {
        context.work(work);
        // Whoever waits is there.
        let _ = done.send(());
    });
    // It ends with an error when the job panicked, and that is a test's failure already.
    let _ = wait.recv();
}

#[unsafe(no_mangle)]
extern "C" fn dispatch_async_f(queue: *const Queue, context: *mut c_void, work: Work) {
    let context = Context(context);
    if let Some(queue) = Handle::to(queue) {
        queue.later(move || context.work(work));
    }
}
