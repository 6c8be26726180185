//! One function for each node.

use super::{Device, FdtSpec, FirmwareNodes, Tree, length};
use crate::{Error, Result};

// Handles by which nodes refer to each other.
const CLOCK: u32 = 1;
pub(super) const GIC: u32 = 2;
const ITS: u32 = 3;
const GPIO: u32 = 4;

const LEVEL_HIGH: u32 = 4;
/// Linux `KEY_POWER`.
const KEY_POWER: u32 = 116;

/// `arm,gic-v3.yaml`: an interrupt in three cells.
fn interrupt(intid: u32) -> Result<[u32; 3]> {
    match intid {
        16..32 => Ok([1, intid - 16, LEVEL_HIGH]),
        32..1020 => Ok([0, intid - 32, LEVEL_HIGH]),
        _ => Err(Error::DeviceTree(format!("INTID {intid} is neither a PPI nor an SPI"))),
    }
}

fn uart_name(spec: &FdtSpec<'_>) -> String {
    format!("pl011@{:x}", spec.uart.range.start.0)
}

/// `chosen.yaml` of dt-schema.
pub(super) fn chosen(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin("chosen")?;
    tree.text("bootargs", spec.chosen.cmdline)?;
    tree.text("stdout-path", &format!("/{}", uart_name(spec)))?;
    if let Some(initrd) = &spec.chosen.initrd {
        tree.wide("linux,initrd-start", initrd.start.0)?;
        tree.wide("linux,initrd-end", initrd.end.0)?;
    }
    tree.bytes("rng-seed", &spec.chosen.rng_seed)?;
    if spec.chosen.kaslr_seed != 0 {
        tree.wide("kaslr-seed", spec.chosen.kaslr_seed)?;
    }
    tree.end(node)
}

pub(super) fn aliases(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin("aliases")?;
    tree.text("serial0", &format!("/{}", uart_name(spec)))?;
    tree.end(node)
}

pub(super) fn memory(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    for range in spec.memory {
        let node = tree.begin(&format!("memory@{:x}", range.start.0))?;
        tree.text("device_type", "memory")?;
        tree.reg(std::slice::from_ref(range))?;
        tree.end(node)?;
    }
    Ok(())
}

/// `arm/cpus.yaml`.
pub(super) fn cpus(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin("cpus")?;
    tree.cells("#address-cells", &[1])?;
    tree.cells("#size-cells", &[0])?;
    for &mpidr in spec.cpus {
        // One cell holds Aff0 to Aff2; no board of ours reaches Aff3.
        let affinity = u32::try_from(mpidr).ok().filter(|a| *a < 1 << 24).ok_or_else(|| {
            Error::DeviceTree(format!("CPU affinity {mpidr:#x} does not fit Aff2:Aff1:Aff0"))
        })?;
        let cpu = tree.begin(&format!("cpu@{affinity:x}"))?;
        tree.text("device_type", "cpu")?;
        tree.text("compatible", "arm,armv8")?;
        tree.text("enable-method", "psci")?;
        tree.cells("reg", &[affinity])?;
        tree.end(cpu)?;
    }
    tree.end(node)
}

/// `arm/psci.yaml`; the function identifiers (DEN0022) serve users of the 0.1 binding.
pub(super) fn psci(tree: &mut Tree) -> Result<()> {
    let node = tree.begin("psci")?;
    tree.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"])?;
    tree.text("method", "hvc")?;
    tree.cells("cpu_suspend", &[0xc400_0001])?;
    tree.cells("cpu_off", &[0x8400_0002])?;
    tree.cells("cpu_on", &[0xc400_0003])?;
    tree.cells("migrate", &[0xc400_0005])?;
    tree.end(node)
}

