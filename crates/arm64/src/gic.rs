//! GICv3 facts (IHI 0069): interrupt identifiers, register maps and the CPU interface's system registers.
//!
//! Offsets are in bytes from the start of their frame. A register group indexed by INTID is named by its first
//! register, its length follows from the number of INTIDs and the bits that each takes.

/// First private peripheral interrupt; below are the 16 software generated interrupts.
pub const PPI_BASE: u32 = 16;
/// First shared peripheral interrupt.
pub const SPI_BASE: u32 = 32;
/// The most shared peripheral interrupts a distributor has without the extended range.
pub const SPI_MAX: u32 = 988;
/// First of the special INTIDs (1020..=1023), which name no interrupt.
pub const INTID_SPECIAL: u32 = 1020;
/// What an acknowledge returns when there is no pending interrupt.
pub const INTID_NONE: u32 = 1023;
/// First locality-specific peripheral interrupt, the kind that the ITS delivers.
pub const LPI_BASE: u32 = 8192;

/// INTID of the EL1 virtual timer's private interrupt (PPI 11).
pub const INTID_VTIMER: u32 = 27;
/// INTID of the EL1 physical timer's private interrupt (PPI 14).
pub const INTID_PTIMER: u32 = 30;
/// INTID of the EL2 physical timer's private interrupt (PPI 10).
pub const INTID_HYP_PTIMER: u32 = 26;

/// CPU interface system registers (IHI 0069, 12.2).
pub mod icc {
    use crate::SysReg;

    /// Interrupt priority mask.
    pub const PMR: SysReg = SysReg::new(3, 0, 4, 6, 0);
    /// Acknowledge, group 0.
    pub const IAR0: SysReg = SysReg::new(3, 0, 12, 8, 0);
    /// End of interrupt, group 0.
    pub const EOIR0: SysReg = SysReg::new(3, 0, 12, 8, 1);
    /// Highest priority pending interrupt, group 0.
    pub const HPPIR0: SysReg = SysReg::new(3, 0, 12, 8, 2);
    /// Binary point, group 0.
    pub const BPR0: SysReg = SysReg::new(3, 0, 12, 8, 3);
    /// Active priorities, group 0. Registers 1 to 3 exist only with more than five bits of priority.
    pub const AP0R0: SysReg = SysReg::new(3, 0, 12, 8, 4);
    /// Active priorities, group 1. Registers 1 to 3 exist only with more than five bits of priority.
    pub const AP1R0: SysReg = SysReg::new(3, 0, 12, 9, 0);
    /// Deactivate interrupt.
    pub const DIR: SysReg = SysReg::new(3, 0, 12, 11, 1);
    /// Running priority.
    pub const RPR: SysReg = SysReg::new(3, 0, 12, 11, 3);
    /// Generate a software interrupt, group 1.
    pub const SGI1R: SysReg = SysReg::new(3, 0, 12, 11, 5);
    /// Generate a software interrupt, group 1 of the other security state.
    pub const ASGI1R: SysReg = SysReg::new(3, 0, 12, 11, 6);
    /// Generate a software interrupt, group 0.
    pub const SGI0R: SysReg = SysReg::new(3, 0, 12, 11, 7);
    /// Acknowledge, group 1.
    pub const IAR1: SysReg = SysReg::new(3, 0, 12, 12, 0);
    /// End of interrupt, group 1.
    pub const EOIR1: SysReg = SysReg::new(3, 0, 12, 12, 1);
    /// Highest priority pending interrupt, group 1.
    pub const HPPIR1: SysReg = SysReg::new(3, 0, 12, 12, 2);
    /// Binary point, group 1.
    pub const BPR1: SysReg = SysReg::new(3, 0, 12, 12, 3);
    /// Control.
    pub const CTLR: SysReg = SysReg::new(3, 0, 12, 12, 4);
    /// System register enable.
    pub const SRE: SysReg = SysReg::new(3, 0, 12, 12, 5);
    /// Group 0 enable.
    pub const IGRPEN0: SysReg = SysReg::new(3, 0, 12, 12, 6);
    /// Group 1 enable.
    pub const IGRPEN1: SysReg = SysReg::new(3, 0, 12, 12, 7);

    /// All of them.
    pub const ALL: [SysReg; 20] = [
        PMR, IAR0, EOIR0, HPPIR0, BPR0, AP0R0, AP1R0, DIR, RPR, SGI1R, ASGI1R, SGI0R, IAR1, EOIR1, HPPIR1,
        BPR1, CTLR, SRE, IGRPEN0, IGRPEN1,
    ];

