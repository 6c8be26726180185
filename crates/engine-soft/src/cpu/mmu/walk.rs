//! The stage 1 translation table walk (Arm ARM D8.2 to D8.5).

use std::sync::atomic::{AtomicU64, Ordering};

use tearless_arm64::esr::fsc;

use super::{
    Fault,
    regime::{Half, Regime},
};
use crate::cpu::{phys::PhysMap, tlb::View};

/// Descriptor bits.
mod desc {
    pub const VALID: u64 = 1;
    pub const TABLE: u64 = 1 << 1;
    pub const AP_USER: u64 = 1 << 6;
    pub const AP_READ_ONLY: u64 = 1 << 7;
    pub const AF: u64 = 1 << 10;
    pub const NG: u64 = 1 << 11;
    pub const DBM: u64 = 1 << 51;
    pub const PXN: u64 = 1 << 53;
    pub const UXN: u64 = 1 << 54;
    pub const PXN_TABLE: u64 = 1 << 59;
    pub const UXN_TABLE: u64 = 1 << 60;
    pub const AP_TABLE_NO_USER: u64 = 1 << 61;
    pub const AP_TABLE_READ_ONLY: u64 = 1 << 62;
    /// Output address and next table.
    pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Execute,
}

/// A translation that permits the access that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The physical address.
    pub pa: u64,
    /// MAIR attribute byte; `0000_dd00` is Device memory.
    pub attributes: u8,
    /// Shareability, `SH[1:0]`.
    pub shareability: u8,
    pub global: bool,
    /// log2 of the size of the page or block.
    pub log2_size: u32,
    /// Whether reads from the same view are permitted.
    pub readable: bool,
    /// Whether writes from the same view are permitted and need no dirty state update.
    pub writable: bool,
}

impl Leaf {
    /// Whether the memory is of Device type.
    pub fn is_device(&self) -> bool {
        self.attributes & 0xf0 == 0
    }

    fn flat(va: u64, kind: Kind) -> Self {
        // With the MMU off, data accesses are Device-nGnRnE and fetches Normal (Arm ARM D8.2.10).
        let attributes = if kind == Kind::Execute { 0xff } else { 0 };
        Self {
            pa: va,
            attributes,
            shareability: 2,
            global: true,
            log2_size: 12,
            readable: true,
            writable: true,
        }
    }
}

/// What the tables above a leaf take away.
#[derive(Clone, Copy, Default)]
struct Limits {
    no_user: bool,
    read_only: bool,
    pxn: bool,
    uxn: bool,
}

/// A leaf descriptor and where it is.
struct Found {
    descriptor: u64,
    at: u64,
    level: u32,
    limits: Limits,
}

/// How often a walk starts over because another CPU changed the descriptor under it, before it gives up with an access
/// flag fault, which a kernel repairs.
const ATTEMPTS: u32 = 1000;

/// Translates `va` for an access of `kind` by `view`.
///
/// # Errors
/// The fault.
pub(crate) fn walk(
    regime: &Regime,
    memory: &PhysMap,
    va: u64,
    view: View,
    kind: Kind,
) -> Result<Leaf, Fault> {
    let half = regime.half(va);
    let tbi = if kind == Kind::Execute { half.tbi_code } else { half.tbi_data };
    if !regime.enabled {
        let va = if tbi { va & ((1 << 56) - 1) } else { va };
        return Ok(Leaf::flat(regime.checked_output(va, 0)?, kind));
    }
    let untagged = if tbi { ((va << 8) as i64 >> 8) as u64 } else { va };
    let sign = (untagged as i64) >> (half.va_bits.min(55));
    if (sign != 0 && sign != -1) || half.walks_disabled || (half.no_user && view == View::User) {
        return Err(Fault(fsc::TRANSLATION_L0));
    }
    for _ in 0..ATTEMPTS {
        let found = find(regime, memory, half, va)?;
        if let Some(leaf) = check(regime, memory, half, &found, (va, view, kind))? {
            return Ok(leaf);
        }
    }
    Err(Fault(fsc::ACCESS_FLAG_L0 + 3))
}

/// The descriptor at `pa`, for reading and updating.
fn slot(memory: &PhysMap, pa: u64, level: u32) -> Result<(&AtomicU64, bool), Fault> {
    let page = memory.page(pa).ok_or(Fault(fsc::EXTERNAL_WALK_L0 + level))?;
    // SAFETY: `pa` is a multiple of 8 and lies in the page, which is mapped while `memory` lives; guest memory is
    // only ever accessed atomically or volatilely.
    Ok((unsafe { AtomicU64::from_ptr(page.host.add((pa & 0xff8) as usize).cast()) }, page.writable))
}