/// `timer/arm,arch_timer.yaml`.
pub(super) fn timer(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let t = spec.timers;
    let mut interrupts = Vec::new();
    for intid in [t.secure, t.physical, t.virt, t.hypervisor] {
        interrupts.extend(interrupt(intid)?);
    }
    let node = tree.begin("timer")?;
    tree.texts("compatible", &["arm,armv8-timer", "arm,armv7-timer"])?;
    tree.cells("interrupts", &interrupts)?;
    tree.flag("always-on")?;
    tree.end(node)
}

/// `interrupt-controller/arm,gic-v3.yaml`.
pub(super) fn gic(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let gic = &spec.gic;
    let node = tree.begin(&format!("intc@{:x}", gic.distributor.start.0))?;
    tree.cells("phandle", &[GIC])?;
    tree.text("compatible", "arm,gic-v3")?;
    tree.flag("interrupt-controller")?;
    tree.cells("#interrupt-cells", &[3])?;
    tree.cells("#address-cells", &[2])?;
    tree.cells("#size-cells", &[2])?;
    tree.flag("ranges")?;
    tree.cells("#redistributor-regions", &[1])?;
    tree.reg(&[gic.distributor.clone(), gic.redistributors.clone()])?;
    if let Some(its) = &gic.its {
        let child = tree.begin(&format!("its@{:x}", its.start.0))?;
        tree.cells("phandle", &[ITS])?;
        tree.text("compatible", "arm,gic-v3-its")?;
        tree.flag("msi-controller")?;
        tree.cells("#msi-cells", &[1])?;
        tree.reg(std::slice::from_ref(its))?;
        tree.end(child)?;
    }
    tree.end(node)
}

/// `clock/fixed-clock.yaml`.
pub(super) fn clock(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin("apb-pclk")?;
    tree.cells("phandle", &[CLOCK])?;
    tree.text("compatible", "fixed-clock")?;
    tree.cells("#clock-cells", &[0])?;
    tree.cells("clock-frequency", &[spec.clock_hz])?;
    tree.text("clock-output-names", "clk24mhz")?;
    tree.end(node)
}

/// What every PrimeCell has (`arm/primecell.yaml`), for a cell that is called `name` in full.
fn primecell(tree: &mut Tree, name: &str, device: &Device, clocks: &[&str]) -> Result<()> {
    tree.texts("compatible", &[&format!("arm,{name}"), "arm,primecell"])?;
    tree.reg(std::slice::from_ref(&device.range))?;
    tree.cells("interrupts", &interrupt(device.intid)?)?;
    tree.cells("clocks", &vec![CLOCK; clocks.len()])?;
    tree.texts("clock-names", clocks)
}

/// `serial/pl011.yaml`.
pub(super) fn uart(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin(&uart_name(spec))?;
    primecell(tree, "pl011", &spec.uart, &["uartclk", "apb_pclk"])?;
    tree.end(node)
}

/// `rtc/arm,pl031.yaml`.
pub(super) fn rtc(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin(&format!("pl031@{:x}", spec.rtc.range.start.0))?;
    primecell(tree, "pl031", &spec.rtc, &["apb_pclk"])?;
    tree.end(node)
}

/// `gpio/pl061-gpio.yaml` and the power button on it, `input/gpio-keys.yaml`.
pub(super) fn gpio(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let node = tree.begin(&format!("pl061@{:x}", spec.gpio.device.range.start.0))?;
    tree.cells("phandle", &[GPIO])?;
    primecell(tree, "pl061", &spec.gpio.device, &["apb_pclk"])?;
    tree.cells("#gpio-cells", &[2])?;
    tree.flag("gpio-controller")?;
    tree.end(node)?;

    let keys = tree.begin("gpio-keys")?;
    tree.text("compatible", "gpio-keys")?;
    let power = tree.begin("poweroff")?;
    tree.text("label", "GPIO Key Poweroff")?;
    tree.cells("linux,code", &[KEY_POWER])?;
    tree.cells("gpios", &[GPIO, spec.gpio.power_line, 0])?;
    tree.end(power)?;
    tree.end(keys)
}

