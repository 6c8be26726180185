//! General registers as operands.

use super::Translator;
use crate::{
    cpu::{SP, XZR},
    decode::Reg,
    jit::{
        asm::{Alu, Gpr, Mem, RAX, Rm},
        state::{pinned, register, slot, x},
    },
};

/// Index in `Cpu::x` of register `r`, of which 31 is XZR.
fn plain(r: Reg) -> u8 {
    if r == 31 { XZR } else { r }
}

/// Index in `Cpu::x` of register `r`, of which 31 is SP.
pub(super) fn or_sp(r: Reg) -> u8 {
    if r == 31 { SP } else { r }
}

impl Translator<'_> {
    /// Register `r` (31 is XZR) for reading, wherever it is.
    pub(super) fn x_operand(&self, r: Reg) -> Rm {
        register(plain(r))
    }

    /// The host register that holds `r` (31 is XZR): its own, or `tmp`, loaded.
    pub(super) fn x_read(&mut self, r: Reg, tmp: Gpr) -> Gpr {
        self.index_read(plain(r), tmp)
    }

    /// As [`Translator::x_read`], but 31 is SP.
    pub(super) fn xsp_read(&mut self, r: Reg, tmp: Gpr) -> Gpr {
        self.index_read(or_sp(r), tmp)
    }

    fn index_read(&mut self, index: u8, tmp: Gpr) -> Gpr {
        if index == XZR {
            self.asm.mov_imm(tmp, 0);
            return tmp;
        }
        match pinned(index) {
            Some(host) => host,
            None => {
                self.asm.mov(true, tmp, x(index));
                tmp
            }
        }
    }

    /// The host register to compute the new value of `r` (31 is XZR) in: its own, or `tmp`.
    pub(super) fn x_dest(&self, r: Reg, tmp: Gpr) -> Gpr {
        if r == 31 { tmp } else { pinned(r).unwrap_or(tmp) }
    }

    /// As [`Translator::x_dest`], but 31 is SP.
    pub(super) fn xsp_dest(&self, r: Reg, tmp: Gpr) -> Gpr {
        pinned(or_sp(r)).unwrap_or(tmp)
    }

    /// The new value of `r` (31 is XZR), 64 bits, is in `host`.
    pub(super) fn x_finish(&mut self, r: Reg, host: Gpr) {
        if r != 31 {
            self.index_finish(r, host);
        }
    }

    /// As [`Translator::x_finish`], but 31 is SP.
    pub(super) fn xsp_finish(&mut self, r: Reg, host: Gpr) {
        self.index_finish(or_sp(r), host);
        if r == 31 {
            self.sp_aligned = false;
        }
    }

    fn index_finish(&mut self, index: u8, host: Gpr) {
        self.windows.forget(index);
        match pinned(index) {
            Some(own) if own == host => {}
            Some(own) => self.asm.mov(true, own, host),
            None => self.asm.store(3, x(index), host),
        }
    }

    /// Register `r` (31 is XZR) becomes `value`.
    pub(super) fn x_set(&mut self, r: Reg, value: u64) {
        if r == 31 {
            return;
        }
        match (pinned(r), i32::try_from(value as i64)) {
            (None, Ok(small)) => {
                self.windows.forget(r);
                self.asm.store_imm(true, x(r), small);
            }
            (host, _) => {
                let host = host.unwrap_or(RAX);
                self.asm.mov_imm(host, value);
                self.x_finish(r, host);
            }
        }
    }

    /// Writes the register whose constant value was held back.
    pub(super) fn write_pending(&mut self) {
        if let Some((r, value)) = self.pending.take() {
            self.x_set(r, value);
        }
    }

    /// `tmp` = address of the current page + `offset`. Changes the host's flags.
    pub(super) fn page_plus(&mut self, tmp: Gpr, offset: i64) {
        self.asm.mov(true, tmp, x(slot::HERE));
        self.asm.alu(Alu::Xor, true, tmp, x(slot::KEY));
        match i32::try_from(offset) {
            Ok(0) => {}
            Ok(small) => self.asm.lea(true, tmp, Mem::at(tmp, small)),
            Err(_) => {
                debug_assert_ne!(tmp, crate::jit::asm::RDX);
                self.asm.mov_imm(crate::jit::asm::RDX, offset as u64);
                self.asm.alu(Alu::Add, true, tmp, crate::jit::asm::RDX);
            }
        }
    }
}
