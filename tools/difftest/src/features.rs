//! Which optional features our CPU advertises: the ID registers decide what is generated, so that nothing is tested
//! that is not promised, and everything that is.

use anyhow::{Result, ensure};

use crate::asm::{SysReg, sysreg};
use crate::layout::{Batch, LINES, Record};
use crate::side::Side;

/// The registers of [`Features`], in the order of its fields.
pub const IDENTIFICATION: [SysReg; 7] = [
    sysreg(3, 0, 0, 6, 0), // ID_AA64ISAR0_EL1
    sysreg(3, 0, 0, 6, 1), // ID_AA64ISAR1_EL1
    sysreg(3, 0, 0, 6, 2), // ID_AA64ISAR2_EL1
    sysreg(3, 0, 0, 4, 0), // ID_AA64PFR0_EL1
    sysreg(3, 0, 0, 4, 1), // ID_AA64PFR1_EL1
    sysreg(3, 0, 0, 7, 2), // ID_AA64MMFR2_EL1
    sysreg(3, 3, 0, 0, 7), // DCZID_EL0
];

/// `DCZID_EL0.DZP`: DC ZVA is prohibited.
const DZP: u64 = 1 << 4;

/// The values of [`IDENTIFICATION`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `ID_AA64ISAR0_EL1`.
    pub isar0: u64,
    /// `ID_AA64ISAR1_EL1`.
    pub isar1: u64,
    /// `ID_AA64ISAR2_EL1`.
    pub isar2: u64,
    /// `ID_AA64PFR0_EL1`.
    pub pfr0: u64,
    /// `ID_AA64PFR1_EL1`.
    pub pfr1: u64,
    /// `ID_AA64MMFR2_EL1`.
    pub mmfr2: u64,
    /// `DCZID_EL0`.
    pub dczid: u64,
}

impl Features {
    /// Reads them on a side whose EL0 may: under Linux, which emulates the registers.
    ///
    /// # Errors
    /// If the side is gone, or does not let EL0 read them.
    pub fn probe(side: &mut dyn Side) -> Result<Self> {
        let registers = (1..).zip(IDENTIFICATION);
        let code = registers.map(|(rt, register)| 0xD520_0000 | register.0 | rt).collect();
        let batch = Batch { slots: LINES, code: vec![code], records: vec![Record::zero()] };
        let record = side.run(&batch)?.remove(0);
        ensure!(record.status == 0, "the identification registers cannot be read at EL0");
        Ok(Self::from_registers(&record.x[1..]))
    }

    /// From the values of [`IDENTIFICATION`].
    pub fn from_registers(values: &[u64]) -> Self {
        let value = |i| values.get(i).copied().unwrap_or(0);
        Self {
            isar0: value(0),
            isar1: value(1),
            isar2: value(2),
            pfr0: value(3),
            pfr1: value(4),
            mmfr2: value(5),
            dczid: value(6),
        }
    }

    /// What both have.
    pub fn common(self, other: Self) -> Self {
        let least = |a: u64, b: u64| {
            (0..64).step_by(4).fold(0, |acc, shift| acc | (a >> shift & 15).min(b >> shift & 15) << shift)
        };
        Self {
            isar0: least(self.isar0, other.isar0),
            isar1: least(self.isar1, other.isar1),
            isar2: least(self.isar2, other.isar2),
            pfr0: least(self.pfr0, other.pfr0),
            pfr1: least(self.pfr1, other.pfr1),
            mmfr2: least(self.mmfr2, other.mmfr2),
            dczid: if self.dczid == other.dczid { self.dczid } else { DZP },
        }
    }

    /// Bytes that DC ZVA clears, if it may be used.
    pub fn zero_block(&self) -> Option<u64> {
        (self.dczid & DZP == 0).then(|| 4 << (self.dczid & 15))
    }

    /// Everything that the tables know.
    #[cfg(test)]
    pub fn everything() -> Self {
        let ones = 0x2222_2222_2222_2222;
        Self {
            isar0: ones,
            isar1: ones,
            isar2: ones,
            pfr0: 0x1_0000_0011_0000,
            pfr1: ones,
            mmfr2: ones,
            dczid: 7,
        }
    }

    /// Whether the encoding called `name` is part of what is advertised.
    pub fn has(&self, name: &str) -> bool {
        let (register, shift, least) = match name {
            "aese" | "aesd" | "aesmc" | "aesimc" => (self.isar0, 4, 1),
            "pmull 64" => (self.isar0, 4, 2),
            _ if name.starts_with("sha1") => (self.isar0, 8, 1),
            _ if name.starts_with("sha256") => (self.isar0, 12, 1),
            _ if name.starts_with("sha512") => (self.isar0, 12, 2),
            "rax1" | "eor3" | "bcax" | "xar" => (self.isar0, 32, 1),
            "crc32" => (self.isar0, 16, 1),
            "ldadd..ldset" | "ldsmax..ldumin" | "swp" | "cas" | "casp" => (self.isar0, 20, 2),
            _ if name.starts_with("sqrdml") => (self.isar0, 28, 1),
            "sdot/udot" | "dot elt" => (self.isar0, 44, 1),
            _ if name.starts_with("fmlal") => (self.isar0, 48, 1),
            "rmif" | "setf" | "cfinv" => (self.isar0, 52, 1),
            "xaflag" | "axflag" => (self.isar0, 52, 2),
            "fjcvtzs" => (self.isar1, 12, 1),
            "fcmla" | "fcadd" | "fcmla elt" => (self.isar1, 16, 1),
            "ldapr" => (self.isar1, 20, 1),
            "ldapur/stlur" => (self.isar1, 20, 2),
            "frint32/64" | "frint32 v" | "frint64 v" => (self.isar1, 32, 1),
            "sb" => (self.isar1, 36, 1),
            "misaligned atomics" => (self.mmfr2, 32, 1),
            "memory copy" => (self.isar2, 16, 1),
            _ if name.contains(" dit") => (self.pfr0, 48, 1),
            _ if name.contains(" ssbs") => (self.pfr1, 4, 2),
            _ => return true,
        };
        register >> shift & 15 >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::{TABLED, table};

    #[test]
    fn everything_has_every_encoding() {
        let all = Features::everything();
        for class in TABLED {
            assert!(table(class).iter().all(|e| all.has(e.name)));
        }
        assert!(all.has("memory copy"));
    }

    #[test]
    fn common_takes_the_lesser_field() {
        let a = Features { isar0: 0x21, dczid: 4, ..Features::default() };
        let b = Features { isar0: 0x12, dczid: 7, ..Features::default() };
        assert_eq!(a.common(b).isar0, 0x11);
        assert_eq!(a.common(b).zero_block(), None);
        assert_eq!(a.common(a).zero_block(), Some(64));
    }

    #[test]
    fn nothing_has_the_base_set_only() {
        let none = Features { isar0: 0, isar1: 0, isar2: 0, pfr0: 0, pfr1: 0, mmfr2: 0, dczid: 4 };
        assert!(none.has("add/sub imm") && none.has("fadd") && none.has("ldp/stp"));
        assert!(
            !none.has("crc32") && !none.has("msr dit") && !none.has("sqrdmlah s elt") && !none.has("casp")
        );
    }
}
