//! The device tree of the board: a pure function of a plain description.
//!
//! Nodes, properties and their shapes are those that QEMU's `virt` machine gives its guests, because drivers are
//! tested against them. No address is known here: all of them come in [`FdtSpec`].
//! Bindings: Linux `Documentation/devicetree/bindings/`, named at each node.

mod nodes;

use std::ops::Range;

use tearless_memory::Gpa;
use vm_fdt::{FdtWriter, FdtWriterNode};

use crate::{Error, Result};

/// A device with one register range and one level-triggered interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its registers.
    pub range: Range<Gpa>,
    /// Its INTID.
    pub intid: u32,
}

/// The GICv3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GicNode {
    /// The distributor.
    pub distributor: Range<Gpa>,
    /// The redistributors, all in one region.
    pub redistributors: Range<Gpa>,
    /// The interrupt translation service, the target of PCIe's message-signalled interrupts.
    pub its: Option<Range<Gpa>>,
}

/// INTIDs of the generic timers (PPIs, level-triggered).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerIntids {
    /// EL1 physical timer, secure.
    pub secure: u32,
    /// EL1 physical timer, non-secure.
    pub physical: u32,
    /// EL1 virtual timer.
    pub virt: u32,
    /// EL2 physical timer.
    pub hypervisor: u32,
}

impl Default for TimerIntids {
    /// The PPIs that the Base System Architecture (DEN0094) assigns.
    fn default() -> Self {
        Self { secure: 29, physical: 30, virt: 27, hypervisor: 26 }
    }
}

/// The PL061 with the power button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpioNode {
    /// The controller.
    pub device: Device,
    /// The line of the power button.
    pub power_line: u32,
}

/// The PCIe host bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcieNode {
    /// Configuration space, 1 MiB for each bus from 0 on.
    pub ecam: Range<Gpa>,
    /// Window for I/O ports, at port 0.
    pub io: Option<Range<Gpa>>,
    /// Window for 32-bit BARs, at the same address on the bus.
    pub mem32: Range<Gpa>,
    /// Window for 64-bit BARs, at the same address on the bus.
    pub mem64: Range<Gpa>,
    /// INTIDs of INTA to INTD of device 0; the others are swizzled (PCI Express Base, "INTx").
    pub intx: [u32; 4],
}

/// What firmware finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareNodes {
    /// The NOR flash for its variables: two chips of 16 bits side by side.
    pub flash: Range<Gpa>,
    /// What it is told.
    pub fw_cfg: Range<Gpa>,
}

/// What the boot loader tells the kernel (`chosen`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The kernel command line.
    pub cmdline: &'a str,
    /// Where the RAM disk lies.
    pub initrd: Option<Range<Gpa>>,
    /// Entropy for the kernel's random number generator, from the host's.
    pub rng_seed: [u8; 32],
    /// Entropy for the kernel's load address; 0 leaves the node out.
    pub kaslr_seed: u64,
}

/// Everything that the device tree tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdtSpec<'a> {
    /// `MPIDR_EL1` affinity of each vCPU; the first one boots.
    pub cpus: &'a [u64],
    /// The RAM.
    pub memory: &'a [Range<Gpa>],
    /// The interrupt controller.
    pub gic: GicNode,
    /// The generic timers.
    pub timers: TimerIntids,
    /// The PL011.
    pub uart: Device,
    /// The PL031.
    pub rtc: Device,
    /// The PL061.
    pub gpio: GpioNode,
    /// Frequency of the fixed clock of PL011, PL031 and PL061, in Hz.
    pub clock_hz: u32,
    /// The PCIe host bridge.
    pub pcie: PcieNode,
    /// What firmware finds, where there is any.
    pub firmware: Option<FirmwareNodes>,
    /// What the boot loader tells the kernel.
    pub chosen: Chosen<'a>,
}

/// The device tree blob of `spec`. Its length does not depend on the address of the RAM disk.
///
/// # Errors
/// [`Error::DeviceTree`] when a value does not fit its property (an INTID out of range, a NUL in the command line).
pub fn build(spec: &FdtSpec<'_>) -> Result<Vec<u8>> {
    let mut tree = Tree(FdtWriter::new().map_err(refused)?);
    let root = tree.begin("")?;
    tree.text("compatible", "linux,dummy-virt")?;
    tree.text("model", "linux,dummy-virt")?;
    tree.cells("#address-cells", &[2])?;
    tree.cells("#size-cells", &[2])?;
    tree.cells("interrupt-parent", &[nodes::GIC])?;
    tree.flag("dma-coherent")?;
    nodes::chosen(&mut tree, spec)?;
    nodes::aliases(&mut tree, spec)?;
    nodes::memory(&mut tree, spec)?;
    nodes::cpus(&mut tree, spec)?;
    nodes::psci(&mut tree)?;
    nodes::timer(&mut tree, spec)?;
    nodes::gic(&mut tree, spec)?;
    nodes::clock(&mut tree, spec)?;
    nodes::uart(&mut tree, spec)?;
    nodes::rtc(&mut tree, spec)?;
    nodes::gpio(&mut tree, spec)?;
    nodes::pcie(&mut tree, spec)?;
    if let Some(firmware) = &spec.firmware {
        nodes::firmware(&mut tree, firmware)?;
    }
    tree.end(root)?;
    tree.0.finish().map_err(refused)
}

/// [`FdtWriter`] with this crate's errors and the property types that the board uses.
struct Tree(FdtWriter);

impl Tree {
    fn begin(&mut self, name: &str) -> Result<FdtWriterNode> {
        self.0.begin_node(name).map_err(refused)
    }

    fn end(&mut self, node: FdtWriterNode) -> Result<()> {
        self.0.end_node(node).map_err(refused)
    }

    fn flag(&mut self, name: &str) -> Result<()> {
        self.0.property_null(name).map_err(refused)
    }

    fn text(&mut self, name: &str, value: &str) -> Result<()> {
        self.0.property_string(name, value).map_err(refused)
    }

    fn texts(&mut self, name: &str, values: &[&str]) -> Result<()> {
        let list = values.iter().map(|&s| s.to_owned()).collect();
        self.0.property_string_list(name, list).map_err(refused)
    }

    fn cells(&mut self, name: &str, values: &[u32]) -> Result<()> {
        self.0.property_array_u32(name, values).map_err(refused)
    }

    fn wide(&mut self, name: &str, value: u64) -> Result<()> {
        self.0.property_u64(name, value).map_err(refused)
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> Result<()> {
        self.0.property(name, value).map_err(refused)
    }

    /// `reg` with two cells for address and size each.
    fn reg(&mut self, ranges: &[Range<Gpa>]) -> Result<()> {
        let pairs: Vec<u64> = ranges.iter().flat_map(|r| [r.start.0, length(r)]).collect();
        self.0.property_array_u64("reg", &pairs).map_err(refused)
    }
}

fn length(range: &Range<Gpa>) -> u64 {
    range.end.0.saturating_sub(range.start.0)
}

fn refused(e: vm_fdt::Error) -> Error {
    Error::DeviceTree(e.to_string())
}

#[cfg(test)]
mod tests;
