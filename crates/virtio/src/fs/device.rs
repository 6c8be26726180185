//! The file system device as the transport sees it.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tearless_share::{FileSystem, Server};
use tearless_state::{Encoded, StateError};

use super::{
    spec::{CLASS, DEVICE_ID, TAG_LEN},
    worker::Worker,
};
use crate::{Activation, DeviceKind, MAX_DESCRIPTORS, VirtQueue, VirtioDevice, Wake, lock, read_window};

/// A request of 1 MiB has a buffer per page, and a few more.
const REQUEST_QUEUE_SIZE: u16 = MAX_DESCRIPTORS as u16;
/// What is forgotten is said in small requests.
const URGENT_QUEUE_SIZE: u16 = 128;
/// More queues than this gain nothing: each has threads of its own.
const MAX_REQUEST_QUEUES: u16 = 4;
/// While one waits for the host's disk, the other answers what the host knows by heart.
const WORKERS_PER_QUEUE: usize = 2;

/// How a file system is presented.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// What a mount names it by; cut to 36 bytes.
    pub tag: String,
    /// Request queues, 1 to 4; usually one per vCPU.
    pub queues: u16,
}

/// A file system device.
pub struct Fs<F: FileSystem + 'static> {
    server: Arc<Server<F>>,
    tag: [u8; TAG_LEN],
    /// First the queue for urgent requests, then those for the others.
    queues: Vec<Arc<VirtQueue>>,
    wakes: Vec<Arc<Wake>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<F: FileSystem> Fs<F> {
    /// Presents `files`.
    pub fn new(files: F, options: &FsOptions) -> Arc<Self> {
        let mut tag = [0; TAG_LEN];
        tag.iter_mut().zip(options.tag.bytes()).for_each(|(to, byte)| *to = byte);
        let count = 1 + options.queues.clamp(1, MAX_REQUEST_QUEUES);
        let wakes: Vec<_> = (0..count).map(|_| Arc::new(Wake::default())).collect();
        let size = |index| if index == 0 { URGENT_QUEUE_SIZE } else { REQUEST_QUEUE_SIZE };
        let queues = wakes.iter().enumerate();
        let queues = queues.map(|(index, wake)| VirtQueue::new(size(index), wake.clone())).collect();
        Arc::new(Self { server: Arc::new(Server::new(files)), tag, queues, wakes, threads: Mutex::default() })
    }

    fn start_worker(&self, index: usize, name: String) -> io::Result<Option<JoinHandle<()>>> {
        let (Some(queue), Some(wake)) = (self.queues.get(index), self.wakes.get(index)) else {
            return Ok(None);
        };
        let mut worker = Worker::new(self.server.clone());
        let (queue, wake) = (queue.clone(), wake.clone());
        thread::Builder::new().name(name).spawn(move || worker.run(&queue, &wake)).map(Some)
    }
}

impl<F: FileSystem> VirtioDevice for Fs<F> {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    /// None. A notification queue would be one, for what no Linux understands.
    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    /// `struct virtio_fs_config` (section 5.11.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = self.tag.to_vec();
        bytes.extend((self.queues.len() as u32 - 1).to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        read_window(&bytes, offset, data);
    }

    fn activate(&self, _: Activation) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        let urgent = std::iter::once(0);
        let others = (1..self.queues.len()).flat_map(|index| [index; WORKERS_PER_QUEUE]);
        let started = threads.len();
        for index in urgent.chain(others).skip(started) {
            let name = format!("share{}", threads.len());
            threads.extend(self.start_worker(index, name)?);
        }
        Ok(())
    }

    fn outline(&self) -> String {
        let tag = self.tag.iter().copied().take_while(|byte| *byte != 0).collect();
        format!("a shared folder {:?}", String::from_utf8(tag).unwrap_or_default())
    }

    fn save(&self) -> Result<Option<Encoded>, StateError> {
        self.server.save().map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("the files are missing"))?;
        // On a thread of its own, which takes the rights of the folder's owner.
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("share-restore".into());
            let work = || {
                self.server
                    .files()
                    .enter()
                    .map_err(|e| StateError::Busy(format!("{}: {e}", self.outline())))?;
                self.server.restore(state)
            };
            let thread = thread.spawn_scoped(scope, work).map_err(|e| {
                StateError::Busy(format!("cannot start a thread for {}: {e}", self.outline()))
            })?;
            thread
                .join()
                .unwrap_or_else(|_| Err(StateError::Busy("restoring a shared folder panicked".into())))
        })
    }

    /// A file that was made cannot be made again.
    fn may_repeat(&self) -> bool {
        false
    }

    fn reset(&self) {
        let leftovers = self.server.reset();
        // Closing files may have to wait for the host's disks, which a vCPU must not. If there is no thread to be had,
        // the closure is dropped here, and the leftovers with it.
        _ = thread::Builder::new().name("share-close".into()).spawn(move || drop(leftovers));
    }
}

impl<F: FileSystem> Drop for Fs<F> {
    /// Waits for the requests in progress, so that nothing changes the shared files when this returns.
    fn drop(&mut self) {
        self.wakes.iter().for_each(|wake| wake.shut_down());
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of a shared folder ended with a panic");
            }
        }
    }
}
