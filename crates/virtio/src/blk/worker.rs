//! The thread that serves one request queue.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tearless_storage::Disk;

use super::spec::{MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, Status, request};
use crate::{Chain, Ring, RingError, VirtQueue, Wake};

/// Data moves through a buffer of this size: a request may be gigabytes long, this is what it costs the host. It is
/// larger than what Linux sends at once by default (1280 KiB is its limit, 128 KiB to 1 MiB are usual).
const BUFFER: usize = 1 << 20;
/// Requests per lock and interrupt.
const BATCH: usize = 16;

pub(super) struct Worker {
    disk: Arc<dyn Disk>,
    serial: [u8; request::ID_LEN],
    write_through: Arc<AtomicBool>,
    buffer: Vec<u8>,
    /// Whether the host was told that this disk fails: once is enough, the guest can repeat a request for ever.
    complained: bool,
}

/// Why a request does not succeed.
enum Failure {
    /// The request's fault or the disk's: the driver gets a status byte.
    Status(Status),
    /// The chain is not a request at all: the queue stops.
    Ring(RingError),
}

impl From<RingError> for Failure {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl Worker {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        serial: [u8; request::ID_LEN],
        write_through: Arc<AtomicBool>,
    ) -> Self {
        Self { disk, serial, write_through, buffer: Vec::new(), complained: false }
    }

    pub(super) fn run(&mut self, queue: &VirtQueue, wake: &Wake) {
        self.buffer = vec![0; BUFFER];
        let mut chain = Chain::default();
        while wake.wait() {
            while queue.with(|ring| self.batch(ring, &mut chain)) == Some(true) && !wake.is_shut_down() {}
        }
    }

    /// Serves some requests. Returns whether there may be more.
    fn batch(&mut self, ring: &mut Ring, chain: &mut Chain) -> Result<bool, RingError> {
        ring.disable_kicks()?;
        for _ in 0..BATCH {
            if !ring.pop_or_arm(chain)? {
                ring.notify()?;
                return Ok(false);
            }
            let written = self.request(ring, chain)?;
            ring.push(chain.head(), written)?;
        }
        ring.notify()?;
        Ok(true)
    }

