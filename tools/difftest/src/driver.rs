//! The EL0 program that runs the sequences, and the ELF file that carries it into QEMU.
//!
//! The same program runs on both sides; only getting a batch differs: under Linux (QEMU user mode) it reads pipes
//! and takes signals, on our bare machine `SVC` asks the EL1 kernel of [`crate::kernel`]. For each record it loads
//! the scratch window and all registers, jumps to the code slot, and at the exit stores everything back in place.

use crate::asm::{Asm, FPCR, FPSR, Label, NZCV, SysReg, TPIDR_EL0, sysreg};
use crate::layout::{
    ALT_STACK, ALT_STACK_SIZE, CODE_AREA, CODE_AREA_SIZE, CODE_COPY, DRIVER, DRIVER_SIZE, MAX_RECORDS,
    RECORDS, SCRATCH, SCRATCH_SIZE, VARS, WINDOW, rec, vars,
};

/// Where the program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Linux system calls and signals: QEMU user mode.
    Linux,
    /// `SVC` to the EL1 kernel, also for changes of the address space.
    Bare {
        /// Whether it runs at EL1.
        el1: bool,
        /// Whether records choose address spaces.
        spaces: bool,
    },
}

/// Immediates of the driver's `SVC` on the bare machine.
pub mod call {
    /// Get a batch, the one before is done.
    pub const BATCH: u32 = 0;
    /// Enter the address space of the record at X30; X1 to X9 are lost.
    pub const ENTER: u32 = 1;
    /// Leave it; X1 to X9 are lost.
    pub const LEAVE: u32 = 2;
    /// What sequences use, with [`NO_SYSCALL`](super::NO_SYSCALL) in X8: any number will do under Linux.
    pub const SEQUENCE: u32 = 3;
}

/// A system call that Linux does not have: it returns -ENOSYS and changes nothing.
pub const NO_SYSCALL: u32 = 9999;

/// The assembled program.
pub struct Driver {
    /// Its bytes, to be placed at [`DRIVER`].
    pub bytes: Vec<u8>,
    /// Where sequences branch to when they are done.
    pub exit: u64,
    /// Where a fault handler goes on, with X30 pointing to the record that it has filled in.
    pub finish: u64,
}

const SYS_READ: u64 = 63;
const SYS_WRITE: u64 = 64;
const SYS_EXIT: u64 = 93;
const SYS_SIGALTSTACK: u64 = 132;
const SYS_RT_SIGACTION: u64 = 134;
const SA_SIGINFO: u64 = 0x4;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
/// SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV.
const SIGNALS: [u64; 5] = [4, 5, 7, 8, 11];

/// Assembles the program.
pub fn assemble(host: Host) -> Driver {
    let mut a = Asm::at(DRIVER);
    let (next_batch, batch_done, next_record) = (a.label(), a.label(), a.label());
    let (finish, handler) = (a.label(), a.label());
    // The handler lies first so that its address is known when it is installed.
    let start = a.label();
    a.b(start);
    let handler_address = a.here();
    a.bind(handler);
    if host == Host::Linux {
        signal_handler(&mut a, finish);
    }
    a.bind(start);
    if host == Host::Linux {
        install_handlers(&mut a, handler_address);
    }

    a.bind(next_batch);
    get_batch(&mut a, host);
    synchronise_code(&mut a, CODE_AREA);
    if matches!(host, Host::Bare { spaces: true, .. }) {
        synchronise_code(&mut a, CODE_COPY);
    }
    a.mov_imm(28, VARS);
    a.ldr(1, 28, vars::HEADER);
    a.str(1, 28, vars::LEFT);
    a.mov_imm(30, RECORDS);
    a.bind(next_record);
    a.mov_imm(28, VARS);
    a.ldr(1, 28, vars::LEFT);
    a.cbz(1, batch_done);
    a.sub_imm(1, 1, 1);
    a.str(1, 28, vars::LEFT);
    a.str(30, 28, vars::CURRENT);
    enter(&mut a, host);

    let exit_address = a.here();
    a.msr(TPIDR_EL0, 30);
    current_record(&mut a);
    save_common(&mut a);
    a.mrs(1, TPIDR_EL0);
    a.str(1, 30, rec::X30);
    a.mov_sp(1, 31);
    a.str(1, 30, rec::SP);
    a.mrs(1, NZCV);
    a.str(1, 30, rec::NZCV);
    a.mrs(1, FPCR);
    a.str(1, 30, rec::FPCR);
    a.mrs(1, FPSR);
    a.str(1, 30, rec::FPSR);
    a.str(31, 30, rec::STATUS);

    let finish_address = a.here();
    a.bind(finish);
    a.clrex();
    a.msr(FPCR, 31);
    if matches!(host, Host::Bare { el1: true, .. }) {
        a.word(0xD503_4FFF); // msr daifclr, #15
    }
    if matches!(host, Host::Bare { spaces: true, .. }) {
        a.svc(call::LEAVE);
    }
    copy_window(&mut a, false);
    a.add_imm(30, 30, rec::SIZE);
    a.b(next_record);

    a.bind(batch_done);
    put_batch(&mut a, host);
    a.b(next_batch);
    let bytes = a.finish();
    assert!(bytes.len() as u64 <= VARS - DRIVER);
    Driver { bytes, exit: exit_address, finish: finish_address }
}

