//! The host side of the segment: slots, configuration accesses and the routing of memory accesses.
//!
//! ```text
//!   ECAM access -> slot -> config_write -> (header touched?) -> routes rebuilt from every function's BARs
//!   window access -> first route whose range holds the whole access -> bar_read / bar_write
//! ```
//! The routes are a snapshot behind a read-write lock: a memory access takes one read lock and looks at a handful of
//! ranges. Where the guest put BARs over each other, the lowest slot and BAR answers. What lies outside of the windows
//! never arrives here.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

use tearless_bus::{AccessError, IrqLine, IrqSink, MmioDevice, MsiSink};
use tearless_memory::Gpa;
use tearless_state::{Parts, StateError};

use crate::{Attachment, PciFunction, bridge::HostBridge, lock, register};

const SLOTS: usize = 32;
const BARS: usize = 6;
/// Configuration space per bus: 32 devices of 8 functions of 4 KiB.
const ECAM_PER_BUS: u64 = 1 << 20;
const INTX_LINES: usize = 4;

/// What the machine decides about the segment.
pub struct PciHostConfig {
    /// The window below 4 GiB.
    pub mem32: Range<Gpa>,
    /// The window above.
    pub mem64: Range<Gpa>,
    /// How many bus numbers the ECAM range covers (1 MiB each); devices sit on bus 0.
    pub buses: u16,
    /// The wired interrupts; pin INTA of slot `n` drives line `n % 4`, as in the device tree of QEMU's `virt`.
    pub intx: [IrqLine; INTX_LINES],
    /// Where message-signalled interrupts go.
    pub msi: Arc<dyn MsiSink>,
}

/// Why a function cannot be plugged in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// Slots are 1 to 31; slot 0 is the host bridge.
    #[error("there is no PCI slot {0}: slots are 1 to 31")]
    NoSlot(u8),
    /// Something is in this slot.
    #[error("PCI slot {0} is taken")]
    Taken(u8),
}

fn part_name(slot: u8) -> String {
    format!("pci/{slot:02x}")
}

/// The requester ID of function 0 in `slot` on bus 0.
pub const fn requester_id(slot: u8) -> u16 {
    (slot as u16) << 3
}

#[derive(Clone)]
struct Route {
    range: Range<Gpa>,
    function: Arc<dyn PciFunction>,
    bar: usize,
}

struct Shared {
    config: PciHostConfig,
    slots: RwLock<[Option<Arc<dyn PciFunction>>; SLOTS]>,
    routes: RwLock<Vec<Route>>,
    intx: Arc<IntxSwizzle>,
}

/// One PCI Express segment with devices on its root bus.
#[derive(Clone)]
pub struct PciHost {
    shared: Arc<Shared>,
}

impl PciHost {
    /// A segment with nothing but the host bridge.
    pub fn new(config: PciHostConfig) -> Self {
        let lines = Mutex::new(config.intx.clone().map(|line| (line, 0)));
        let intx = Arc::new(IntxSwizzle { lines });
        let mut slots = [const { None }; SLOTS];
        if let Some(first) = slots.first_mut() {
            *first = Some(Arc::new(HostBridge::new()) as Arc<dyn PciFunction>);
        }
        let shared = Shared { config, slots: RwLock::new(slots), routes: RwLock::default(), intx };
        Self { shared: Arc::new(shared) }
    }

    /// Plugs `function` into `slot` (1 to 31) of bus 0.
    ///
    /// # Errors
    /// [`AddError`] when there is no such slot or something is in it.
    pub fn add(&self, slot: u8, function: Arc<dyn PciFunction>) -> Result<(), AddError> {
        let mut slots = self.shared.slots.write().unwrap_or_else(PoisonError::into_inner);
        let place = slots.get_mut(usize::from(slot)).ok_or(AddError::NoSlot(slot))?;
        if place.is_some() {
            return Err(AddError::Taken(slot));
        }
        function.attach(Attachment {
            requester_id: requester_id(slot),
            msi: self.shared.config.msi.clone(),
            intx: IrqLine::new(self.shared.intx.clone(), u32::from(slot)),
        });
        *place = Some(function);
        Ok(())
    }

    /// Bytes that the ECAM device covers.
    pub fn ecam_size(&self) -> u64 {
        u64::from(self.shared.config.buses) * ECAM_PER_BUS
    }

    /// The configuration accesses.
    pub fn ecam(&self) -> Arc<dyn MmioDevice> {
        Arc::new(Ecam { shared: self.shared.clone() })
    }

    /// The window below 4 GiB.
    pub fn window32(&self) -> Arc<dyn MmioDevice> {
        self.window(self.shared.config.mem32.start)
    }

    /// The window above.
    pub fn window64(&self) -> Arc<dyn MmioDevice> {
        self.window(self.shared.config.mem64.start)
    }

    /// The functions with their slots, in ascending order.
    fn functions(&self) -> Vec<(u8, Arc<dyn PciFunction>)> {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        (0..).zip(slots.iter()).filter_map(|(slot, function)| Some((slot, function.clone()?))).collect()
    }

    /// What stands in which slot, for a saved VM.
    pub fn outline(&self) -> Vec<(u8, String)> {
        self.functions().into_iter().map(|(slot, function)| (slot, function.outline())).collect()
    }

    /// Has no function take new requests, waits for those in progress until `deadline`, and leaves the guest's memory alone.
    /// Called while no vCPU runs; [`PciHost::proceed`] ends it, also after an error.
    ///
    /// # Errors
    /// [`StateError::Busy`] when a request takes longer that cannot be repeated.
    pub fn quiesce(&self, deadline: Instant) -> Result<(), StateError> {
        let functions = self.functions();
        // All of them first, so that they finish at the same time.
        functions.iter().for_each(|(_, function)| function.hold());
        functions.iter().try_for_each(|(_, function)| function.drain(deadline))
    }

