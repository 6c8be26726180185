//! The block device as the transport sees it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tearless_storage::Disk;

use super::{
    spec::{CLASS, DEVICE_ID, MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, feature, request},
    worker::{Doorbell, Medium, Worker},
};
use crate::{Activation, DeviceKind, Interrupt, VirtQueue, VirtioDevice, Wake, lock, read_window};

const QUEUE_SIZE: u16 = 256;
/// A request is its header, its data segments and its status byte.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// More queues than this gain nothing: each is a thread.
const MAX_QUEUES: u16 = 16;
/// Blocks are 512 bytes, but the host works in pages: 2^3 blocks.
const PHYSICAL_BLOCK_EXP: u8 = 3;

/// How a disk is presented.
#[derive(Clone, Debug)]
pub struct BlkOptions {
    /// What the guest sees as serial number (`/dev/disk/by-id/virtio-SERIAL`); cut to 20 bytes.
    pub serial: String,
    /// Request queues, 1 to 16; usually one per vCPU.
    pub queues: u16,
}

impl Default for BlkOptions {
    fn default() -> Self {
        Self { serial: String::new(), queues: 1 }
    }
}

/// A block device.
pub struct Blk {
    medium: Arc<Medium>,
    queues: Vec<Arc<VirtQueue>>,
    wakes: Vec<Arc<Wake>>,
    doorbells: Vec<Arc<Doorbell>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The way to a driver that is up.
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
}

impl Blk {
    /// Presents `disk`.
    pub fn new(disk: Arc<dyn Disk>, options: &BlkOptions) -> Arc<Self> {
        let mut serial = [0; request::ID_LEN];
        serial.iter_mut().zip(options.serial.bytes()).for_each(|(to, from)| *to = from);
        let doorbells: Vec<_> =
            (0..options.queues.clamp(1, MAX_QUEUES)).map(|_| Arc::new(Doorbell::default())).collect();
        let wake = |doorbell: &Arc<Doorbell>| {
            let doorbell = doorbell.clone();
            Arc::new(Wake::with_bell(move || doorbell.press()))
        };
        let wakes: Vec<_> = doorbells.iter().map(wake).collect();
        let queues = wakes.iter().map(|wake| VirtQueue::new(QUEUE_SIZE, wake.clone())).collect();
        let medium = Arc::new(Medium {
            disk: RwLock::new(disk),
            serial,
            write_through: AtomicBool::new(false),
            complained: AtomicBool::new(false),
            full: AtomicBool::new(false),
        });
        Arc::new(Self {
            medium,
            queues,
            wakes,
            doorbells,
            threads: Mutex::default(),
            interrupt: Mutex::default(),
        })
    }

    /// Makes all durable that was written to the disk.
    ///
    /// # Errors
    /// What the host says.
    pub fn flush(&self) -> io::Result<()> {
        let disk = self.medium.disk();
        if disk.read_only() { Ok(()) } else { disk.flush() }
    }

    /// The disk.
    pub fn disk(&self) -> Arc<dyn Disk> {
        self.medium.disk()
    }

    /// Has requests go to `disk` from now on, which has the same content and size. To be called while the queues stand still:
    /// nothing is in flight then.
    pub fn replace_disk(&self, disk: Arc<dyn Disk>) {
        *self.medium.disk.write().unwrap_or_else(PoisonError::into_inner) = disk;
    }

    /// Makes the disk larger while the guest runs, and tells its driver; see [`Disk::grow`].
    ///
    /// # Errors
    /// When the medium cannot grow, or is larger already.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        self.medium.disk().grow(size)?;
        if let Some(interrupt) = &*lock(&self.interrupt) {
            interrupt.config();
        }
        Ok(())
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        let always = feature::SEG_MAX | feature::BLK_SIZE | feature::TOPOLOGY | feature::MQ | feature::FLUSH;
        if self.medium.disk().read_only() {
            always | feature::RO
        } else {
            always | feature::DISCARD | feature::WRITE_ZEROES
        }
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    /// `struct virtio_blk_config` (section 5.2.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = Vec::with_capacity(60);
        bytes.extend((self.medium.disk().size() / SECTOR).to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(SEG_MAX.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((SECTOR as u32).to_le_bytes());
        bytes.extend([PHYSICAL_BLOCK_EXP, 0]);
        bytes.extend((1u16 << PHYSICAL_BLOCK_EXP).to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend((self.queues.len() as u16).to_le_bytes());
        bytes.extend(MAX_RANGE_SECTORS.to_le_bytes());
        bytes.extend(MAX_RANGES.to_le_bytes());
        bytes.extend((1u32 << PHYSICAL_BLOCK_EXP).to_le_bytes());
        bytes.extend(MAX_RANGE_SECTORS.to_le_bytes());
        bytes.extend(MAX_RANGES.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        read_window(&bytes, offset, data);
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        self.medium.write_through.store(activation.features & feature::FLUSH == 0, Ordering::Release);
        *lock(&self.interrupt) = Some(activation.interrupt);
        let mut threads = lock(&self.threads);
        let started = threads.len();
        let parts = self.queues.iter().zip(&self.wakes).zip(&self.doorbells);
        for ((queue, wake), doorbell) in parts.skip(started) {
            let mut worker = Worker::new(self.medium.clone(), doorbell.clone());
            let (queue, wake) = (queue.clone(), wake.clone());
            let thread = thread::Builder::new().name(format!("blk{}", threads.len()));
            threads.push(thread.spawn(move || worker.run(&queue, &wake))?);
        }
        Ok(())
    }

    fn outline(&self) -> String {
        let kind = if self.medium.disk().read_only() { "a read-only disk" } else { "a disk" };
        format!("{kind} of {} bytes", self.medium.disk().size())
    }

    /// What the host did not refuse is over already: see `worker`.
    fn ends_soon(&self) -> bool {
        false
    }

    /// Stopping the queues waited for the requests in progress; what stalled is forgotten by the workers.
    fn reset(&self) {
        *lock(&self.interrupt) = None;
    }
}

impl Drop for Blk {
    /// Waits for the requests in progress, so that the disk is closed, and its lock gone, when this returns.
    fn drop(&mut self) {
        self.wakes.iter().for_each(|wake| wake.shut_down());
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a disk worker ended with a panic");
            }
        }
    }
}
