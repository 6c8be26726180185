//! The EL1 part of our bare machine: exception vectors, and the way to the driver, at EL0 or at EL1 with `SP_EL0`.
//!
//! It plays Linux's part for the driver: `SVC` brings a batch (an HVC to this tool), any other exception from EL0 is
//! recorded in the current record, as a signal handler would do it, and the driver goes on with the next record.

use crate::asm::{
    Asm, CPACR_EL1, ELR_EL1, ESR_EL1, FAR_EL1, FPCR, FPSR, Label, MAIR_EL1, MDSCR_EL1, SCTLR_EL1, SP_EL0,
    SPSR_EL1, TCR_EL1, TPIDR_EL1, TTBR0_EL1, VBAR_EL1,
};
use crate::driver::{self, Driver, call};
use crate::features::IDENTIFICATION;
use crate::layout::{DRIVER, KERNEL, rec, space};
use crate::tables::{CODE_ENTRIES, CODE_ENTRY, FIRST, HOME, MAIR, SCRATCH_ENTRIES, SCRATCH_ENTRY, SECOND};

/// X0 in the HVC that asks for a batch.
pub const WANT_BATCH: u64 = 0x600D;
/// X0 in the first HVC: X1 and up are the values of [`IDENTIFICATION`].
pub const FEATURES: u64 = 0x0FEA;
/// X0 in the HVC that reports an interrupt; the tool lowers the line before it returns.
pub const INTERRUPTED: u64 = 0x0139;
/// X0 in the HVC that reports an exception which should not be: X1 = ESR, X2 = ELR, X3 = FAR.
pub const UNEXPECTED: u64 = 0x0BAD;

const VECTOR_COUNT: usize = 16;
const VECTOR_SIZE: usize = 0x80;
/// Synchronous exceptions and interrupts: from EL1 with `SP_EL0`, from EL0.
const VECTOR_SYNC: [usize; 2] = [0, 8];
const VECTOR_IRQ: [usize; 2] = [1, 9];
/// `SPSR_EL1` for EL1 with `SP_EL0`.
const EL1T: u64 = 4;
/// `CPACR_EL1` with floating point and SIMD for all.
const FP_ON: u64 = 3 << 20;
/// -ENOSYS, inverted.
const NOT_ENOSYS: u32 = 37;
/// Top of the EL1 stack, below the kernel.
const STACK: u64 = KERNEL;
/// Offset of the start-up code behind the vectors.
const START: usize = VECTOR_COUNT * VECTOR_SIZE;

/// Where the vCPU starts, at EL1 with the MMU off.
pub const ENTRY: u64 = KERNEL + START as u64;

// SCTLR_EL1: M, C, I; EL0 may use DC ZVA, CTR_EL0, IC IVAU, WFE, WFI and the memory copies; SPAN; RES1 bits.
const SCTLR: u64 = 1 << 33
    | 0x3000_0000
    | 1 << 26
    | 1 << 23
    | 1 << 22
    | 1 << 20
    | 1 << 18
    | 1 << 16
    | 1 << 15
    | 1 << 14
    | 1 << 12
    | 1 << 11
    | 1 << 8
    | 1 << 7
    | 1 << 2
    | 1;

/// The same with A, SA and SA0.
const SCTLR_STRICT: u64 = SCTLR | 1 << 1 | 1 << 3 | 1 << 4;

/// Assembles the kernel for [`KERNEL`]; with `el1` the driver runs there and not at EL0.
pub fn assemble(driver: &Driver, el1: bool) -> Vec<u8> {
    let mut a = Asm::at(KERNEL);
    let (sync, irq) = (a.label(), a.label());
    for vector in 0..VECTOR_COUNT {
        a.pad_to(vector * VECTOR_SIZE);
        if vector == VECTOR_SYNC[usize::from(!el1)] {
            a.b(sync);
        } else if vector == VECTOR_IRQ[usize::from(!el1)] {
            a.b(irq);
        } else {
            a.mov_imm(0, UNEXPECTED);
            a.mrs(1, ESR_EL1);
            a.mrs(2, ELR_EL1);
            a.mrs(3, FAR_EL1);
            a.hvc(0);
        }
    }
    a.pad_to(START);
    start(&mut a, el1);
    a.bind(sync);
    handle_sync(&mut a, driver, el1);
    a.bind(irq);
    handle_irq(&mut a);
    a.finish()
}

