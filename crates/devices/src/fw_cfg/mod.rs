//! What firmware is told by the VMM: QEMU's `fw_cfg`, with registers in memory and DMA.
//!
//! Items are bytes that do not change while the machine runs. The guest selects one and reads on from its beginning, through
//! the data register or with a transfer into its memory; behind an item's end there are zeros. It can write none.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};
use tearless_bus::{AccessError, MmioDevice};
use tearless_memory::{Gpa, GuestMemory};
use tearless_state::{Encoded, StateError};

pub mod spec;
#[cfg(test)]
mod tests;

use crate::access::{fill, lock};

/// The version of the state's format.
const STATE_VERSION: u32 = 1;
/// Bytes that are copied at once.
const PIECE: usize = 64 << 10;

/// A kernel that firmware boots instead of what it finds on disks.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// An EFI program.
    pub program: Arc<[u8]>,
    /// The RAM disk; may be empty.
    pub initrd: Arc<[u8]>,
    /// The command line.
    pub cmdline: String,
}

/// The items.
#[derive(Debug, Default)]
pub struct Items {
    legacy: BTreeMap<u16, Arc<[u8]>>,
    files: BTreeMap<String, Arc<[u8]>>,
}

impl Items {
    /// Those of a machine with so many vCPUs.
    pub fn new(vcpus: u32) -> Self {
        let mut items = Self::default();
        let vcpus = u16::try_from(vcpus).unwrap_or(u16::MAX).to_le_bytes();
        items.put(spec::SIGNATURE, b"QEMU");
        items.put(spec::ID, &3u32.to_le_bytes());
        items.put(spec::CPUS, &vcpus);
        items.put(spec::MAX_CPUS, &vcpus);
        items
    }

    fn put(&mut self, item: u16, bytes: &[u8]) {
        self.legacy.insert(item, bytes.into());
    }

    /// Has firmware boot `kernel`.
    pub fn add_kernel(&mut self, kernel: &Kernel) {
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let cmdline = [kernel.cmdline.as_bytes(), &[0]].concat();
        self.put(spec::KERNEL_SIZE, &size(&kernel.program));
        self.put(spec::INITRD_SIZE, &size(&kernel.initrd));
        self.put(spec::CMDLINE_SIZE, &size(&cmdline));
        self.put(spec::CMDLINE, &cmdline);
        self.legacy.insert(spec::KERNEL, Arc::clone(&kernel.program));
        self.legacy.insert(spec::INITRD, Arc::clone(&kernel.initrd));
    }

    /// Has firmware wait for so many milliseconds for someone who wants its menu.
    pub fn set_menu_wait(&mut self, milliseconds: u16) {
        self.put(spec::BOOT_MENU, &1u16.to_le_bytes());
        self.add_file("etc/boot-menu-wait", milliseconds.to_le_bytes().to_vec());
    }

    /// Adds a file. A name of more than 55 bytes is cut off.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) {
        let name = name.chars().scan(0, |len, c| {
            *len += c.len_utf8();
            (*len < spec::NAME).then_some(c)
        });
        self.files.insert(name.collect(), bytes.into());
    }

    /// All of them by number, the directory among them.
    fn resolve(self) -> BTreeMap<u16, Arc<[u8]>> {
        let mut items = self.legacy;
        let mut directory = u32::try_from(self.files.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for ((name, bytes), item) in self.files.into_iter().zip(spec::FIRST_FILE..spec::ITEM) {
            directory.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            directory.extend(item.to_be_bytes());
            directory.extend([0; 2]);
            let mut place = [0; spec::NAME];
            place.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            directory.extend(place);
            items.insert(item, bytes);
        }
        items.insert(spec::DIRECTORY, directory.into());
        items
    }
}

/// Where the guest is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    item: u16,
    offset: u64,
    /// The upper half of a transfer's address.
    high: u32,
}

/// The device.
pub struct FwCfg {
    items: BTreeMap<u16, Arc<[u8]>>,
    cursor: Mutex<Cursor>,
    memory: GuestMemory,
}

impl FwCfg {
    /// One that tells `items`, into `memory` if the guest wants.
    pub fn new(items: Items, memory: GuestMemory) -> Self {
        Self { items: items.resolve(), cursor: Mutex::default(), memory }
    }

