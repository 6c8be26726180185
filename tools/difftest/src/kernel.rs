//! The EL1 part of our bare machine: translation tables, exception vectors, and the way down to the driver at EL0.
//!
//! It plays Linux's part for the driver: `SVC` brings a batch (an HVC to this tool), any other exception from EL0 is
//! recorded in the current record, as a signal handler would do it, and the driver goes on with the next record.

use crate::asm::{
    Asm, CPACR_EL1, ELR_EL1, ESR_EL1, FAR_EL1, FPCR, FPSR, MAIR_EL1, MDSCR_EL1, SCTLR_EL1, SP_EL0, SPSR_EL1,
    TCR_EL1, TPIDR_EL1, TTBR0_EL1, VBAR_EL1,
};
use crate::driver::{self, Driver};
use crate::features::IDENTIFICATION;
use crate::layout::{
    CODE_AREA, CODE_AREA_SIZE, DRIVER, DRIVER_SIZE, KERNEL, MAX_RECORDS, RAM_BASE, RAM_SIZE, RECORDS,
    SCRATCH, SCRATCH_SIZE, TABLES, rec,
};

/// X0 in the HVC that asks for a batch.
pub const WANT_BATCH: u64 = 0x600D;
/// X0 in the first HVC: X1 and up are the values of [`IDENTIFICATION`].
pub const FEATURES: u64 = 0x0FEA;
/// X0 in the HVC that reports an interrupt taken from EL0; the tool lowers the line before it returns.
pub const INTERRUPTED: u64 = 0x0139;
/// X0 in the HVC that reports an exception which should not be: X1 = ESR, X2 = ELR, X3 = FAR.
pub const UNEXPECTED: u64 = 0x0BAD;

const VECTOR_COUNT: usize = 16;
const VECTOR_SIZE: usize = 0x80;
const VECTOR_LOWER_SYNC: usize = 8;
const VECTOR_LOWER_IRQ: usize = 9;
/// Top of the EL1 stack, below the kernel.
const STACK: u64 = KERNEL;
/// Offset of the start-up code behind the vectors.
const START: usize = VECTOR_COUNT * VECTOR_SIZE;

/// Where the vCPU starts, at EL1 with the MMU off.
pub const ENTRY: u64 = KERNEL + START as u64;

/// Assembles the kernel for [`KERNEL`].
pub fn assemble(driver: &Driver) -> Vec<u8> {
    let mut a = Asm::at(KERNEL);
    let (lower_sync, lower_irq) = (a.label(), a.label());
    for vector in 0..VECTOR_COUNT {
        a.pad_to(vector * VECTOR_SIZE);
        if vector == VECTOR_LOWER_SYNC {
            a.b(lower_sync);
        } else if vector == VECTOR_LOWER_IRQ {
            a.b(lower_irq);
        } else {
            a.mov_imm(0, UNEXPECTED);
            a.mrs(1, ESR_EL1);
            a.mrs(2, ELR_EL1);
            a.mrs(3, FAR_EL1);
            a.hvc(0);
        }
    }
    a.pad_to(START);
    start(&mut a);
    a.bind(lower_sync);
    handle_sync(&mut a, driver);
    a.bind(lower_irq);
    handle_irq(&mut a);
    a.finish()
}

