//! The board's memory map and interrupt numbers: those of QEMU's `virt` machine (version 10), so that kernels, EDK2,
//! U-Boot and test suites made for it run unchanged. Addresses are a compatibility surface: never change one.

use std::ops::Range;

use tearless_memory::Gpa;

const fn range(start: u64, len: u64) -> Range<Gpa> {
    Gpa(start)..Gpa(start + len)
}

/// Flash with the firmware's code, where there is firmware: the first instruction.
pub const FLASH_CODE: Range<Gpa> = range(0, 0x400_0000);
/// Flash with the firmware's variables.
pub const FLASH_VARIABLES: Range<Gpa> = range(0x0400_0000, 0x400_0000);
/// GICv3 distributor.
pub const GICD: Range<Gpa> = range(0x0800_0000, 0x1_0000);
/// GICv3 interrupt translation service: control frame, then the translation frame with the MSI doorbell.
pub const ITS: Range<Gpa> = range(0x0808_0000, 0x2_0000);
/// Where the guest writes message-signalled interrupts: `GITS_TRANSLATER`.
pub const ITS_DOORBELL: Gpa = Gpa(0x0809_0040);
/// GICv3 redistributors, [`REDISTRIBUTOR_SIZE`] bytes for each vCPU.
pub const GICR: Range<Gpa> = range(0x080a_0000, 0xf6_0000);
/// Two 64 KiB frames.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// PL011 UART.
pub const UART: Range<Gpa> = range(0x0900_0000, 0x1000);
/// PL031 real time clock.
pub const RTC: Range<Gpa> = range(0x0901_0000, 0x1000);
/// What firmware is told.
pub const FW_CFG: Range<Gpa> = range(0x0902_0000, 0x18);
/// PL061 GPIO with the power button.
pub const GPIO: Range<Gpa> = range(0x0903_0000, 0x1000);
/// Where EFI in the VMM is called: in what QEMU leaves for devices that are plugged in while it runs, of which we have none.
pub const EFI_DOORBELL: Range<Gpa> = range(0x0c00_0000, 0x1_0000);
/// PCIe window for 32-bit BARs.
pub const PCIE_MEM32: Range<Gpa> = range(0x1000_0000, 0x2eff_0000);
/// PCIe window for I/O ports, which firmware wants to see. No device has any.
pub const PCIE_IO: Range<Gpa> = range(0x3eff_0000, 0x1_0000);
/// Where RAM starts.
pub const RAM_BASE: Gpa = Gpa(0x4000_0000);
/// RAM ends below the PCIe configuration space.
pub const RAM_MAX: u64 = 255 << 30;
/// PCIe configuration space (ECAM), 256 buses.
pub const PCIE_ECAM: Range<Gpa> = range(0x40_1000_0000, 0x1000_0000);
/// PCIe window for 64-bit BARs.
pub const PCIE_MEM64: Range<Gpa> = range(0x80_0000_0000, 0x80_0000_0000);

/// INTID of the UART.
pub const UART_INTID: u32 = 33;
/// INTID of the real time clock.
pub const RTC_INTID: u32 = 34;
/// INTIDs of PCIe INTA to INTD.
pub const PCIE_INTX: [u32; 4] = [35, 36, 37, 38];
/// INTID of the GPIO.
pub const GPIO_INTID: u32 = 39;
/// How many shared peripheral interrupts the distributor has.
pub const SPIS: u32 = 224;

/// As many vCPUs as redistributors fit.
pub const MAX_VCPUS: u32 = ((GICR.end.0 - GICR.start.0) / REDISTRIBUTOR_SIZE) as u32;

/// Frequency of the fixed clock of UART, RTC and GPIO, in Hz.
pub const APB_CLOCK_HZ: u32 = 24_000_000;

/// The `MPIDR_EL1` affinity of vCPU `index`: 16 to a cluster, as GICv3 target lists want it.
pub const fn mpidr(index: u32) -> u64 {
    (index % 16) as u64 | ((index / 16) as u64) << 8
}
