//! System register names (Arm ARM D24).

use std::fmt;

/// A system register (or system instruction) by its encoding: `op0:op1:CRn:CRm:op2`, 16 bits, the order that MRS and
/// MSR have in bits 20:5 of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysReg(pub u16);

impl SysReg {
    /// The register with these five fields; a field's excess bits are dropped.
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }

    /// `op0`.
    pub const fn op0(self) -> u16 {
        self.0 >> 14
    }

    /// `op1`.
    pub const fn op1(self) -> u16 {
        self.0 >> 11 & 7
    }

    /// `CRn`.
    pub const fn crn(self) -> u16 {
        self.0 >> 7 & 15
    }

    /// `CRm`.
    pub const fn crm(self) -> u16 {
        self.0 >> 3 & 15
    }

    /// `op2`.
    pub const fn op2(self) -> u16 {
        self.0 & 7
    }
}

impl fmt::Debug for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S{}_{}_C{}_C{}_{}", self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}

impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