    /// The state, for a saved VM.
    ///
    /// # Errors
    /// None in practice.
    pub fn save(&self) -> Result<Encoded, StateError> {
        Encoded::new(STATE_VERSION, &*lock(&self.cursor))
    }

    /// Takes a state over.
    ///
    /// # Errors
    /// When it is none of this device.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        *lock(&self.cursor) = state.decode(STATE_VERSION)?;
        Ok(())
    }

    /// Moves on by `len` bytes; returns those of them that the item has.
    fn take(&self, cursor: &mut Cursor, len: u64) -> &[u8] {
        let bytes: &[u8] = self.items.get(&(cursor.item & spec::ITEM)).map_or(&[], |item| item);
        let start = usize::try_from(cursor.offset).unwrap_or(usize::MAX).min(bytes.len());
        cursor.offset = cursor.offset.saturating_add(len);
        let end = usize::try_from(cursor.offset).unwrap_or(usize::MAX).min(bytes.len());
        bytes.get(start..end).unwrap_or_default()
    }

    /// Carries out the transfer that the guest describes at `at`, and says there how it went.
    fn transfer(&self, cursor: &mut Cursor, at: Gpa) {
        let mut description = [0; spec::TRANSFER];
        if self.memory.read(at, &mut description).is_err() {
            tracing::debug!(%at, "a transfer of fw_cfg is described outside RAM");
            return;
        }
        let number = u128::from_be_bytes(description);
        let (control, len, address) = ((number >> 96) as u32, (number >> 64) as u32, number as u64);
        if control & spec::SELECT != 0 {
            *cursor = Cursor { item: (control >> 16) as u16, offset: 0, high: cursor.high };
        }
        let done = match control {
            c if c & spec::READ != 0 => self.copy(cursor, Gpa(address), len.into()),
            c if c & spec::WRITE != 0 => len == 0,
            c if c & spec::SKIP != 0 => {
                self.take(cursor, len.into());
                true
            }
            _ => true,
        };
        let result = if done { 0 } else { spec::ERROR };
        // It was read from there; a guest that took its memory away would find nothing either.
        _ = self.memory.write(at, &result.to_be_bytes());
    }

    fn copy(&self, cursor: &mut Cursor, to: Gpa, len: u64) -> bool {
        if len > 0 && self.memory.host_range(to, len).is_err() {
            return false;
        }
        let bytes = self.take(cursor, len);
        let zeros = [0; PIECE];
        let mut left = len - bytes.len() as u64;
        if self.memory.write(to, bytes).is_err() && !bytes.is_empty() {
            return false;
        }
        while left > 0 {
            let now = left.min(PIECE as u64);
            let place = to + (len - left);
            if self.memory.write(place, zeros.get(..now as usize).unwrap_or(&zeros)).is_err() {
                return false;
            }
            left -= now;
        }
        true
    }
}

impl MmioDevice for FwCfg {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match offset {
            spec::DATA => {
                data.fill(0);
                let bytes = self.take(&mut lock(&self.cursor), data.len() as u64);
                data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            }
            spec::DMA if data.len() == 8 => fill(data, spec::DMA_SIGNATURE.swap_bytes()),
            spec::DMA if data.len() == 4 => {
                fill(data, u64::from(((spec::DMA_SIGNATURE >> 32) as u32).swap_bytes()));
            }
            o if o == spec::DMA + 4 && data.len() == 4 => {
                fill(data, u64::from((spec::DMA_SIGNATURE as u32).swap_bytes()));
            }
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let cursor = &mut *lock(&self.cursor);
        let value = data.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        match (offset, data.len()) {
            (spec::SELECTOR, 2) => {
                cursor.item = value as u16;
                cursor.offset = 0;
            }
            (spec::DMA, 8) => self.transfer(cursor, Gpa(value)),
            (spec::DMA, 4) => cursor.high = value as u32,
            (o, 4) if o == spec::DMA + 4 => {
                let high = u64::from(std::mem::take(&mut cursor.high));
                self.transfer(cursor, Gpa(high << 32 | value));
            }
            // What older guests wrote there had no effect either.
            (spec::DATA, _) => {}
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }
}