    /// Serves one request and writes its status byte. Returns how many bytes of the writable part were filled; those
    /// before the status byte only count when they were (section 2.7.8.2).
    fn request(&mut self, ring: &Ring, chain: &Chain) -> Result<u32, RingError> {
        let mut header = [0; request::HEADER];
        if chain.read(ring.memory(), 0, &mut header)? < header.len() {
            return Err(RingError::Chain("a disk request without a header"));
        }
        let status_at = chain
            .writable_len()
            .checked_sub(1)
            .ok_or(RingError::Chain("a disk request without a status byte"))?;
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector));
        let outcome = match kind {
            request::IN => self.read(ring, chain, sector, status_at),
            request::OUT => self.write(ring, chain, sector),
            request::FLUSH => self.flush(),
            request::GET_ID => self.identify(ring, chain, status_at),
            request::DISCARD | request::WRITE_ZEROES => self.ranges(ring, chain, kind),
            _ => Err(Failure::Status(Status::Unsupported)),
        };
        let (status, written) = match outcome {
            Ok(written) => (Status::Ok, written),
            Err(Failure::Status(status)) => (status, 0),
            Err(Failure::Ring(error)) => return Err(error),
        };
        chain.write(ring.memory(), status_at, &[status as u8])?;
        let whole = u32::try_from(status_at + 1).unwrap_or(u32::MAX);
        Ok(if written == status_at { whole } else { 0 })
    }

    fn read(&mut self, ring: &Ring, chain: &Chain, sector: u64, len: u64) -> Result<u64, Failure> {
        let start = self.locate(sector, len)?;
        let mut done = 0;
        while done < len {
            let take = (len - done).min(BUFFER as u64);
            let (part, _) = self.buffer.split_at_mut(take as usize);
            let result = self.disk.read_at(part, start + done);
            chain.write(ring.memory(), done, if result.is_ok() { part } else { &[] })?;
            self.check(result)?;
            done += take;
        }
        Ok(done)
    }

    fn write(&mut self, ring: &Ring, chain: &Chain, sector: u64) -> Result<u64, Failure> {
        let len = chain.readable_len() - request::HEADER as u64;
        let start = self.locate(sector, len)?;
        self.check_writable()?;
        let mut done = 0;
        while done < len {
            let take = (len - done).min(BUFFER as u64);
            let (part, _) = self.buffer.split_at_mut(take as usize);
            chain.read(ring.memory(), request::HEADER as u64 + done, part)?;
            let result = self.disk.write_at(part, start + done);
            self.check(result)?;
            done += take;
        }
        self.settle()?;
        Ok(0)
    }

    fn flush(&mut self) -> Result<u64, Failure> {
        let result = self.disk.flush();
        self.check(result)?;
        Ok(0)
    }

    /// After a change: makes it durable for a driver that does not flush.
    fn settle(&mut self) -> Result<(), Failure> {
        if self.write_through.load(Ordering::Acquire) {
            self.flush()?;
        }
        Ok(())
    }

    fn identify(&mut self, ring: &Ring, chain: &Chain, room: u64) -> Result<u64, Failure> {
        if room < request::ID_LEN as u64 {
            return Err(Failure::Status(Status::IoError));
        }
        chain.write(ring.memory(), 0, &self.serial)?;
        // A longer buffer is filled up, so that all that is reported as written was.
        let done = request::ID_LEN as u64;
        let rest = room.min(BUFFER as u64).saturating_sub(done);
        let (zeros, _) = self.buffer.split_at_mut(rest as usize);
        zeros.fill(0);
        Ok(done + chain.write(ring.memory(), done, zeros)? as u64)
    }

    fn ranges(&mut self, ring: &Ring, chain: &Chain, kind: u32) -> Result<u64, Failure> {
        let len = chain.readable_len() - request::HEADER as u64;
        let whole = len > 0 && len.is_multiple_of(request::RANGE as u64);
        if !whole || len > u64::from(MAX_RANGES) * request::RANGE as u64 {
            return Err(Failure::Status(Status::IoError));
        }
        self.check_writable()?;
        let mut done = 0;
        while done < len {
            let mut range = [0; request::RANGE];
            chain.read(ring.memory(), request::HEADER as u64 + done, &mut range)?;
            self.range(kind, range)?;
            done += request::RANGE as u64;
        }
        self.settle()?;
        Ok(0)
    }

    fn range(&mut self, kind: u32, range: [u8; request::RANGE]) -> Result<(), Failure> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = range;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        let known = if kind == request::WRITE_ZEROES { request::FLAG_UNMAP } else { 0 };
        if flags & !known != 0 {
            return Err(Failure::Status(Status::Unsupported));
        }
        if count > MAX_RANGE_SECTORS {
            return Err(Failure::Status(Status::IoError));
        }
        let len = u64::from(count) * SECTOR;
        let start = self.locate(sector, len)?;
        let result = if kind == request::DISCARD {
            self.disk.discard(start, len)
        } else {
            self.disk.write_zeroes(start, len, flags & request::FLAG_UNMAP != 0)
        };
        self.check(result)
    }

    /// The byte where `len` bytes at `sector` start, if these are whole sectors of the disk.
    fn locate(&self, sector: u64, len: u64) -> Result<u64, Failure> {
        let start = sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(len));
        let inside = end.is_some_and(|end| end <= self.disk.size()) && len.is_multiple_of(SECTOR);
        start.filter(|_| inside).ok_or(Failure::Status(Status::IoError))
    }

    fn check_writable(&self) -> Result<(), Failure> {
        if self.disk.read_only() { Err(Failure::Status(Status::IoError)) } else { Ok(()) }
    }

    /// The specification has one status for all that goes wrong on the host; the reason goes to the host's log.
    fn check(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|error| {
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!(disk = self.disk.name(), %error, "disk request failed; the guest sees an I/O error");
            }
            Failure::Status(Status::IoError)
        })
    }
}
