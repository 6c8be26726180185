//! Where kernel, RAM disk and device tree go in guest RAM: a pure function of their sizes.
//!
//! ```text
//! RAM ─┬─ 2 MiB + text_offset ─┬───────────┬─ +128 MiB (or half of RAM) ─┬─ next 2 MiB ─┬───────── end
//!      │                       │  kernel   │           RAM disk          │  device tree │
//! ```
//! The rules are those of Linux's `Documentation/arch/arm64/booting.rst`, the choices within them QEMU's
//! (`hw/arm/boot.c`), so that kernels meet the same map on both. An ELF executable finds the device tree at the start
//! of RAM when there is room, again like QEMU.

use std::ops::Range;

use tearless_memory::Gpa;

use crate::{
    Error, Result,
    kernel::{self, KernelImage, Shape},
};

/// The largest device tree that a kernel accepts (booting.rst, "Setup the device tree").
pub const MAX_DTB: u64 = 2 << 20;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 0x1000;
const DTB_ALIGN: u64 = 2 * MIB;
/// A decompressing kernel of old overwrote what came sooner; QEMU keeps the distance and so does the guest's habit.
const INITRD_DISTANCE: u64 = 128 * MIB;
/// The RAM disk must lie in a 1 GiB aligned window of this size that also holds the kernel (booting.rst).
const WINDOW: u64 = 32 << 30;
const WINDOW_ALIGN: u64 = 1 << 30;

/// Guest physical ranges of what is loaded; they never overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The kernel with its BSS.
    pub kernel: Range<Gpa>,
    /// The RAM disk, if there is one.
    pub initrd: Option<Range<Gpa>>,
    /// The device tree.
    pub dtb: Range<Gpa>,
    /// The first instruction.
    pub entry: Gpa,
}

/// What the boot vCPU starts with; every other register is zero (booting.rst, "Call the kernel image").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The program counter.
    pub pc: Gpa,
    /// X0: the address of the device tree. X1 to X3 are reserved and zero.
    pub x0: Gpa,
}

impl Placement {
    /// The state in which the boot vCPU enters the kernel.
    pub fn entry_state(&self) -> Entry {
        Entry { pc: self.entry, x0: self.dtb.start }
    }
}

/// Places `kernel`, a RAM disk of `initrd_len` bytes (0: none) and a device tree of at most `dtb_len` bytes in `ram`.
///
/// # Errors
/// [`Error::NoRoom`] when the memory is too small, [`Error::Unsuitable`] when an ELF file wants addresses that are not
/// RAM, [`Error::DeviceTree`] when the device tree is larger than [`MAX_DTB`].
pub fn place(ram: &Range<Gpa>, kernel: &KernelImage, initrd_len: u64, dtb_len: u64) -> Result<Placement> {
    if dtb_len > MAX_DTB {
        return Err(Error::DeviceTree(format!("it has {dtb_len} bytes, a kernel takes up to {MAX_DTB}")));
    }
    let start = kernel::load_address(ram.start, kernel.shape());
    let end = start.and_then(|s| s.checked_add(kernel.span()));
    let (Some(start), Some(end)) = (start, end) else { return Err(not_in_ram(ram)) };
    let entry = match kernel.shape() {
        Shape::Elf { entry, .. } => {
            if start < ram.start || end > ram.end {
                return Err(not_in_ram(ram));
            }
            *entry
        }
        Shape::Image { .. } | Shape::Flat => start,
    };

    let far = ram.start + ((ram.end - ram.start) / 2).min(INITRD_DISTANCE);
    let mut needed = u64::MAX;
    for wish in [far.max(end), end] {
        let Some((initrd, dtb)) = stack(wish, initrd_len, dtb_len) else { continue };
        let dtb = low_dtb(ram, kernel.shape(), start, dtb_len).unwrap_or(dtb);
        let top = dtb.end.max(initrd.end).max(end);
        needed = top - ram.start;
        let window = Gpa(start.0 & !(WINDOW_ALIGN - 1)).checked_add(WINDOW);
        if top <= ram.end && window.is_none_or(|w| initrd.end <= w) {
            let initrd = (initrd_len > 0).then_some(initrd);
            return Ok(Placement { kernel: start..end, initrd, dtb, entry });
        }
    }
    Err(Error::NoRoom {
        what: if initrd_len > 0 { "kernel and RAM disk" } else { "kernel and device tree" },
        need_mib: needed.div_ceil(MIB),
        have_mib: (ram.end - ram.start) / MIB,
    })
}

/// The RAM disk at the first page from `wish` on, the device tree behind it.
fn stack(wish: Gpa, initrd_len: u64, dtb_len: u64) -> Option<(Range<Gpa>, Range<Gpa>)> {
    let initrd = Gpa(wish.0.checked_next_multiple_of(PAGE)?);
    let initrd = initrd..initrd.checked_add(initrd_len)?;
    let dtb = Gpa(initrd.end.0.checked_next_multiple_of(DTB_ALIGN)?);
    Some((initrd, dtb..dtb.checked_add(dtb_len)?))
}

/// The device tree at the start of RAM, for an ELF executable that leaves the room.
fn low_dtb(ram: &Range<Gpa>, shape: &Shape, kernel: Gpa, dtb_len: u64) -> Option<Range<Gpa>> {
    let end = ram.start.checked_add(dtb_len)?;
    (matches!(shape, Shape::Elf { .. }) && end <= kernel).then_some(ram.start..end)
}

fn not_in_ram(ram: &Range<Gpa>) -> Error {
    Error::Unsuitable {
        what: "the kernel".into(),
        found: format!("meant for addresses outside the VM's RAM ({}..{})", ram.start, ram.end),
        advice: "give it more --memory, or link it for this RAM (for Linux give Image instead of vmlinux)",
    }
}

#[cfg(test)]
mod tests;