    /// `CTLR`: BPR0 serves both groups.
    pub const CTLR_CBPR: u64 = 1 << 0;
    /// `CTLR`: end of interrupt only drops the priority, `DIR` deactivates.
    pub const CTLR_EOIMODE: u64 = 1 << 1;
    /// `CTLR`: position of the number of priority bits minus one.
    pub const CTLR_PRIBITS_SHIFT: u32 = 8;
    /// `SRE`: system registers in use, FIQ bypass and IRQ bypass disabled.
    pub const SRE_ALL: u64 = 0b111;
    /// `SGI*R`: all vCPUs but the sender.
    pub const SGI_IRM: u64 = 1 << 40;
}

/// Registers that the distributor and the redistributor's SGI frame share: the same offsets, the INTID's bit, byte or
/// two-bit field in it (IHI 0069, 12.9 and 12.11).
pub mod irq {
    /// Interrupt group, one bit each.
    pub const IGROUPR: u64 = 0x080;
    /// Set-enable, one bit each.
    pub const ISENABLER: u64 = 0x100;
    /// Clear-enable, one bit each.
    pub const ICENABLER: u64 = 0x180;
    /// Set-pending, one bit each.
    pub const ISPENDR: u64 = 0x200;
    /// Clear-pending, one bit each.
    pub const ICPENDR: u64 = 0x280;
    /// Set-active, one bit each.
    pub const ISACTIVER: u64 = 0x300;
    /// Clear-active, one bit each.
    pub const ICACTIVER: u64 = 0x380;
    /// Priority, one byte each.
    pub const IPRIORITYR: u64 = 0x400;
    /// Target vCPUs of the legacy programmer's model, one byte each.
    pub const ITARGETSR: u64 = 0x800;
    /// Configuration, two bits each: the upper one is set for edge-triggered.
    pub const ICFGR: u64 = 0xc00;
    /// Group modifier, one bit each: reserved with one security state.
    pub const IGRPMODR: u64 = 0xd00;
    /// Non-secure access control, two bits each: reserved with one security state.
    pub const NSACR: u64 = 0xe00;
}

/// Distributor (IHI 0069, 12.9).
pub mod gicd {
    /// Length of the frame.
    pub const SIZE: u64 = 0x1_0000;
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Type.
    pub const TYPER: u64 = 0x0004;
    /// Implementer.
    pub const IIDR: u64 = 0x0008;
    /// Type, second word.
    pub const TYPER2: u64 = 0x000c;
    /// Error status.
    pub const STATUSR: u64 = 0x0010;
    /// Makes the SPI written to it pending.
    pub const SETSPI_NSR: u64 = 0x0040;
    /// Clears the pending state of the SPI written to it.
    pub const CLRSPI_NSR: u64 = 0x0048;
    /// Like [`SETSPI_NSR`], secure: ignored with one security state.
    pub const SETSPI_SR: u64 = 0x0050;
    /// Like [`CLRSPI_NSR`], secure: ignored with one security state.
    pub const CLRSPI_SR: u64 = 0x0058;
    /// Software interrupts of the legacy programmer's model, to the end of their pending bits.
    pub const SGIR: u64 = 0x0f00;
    /// End (exclusive) of the registers of the legacy programmer's model at [`SGIR`].
    pub const SGIR_END: u64 = 0x0f30;
    /// Affinity routing, eight bytes for each INTID from 0 on; those below 32 are reserved.
    pub const IROUTER: u64 = 0x6000;

    /// `CTLR`: group 0 forwarded.
    pub const CTLR_ENABLE_GRP0: u32 = 1 << 0;
    /// `CTLR`: group 1 forwarded.
    pub const CTLR_ENABLE_GRP1: u32 = 1 << 1;
    /// `CTLR`: affinity routing.
    pub const CTLR_ARE: u32 = 1 << 4;
    /// `CTLR`: one security state.
    pub const CTLR_DS: u32 = 1 << 6;
    /// `TYPER`: message-based SPIs.
    pub const TYPER_MBIS: u32 = 1 << 16;
    /// `TYPER`: LPIs.
    pub const TYPER_LPIS: u32 = 1 << 17;
    /// `TYPER`: position of the number of INTID bits minus one.
    pub const TYPER_IDBITS_SHIFT: u32 = 19;
    /// `IROUTER`: any one vCPU that takes part.
    pub const IROUTER_IRM: u64 = 1 << 31;
}