    /// Adds the state of each function to `parts`, after [`PciHost::quiesce`].
    ///
    /// # Errors
    /// When one cannot tell it.
    pub fn save(&self, parts: &mut Parts) -> Result<(), StateError> {
        for (slot, function) in self.functions() {
            let name = part_name(slot);
            parts.put(name.clone(), function.save().map_err(|e| e.of(&name))?);
        }
        Ok(())
    }

    /// Takes the state of each function from `parts`.
    ///
    /// # Errors
    /// When one is missing or none of its function.
    pub fn restore(&self, parts: &mut Parts) -> Result<(), StateError> {
        for (slot, function) in self.functions() {
            let name = part_name(slot);
            function.restore(&parts.take(&name)?).map_err(|e| e.of(&name))?;
        }
        self.shared.rebuild_routes();
        Ok(())
    }

    /// Lets the functions work after [`PciHost::quiesce`] or, if `restored`, [`PciHost::restore`].
    pub fn proceed(&self, restored: bool) {
        self.functions().iter().for_each(|(_, function)| function.proceed(restored));
    }

    fn window(&self, base: Gpa) -> Arc<dyn MmioDevice> {
        Arc::new(Window { shared: self.shared.clone(), base })
    }
}

impl Shared {
    fn function(&self, slot: usize) -> Option<Arc<dyn PciFunction>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(slot).cloned().flatten()
    }

    /// Takes a new snapshot of what every BAR decodes. Runs under the write lock, so of two concurrent writers the
    /// later one sees both changes.
    fn rebuild_routes(&self) {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.clear();
        for function in slots.iter().flatten() {
            let decoded = (0..BARS).filter_map(|bar| Some((bar, function.bar(bar)?)));
            routes.extend(decoded.map(|(bar, range)| Route { range, function: function.clone(), bar }));
        }
    }

    /// The BAR that answers `len` bytes at `gpa`, and the offset within it. The lock is gone when this returns, so a
    /// slow device does not block the others.
    fn route(&self, gpa: Gpa, len: usize) -> Result<(Arc<dyn PciFunction>, usize, u64), AccessError> {
        let end = gpa.checked_add(len as u64).ok_or(AccessError::NoRegister)?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let hit = routes.iter().find(|route| route.range.start <= gpa && end <= route.range.end);
        let route = hit.ok_or(AccessError::NoRegister)?;
        Ok((route.function.clone(), route.bar, gpa - route.range.start))
    }
}

/// The enhanced configuration access mechanism (PCIe base, section 7.2.2).
struct Ecam {
    shared: Arc<Shared>,
}

/// Bits 27:20 bus, 19:15 device, 14:12 function, 11:0 register.
fn decode(offset: u64) -> (u64, usize, u64, u16) {
    (offset >> 20, (offset >> 15 & 0x1f) as usize, offset >> 12 & 7, (offset & 0xfff) as u16)
}

impl Ecam {
    fn function(&self, offset: u64) -> Option<Arc<dyn PciFunction>> {
        let (bus, device, function, _) = decode(offset);
        (bus == 0 && function == 0).then(|| self.shared.function(device)).flatten()
    }
}

fn check_config_width(offset: u64, len: usize) -> Result<(), AccessError> {
    let aligned = matches!(len, 1 | 2 | 4 | 8) && offset.is_multiple_of(len as u64);
    aligned.then_some(()).ok_or(AccessError::Width)
}

impl MmioDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check_config_width(offset, data.len())?;
        // Nothing in a slot reads as all ones: that is how the guest finds out.
        data.fill(0xff);
        if let Some(function) = self.function(offset) {
            let (.., start) = decode(offset);
            for (part, register) in data.chunks_mut(4).zip((start..).step_by(4)) {
                function.config_read(register, part);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        check_config_width(offset, data.len())?;
        let Some(function) = self.function(offset) else { return Ok(()) };
        let (.., start) = decode(offset);
        for (part, register) in data.chunks(4).zip((start..).step_by(4)) {
            function.config_write(register, part);
        }
        let header = register::COMMAND..register::BAR0 + 4 * BARS as u16;
        if header.contains(&start) {
            self.shared.rebuild_routes();
        }
        Ok(())
    }
}

/// A range of addresses in which the guest places BARs.
struct Window {
    shared: Arc<Shared>,
    base: Gpa,
}

impl Window {
    fn gpa(&self, offset: u64) -> Result<Gpa, AccessError> {
        self.base.checked_add(offset).ok_or(AccessError::NoRegister)
    }
}

impl MmioDevice for Window {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let (function, bar, offset) = self.shared.route(self.gpa(offset)?, data.len())?;
        function.bar_read(bar, offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let (function, bar, offset) = self.shared.route(self.gpa(offset)?, data.len())?;
        function.bar_write(bar, offset, data)
    }
}

/// Four wired interrupts that the slots share: a line is high while any of its slots asserts it.
struct IntxSwizzle {
    lines: Mutex<[(IrqLine, u32); INTX_LINES]>,
}

impl IrqSink for IntxSwizzle {
    fn set_level(&self, slot: u32, level: bool) {
        let mut lines = lock(&self.lines);
        let Some((line, asserting)) = lines.get_mut(slot as usize % INTX_LINES) else { return };
        let before = *asserting;
        let bit = 1u32.checked_shl(slot).unwrap_or(0);
        *asserting = if level { before | bit } else { before & !bit };
        if (before != 0) != (*asserting != 0) {
            line.set_level(*asserting != 0);
        }
    }
}
