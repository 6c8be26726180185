//! MSI-X (PCIe base, section 7.7.2): a table of messages and a pending bit array in a BAR.
//!
//! A vector that is signalled while it or the whole function is masked, or while the function may not write to memory,
//! is remembered as pending, and sent when that changes.

use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};
use tearless_bus::{AccessError, Msi, MsiSink};
use tearless_memory::Gpa;
use tearless_state::StateError;

use crate::{Attachment, ConfigSpace, LayoutError, command, lock};

const CAPABILITY_ID: u8 = 0x11;
/// Most vectors that message control can express (section 7.7.2.2).
const MAX_VECTORS: u16 = 2048;
const ENTRY_SIZE: u64 = 16;
const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
const VECTOR_MASKED: u32 = 1;

/// Why there is no such table.
#[derive(Debug, thiserror::Error)]
pub enum MsixError {
    /// The count is zero or more than 2048.
    #[error("an MSI-X table has 1 to 2048 vectors, not {0}")]
    Vectors(u16),
    /// The capability cannot be placed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A table as a saved VM has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMsix {
    control: u16,
    bus_master: bool,
    vectors: Vec<Vector>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    address: u64,
    data: u32,
    control: u32,
    pending: bool,
}

const RESET_VECTOR: Vector = Vector { address: 0, data: 0, control: VECTOR_MASKED, pending: false };

struct State {
    vectors: Vec<Vector>,
    control: u16,
    /// A message is a memory write, which the function may only do as bus master.
    bus_master: bool,
}

/// Where the messages go and from whom.
struct Target {
    sink: Arc<dyn MsiSink>,
    requester_id: u16,
}

/// The MSI-X part of a function.
pub struct Msix {
    state: Mutex<State>,
    target: OnceLock<Target>,
}

impl Msix {
    /// A table of `vectors` entries, each masked.
    ///
    /// # Errors
    /// [`MsixError::Vectors`] when the capability cannot express the count.
    pub fn new(vectors: u16) -> Result<Self, MsixError> {
        if vectors == 0 || vectors > MAX_VECTORS {
            return Err(MsixError::Vectors(vectors));
        }
        let state =
            State { vectors: vec![RESET_VECTOR; usize::from(vectors)], control: 0, bus_master: false };
        Ok(Self { state: Mutex::new(state), target: OnceLock::new() })
    }

    /// Adds the capability to `config`: table and pending bits in BAR `bar` at these offsets (multiples of 8).
    /// Returns where it starts.
    ///
    /// # Errors
    /// [`MsixError::Layout`] when there is no room.
    pub fn add_capability(
        &self,
        config: &mut ConfigSpace,
        bar: u8,
        table: u32,
        pending: u32,
    ) -> Result<u16, MsixError> {
        let mut body = [0; 10];
        let last = self.vectors() - 1;
        let words = [u32::from(last), table | u32::from(bar), pending | u32::from(bar)];
        let bytes = words.iter().flat_map(|w| w.to_le_bytes());
        // Message control has 16 bits: the upper half of the first word is not part of the capability.
        let bytes = bytes.enumerate().filter(|(i, _)| !(2..4).contains(i)).map(|(_, b)| b);
        body.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(config.add_capability(
            CAPABILITY_ID,
            &body,
            &(CONTROL_ENABLE | CONTROL_FUNCTION_MASK).to_le_bytes(),
        )?)
    }