fn start(a: &mut Asm, el1: bool) {
    // TCR_EL1: 39 bits below, cacheable, 4 KiB; nothing above; top byte ignored, as Linux has it.
    const TCR: u64 = 1 << 37 | 2 << 30 | 1 << 23 | 25 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    let settings = [
        (VBAR_EL1, KERNEL),
        (MAIR_EL1, MAIR),
        (TCR_EL1, TCR),
        (TTBR0_EL1, HOME),
        (CPACR_EL1, FP_ON),
        (MDSCR_EL1, 1 << 12), // TDCC: EL0 has no debug channel, as under Linux
        (SCTLR_EL1, SCTLR),
        (ELR_EL1, DRIVER),
        (SPSR_EL1, if el1 { EL1T } else { 0 }),
    ];
    for (register, value) in settings {
        a.mov_imm(0, value);
        if value == SCTLR {
            a.isb();
        }
        a.msr(register, 0);
    }
    a.isb();
    for (register, id) in (1..).zip(IDENTIFICATION) {
        a.mrs(register, id);
    }
    a.mov_imm(0, STACK);
    a.mov_sp(31, 0);
    a.mov_imm(0, FEATURES);
    a.hvc(0);
    a.eret();
}

fn handle_sync(a: &mut Asm, driver: &Driver, el1: bool) {
    const EC_SVC: u32 = 0x15;
    const EC_FP: u32 = 0x07;
    let (svc, fp, fatal) = (a.label(), a.label(), a.label());
    a.msr(TPIDR_EL1, 30);
    a.mrs(30, ESR_EL1);
    a.lsr(30, 30, 26);
    a.sub_imm(30, 30, EC_SVC);
    a.cbz(30, svc);
    a.add_imm(30, 30, EC_SVC - EC_FP);
    a.cbz(30, fp);
    push(a);
    driver::current_record(a);
    driver::log_entry(a, 0, 1, fatal);
    for (register, offset) in [(ESR_EL1, 0), (ELR_EL1, 8), (FAR_EL1, 16)] {
        a.mrs(0, register);
        a.str(0, 1, rec::LOG + offset);
    }
    forget_address(a);
    a.mrs(0, ELR_EL1);
    a.add_imm(0, 0, 4);
    a.msr(ELR_EL1, 0);
    pop(a);
    a.mrs(30, TPIDR_EL1);
    a.eret();
    a.bind(fp);
    enable_fp(a);
    a.mrs(30, TPIDR_EL1);
    a.eret();
    a.bind(fatal);
    enable_fp(a);
    pop(a);
    driver::current_record(a);
    end_sequence(a, driver, el1);
    a.bind(svc);
    handle_svc(a);
}

/// Floating point and SIMD at EL0 and EL1; X30 is lost.
fn enable_fp(a: &mut Asm) {
    a.mov_imm(30, FP_ON);
    a.msr(CPACR_EL1, 30);
    a.isb();
}

/// Not every exception sets FAR_EL1: it must not tell of those before.
fn forget_address(a: &mut Asm) {
    a.msr(FAR_EL1, 31);
}

/// Saves X0 to X3.
fn push(a: &mut Asm) {
    a.sub_imm(31, 31, 32);
    a.stp(0, 1, 31, 0);
    a.stp(2, 3, 31, 16);
}

fn pop(a: &mut Asm) {
    a.ldp(0, 1, 31, 0);
    a.ldp(2, 3, 31, 16);
    a.add_imm(31, 31, 32);
}

/// Records the state and goes on with the driver; X30 is the record, its value is in TPIDR_EL1.
fn end_sequence(a: &mut Asm, driver: &Driver, el1: bool) {
    driver::save_common(a);
    for (register, offset) in [
        (TPIDR_EL1, rec::X30),
        (SP_EL0, rec::SP),
        (FPCR, rec::FPCR),
        (FPSR, rec::FPSR),
        (ESR_EL1, rec::STATUS),
        (ELR_EL1, rec::FAULT_PC),
        (FAR_EL1, rec::FAULT_ADDRESS),
    ] {
        a.mrs(1, register);
        a.str(1, 30, offset);
    }
    forget_address(a);
    a.mrs(1, SPSR_EL1);
    a.word(0x9204_0C21); // and x1, x1, #0xf0000000f0000000
    a.str(1, 30, rec::NZCV);
    a.mov_imm(1, driver.finish);
    a.msr(ELR_EL1, 1);
    a.mov_imm(1, if el1 { EL1T } else { 0 });
    a.msr(SPSR_EL1, 1);
    a.eret();
}

/// The calls of [`call`].
fn handle_svc(a: &mut Asm) {
    let (batch, enter, leave) = (a.label(), a.label(), a.label());
    a.mrs(30, ESR_EL1);
    a.word(0x9240_07DE); // and x30, x30, #3
    for (number, label) in [(call::BATCH, batch), (call::ENTER, enter), (call::LEAVE, leave)] {
        if number != call::BATCH {
            a.sub_imm(30, 30, 1);
        }
        a.cbz(30, label);
    }
    a.word(0x9280_0000 | NOT_ENOSYS << 5); // mov x0, #-ENOSYS
    a.msr(CPACR_EL1, 31);
    a.mrs(30, TPIDR_EL1);
    a.eret();
    a.bind(batch);
    a.mov_imm(0, WANT_BATCH);
    a.hvc(0);
    a.eret();
    a.bind(enter);
    enter_space(a);
    a.bind(leave);
    a.mov_imm(1, SCTLR);
    a.msr(SCTLR_EL1, 1);
    a.mov_imm(1, HOME);
    a.msr(TTBR0_EL1, 1);
    a.isb();
    a.mrs(30, TPIDR_EL1);
    a.eret();
}