/// Loads the address of the current record into X30.
pub fn current_record(a: &mut Asm) {
    a.mov_imm(30, VARS);
    a.ldr(30, 30, vars::CURRENT);
}

/// Takes an entry of the log of the record at X30: afterwards [`rec::LOG`] is relative to `entry`. Branches to `full`
/// when the record is not to survive any more faults. Uses `spare`.
pub fn log_entry(a: &mut Asm, spare: u32, entry: u32, full: Label) {
    a.ldr(spare, 30, rec::SURVIVED);
    a.ldr(entry, 30, rec::RESUME);
    a.sub(entry, entry, spare);
    a.cbz(entry, full);
    a.mov_imm(entry, 24);
    a.mul(entry, entry, spare);
    a.add(entry, entry, 30);
    a.add_imm(spare, spare, 1);
    a.str(spare, 30, rec::SURVIVED);
}

/// Stores X0-X29 and V0-V31 to the record at X30.
pub fn save_common(a: &mut Asm) {
    for i in (0..30).step_by(2) {
        a.stp(i, i + 1, 30, rec::X + 8 * i);
    }
    for i in (0..32).step_by(2) {
        a.stp_q(i, 30, rec::V + 16 * i);
    }
}

/// Runs the record at X30: loads everything and jumps to its slot, which loads X29 and X30 itself.
fn enter(a: &mut Asm, host: Host) {
    copy_window(a, true);
    if matches!(host, Host::Bare { spaces: true, .. }) {
        a.svc(call::ENTER);
    }
    a.msr(TPIDR_EL0, 31);
    reset_pstate(a, host);
    for i in (0..32).step_by(2) {
        a.ldp_q(i, 30, rec::V + 16 * i);
    }
    a.ldr(1, 30, rec::FPCR);
    a.msr(FPCR, 1);
    a.ldr(1, 30, rec::FPSR);
    a.msr(FPSR, 1);
    a.ldr(1, 30, rec::NZCV);
    a.msr(NZCV, 1);
    a.ldr(1, 30, rec::SP);
    a.mov_sp(31, 1);
    for i in (0..28).step_by(2) {
        a.ldp(i, i + 1, 30, rec::X + 8 * i);
    }
    a.ldr(28, 30, rec::X + 28 * 8);
    a.ldr(29, 30, rec::SLOT);
    a.br(29);
}

/// Clears DIT and SSBS, which a sequence may have set, where they exist: Linux lets EL0 read the registers that say
/// so, our own CPU has both.
fn reset_pstate(a: &mut Asm, host: Host) {
    const ID_AA64PFR0: SysReg = sysreg(3, 0, 0, 4, 0);
    const ID_AA64PFR1: SysReg = sysreg(3, 0, 0, 4, 1);
    const MSR_DIT_0: u32 = 0xD503_405F;
    const MSR_SSBS_0: u32 = 0xD503_403F;
    for (register, shift, reset) in [(ID_AA64PFR0, 48, MSR_DIT_0), (ID_AA64PFR1, 4, MSR_SSBS_0)] {
        let skip = a.label();
        if host == Host::Linux {
            a.mrs(1, register);
            a.lsr(1, 1, shift);
            a.word(0x9240_0C21); // and x1, x1, #15
            a.cbz(1, skip);
        }
        a.word(reset);
        a.bind(skip);
    }
}