/// Goes down the tables.
fn find(regime: &Regime, memory: &PhysMap, half: &Half, va: u64) -> Result<Found, Fault> {
    let mut level = half.start_level();
    let mut limits = Limits::default();
    let mut index_bits = half.va_bits - half.shift(level);
    // The first table is aligned to its size, at least 64 bytes.
    let table = half.table & !((1 << (index_bits + 3).max(6)) - 1);
    let mut table = regime.checked_output(table, 0)?;
    loop {
        let shift = half.shift(level);
        let index = va >> shift & ((1 << index_bits) - 1);
        let at = table | index << 3;
        let descriptor = u64::from_le(slot(memory, at, level)?.0.load(Ordering::Acquire));
        if descriptor & desc::VALID == 0 {
            return Err(Fault(fsc::TRANSLATION_L0 + level));
        }
        let is_table = descriptor & desc::TABLE != 0;
        if level == 3 || !is_table {
            if if level == 3 { !is_table } else { !half.has_blocks(level) } {
                return Err(Fault(fsc::TRANSLATION_L0 + level));
            }
            return Ok(Found { descriptor, at, level, limits });
        }
        table = regime.checked_output(descriptor & desc::ADDRESS & !((1 << half.granule) - 1), level)?;
        if !half.flat_permissions {
            limits.no_user |= descriptor & desc::AP_TABLE_NO_USER != 0;
            limits.read_only |= descriptor & desc::AP_TABLE_READ_ONLY != 0;
            limits.pxn |= descriptor & desc::PXN_TABLE != 0;
            limits.uxn |= descriptor & desc::UXN_TABLE != 0;
        }
        level += 1;
        index_bits = half.granule - 3;
    }
}

/// What a leaf permits to a view.
struct Permissions {
    read: bool,
    write: bool,
    execute: bool,
    /// Writing needs a dirty state update first.
    clean: bool,
}

fn permissions(regime: &Regime, found: &Found, view: View) -> Permissions {
    let (d, limits) = (found.descriptor, found.limits);
    let user = d & desc::AP_USER != 0 && !limits.no_user;
    let clean = regime.sets_dirty && d & desc::DBM != 0 && d & desc::AP_READ_ONLY != 0;
    let writable = !limits.read_only && (d & desc::AP_READ_ONLY == 0 || clean);
    let uxn = d & desc::UXN != 0 || limits.uxn;
    let pxn = d & desc::PXN != 0 || limits.pxn;
    let user_write = user && writable;
    let (read, write, execute) = match view {
        View::User => {
            let guarded = regime.wxn && user_write;
            (user, user_write, !uxn && !guarded)
        }
        View::Kernel | View::KernelPan => {
            let barred = view == View::KernelPan && (user || (regime.epan && !uxn));
            // Memory that EL0 may write is never executable at EL1 (Arm ARM D8.4.1).
            let guarded = user_write || (regime.wxn && writable);
            (!barred, !barred && writable, !pxn && !guarded)
        }
    };
    Permissions { read, write, execute, clean }
}

/// Checks a leaf and updates its access flag and dirty state; `None` when it changed meanwhile.
fn check(
    regime: &Regime,
    memory: &PhysMap,
    half: &Half,
    found: &Found,
    (va, view, kind): (u64, View, Kind),
) -> Result<Option<Leaf>, Fault> {
    let (d, level) = (found.descriptor, found.level);
    let shift = half.shift(level);
    let in_block = (1_u64 << shift) - 1;
    let pa = regime.checked_output(d & desc::ADDRESS & !in_block, level)? | va & in_block;
    let mut update = d;
    if d & desc::AF == 0 {
        if !regime.sets_access {
            return Err(Fault(fsc::ACCESS_FLAG_L0 + level));
        }
        update |= desc::AF;
    }
    let p = permissions(regime, found, view);
    let permitted = match kind {
        Kind::Read => p.read,
        Kind::Write => p.write,
        Kind::Execute => p.execute,
    };
    if !permitted {
        return Err(Fault(fsc::PERMISSION_L0 + level));
    }
    if kind == Kind::Write && p.clean {
        update &= !desc::AP_READ_ONLY;
    }
    if update != d {
        let (slot, writable) = slot(memory, found.at, level)?;
        if !writable {
            return Err(Fault(fsc::EXTERNAL_WALK_L0 + level));
        }
        let swap = slot.compare_exchange(d.to_le(), update.to_le(), Ordering::SeqCst, Ordering::Relaxed);
        if swap.is_err() {
            return Ok(None);
        }
    }
    Ok(Some(Leaf {
        pa,
        attributes: (regime.mair >> (8 * (d >> 2 & 7))) as u8,
        shareability: (d >> 8 & 3) as u8,
        global: d & desc::NG == 0,
        log2_size: shift,
        readable: p.read,
        writable: p.write && (!p.clean || kind == Kind::Write),
    }))
}
