//! What EL0 may do with system registers, and hints and barriers (Arm ARM C4.1.93).

use super::{Encoding, any, bits};

/// Hints but not WFE and WFI (they may sleep), nor CHKFEAT (it writes X16 where it exists).
fn hint(w: u32) -> bool {
    !matches!(bits(w, 11, 5), 2 | 3 | 40)
}

/// DMB, DSB and ISB with any option; CLREX. DSB with CRm = 0x00 is SSBB and 0x04 is PSSBB: the same to us.
fn barrier(w: u32) -> bool {
    matches!(bits(w, 7, 5), 2 | 4 | 5 | 6)
}

/// The encodings of this class. Writes to FPCR need a legal value and are composed by the generator; counters,
/// CTR_EL0 and DCZID_EL0 legitimately differ from QEMU's and are not read.
pub fn table() -> Vec<Encoding> {
    let e = Encoding::new;
    vec![
        e("msr nzcv", "1101 0101 0001 1011 0100 0010 000 ddddd", any),
        e("mrs nzcv", "1101 0101 0011 1011 0100 0010 000 ddddd", any),
        e("mrs fpcr", "1101 0101 0011 1011 0100 0100 000 ddddd", any),
        e("mrs fpsr", "1101 0101 0011 1011 0100 0100 001 ddddd", any),
        e("msr tpidr_el0", "1101 0101 0001 1011 1101 0000 010 ddddd", any),
        e("mrs tpidr_el0", "1101 0101 0011 1011 1101 0000 010 ddddd", any),
        e("msr dit", "1101 0101 0001 1011 0100 0010 101 ddddd", any),
        e("mrs dit", "1101 0101 0011 1011 0100 0010 101 ddddd", any),
        e("msr dit imm", "1101 0101 0000 0011 0100 000i 010 11111", any),
        e("msr ssbs", "1101 0101 0001 1011 0100 0010 110 ddddd", any),
        e("mrs ssbs", "1101 0101 0011 1011 0100 0010 110 ddddd", any),
        e("msr ssbs imm", "1101 0101 0000 0011 0100 000i 001 11111", any),
        e("hint", "1101 0101 0000 0011 0010 iiii iii 11111", hint),
        e("barrier", "1101 0101 0000 0011 0011 iiii iii 11111", barrier),
        e("sb", "1101 0101 0000 0011 0011 0000 111 11111", any),
    ]
}

/// What EL1 may do besides, without losing hold of the machine. ELR and SPSR are not read: interrupts change them.
pub fn table_el1() -> Vec<Encoding> {
    let e = Encoding::new;
    vec![
        e("msr daifset/daifclr", "1101 0101 0000 0011 0100 iiii 11i 11111", any),
        e("mrs daif", "1101 0101 0011 1011 0100 0010 001 ddddd", any),
        e("mrs currentel", "1101 0101 0011 1000 0100 0010 010 ddddd", any),
        e("mrs spsel", "1101 0101 0011 1000 0100 0010 000 ddddd", any),
        e("mrs esr_el1", "1101 0101 0011 1000 0101 0010 000 ddddd", any),
        e("msr far_el1", "1101 0101 0001 1000 0110 0000 000 ddddd", any),
        e("mrs far_el1", "1101 0101 0011 1000 0110 0000 000 ddddd", any),
        e("msr tpidr_el1", "1101 0101 0001 1000 1101 0000 100 ddddd", any),
        e("mrs tpidr_el1", "1101 0101 0011 1000 1101 0000 100 ddddd", any),
        e("msr contextidr_el1", "1101 0101 0001 1000 1101 0000 001 ddddd", any),
        e("mrs contextidr_el1", "1101 0101 0011 1000 1101 0000 001 ddddd", any),
        e("mrs mpidr_el1", "1101 0101 0011 1000 0000 0000 101 ddddd", any),
    ]
}