    /// Connects the table to the interrupt controller.
    pub fn attach(&self, attachment: &Attachment) {
        let target = Target { sink: attachment.msi.clone(), requester_id: attachment.requester_id };
        if self.target.set(target).is_err() {
            tracing::error!("MSI-X table attached twice; the first slot stays");
        }
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> u16 {
        lock(&self.state).vectors.len() as u16
    }

    /// Whether the guest enabled MSI-X; otherwise the function uses its wired interrupt.
    pub fn enabled(&self) -> bool {
        lock(&self.state).control & CONTROL_ENABLE != 0
    }

    /// Takes over message control (capability offset 2) and the command register after the guest wrote either.
    pub fn set_control(&self, control: u16, command: u16) {
        let bus_master = command & command::BUS_MASTER != 0;
        let due = {
            let mut state = lock(&self.state);
            if (state.control, state.bus_master) == (control, bus_master) {
                return;
            }
            state.control = control;
            state.bus_master = bus_master;
            (0..state.vectors.len()).filter_map(|i| state.take_due(i)).collect::<Vec<_>>()
        };
        due.into_iter().for_each(|message| self.send(message));
    }

    /// Signals `vector`; a vector that does not exist is ignored, for the guest chose it.
    pub fn signal(&self, vector: u16) {
        let due = {
            let mut state = lock(&self.state);
            let index = usize::from(vector);
            if state.control & CONTROL_ENABLE == 0 {
                return;
            }
            let Some(entry) = state.vectors.get_mut(index) else { return };
            entry.pending = true;
            state.take_due(index)
        };
        if let Some(message) = due {
            self.send(message);
        }
    }

    /// Reads the table.
    ///
    /// # Errors
    /// [`AccessError`] for accesses other than aligned 32-bit and 64-bit ones, or beyond the table.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check_width(offset, data.len())?;
        let state = lock(&self.state);
        for (i, word) in data.chunks_exact_mut(4).enumerate() {
            let (index, field) = locate(offset + 4 * i as u64)?;
            let vector = state.vectors.get(index).ok_or(AccessError::NoRegister)?;
            let value = match field {
                0 => vector.address as u32,
                4 => (vector.address >> 32) as u32,
                8 => vector.data,
                _ => vector.control,
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    /// Writes the table.
    ///
    /// # Errors
    /// As [`Msix::table_read`].
    pub fn table_write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        check_width(offset, data.len())?;
        let due = {
            let mut state = lock(&self.state);
            let mut touched = 0;
            for (i, word) in data.chunks_exact(4).enumerate() {
                let (index, field) = locate(offset + 4 * i as u64)?;
                let vector = state.vectors.get_mut(index).ok_or(AccessError::NoRegister)?;
                let value = word.iter().rev().fold(0u32, |acc, byte| acc << 8 | u32::from(*byte));
                match field {
                    0 => vector.address = vector.address & !0xffff_ffff | u64::from(value & !3),
                    4 => vector.address = vector.address & 0xffff_ffff | u64::from(value) << 32,
                    8 => vector.data = value,
                    _ => vector.control = value & VECTOR_MASKED,
                }
                touched = index;
            }
            state.take_due(touched)
        };
        if let Some(message) = due {
            self.send(message);
        }
        Ok(())
    }

    /// Reads the pending bits; they cannot be written.
    ///
    /// # Errors
    /// [`AccessError`] for accesses other than aligned 32-bit and 64-bit ones, or beyond the array.
    pub fn pending_read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check_width(offset, data.len())?;
        let state = lock(&self.state);
        if offset >= (state.vectors.len() as u64).div_ceil(64) * 8 {
            return Err(AccessError::NoRegister);
        }
        let first = usize::try_from(offset * 8).map_err(|_| AccessError::NoRegister)?;
        data.fill(0);
        for (i, _) in
            state.vectors.iter().enumerate().skip(first).take(data.len() * 8).filter(|(_, v)| v.pending)
        {
            let bit = i - first;
            if let Some(byte) = data.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// The table, for a saved VM.
    pub fn save(&self) -> SavedMsix {
        let state = lock(&self.state);
        SavedMsix { control: state.control, bus_master: state.bus_master, vectors: state.vectors.clone() }
    }

    /// Takes a table over. What is pending is sent when it may be; nothing is sent now.
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it has another number of vectors.
    pub fn restore(&self, saved: SavedMsix) -> Result<(), StateError> {
        let mut state = lock(&self.state);
        if saved.vectors.len() != state.vectors.len() {
            return Err(StateError::malformed("an MSI-X table of another size"));
        }
        state.control = saved.control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK);
        state.bus_master = saved.bus_master;
        state.vectors = saved.vectors;
        for vector in &mut state.vectors {
            vector.address &= !3;
            vector.control &= VECTOR_MASKED;
        }
        Ok(())
    }

    /// Called without the lock: the interrupt controller may take its time.
    fn send(&self, (address, data): (u64, u32)) {
        if let Some(target) = self.target.get() {
            let device_id = u32::from(target.requester_id);
            target.sink.signal(Msi { address: Gpa(address), data, device_id });
        }
    }
}

impl State {
    /// The message of vector `index` if it is pending and may be sent, which clears it.
    fn take_due(&mut self, index: usize) -> Option<(u64, u32)> {
        let unmasked = self.control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) == CONTROL_ENABLE;
        let open = unmasked && self.bus_master;
        let vector = self.vectors.get_mut(index)?;
        let due = open && vector.pending && vector.control & VECTOR_MASKED == 0;
        due.then(|| {
            vector.pending = false;
            (vector.address, vector.data)
        })
    }
}

fn check_width(offset: u64, len: usize) -> Result<(), AccessError> {
    let aligned = matches!(len, 4 | 8) && offset.is_multiple_of(len as u64);
    aligned.then_some(()).ok_or(AccessError::Width)
}

/// The vector and the byte within its entry.
fn locate(offset: u64) -> Result<(usize, u64), AccessError> {
    let index = usize::try_from(offset / ENTRY_SIZE).map_err(|_| AccessError::NoRegister)?;
    Ok((index, offset % ENTRY_SIZE))
}