/// Redistributor: the control frame, followed by the SGI and PPI frame (IHI 0069, 12.11).
pub mod gicr {
    /// Length of one frame.
    pub const FRAME: u64 = 0x1_0000;
    /// Length of a vCPU's pair of frames.
    pub const SIZE: u64 = 2 * FRAME;
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Implementer.
    pub const IIDR: u64 = 0x0004;
    /// Type, 64 bits.
    pub const TYPER: u64 = 0x0008;
    /// Error status.
    pub const STATUSR: u64 = 0x0010;
    /// Power management.
    pub const WAKER: u64 = 0x0014;
    /// LPI configuration table, 64 bits.
    pub const PROPBASER: u64 = 0x0070;
    /// LPI pending table, 64 bits.
    pub const PENDBASER: u64 = 0x0078;

    /// `CTLR`: LPIs enabled.
    pub const CTLR_ENABLE_LPIS: u32 = 1 << 0;
    /// `CTLR`: `ENABLE_LPIS` can be cleared again.
    pub const CTLR_CES: u32 = 1 << 1;
    /// `CTLR`: takes no 1-of-N interrupts of group 0.
    pub const CTLR_DPG0: u32 = 1 << 24;
    /// `CTLR`: takes no 1-of-N interrupts of group 1.
    pub const CTLR_DPG1: u32 = 1 << 25;
    /// `TYPER`: physical LPIs.
    pub const TYPER_PLPIS: u64 = 1 << 0;
    /// `TYPER`: the last redistributor of the region.
    pub const TYPER_LAST: u64 = 1 << 4;
    /// `TYPER`: has the `DPG` bits.
    pub const TYPER_DPGS: u64 = 1 << 5;
    /// `TYPER`: position of the processor number.
    pub const TYPER_NUMBER_SHIFT: u32 = 8;
    /// `TYPER`: position of the affinity.
    pub const TYPER_AFFINITY_SHIFT: u32 = 32;
    /// `WAKER`: the vCPU sleeps.
    pub const WAKER_SLEEP: u32 = 1 << 1;
    /// `WAKER`: the redistributor is quiet.
    pub const WAKER_ASLEEP: u32 = 1 << 2;
    /// `PROPBASER`: number of INTID bits minus one.
    pub const PROPBASER_IDBITS: u64 = 0x1f;
    /// `PROPBASER`: address bits 51:12.
    pub const PROPBASER_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// `PROPBASER`: the bits that software can write.
    pub const PROPBASER_MASK: u64 = 0x070f_ffff_ffff_ff9f;
    /// `PENDBASER`: address bits 51:16.
    pub const PENDBASER_ADDRESS: u64 = 0x000f_ffff_ffff_0000;
    /// `PENDBASER`: the table is all zero (write only).
    pub const PENDBASER_PTZ: u64 = 1 << 62;
    /// `PENDBASER`: the bits that software can write and read back.
    pub const PENDBASER_MASK: u64 = 0x070f_ffff_ffff_0f80;
    /// LPI configuration byte: enabled.
    pub const LPI_ENABLE: u8 = 1 << 0;
    /// LPI configuration byte: priority.
    pub const LPI_PRIORITY: u8 = 0xfc;
}

/// Interrupt Translation Service: the control frame, followed by the translation frame (IHI 0069, 12.19).
pub mod gits {
    /// Length of both frames.
    pub const SIZE: u64 = 0x2_0000;
    /// Control.
    pub const CTLR: u64 = 0x0000;
    /// Implementer.
    pub const IIDR: u64 = 0x0004;
    /// Type, 64 bits.
    pub const TYPER: u64 = 0x0008;
    /// Command queue, 64 bits.
    pub const CBASER: u64 = 0x0080;
    /// Where software writes the next command, 64 bits.
    pub const CWRITER: u64 = 0x0088;
    /// Where the ITS reads the next command, 64 bits.
    pub const CREADR: u64 = 0x0090;
    /// Eight table descriptors of 64 bits each.
    pub const BASER: u64 = 0x0100;
    /// End (exclusive) of [`BASER`].
    pub const BASER_END: u64 = 0x0140;
    /// The doorbell: devices write their event here.
    pub const TRANSLATER: u64 = 0x1_0040;

