//! What of memory the scratch registers hold copies of.
//!
//! Most guest registers live in `Cpu`, not in host registers, and instructions work on them through RAX, RCX and RDX. What
//! one of them was loaded from, or stored to, need not be loaded again by the next instruction while it still is there;
//! neither need the host address of a window (see [`super::translate`]). The assembler keeps the books, so that nobody who
//! emits code has to: every instruction that writes a register or such a place says so here.

use super::asm::{Asm, Gpr, Mem, RBP, Rm};

/// Host registers that come and go within an instruction: RAX, RCX, RDX.
const SCRATCH: usize = 3;

/// By scratch register: the displacement from RBP of the 64 bits that it holds a copy of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copies([Option<i32>; SCRATCH]);

/// The displacement of what is a place in `Cpu` that only this vCPU's code writes.
fn place(mem: Mem) -> Option<i32> {
    mem.offset_from(RBP)
}

impl Copies {
    fn known(&self, disp: i32) -> Option<Gpr> {
        self.0.iter().position(|&held| held == Some(disp)).map(|i| Gpr(i as u8))
    }
}

impl Asm {
    /// `rm` for reading, or a register that is known to hold the same.
    pub(super) fn source(&self, rm: Rm) -> Rm {
        let Rm::M(mem) = rm else { return rm };
        place(mem).and_then(|disp| self.copies.known(disp)).map_or(rm, Rm::R)
    }

    /// Whether `reg` holds what `rm` does.
    pub(super) fn has_copy(&self, reg: Gpr, rm: Rm) -> bool {
        let Rm::M(mem) = rm else { return false };
        let held = self.copies.0.get(usize::from(reg.0)).copied().flatten();
        held.is_some() && held == place(mem)
    }

    /// `reg` and the 64 bits at `rm` are equal from here on.
    pub(super) fn is_copy(&mut self, reg: Gpr, rm: Rm) {
        let Rm::M(mem) = rm else { return };
        if let (Some(held), Some(disp)) = (self.copies.0.get_mut(usize::from(reg.0)), place(mem)) {
            *held = Some(disp);
        }
    }

    /// `reg` changes.
    pub(super) fn writes(&mut self, reg: Gpr) {
        if let Some(held) = self.copies.0.get_mut(usize::from(reg.0)) {
            *held = None;
        }
    }

    /// `bytes` bytes of memory at `mem` change.
    pub(super) fn writes_memory(&mut self, mem: Mem, bytes: i32) {
        if !mem.is_based_on(RBP) {
            return;
        }
        let Some(at) = place(mem) else { return self.forget_copies() };
        for held in &mut self.copies.0 {
            if held.is_some_and(|disp| disp < at + bytes && at < disp + 8) {
                *held = None;
            }
        }
    }

    /// `rm` changes, or the `bytes` bytes there.
    pub(super) fn changes(&mut self, rm: Rm, bytes: i32) {
        match rm {
            Rm::R(reg) => self.writes(reg),
            Rm::M(mem) => self.writes_memory(mem, bytes),
        }
    }

    /// Code arrives here that was elsewhere before, or comes back from where nobody knows what it did.
    pub(super) fn forget_copies(&mut self) {
        self.copies = Copies::default();
    }

    /// What is known.
    pub fn copies(&self) -> Copies {
        self.copies
    }

    /// Loads what main paths that are jumped back to know.
    pub fn load_copies(&mut self, copies: Copies) {
        for (reg, disp) in copies.0.iter().enumerate() {
            if let Some(disp) = *disp {
                self.mov(true, Gpr(reg as u8), Mem::at(RBP, disp));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jit::asm::{Alu, RAX, RCX, RDX};

    /// The bytes that `then` adds to what `first` emits.
    fn added(first: impl FnOnce(&mut Asm), then: impl FnOnce(&mut Asm)) -> Vec<u8> {
        let mut asm = Asm::new();
        first(&mut asm);
        let before = asm.len();
        then(&mut asm);
        asm.bytes()[before..].to_vec()
    }

    const PLACE: Mem = Mem::at(RBP, 16);

    #[test]
    fn what_a_register_holds_is_not_loaded_again() {
        let stored = |asm: &mut Asm| asm.store(3, PLACE, RAX);
        assert!(added(stored, |asm| asm.mov(true, RAX, PLACE)).is_empty());
        // mov rcx, rax
        assert_eq!(added(stored, |asm| asm.mov(true, RCX, PLACE)), [0x48, 0x8b, 0xc8]);
        // add edx, eax
        assert_eq!(added(stored, |asm| asm.alu(Alu::Add, false, RDX, PLACE)), [0x03, 0xd0]);
        let elsewhere = |asm: &mut Asm| asm.store(3, Mem::at(RDX, 0), RAX);
        let both = |asm: &mut Asm| {
            stored(asm);
            elsewhere(asm);
        };
        assert!(added(both, |asm| asm.mov(true, RAX, PLACE)).is_empty());
    }

    #[test]
    fn what_changed_is_loaded_again() {
        let changes: [fn(&mut Asm); 9] = [
            |asm| asm.alu_imm(Alu::Add, true, RAX, 1),
            |asm| asm.store(0, Mem::at(RBP, 23), RDX),
            |asm| asm.store_imm(true, Mem::at(RBP, 9), 0),
            |asm| asm.alu_to(Alu::Or, true, PLACE, RDX),
            |asm| asm.not(true, RAX),
            |asm| asm.lahf(),
            |asm| asm.call(0),
            |asm| asm.raw(&[0x90]),
            |asm| {
                asm.label();
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            let first = |asm: &mut Asm| {
                asm.mov(true, RAX, PLACE);
                change(asm);
            };
            // mov rax, [rbp + 16]
            assert_eq!(added(first, |asm| asm.mov(true, RAX, PLACE)), [0x48, 0x8b, 0x45, 16], "change {i}");
        }
    }

    #[test]
    fn half_of_a_place_is_no_copy_of_it() {
        let half = |asm: &mut Asm| asm.mov(false, RAX, PLACE);
        assert!(!added(half, |asm| asm.mov(true, RAX, PLACE)).is_empty());
    }
}
