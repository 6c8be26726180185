//! Disks that a server holds, by the NBD protocol.
//!
//! A connection that breaks makes requests fail with [`io::ErrorKind::NotConnected`], and is made anew by the first that
//! comes a while later. What the server may have lost with it is written again first ([`journal`]); until then the disk is
//! away, not damaged. The server is not trusted: see [`handshake`] and [`connection`].

mod address;
mod connection;
mod handshake;
mod journal;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    address::{Address, Place},
    connection::{Ask, Connection, lost},
    handshake::{Export, Refusal},
    journal::{Change, Journal},
    wire::command,
};
use crate::{Disk, DiskError, Format, OpenOptions, Sync};

pub use address::is_remote;

const SECTOR: u64 = 512;
/// How long to leave a server alone that cannot be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// Ranges without data are cut to this: servers that write the zeros take their time for it.
const MAX_RANGE: u64 = 1 << 28;
/// Requests at once, per queue: a network's latency is hidden by more of them.
const PARALLEL: usize = 16;

/// What the process of a VM needs to reach a disk's server, once and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A TCP port of hosts whose addresses are known.
    Port(u16),
    /// A name that must be resolved, which takes more than the server's port.
    Name,
    /// A unix socket.
    Unix,
}

/// What it takes to reach the server of the disk `path`; `None` if that is a file.
///
/// # Errors
/// [`DiskError::Server`] when the address makes no sense.
pub fn reach(path: &Path) -> Result<Option<Reach>, DiskError> {
    if !is_remote(path) {
        return Ok(None);
    }
    Ok(Some(match parse(path)?.place {
        Place::Unix(_) => Reach::Unix,
        Place::Tcp { host, port } if host.parse::<std::net::IpAddr>().is_ok() => Reach::Port(port),
        Place::Tcp { .. } => Reach::Name,
    }))
}

fn parse(path: &Path) -> Result<Address, DiskError> {
    let text = path.to_str().unwrap_or_default();
    Address::parse(text).map_err(|why| {
        server_error(path, Refusal::new(why, "nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"))
    })
}

fn server_error(path: &Path, Refusal { why, advice }: Refusal) -> DiskError {
    DiskError::Server { path: path.to_owned(), why, advice }
}

struct Link {
    connection: Option<Arc<Connection>>,
    retry_at: Option<Instant>,
    /// The user was told that it is lost.
    complained: bool,
}

/// A disk that a server holds.
pub struct NbdDisk {
    address: Address,
    name: String,
    options: OpenOptions,
    /// What the server offered first; later ones must fit.
    export: Export,
    size: u64,
    link: Mutex<Link>,
    /// Shared by writes of whole blocks; alone is who reads a block, changes a part and writes it.
    blocks: RwLock<()>,
    /// Present if what was written can be lost, and the guest cares.
    journal: Option<Journal>,
    /// A server that came back did not take what another had taken.
    spoilt: AtomicBool,
}

impl NbdDisk {
    /// Connects to the server that `url` names; see [`crate::open`].
    ///
    /// # Errors
    /// [`DiskError::Server`] when it is no address, there is no such server or export, or it does not fit the options.
    pub fn open(url: &Path, options: OpenOptions) -> Result<Self, DiskError> {
        let fail = |refusal| server_error(url, refusal);
        let address = parse(url)?;
        if options.format.is_some_and(|format| format != Format::Raw) {
            let why = "what a server holds is taken for a raw disk";
            return Err(fail(Refusal::new(why, "have the server read the image: `qemu-nbd -f FORMAT FILE`")));
        }
        let connection = Connection::open(&address).map_err(fail)?;
        let export = connection.export;
        if export.read_only() && !options.read_only {
            return Err(fail(Refusal::new("the server lets nobody write", "attach it read-only: URL:ro")));
        }
        let size = usable(&export);
        if size == 0 {
            return Err(fail(Refusal::new(
                "what the server holds under this name is empty",
                "make it larger first",
            )));
        }
        let durable = options.sync != Sync::None && !options.read_only;
        if durable && !export.can_flush() && !export.can_write_through() {
            tracing::warn!(disk = %url.display(), "the server does not say when data is durable");
        }
        Ok(Self {
            address,
            name: url.display().to_string(),
            options,
            export,
            size,
            link: Mutex::new(Link {
                connection: Some(Arc::new(connection)),
                retry_at: None,
                complained: false,
            }),
            blocks: RwLock::default(),
            journal: (durable && export.can_flush()).then(Journal::default),
            spoilt: AtomicBool::new(false),
        })
    }

