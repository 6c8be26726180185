//! Address translation: from a missing TLB entry to a host address, an MMIO address or a fault.

mod regime;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use regime::{Regime, Registers};
pub(crate) use walk::{Kind, Leaf, walk};

use tearless_arm64::esr::fsc;

use super::{
    Cpu, Trap,
    exception::Exception,
    phys::PAGE,
    tlb::{Fill, View},
};

/// Why a translation failed: a fault status code with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub u32);

/// What a data access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub write: bool,
    /// On whose behalf, if not the current view's.
    pub view: Option<View>,
    /// A cache maintenance instruction (`ESR_ELx.ISS.CM`).
    pub maintenance: bool,
    /// Half of an access that crosses pages, and so is not aligned.
    pub partial: bool,
}

impl Intent {
    /// A load.
    pub const READ: Self = Self { write: false, view: None, maintenance: false, partial: false };
    /// A store or atomic update.
    pub const WRITE: Self = Self { write: true, view: None, maintenance: false, partial: false };
    /// A cache maintenance instruction; faults report a write.
    pub const MAINTAIN: Self = Self { write: false, view: None, maintenance: true, partial: false };

    /// The same access by `view`.
    pub const fn by(self, view: View) -> Self {
        Self { view: Some(view), ..self }
    }
}

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A host address, valid for the access that was asked for up to the end of its page.
    Ram(*mut u8),
    /// A guest physical address that is not RAM.
    Mmio(u64),
}

impl Place {
    /// `bytes` further on in the same page.
    pub fn plus(self, bytes: u64) -> Self {
        match self {
            Self::Ram(at) => Self::Ram(at.wrapping_add(bytes as usize)),
            Self::Mmio(gpa) => Self::Mmio(gpa + bytes),
        }
    }
}

impl Cpu {
    /// On whose behalf the current code accesses memory.
    pub fn view(&self) -> View {
        match (self.el(), self.pan()) {
            (0, _) => View::User,
            (_, false) => View::Kernel,
            (_, true) => View::KernelPan,
        }
    }

    /// Points [`Cpu::bank`] and [`Cpu::user_bank`] at the banks of the current context. To be called after every
    /// change of the exception level, PAN or the ASID.
    pub fn select_banks(&mut self) {
        let asid = self.regime.asid;
        self.bank = self.tlb.select(asid, self.view());
        self.code_map = self.tlb.code_map(self.bank);
        self.user_bank = self.tlb.select(asid, View::User);
    }

    /// Has every access take the slow path until the next [`Cpu::select_banks`].
    pub fn miss_always(&mut self) {
        self.bank = self.tlb.blank();
        self.user_bank = self.bank;
    }

    /// The current ASID changed: the banks are looked up anew at the next [`Cpu::select_banks`].
    pub fn switch_banks(&mut self) {
        self.tlb.switch();
    }

    /// Translates, without any cache.
    ///
    /// # Errors
    /// The fault.
    pub fn translate(&self, va: u64, view: View, kind: Kind) -> Result<Leaf, Fault> {
        walk(&self.regime, &self.memory, va, view, kind)
    }

    /// Where the access of `size` bytes at `va` goes; fills the TLB. The access stays within a page.
    ///
    /// # Errors
    /// Raises the data abort.
    pub(super) fn place(&mut self, va: u64, size: u64, intent: Intent) -> Result<Place, Trap> {
        let view = intent.view.unwrap_or(self.view());
        let aligned = va.is_multiple_of(size) && !intent.partial;
        if !aligned && self.regime.checks_alignment {
            return Err(self.alignment_fault(va, intent));
        }
        let kind = if intent.write { Kind::Write } else { Kind::Read };
        let leaf = match self.translate(va, view, kind) {
            Ok(leaf) => leaf,
            Err(fault) => return Err(self.data_abort(va, fault.0, intent)),
        };
        if !aligned && leaf.is_device() {
            return Err(self.alignment_fault(va, intent));
        }
        self.check_watchpoints(va, size, intent, view)?;
        match self.memory.page(leaf.pa) {
            Some(page) if page.writable || !intent.write => {
                if !leaf.is_device() && !self.regime.checks_alignment && !self.is_watched(va) {
                    let bank = self.tlb.select(self.regime.asid, view);
                    let fill = Fill {
                        va,
                        host: page.host,
                        readable: leaf.readable,
                        writable: leaf.writable && page.writable,
                        global: leaf.global,
                        log2_size: self.tlb_size(va, leaf.log2_size),
                    };
                    self.tlb.fill(bank, &fill);
                }
                let at = page.host.wrapping_add((leaf.pa & (PAGE - 1)) as usize);
                if let Some(lockstep) = self.lockstep.as_mut().filter(|_| intent.write) {
                    lockstep.note_write(at, size);
                }
                Ok(Place::Ram(at))
            }
            _ => Ok(Place::Mmio(leaf.pa)),
        }
    }

    /// The size of a mapping as the TLB needs to know it: TLBI by address names all pieces of a granule, so only blocks
    /// that are larger than one are special.
    pub fn tlb_size(&self, va: u64, log2_size: u32) -> u32 {
        if log2_size > self.regime.half(va).granule { log2_size } else { PAGE.trailing_zeros() }
    }

    /// Raises a data abort with fault status `status` for the access at `va`.
    #[cold]
    pub(super) fn data_abort(&mut self, va: u64, status: u32, intent: Intent) -> Trap {
        let (cm, wnr) =
            (u32::from(intent.maintenance) << 8, u32::from(intent.write || intent.maintenance) << 6);
        self.raise(Exception::DataAbort { iss: cm | wnr | status, far: va })
    }

    /// Raises an alignment fault for the access at `va`.
    #[cold]
    pub(super) fn alignment_fault(&mut self, va: u64, intent: Intent) -> Trap {
        self.data_abort(va, fsc::ALIGNMENT, intent)
    }
}
