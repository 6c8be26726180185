//! NOR flash that keeps firmware's variables, as QEMU's `virt` has it at 64 MiB.
//!
//! ```text
//!   write ─► Chip (commands) ─► Change ─► Flash: bytes in memory ─► file
//!   read ◄── stored bytes, or status, identity, query table of each chip
//! ```
//! [`Flash`] has the content and outlives the guest's resets; [`Pflash`] is the device of one machine. Programming clears
//! bits, erasing sets them. A change is in the file when the chip says that it is done, and on the medium when the guest goes
//! back to reading what is stored, which EDK2 does after each step of a variable's life.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use tearless_bus::{AccessError, MmioDevice};
use tearless_state::{Encoded, StateError};

mod chip;
pub mod spec;
#[cfg(test)]
mod tests;

use crate::access::lock;
use chip::{Change, Chip, Expects, View};

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// What a flash keeps. Behind the end of the file there are zeros, as QEMU's users make them; firmware finds no variables
/// there and makes a store.
pub struct Flash(Mutex<Content>);

struct Content {
    bytes: Vec<u8>,
    file: Option<File>,
    unsynced: bool,
}

impl Flash {
    /// One that is gone when the process ends.
    pub fn volatile() -> Self {
        Self(Mutex::new(Content { bytes: vec![0; spec::SIZE], file: None, unsynced: false }))
    }

    /// What `file` has; it may be shorter than the flash.
    ///
    /// # Errors
    /// When it cannot be read, or is larger.
    pub fn with_file(mut file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        if len > spec::SIZE as u64 {
            let why = format!("it has {len} bytes, and the flash {}", spec::SIZE);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        // Zeros are not copied, so that only what is used takes memory.
        let mut bytes = vec![0; spec::SIZE];
        let mut piece = vec![0; 64 << 10];
        file.rewind()?;
        for place in bytes.chunks_mut(piece.len()) {
            let mut filled = 0;
            while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read(rest)? {
                    0 => break,
                    n => filled += n,
                }
            }
            let read = piece.get(..filled).unwrap_or_default();
            if read.iter().any(|byte| *byte != 0) {
                place.iter_mut().zip(read).for_each(|(to, from)| *to = *from);
            }
            if filled < piece.len() {
                break;
            }
        }
        Ok(Self(Mutex::new(Content { bytes, file: Some(file), unsynced: false })))
    }

    /// Keeps what is written from now on in memory only.
    pub fn detach(&self) {
        lock(&self.0).file = None;
    }
}

impl Content {
    fn write(&mut self, range: std::ops::Range<usize>, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let Some(place) = self.bytes.get_mut(range.clone()) else { return Ok(()) };
        let before = place.to_vec();
        change(place);
        let Some(file) = &self.file else { return Ok(()) };
        self.unsynced = true;
        file.write_all_at(place, range.start as u64).inspect_err(|_| place.copy_from_slice(&before))
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::None => Ok(()),
            Change::Program(pieces) => pieces.iter().try_for_each(|(offset, data)| {
                let start = *offset as usize;
                self.write(start..start + data.len(), |place| {
                    place.iter_mut().zip(data).for_each(|(to, from)| *to &= from);
                })
            }),
            Change::Erase(offset) => {
                let start = *offset as usize / spec::BLOCK * spec::BLOCK;
                self.write(start..start + spec::BLOCK, |place| place.fill(0xff))
            }
            Change::Settle => self.settle(),
        }
    }
}

/// The flash of one machine.
pub struct Pflash {
    chip: Mutex<Chip>,
    flash: Arc<Flash>,
}

impl Pflash {
    /// A device that shows and changes `flash`.
    pub fn new(flash: Arc<Flash>) -> Self {
        Self { chip: Mutex::default(), flash }
    }

    /// The state, for a saved VM: what is stored is in its file already.
    ///
    /// # Errors
    /// [`StateError::Busy`] when there is no file.
    pub fn save(&self) -> Result<Encoded, StateError> {
        let chip = lock(&self.chip);
        let mut content = lock(&self.flash.0);
        if content.file.is_none() {
            return Err(StateError::Busy("the firmware's variables are in no file".to_owned()));
        }
        content
            .settle()
            .map_err(|e| StateError::Busy(format!("the firmware's variables are not safe: {e}")))?;
        Encoded::new(STATE_VERSION, &*chip)
    }

    /// Takes a state over.
    ///
    /// # Errors
    /// When it is none of this device.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        let chip: Chip = state.decode(STATE_VERSION)?;
        if !chip.is_sane() {
            return Err(StateError::malformed("a flash in a state that no commands lead to"));
        }
        *lock(&self.chip) = chip;
        Ok(())
    }
}

/// What both chips show at the byte `offset` of a word.
fn shown(byte: u8, offset: u64) -> u8 {
    if offset.is_multiple_of(2) { byte } else { 0 }
}

impl MmioDevice for Pflash {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let chip = lock(&self.chip);
        if chip.view == View::Array {
            let content = lock(&self.flash.0);
            let start = usize::try_from(offset).map_err(|_| AccessError::NoRegister)?;
            let stored = content.bytes.get(start..).and_then(|rest| rest.get(..data.len()));
            data.copy_from_slice(stored.ok_or(AccessError::NoRegister)?);
            return Ok(());
        }
        for (at, byte) in (offset..).zip(data) {
            let word = at / spec::WORD as u64;
            let answer = match chip.view {
                View::Array | View::Status => chip.status(),
                View::Id => spec::ID.get((word & 0xff) as usize).copied().unwrap_or_default(),
                View::Query => spec::query(word & 0xff),
            };
            *byte = shown(answer, at);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let mut chip = lock(&self.chip);
        // The bus is 32 bits wide: what is wider comes in two cycles.
        for (at, part) in (offset..).step_by(spec::WORD).zip(data.chunks(spec::WORD)) {
            let at = u32::try_from(at).ok().filter(|at| *at as usize + part.len() <= spec::SIZE);
            let change = chip.write(at.ok_or(AccessError::NoRegister)?, part);
            if let Err(error) = lock(&self.flash.0).apply(&change) {
                tracing::warn!(%error, "cannot keep the firmware's variables");
                chip.failed(matches!(change, Change::Erase(_)));
            }
        }
        Ok(())
    }
}

impl Pflash {
    /// Whether nothing but a command is expected; for tests and fuzzing.
    pub fn is_idle(&self) -> bool {
        lock(&self.chip).expects == Expects::Command
    }
}