    /// The connection; a new one if the last broke.
    fn connection(&self) -> io::Result<Arc<Connection>> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = link.connection.as_ref().filter(|connection| connection.alive()) {
            return Ok(connection.clone());
        }
        if link.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(lost());
        }
        link.connection = None;
        match self.connect_again() {
            Ok(connection) => {
                if link.complained {
                    tracing::warn!(disk = self.name, "the server is back; the guest goes on");
                }
                let connection = Arc::new(connection);
                *link = Link { connection: Some(connection.clone()), retry_at: None, complained: false };
                Ok(connection)
            }
            Err(Refusal { why, .. }) => {
                if !link.complained {
                    tracing::error!(
                        "cannot reach disk {}\n  because: {why}; the guest waits\n  try: start its server again, and it goes on \
                         by itself",
                        self.name
                    );
                }
                link.complained = true;
                // From now, not from before the attempt: that may have taken long.
                link.retry_at = Some(Instant::now() + PAUSE);
                Err(lost())
            }
        }
    }

    fn connect_again(&self) -> Result<Connection, Refusal> {
        let connection = Connection::open(&self.address)?;
        let (was, is) = (self.export, connection.export);
        // Structured replies may come and go: they are the connection's own matter.
        let same = Export { structured: was.structured, ..is } == was;
        if !same {
            return Err(Refusal::new("what it has under this name now is another disk", ""));
        }
        for change in self.journal.iter().flat_map(Journal::changes) {
            match self.send(&connection, &change, 0) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Err(error.into()),
                Err(error) => {
                    tracing::error!(disk = self.name, %error, "what was written before the server was lost cannot be written again");
                    self.spoilt.store(true, Ordering::Release);
                }
            }
        }
        Ok(connection)
    }

    fn send(&self, connection: &Connection, change: &Change, flags: u16) -> io::Result<()> {
        match change {
            Change::Write { offset, data } => {
                let len = u32::try_from(data.len()).map_err(io::Error::other)?;
                connection.ask(Ask { command: command::WRITE, flags, offset: *offset, len }, data)
            }
            Change::Zeroes { offset, len, may_unmap } => {
                let flags = if *may_unmap { flags } else { flags | command::NO_HOLE };
                connection.ask(Ask { command: command::WRITE_ZEROES, flags, offset: *offset, len: *len }, &[])
            }
        }
        .map(|_| ())
    }

    /// Makes a change, durably in time.
    fn change(&self, change: Change) -> io::Result<()> {
        let Some(journal) = &self.journal else {
            let through = self.options.sync != Sync::None && self.export.can_write_through();
            return self.send(&*self.connection()?, &change, if through { command::FUA } else { 0 });
        };
        if journal.is_full() {
            self.settle(journal)?;
        }
        let connection = self.connection()?;
        let id = journal.begin(change.clone());
        let result = self.send(&connection, &change, 0);
        journal.end(id, result.is_ok());
        result
    }

    /// Has the server make durable what it has taken.
    fn settle(&self, journal: &Journal) -> io::Result<()> {
        let connection = self.connection()?;
        let covered = journal.done();
        connection.ask(Ask { command: command::FLUSH, flags: 0, offset: 0, len: 0 }, &[])?;
        journal.settle(&covered);
        Ok(())
    }

    fn block(&self) -> u64 {
        self.export.min_block.into()
    }

    /// How much one request moves.
    fn step(&self) -> u64 {
        self.export.max_block.into()
    }

    fn read_blocks(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let len = u32::try_from(len).map_err(io::Error::other)?;
        self.connection()?.ask(Ask { command: command::READ, flags: 0, offset, len }, &[])
    }

    fn write_blocks(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let _shared = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        for part in data.chunks(self.step() as usize) {
            self.change(Change::Write { offset: at, data: part.into() })?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Changes a part of a block.
    fn patch(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let _alone = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let start = offset - offset % self.block();
        let mut whole = self.read_blocks(start, self.block())?;
        let from = (offset - start) as usize;
        let part = whole.get_mut(from..from + data.len()).ok_or(io::ErrorKind::InvalidInput)?;
        part.copy_from_slice(data);
        self.change(Change::Write { offset: start, data: whole.into() })
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.options.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Zeros where the server cannot make them, or not in this place.
    fn write_zero_bytes(&self, offset: u64, len: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut done = 0;
        while done < len {
            let take = (len - done).min(ZEROS.len() as u64);
            let (zeros, _) = ZEROS.split_at(take as usize);
            self.write_at(zeros, offset + done)?;
            done += take;
        }
        Ok(())
    }
}

/// The part of the export that is whole sectors and blocks.
fn usable(export: &Export) -> u64 {
    let unit = SECTOR.max(export.min_block.into());
    export.size / unit * unit
}

impl Disk for NbdDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.options.read_only
    }

    fn parallel(&self) -> usize {
        PARALLEL
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let skip = at % self.block();
            let wanted = (skip + rest.len() as u64).next_multiple_of(self.block()).min(self.step());
            let blocks = self.read_blocks(at - skip, wanted)?;
            let come = blocks.get(skip as usize..).unwrap_or_default();
            let take = come.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(come.get(..take).unwrap_or_default());
            rest = later;
            at += take as u64;
        }
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let (head, body) = cut(offset, data.len() as u64, self.block());
        let (first, rest) = data.split_at(head as usize);
        let (middle, last) = rest.split_at(body as usize);
        if !first.is_empty() {
            self.patch(first, offset)?;
        }
        self.write_blocks(middle, offset + head)?;
        if !last.is_empty() {
            self.patch(last, offset + head + body)?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        self.settle(journal)?;
        if self.spoilt.swap(false, Ordering::AcqRel) {
            return Err(io::Error::other("data was lost with the server's connection"));
        }
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if !self.export.can_trim() {
            return Ok(());
        }
        let (head, body) = cut(offset, len, self.block());
        for (offset, len) in ranges(offset + head, body) {
            self.connection()?.ask(Ask { command: command::TRIM, flags: 0, offset, len }, &[])?;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        self.check_writable()?;
        if !self.export.can_write_zeroes() {
            return self.write_zero_bytes(offset, len);
        }
        let (head, body) = cut(offset, len, self.block());
        self.write_zero_bytes(offset, head)?;
        for (offset, len) in ranges(offset + head, body) {
            let _shared = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
            self.change(Change::Zeroes { offset, len, may_unmap })?;
        }
        self.write_zero_bytes(offset + head + body, len - head - body)
    }
}

/// How many of `len` bytes at `offset` lie before the first whole block, and how many in whole blocks.
fn cut(offset: u64, len: u64, block: u64) -> (u64, u64) {
    let head = (offset.next_multiple_of(block) - offset).min(len);
    (head, (len - head) / block * block)
}

/// A range in pieces that one request can have.
fn ranges(offset: u64, len: u64) -> impl Iterator<Item = (u64, u32)> {
    let pieces = (0..len).step_by(MAX_RANGE as usize);
    pieces.filter_map(move |done| Some((offset + done, u32::try_from((len - done).min(MAX_RANGE)).ok()?)))
}

/// Has a client listen to a server that says `said`. For fuzzing: it must come to an end and take little memory.
#[doc(hidden)]
pub fn listen(said: &[u8]) {
    connection::listen(said);
}