/// Copies the window between the record at X30 and scratch memory, if the record has one.
fn copy_window(a: &mut Asm, inwards: bool) {
    let skip = a.label();
    a.ldr(2, 30, rec::WINDOW_ADDRESS);
    a.cbz(2, skip);
    a.add_imm(3, 30, rec::MEM);
    if inwards {
        a.copy_loop(2, 3, WINDOW as u64);
    } else {
        a.copy_loop(3, 2, WINDOW as u64);
    }
    a.bind(skip);
}

/// Makes new code visible to instruction fetch (Arm ARM B2.7.4.3).
fn synchronise_code(a: &mut Asm, area: u64) {
    let top = a.label();
    a.mov_imm(0, VARS);
    a.ldr(1, 0, vars::HEADER + 8);
    a.lsr(1, 1, 6);
    a.mov_imm(0, area);
    a.bind(top);
    a.dc_cvau(0);
    a.dsb_ish();
    a.ic_ivau(0);
    a.add_imm(0, 0, 64);
    a.sub_imm(1, 1, 1);
    a.cbnz(1, top);
    a.dsb_ish();
    a.isb();
}

fn get_batch(a: &mut Asm, host: Host) {
    match host {
        Host::Bare { .. } => a.svc(call::BATCH),
        Host::Linux => {
            a.mov_imm(1, VARS + u64::from(vars::HEADER));
            a.mov_imm(2, 16);
            transfer(a, SYS_READ);
            a.mov_imm(2, VARS);
            a.ldr(2, 2, vars::HEADER + 8);
            a.mov_imm(1, CODE_AREA);
            transfer(a, SYS_READ);
            records_extent(a);
            transfer(a, SYS_READ);
        }
    }
}

fn put_batch(a: &mut Asm, host: Host) {
    if host == Host::Linux {
        records_extent(a);
        transfer(a, SYS_WRITE);
    }
}

/// X1 = the records, X2 = their bytes.
fn records_extent(a: &mut Asm) {
    a.mov_imm(1, VARS);
    a.ldr(3, 1, vars::HEADER);
    a.mov_imm(2, u64::from(rec::SIZE));
    a.mul(2, 2, 3);
    a.mov_imm(1, RECORDS);
}

/// Reads or writes X2 bytes at X1 on file descriptor 0 or 1, until all have gone; ends the process at end of file.
fn transfer(a: &mut Asm, call: u64) {
    let (top, alive, done) = (a.label(), a.label(), a.label());
    a.bind(top);
    a.cbz(2, done);
    a.mov_imm(0, call - SYS_READ);
    a.mov_imm(8, call);
    a.svc(0);
    a.sub_imm(3, 0, 1);
    a.lsr(3, 3, 63);
    a.cbz(3, alive);
    a.mov_imm(0, 0);
    a.mov_imm(8, SYS_EXIT);
    a.svc(0);
    a.bind(alive);
    a.add(1, 1, 0);
    a.sub(2, 2, 0);
    a.b(top);
    a.bind(done);
}