/// Chooses `rd` by a bit of the record's space in X1.
fn choose(a: &mut Asm, rd: u32, bit: u64, values: [u64; 2]) {
    let zero = a.label();
    a.mov_imm(rd, values[0]);
    a.tbz(1, bit.trailing_zeros(), zero);
    a.mov_imm(rd, values[1]);
    a.bind(zero);
}

/// Makes the tables what the record wants, with the invalidation that it names if they were not, and switches to them.
fn enter_space(a: &mut Asm) {
    const ASID: u32 = 48;
    let (same, by_asid, invalidated, translated): (Label, Label, Label, Label) =
        (a.label(), a.label(), a.label(), a.label());
    a.mrs(30, TPIDR_EL1);
    a.ldr(1, 30, rec::SPACE);
    choose(a, 2, space::SECOND, [FIRST, SECOND]);
    choose(a, 3, space::COPY, CODE_ENTRY);
    choose(a, 4, space::HOSTILE, SCRATCH_ENTRY);
    choose(a, 5, space::SECOND, [1 << ASID, 2 << ASID]);
    a.ldr(6, 2, CODE_ENTRIES[0]);
    a.sub(6, 6, 3);
    a.ldr(7, 2, SCRATCH_ENTRIES[0]);
    a.sub(7, 7, 4);
    a.orr(6, 6, 7);
    a.cbz(6, same);
    for (register, entries) in [(3, CODE_ENTRIES), (4, SCRATCH_ENTRIES)] {
        for entry in entries {
            a.str(register, 2, entry);
        }
    }
    a.dsb_ish();
    a.tbz(1, space::ALL.trailing_zeros(), by_asid);
    a.tlbi_vmalle1();
    a.b(invalidated);
    a.bind(by_asid);
    a.tlbi_aside1(5);
    a.bind(invalidated);
    a.dsb_ish();
    a.bind(same);
    a.orr(2, 2, 5);
    a.msr(TTBR0_EL1, 2);
    choose(a, 3, space::STRICT, [SCTLR, SCTLR_STRICT]);
    a.tbz(1, space::OFF.trailing_zeros(), translated);
    a.sub_imm(3, 3, 1);
    a.bind(translated);
    a.msr(SCTLR_EL1, 3);
    a.isb();
    a.eret();
}

/// Reports the interrupt, and leaves no register as it was before it restores them: it runs between any two
/// instructions of a sequence.
fn handle_irq(a: &mut Asm) {
    const FRAME: u32 = 16 * 8 + 4 * 16;
    a.sub_imm(31, 31, FRAME);
    for i in (0..14).step_by(2) {
        a.stp(i, i + 1, 31, 8 * i);
    }
    a.mov_imm(0, FP_ON);
    a.msr(CPACR_EL1, 0);
    a.isb();
    a.stp_q(0, 31, 128);
    a.stp_q(30, 31, 160);
    a.mrs(1, FPCR);
    a.mrs(2, FPSR);
    a.stp(1, 2, 31, 112);
    a.mov_imm(0, INTERRUPTED);
    a.hvc(0);
    a.mov_imm(3, 3 << 22 | 1 << 24);
    a.msr(FPCR, 3);
    a.word(0x1E61_1800); // fdiv d0, d0, d1
    a.word(0x4EFE_87DE); // add v30.2d, v30.2d, v30.2d
    a.word(0x4E20_1C1F); // and v31.16b, v0.16b, v0.16b
    a.word(0xAB03_0063); // adds x3, x3, x3
    for i in 4..14 {
        a.mov(i, 3);
    }
    a.ldp(1, 2, 31, 112);
    a.msr(FPCR, 1);
    a.msr(FPSR, 2);
    a.ldp_q(0, 31, 128);
    a.ldp_q(30, 31, 160);
    for i in (0..14).step_by(2) {
        a.ldp(i, i + 1, 31, 8 * i);
    }
    a.add_imm(31, 31, FRAME);
    a.eret();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::TABLES;

    #[test]
    fn the_kernel_fits_below_its_tables() {
        for (el1, spaces) in [(false, false), (true, true)] {
            let driver = driver::assemble(driver::Host::Bare { el1, spaces });
            assert!(assemble(&driver, el1).len() as u64 <= TABLES - KERNEL);
        }
    }
}
