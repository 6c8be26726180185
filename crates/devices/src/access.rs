//! What every device needs to take an MMIO access.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tearless_bus::AccessError;

/// Locks `mutex`. A thread that panicked while it held the lock leaves the device in a state that the guest may find
/// odd, but never one that is unsound, so the device goes on.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value that the little-endian `data` (at most 8 bytes) holds.
pub fn value(data: &[u8]) -> u64 {
    data.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Fills `data` with the low bytes of `value`, little-endian.
pub fn fill(data: &mut [u8], value: u64) {
    data.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
}

/// Accepts an access of at most four bytes at a multiple of four: how the PrimeCells, which have a register in every
/// word and ignore what is above its width, are accessed in practice.
///
/// # Errors
/// [`AccessError::Width`] for any other.
pub fn word(offset: u64, data: &[u8]) -> Result<(), AccessError> {
    if offset.is_multiple_of(4) && data.len() <= 4 { Ok(()) } else { Err(AccessError::Width) }
}

/// The identification register at `offset` of a PrimeCell: `PeriphID0..3` and `PCellID0..3` at 0xfe0, a byte in each
/// word.
pub fn primecell_id(ids: &[u8; 8], offset: u64) -> Option<u32> {
    let index = offset.checked_sub(0xfe0)? / 4;
    ids.get(usize::try_from(index).ok()?).map(|id| u32::from(*id))
}

/// The last four identification registers, which every PrimeCell has.
pub const PCELL_ID: [u8; 4] = [0x0d, 0xf0, 0x05, 0xb1];

/// All identification registers of the PrimeCell with this `PeriphID0..3`.
pub const fn primecell_ids(periph: [u8; 4]) -> [u8; 8] {
    let [a, b, c, d] = periph;
    let [e, f, g, h] = PCELL_ID;
    [a, b, c, d, e, f, g, h]
}