fn install_handlers(a: &mut Asm, handler: u64) {
    a.mov_imm(9, VARS);
    a.mov_imm(1, ALT_STACK);
    a.str(1, 9, vars::STACK_T);
    a.str(31, 9, vars::STACK_T + 8);
    a.mov_imm(1, ALT_STACK_SIZE);
    a.str(1, 9, vars::STACK_T + 16);
    a.add_imm(0, 9, vars::STACK_T);
    a.mov_imm(1, 0);
    a.mov_imm(8, SYS_SIGALTSTACK);
    a.svc(0);
    a.mov_imm(1, handler);
    a.str(1, 9, vars::SIGACTION);
    a.mov_imm(1, SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
    a.str(1, 9, vars::SIGACTION + 8);
    a.str(31, 9, vars::SIGACTION + 16);
    a.str(31, 9, vars::SIGACTION + 24);
    for signal in SIGNALS {
        a.mov_imm(0, signal);
        a.add_imm(1, 9, vars::SIGACTION);
        a.mov_imm(2, 0);
        a.mov_imm(3, 8);
        a.mov_imm(8, SYS_RT_SIGACTION);
        a.svc(0);
    }
}

/// Offsets in Linux's `struct ucontext` for arm64, and in the FPSIMD record that comes first in its reserved area.
mod uc {
    pub const REGS: u32 = 184;
    pub const PC: u32 = 440;
    pub const PSTATE: u32 = 448;
    pub const FPSR: u32 = 464 + 8;
    pub const FPCR: u32 = 464 + 12;
    pub const VREGS: u32 = 464 + 16;
}

/// If the current record says so, logs the fault and returns behind the instruction. Otherwise copies the interrupted
/// context (X2 = ucontext, X1 = siginfo) into the record and leaves the handler for good: `SA_NODEFER` and the
/// alternate stack make that sound.
fn signal_handler(a: &mut Asm, finish: Label) {
    let fatal = a.label();
    a.mov(9, 30);
    current_record(a);
    log_entry(a, 3, 4, fatal);
    a.str(0, 4, rec::LOG);
    a.ldr(3, 2, uc::PC);
    a.str(3, 4, rec::LOG + 8);
    a.add_imm(3, 3, 4);
    a.str(3, 2, uc::PC);
    a.ldr(3, 1, 16);
    a.str(3, 4, rec::LOG + 16);
    a.br(9);
    a.bind(fatal);
    a.str(0, 30, rec::STATUS);
    a.ldr(3, 1, 16);
    a.str(3, 30, rec::FAULT_ADDRESS);
    a.ldr(3, 2, uc::PC);
    a.str(3, 30, rec::FAULT_PC);
    a.ldr(3, 2, uc::PSTATE);
    a.word(0x9204_0C63); // and x3, x3, #0xf0000000f0000000
    a.str(3, 30, rec::NZCV);
    a.ldr_w(3, 2, uc::FPSR);
    a.str(3, 30, rec::FPSR);
    a.ldr_w(3, 2, uc::FPCR);
    a.str(3, 30, rec::FPCR);
    a.add_imm(4, 2, uc::REGS);
    a.mov(5, 30);
    a.copy_loop(5, 4, 256);
    a.add_imm(4, 2, uc::VREGS);
    a.copy_loop(5, 4, 512);
    a.b(finish);
}

const PT_LOAD: u32 = 1;
const RWX: u32 = 7;

/// Wraps the Linux driver in a static ELF executable.
pub fn elf(driver: &Driver) -> Vec<u8> {
    const HEADERS: u64 = 0x1000;
    let records = MAX_RECORDS as u64 * u64::from(rec::SIZE);
    // (address, bytes in the file, bytes in memory)
    let segments = [
        (DRIVER, driver.bytes.len() as u64, DRIVER_SIZE),
        (CODE_AREA, 0, CODE_AREA_SIZE),
        (RECORDS, 0, records.next_multiple_of(0x1000)),
        (SCRATCH, 0, SCRATCH_SIZE),
    ];
    let mut out = Vec::new();
    out.extend_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [2u16, 183] {
        out.extend_from_slice(&half.to_le_bytes()); // ET_EXEC, EM_AARCH64
    }
    out.extend_from_slice(&1u32.to_le_bytes());
    for word in [DRIVER, 64, 0] {
        out.extend_from_slice(&word.to_le_bytes()); // entry, program headers, section headers
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for (address, in_file, in_memory) in segments {
        out.extend_from_slice(&PT_LOAD.to_le_bytes());
        out.extend_from_slice(&RWX.to_le_bytes());
        for word in [HEADERS, address, address, in_file, in_memory, 0x1000] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out.resize(HEADERS as usize, 0);
    out.extend_from_slice(&driver.bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elf_has_a_segment_for_each_area() {
        let image = elf(&assemble(Host::Linux));
        assert_eq!(&image[..4], b"\x7FELF");
        assert_eq!(u16::from_le_bytes([image[56], image[57]]), 4);
        assert_eq!(u64::from_le_bytes(image[24..32].try_into().unwrap()), DRIVER);
    }

    #[test]
    fn both_hosts_have_an_exit_inside_the_driver() {
        for host in
            [Host::Linux, Host::Bare { el1: false, spaces: false }, Host::Bare { el1: true, spaces: true }]
        {
            let driver = assemble(host);
            let end = DRIVER + driver.bytes.len() as u64;
            assert!((DRIVER..end).contains(&driver.exit) && (DRIVER..end).contains(&driver.finish));
        }
    }
}