fn start(a: &mut Asm) {
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
    // TCR_EL1: 39 bits below, cacheable, 4 KiB; nothing above; top byte ignored, as Linux has it.
    const TCR: u64 = 1 << 37 | 2 << 30 | 1 << 23 | 25 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
    let settings = [
        (VBAR_EL1, KERNEL),
        (MAIR_EL1, 0xFF),
        (TCR_EL1, TCR),
        (TTBR0_EL1, TABLES),
        (CPACR_EL1, 3 << 20),
        (MDSCR_EL1, 1 << 12), // TDCC: EL0 has no debug channel, as under Linux
        (SCTLR_EL1, SCTLR),
        (ELR_EL1, DRIVER),
        (SPSR_EL1, 0),
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

fn handle_sync(a: &mut Asm, driver: &Driver) {
    const EC_SVC: u32 = 0x15;
    let svc = a.label();
    a.msr(TPIDR_EL1, 30);
    a.mrs(30, ESR_EL1);
    a.lsr(30, 30, 26);
    a.sub_imm(30, 30, EC_SVC);
    a.cbz(30, svc);
    driver::current_record(a);
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
    a.mrs(1, SPSR_EL1);
    a.word(0x9204_0C21); // and x1, x1, #0xf0000000f0000000
    a.str(1, 30, rec::NZCV);
    a.mov_imm(1, driver.finish);
    a.msr(ELR_EL1, 1);
    a.msr(SPSR_EL1, 31);
    a.eret();
    a.bind(svc);
    a.mov_imm(0, WANT_BATCH);
    a.hvc(0);
    a.eret();
}

fn handle_irq(a: &mut Asm) {
    a.sub_imm(31, 31, 16);
    a.stp(0, 1, 31, 0);
    a.mov_imm(0, INTERRUPTED);
    a.hvc(0);
    a.ldp(0, 1, 31, 0);
    a.add_imm(31, 31, 16);
    a.eret();
}

/// The translation tables for [`TABLES`]: an identity map of 4 KiB pages that leaves the guard pages out.
pub fn tables() -> Vec<u8> {
    const PAGE: u64 = 0x1000;
    const TABLE: u64 = 3;
    // Valid page, inner shareable, accessed, not global.
    const PAGE_DESCRIPTOR: u64 = 3 | 3 << 8 | 1 << 10 | 1 << 11;
    const EL0_ACCESS: u64 = 1 << 6;
    const PXN: u64 = 1 << 53;
    const UXN: u64 = 1 << 54;
    let records = (MAX_RECORDS as u64 * u64::from(rec::SIZE)).next_multiple_of(PAGE);
    let user = [
        DRIVER..DRIVER + DRIVER_SIZE,
        CODE_AREA..CODE_AREA + CODE_AREA_SIZE,
        RECORDS..RECORDS + records,
        SCRATCH..SCRATCH + SCRATCH_SIZE,
    ];
    let pages = RAM_SIZE / PAGE;
    let mut words = vec![0u64; 1024 + pages as usize];
    // Level 1 has 1 GiB, level 2 has 2 MiB and level 3 has 4 KiB entries; RAM starts at a multiple of 1 GiB.
    words[(RAM_BASE >> 30) as usize] = (TABLES + PAGE) | TABLE;
    for block in 0..pages.div_ceil(512) {
        words[512 + block as usize] = (TABLES + 2 * PAGE + block * PAGE) | TABLE;
    }
    for page in 0..pages {
        let address = RAM_BASE + page * PAGE;
        words[1024 + page as usize] = if user.iter().any(|range| range.contains(&address)) {
            address | PAGE_DESCRIPTOR | EL0_ACCESS | PXN
        } else if address < DRIVER {
            address | PAGE_DESCRIPTOR | UXN
        } else {
            0
        };
    }
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_pages_are_not_mapped() {
        let bytes = tables();
        let entry = |address: u64| {
            let at = 8 * (1024 + ((address - RAM_BASE) >> 12) as usize);
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        assert_eq!(entry(SCRATCH - 1), 0);
        assert_eq!(entry(SCRATCH + SCRATCH_SIZE), 0);
        assert_eq!(entry(SCRATCH) & 0x41, 0x41);
        assert_eq!(entry(KERNEL) & 0x41, 0x01);
    }

    #[test]
    fn the_kernel_fits_below_its_tables() {
        let driver = driver::assemble(driver::Host::Bare);
        assert!(assemble(&driver).len() as u64 <= TABLES - KERNEL);
        const { assert!(TABLES + 0x2000 + RAM_SIZE / 512 <= DRIVER) };
    }
}
