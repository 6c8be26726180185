//! For unit tests: a CPU with 4 MiB of RAM that runs a few words of code.
//!
//! RAM is at [`RAM`]; code is loaded at its start and the stack points at its end. The MMU is on with an identity map of
//! Normal memory (so that unaligned accesses are fine), floating point is enabled, EL1.

use std::sync::Arc;

use tearless_engine::Region;
use tearless_memory::{Gpa, GuestMemory};

use super::{Cpu, Stop, shared::Shared};

/// Where RAM starts.
pub(crate) const RAM: u64 = 0x4000_0000;
/// How large it is.
pub(crate) const RAM_SIZE: u64 = 4 << 20;
/// Where tests may keep data, 1 MiB.
pub(crate) const DATA: u64 = RAM + (2 << 20);
/// The table of the identity map.
const TABLE: u64 = RAM + (1 << 20);

/// A CPU, its memory and its VM.
pub(crate) struct TestCpu {
    pub cpu: Box<Cpu>,
    pub memory: GuestMemory,
}

impl TestCpu {
    /// A CPU with `code` at [`RAM`], its PC there, identity map on, FP on.
    pub fn new(code: &[u32]) -> Self {
        let mut test = Self::bare(code);
        // One level 1 table of 1 GiB blocks: T0SZ = 25, Normal write-back, access flag set, inner shareable.
        for i in 0..512_u64 {
            let block = i << 30 | 1 << 10 | 3 << 8 | 1;
            test.memory.write(Gpa(TABLE + i * 8), &block.to_le_bytes()).unwrap();
        }
        let cpu = &mut test.cpu;
        cpu.sys.mmu.tcr = 25 | 25 << 16 | 1 << 23 | 5 << 32;
        cpu.sys.mmu.ttbr[0] = TABLE;
        cpu.sys.mmu.mair = 0xff;
        cpu.sys.mmu.sctlr |= 1;
        cpu.sys.cpacr = 3 << 20;
        cpu.mmu_changed();
        test
    }

    /// A CPU in its reset state (MMU and FP off) with `code` at [`RAM`] and its PC there.
    pub fn bare(code: &[u32]) -> Self {
        let shared = Shared::new();
        let memory = GuestMemory::new(&[Gpa(RAM)..Gpa(RAM + RAM_SIZE)]).unwrap();
        let region = Region { range: Gpa(RAM)..Gpa(RAM + RAM_SIZE), memory: memory.clone(), writable: true };
        shared.change_memory(|m| m.with(&region)).unwrap();
        Self::join(&shared, &memory, 0, code)
    }

    /// One more CPU of the same VM.
    pub fn join(shared: &Arc<Shared>, memory: &GuestMemory, index: u32, code: &[u32]) -> Self {
        let mailbox = shared.add_vcpu(index).unwrap();
        let mut cpu = Cpu::new(shared.clone(), mailbox, index);
        cpu.pc = RAM;
        cpu.w(super::SP, RAM + RAM_SIZE);
        let test = Self { cpu, memory: memory.clone() };
        test.put_code(RAM, code);
        test
    }

    /// Writes instructions to memory.
    pub fn put_code(&self, at: u64, code: &[u32]) {
        for (i, word) in code.iter().enumerate() {
            self.memory.write(Gpa(at + 4 * i as u64), &word.to_le_bytes()).unwrap();
        }
    }

    /// Runs one instruction; what it stopped with. An exception is taken.
    pub fn step(&mut self) -> Stop {
        let cpu = &mut self.cpu;
        let op = cpu.find_op(cpu.pc);
        if !op.is_null() {
            cpu.run_one(op);
        }
        let stop = std::mem::replace(&mut cpu.stop, Stop::Continue);
        if let Stop::Exception(e) = stop {
            cpu.replay.clear();
            cpu.take(e);
        }
        stop
    }

    /// Runs `n` instructions, none of which may stop.
    pub fn steps(&mut self, n: usize) {
        for i in 0..n {
            let pc = self.cpu.pc;
            let stop = self.step();
            assert_eq!(stop, Stop::Continue, "instruction {i} at {pc:#x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_a_few_words() {
        // movz x0, #42; add x1, x0, x0; str x1, [sp, #-16]!; ldr x2, [sp]
        let mut t = TestCpu::new(&[0xd280_0540, 0x8b00_0001, 0xf81f_0fe1, 0xf940_03e2]);
        t.steps(4);
        assert_eq!((t.cpu.r(0), t.cpu.r(1), t.cpu.r(2)), (42, 84, 84));
        assert_eq!(t.cpu.pc, RAM + 16);
        let mut stored = [0; 8];
        t.memory.read(Gpa(RAM + RAM_SIZE - 16), &mut stored).unwrap();
        assert_eq!(u64::from_le_bytes(stored), 84);
    }
}
