//! The block device as the transport sees it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tearless_storage::Disk;

use super::{
    spec::{CLASS, DEVICE_ID, MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, feature, request},
    worker::Worker,
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

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
    disk: Arc<dyn Disk>,
    serial: [u8; request::ID_LEN],
    queues: Vec<Arc<VirtQueue>>,
    wakes: Vec<Arc<Wake>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The driver does not flush, so each write must be durable when it completes (section 5.2.5.2).
    write_through: Arc<AtomicBool>,
}

impl Blk {
    /// Presents `disk`.
    pub fn new(disk: Arc<dyn Disk>, options: &BlkOptions) -> Arc<Self> {
        let mut serial = [0; request::ID_LEN];
        serial.iter_mut().zip(options.serial.bytes()).for_each(|(to, from)| *to = from);
        let wakes: Vec<_> =
            (0..options.queues.clamp(1, MAX_QUEUES)).map(|_| Arc::new(Wake::default())).collect();
        let queues = wakes.iter().map(|wake| VirtQueue::new(QUEUE_SIZE, wake.clone())).collect();
        let write_through = Arc::new(AtomicBool::new(false));
        Arc::new(Self { disk, serial, queues, wakes, threads: Mutex::default(), write_through })
    }
}

impl VirtioDevice for Blk {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        let always = feature::SEG_MAX | feature::BLK_SIZE | feature::TOPOLOGY | feature::MQ | feature::FLUSH;
        if self.disk.read_only() {
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
        bytes.extend((self.disk.size() / SECTOR).to_le_bytes());
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
        self.write_through.store(activation.features & feature::FLUSH == 0, Ordering::Release);
        let mut threads = lock(&self.threads);
        let started = threads.len();
        for (queue, wake) in self.queues.iter().zip(&self.wakes).skip(started) {
            let mut worker = Worker::new(self.disk.clone(), self.serial, self.write_through.clone());
            let (queue, wake) = (queue.clone(), wake.clone());
            let thread = thread::Builder::new().name(format!("blk{}", threads.len()));
            threads.push(thread.spawn(move || worker.run(&queue, &wake))?);
        }
        Ok(())
    }

    /// Nothing to forget: stopping the queues waited for the requests in progress.
    fn reset(&self) {}
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