/// `pci/host-generic-pci.yaml`.
pub(super) fn pcie(tree: &mut Tree, spec: &FdtSpec<'_>) -> Result<()> {
    let pcie = &spec.pcie;
    let buses = u32::try_from(length(&pcie.ecam) >> 20).unwrap_or(0).min(256);
    if buses == 0 {
        return Err(Error::DeviceTree("the PCIe configuration space has no bus".into()));
    }
    let node = tree.begin(&format!("pcie@{:x}", pcie.ecam.start.0))?;
    tree.text("compatible", "pci-host-ecam-generic")?;
    tree.text("device_type", "pci")?;
    tree.cells("#address-cells", &[3])?;
    tree.cells("#size-cells", &[2])?;
    tree.cells("#interrupt-cells", &[1])?;
    tree.cells("linux,pci-domain", &[0])?;
    tree.cells("bus-range", &[0, buses - 1])?;
    tree.flag("dma-coherent")?;
    tree.reg(std::slice::from_ref(&pcie.ecam))?;
    tree.cells("ranges", &windows(spec))?;
    if spec.gic.its.is_some() {
        // Requester IDs map one to one on the ITS's device IDs.
        tree.cells("msi-map", &[0, ITS, 0, buses << 8])?;
    }
    // Two bits of the device number and the pin select the interrupt: the swizzle repeats after four devices.
    tree.cells("interrupt-map-mask", &[3 << 11, 0, 0, 7])?;
    tree.cells("interrupt-map", &interrupt_map(pcie.intx)?)?;
    tree.end(node)
}

/// `ranges` of the host bridge (IEEE 1275 PCI binding): space code, bus address, CPU address, size.
fn windows(spec: &FdtSpec<'_>) -> Vec<u32> {
    const IO: u32 = 0x0100_0000;
    const MEM32: u32 = 0x0200_0000;
    const MEM64: u32 = 0x0300_0000;
    let pcie = &spec.pcie;
    let io = pcie.io.iter().map(|w| (IO, 0, w));
    let memory = [(MEM32, pcie.mem32.start.0, &pcie.mem32), (MEM64, pcie.mem64.start.0, &pcie.mem64)];
    io.chain(memory)
        .flat_map(|(space, bus, window)| {
            let [bus, cpu, size] =
                [bus, window.start.0, length(window)].map(|v| [(v >> 32) as u32, v as u32]);
            [space, bus[0], bus[1], cpu[0], cpu[1], size[0], size[1]]
        })
        .collect()
}

/// Child unit address and pin, then the GIC with its (unused) unit address and the interrupt.
fn interrupt_map(intx: [u32; 4]) -> Result<Vec<u32>> {
    let mut map = Vec::new();
    for device in 0..4u32 {
        for pin in 0..4u32 {
            let intid = intx[((device + pin) % 4) as usize];
            map.extend([device << 11, 0, 0, pin + 1, GIC, 0, 0]);
            map.extend(interrupt(intid)?);
        }
    }
    Ok(map)
}

/// `mtd/mtd-physmap.yaml` and `firmware/qemu,fw-cfg-mmio.yaml`.
pub(super) fn firmware(tree: &mut Tree, firmware: &FirmwareNodes) -> Result<()> {
    let flash = tree.begin(&format!("flash@{:x}", firmware.flash.start.0))?;
    tree.text("compatible", "cfi-flash")?;
    tree.reg(std::slice::from_ref(&firmware.flash))?;
    tree.cells("bank-width", &[4])?;
    tree.end(flash)?;

    let fw_cfg = tree.begin(&format!("fw-cfg@{:x}", firmware.fw_cfg.start.0))?;
    tree.text("compatible", "qemu,fw-cfg-mmio")?;
    tree.reg(std::slice::from_ref(&firmware.fw_cfg))?;
    tree.flag("dma-coherent")?;
    tree.end(fw_cfg)
}
