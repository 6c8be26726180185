//! The device tree of a plan.

use std::ops::Range;

use tearless_arm64::gic::{INTID_HYP_PTIMER, INTID_PTIMER, INTID_VTIMER};
use tearless_boot::fdt::{
    self, Chosen, Device, FdtSpec, FirmwareNodes, GicNode, GpioNode, PcieNode, TimerIntids,
};
use tearless_memory::Gpa;

use crate::{Error, Plan, board};

/// INTID of the secure timer: no guest of ours has a secure world, but the binding lists it first.
const INTID_SECURE_TIMER: u32 = 29;
/// The GPIO line of the power button.
const POWER_BUTTON: u32 = 3;

/// The device tree blob that tells a kernel about `plan`.
pub(crate) fn build(plan: &Plan, initrd: Option<Range<Gpa>>, cmdline: &str) -> Result<Vec<u8>, Error> {
    describe(plan, initrd, cmdline, None)
}

/// The device tree blob that tells firmware about `plan`.
pub(crate) fn for_firmware(plan: &Plan) -> Result<Vec<u8>, Error> {
    let nodes = FirmwareNodes { flash: board::FLASH_VARIABLES, fw_cfg: board::FW_CFG };
    describe(plan, None, "", Some(nodes))
}

fn describe(
    plan: &Plan,
    initrd: Option<Range<Gpa>>,
    cmdline: &str,
    firmware: Option<FirmwareNodes>,
) -> Result<Vec<u8>, Error> {
    let random = random()?;
    let mut rng_seed = [0; 32];
    let mut kaslr_seed = [0; 8];
    rng_seed.copy_from_slice(&random[..32]);
    kaslr_seed.copy_from_slice(&random[32..]);
    let cpus: Vec<u64> = (0..plan.vcpus).map(board::mpidr).collect();
    let spec = FdtSpec {
        cpus: &cpus,
        memory: std::slice::from_ref(&plan.ram),
        gic: GicNode {
            distributor: board::GICD,
            redistributors: plan.redistributors.clone(),
            its: Some(board::ITS),
        },
        timers: TimerIntids {
            secure: INTID_SECURE_TIMER,
            physical: INTID_PTIMER,
            virt: INTID_VTIMER,
            hypervisor: INTID_HYP_PTIMER,
        },
        uart: Device { range: board::UART, intid: board::UART_INTID },
        rtc: Device { range: board::RTC, intid: board::RTC_INTID },
        gpio: GpioNode {
            device: Device { range: board::GPIO, intid: board::GPIO_INTID },
            power_line: POWER_BUTTON,
        },
        clock_hz: board::APB_CLOCK_HZ,
        pcie: PcieNode {
            ecam: board::PCIE_ECAM,
            // Firmware looks for one; kernels do without.
            io: firmware.is_some().then_some(board::PCIE_IO),
            mem32: board::PCIE_MEM32,
            mem64: board::PCIE_MEM64,
            intx: board::PCIE_INTX,
        },
        firmware,
        chosen: Chosen { cmdline, initrd, rng_seed, kaslr_seed: u64::from_le_bytes(kaslr_seed) },
    };
    Ok(fdt::build(&spec)?)
}

fn random() -> Result<[u8; 40], Error> {
    let mut bytes = [0; 40];
    getrandom::fill(&mut bytes).map_err(|e| Error::Host("get random numbers", std::io::Error::other(e)))?;
    Ok(bytes)
}