    /// `CTLR`: enabled.
    pub const CTLR_ENABLED: u32 = 1 << 0;
    /// `CTLR`: no work under way.
    pub const CTLR_QUIESCENT: u32 = 1 << 31;
    /// `TYPER`: physical LPIs.
    pub const TYPER_PHYSICAL: u64 = 1 << 0;
    /// `TYPER`: position of the ITT entry's size in bytes minus one.
    pub const TYPER_ITT_SIZE_SHIFT: u32 = 4;
    /// `TYPER`: position of the number of event bits minus one.
    pub const TYPER_IDBITS_SHIFT: u32 = 8;
    /// `TYPER`: position of the number of device bits minus one.
    pub const TYPER_DEVBITS_SHIFT: u32 = 13;
    /// `CBASER` and `BASER`: the descriptor is in use.
    pub const VALID: u64 = 1 << 63;
    /// `CBASER`: address bits 51:12.
    pub const CBASER_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// `CBASER`: the bits that software can write.
    pub const CBASER_MASK: u64 = 0xb8ef_ffff_ffff_fcff;
    /// `CBASER` and `BASER`: pages minus one; for `CBASER` of 4 KiB.
    pub const SIZE_MASK: u64 = 0xff;
    /// `CWRITER` and `CREADR`: the offset.
    pub const QUEUE_OFFSET: u64 = 0xf_ffe0;
    /// `CWRITER`: goes on after a stall.
    pub const CWRITER_RETRY: u64 = 1 << 0;
    /// `CREADR`: stopped at a command.
    pub const CREADR_STALLED: u64 = 1 << 0;
    /// `BASER`: two levels.
    pub const BASER_INDIRECT: u64 = 1 << 62;
    /// `BASER`: position of the table's type.
    pub const BASER_TYPE_SHIFT: u32 = 56;
    /// `BASER`: the table of devices.
    pub const BASER_TYPE_DEVICE: u64 = 1;
    /// `BASER`: the table of collections.
    pub const BASER_TYPE_COLLECTION: u64 = 4;
    /// `BASER`: position of the entry's size in bytes minus one.
    pub const BASER_ENTRY_SHIFT: u32 = 48;
    /// `BASER`: address bits 47:12; with 64 KiB pages bits 15:12 are address bits 51:48.
    pub const BASER_ADDRESS: u64 = 0x0000_ffff_ffff_f000;
    /// `BASER`: position of the page size: 4, 16 or 64 KiB.
    pub const BASER_PAGE_SHIFT: u32 = 8;
    /// `BASER`: the bits that software can write.
    pub const BASER_MASK: u64 = 0xf8e0_ffff_ffff_ffff;

    /// Length of a command.
    pub const COMMAND_SIZE: u64 = 32;

    /// Command numbers (IHI 0069, 5.3).
    pub mod command {
        /// Moves an event to another collection.
        pub const MOVI: u8 = 0x01;
        /// Makes an event pending.
        pub const INT: u8 = 0x03;
        /// Clears an event's pending state.
        pub const CLEAR: u8 = 0x04;
        /// Waits until a redistributor has seen all earlier commands.
        pub const SYNC: u8 = 0x05;
        /// Maps a device.
        pub const MAPD: u8 = 0x08;
        /// Maps a collection to a redistributor.
        pub const MAPC: u8 = 0x09;
        /// Maps an event to an LPI.
        pub const MAPTI: u8 = 0x0a;
        /// Maps an event to the LPI of the same number.
        pub const MAPI: u8 = 0x0b;
        /// Reads an LPI's configuration anew.
        pub const INV: u8 = 0x0c;
        /// Reads the configuration of all LPIs of a collection anew.
        pub const INVALL: u8 = 0x0d;
        /// Moves the pending LPIs of a redistributor to another.
        pub const MOVALL: u8 = 0x0e;
        /// Unmaps an event.
        pub const DISCARD: u8 = 0x0f;
    }
}

/// Offset of the first identification register, at the end of each 64 KiB frame.
pub const ID_REGISTERS: u64 = 0xffd0;
/// Implementer, as `GICD_IIDR`, `GICR_IIDR` and `GITS_IIDR` have it: Arm.
pub const IIDR_ARM: u32 = 0x43b;

/// Identification registers `PIDR4..7`, `PIDR0..3`, `CIDR0..3` of a GICv3 frame whose part number ends in `part`.
pub const fn identification(part: u8) -> [u8; 12] {
    [0x44, 0, 0, 0, part, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1]
}

/// Affinity of vCPU `index` as QEMU's `virt` numbers it: `Aff0` = index % 16, `Aff1` = index / 16.
pub const fn affinity(index: u32) -> u32 {
    ((index / 16) << 8) | (index % 16)
}
