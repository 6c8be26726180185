//! The function: configuration space, common configuration, and the life of the device.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tearless_bus::AccessError;
use tearless_memory::{Gpa, GuestMemory};
use tearless_pci::{
    Attachment, BarKind, ConfigSpace, Identity, LayoutError, MsixError, PciFunction, command,
};
use tearless_state::{Encoded, StateError};

use super::{
    signals::Signals,
    spec::{
        CAPABILITY_VENDOR, DEVICE_BASE, NO_VECTOR, REVISION, SUBSYSTEM, VENDOR, cap, common, layout, status,
    },
};
use crate::{Activation, Interrupt, RingAddresses, VirtioDevice, feature, lock, read_window};

/// Why a device does not fit this transport.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More queues than notify registers and vectors.
    #[error("a virtio device on PCI has 1 to 255 queues, not {0}")]
    Queues(usize),
    /// The header or a capability does not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The MSI-X table does not fit.
    #[error(transparent)]
    Msix(#[from] MsixError),
}

#[derive(Clone, Copy)]
pub(super) struct QueueSetup {
    pub(super) addresses: RingAddresses,
    pub(super) enabled: bool,
}

pub(super) struct Common {
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    pub(super) driver_features: u64,
    pub(super) queue_select: u16,
    pub(super) queues: Vec<QueueSetup>,
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    pub(super) device: Arc<dyn VirtioDevice>,
    pub(super) memory: GuestMemory,
    pub(super) config: Mutex<ConfigSpace>,
    pub(super) common: Mutex<Common>,
    pub(super) signals: Arc<Signals>,
    /// Where the MSI-X and the PCI configuration access capabilities start.
    msix_capability: u16,
    access_capability: u16,
    bus_master: AtomicBool,
    /// The user was told that the device cannot start: once, for the guest can try for ever.
    complained: AtomicBool,
}

impl VirtioPci {
    /// Puts `device` on PCI; its rings and buffers are in `memory`.
    ///
    /// # Errors
    /// [`Error`] when the device has no queue or too many.
    pub fn new(device: Arc<dyn VirtioDevice>, memory: GuestMemory) -> Result<Arc<Self>, Error> {
        let count = device.queues().len();
        if count == 0 || count > layout::MAX_QUEUES {
            return Err(Error::Queues(count));
        }
        let signals = Arc::new(Signals::new(count as u16)?);
        let kind = device.kind();
        let mut config = ConfigSpace::new(&Identity {
            vendor: VENDOR,
            device: DEVICE_BASE + kind.id,
            revision: REVISION,
            class: kind.class,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
        })
        .with_intx();
        config.add_bar(layout::BAR, layout::BAR_SIZE, BarKind::Mem64)?;
        let msix_capability = signals.msix.add_capability(
            &mut config,
            layout::BAR as u8,
            layout::MSIX_TABLE as u32,
            layout::MSIX_PENDING as u32,
        )?;
        let access_capability = add_capabilities(&mut config)?;
        let queues = device.queues().iter().map(|queue| initial_setup(queue.max_size())).collect();
        let common = Common {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            queue_select: 0,
            queues,
        };
        Ok(Arc::new(Self {
            device,
            memory,
            config: Mutex::new(config),
            common: Mutex::new(common),
            signals,
            msix_capability,
            access_capability,
            bus_master: AtomicBool::new(false),
            complained: AtomicBool::new(false),
        }))
    }

    pub(super) fn offered(&self) -> u64 {
        self.device.features() | feature::COMMON
    }

    fn read_common(&self, offset: u64, data: &mut [u8]) {
        let common = lock(&self.common);
        let mut image = [0; common::SIZE];
        let mut put = |offset: u64, bytes: &[u8]| {
            image.iter_mut().skip(offset as usize).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(common::DEVICE_FEATURE_SELECT, &common.device_feature_select.to_le_bytes());
        put(common::DEVICE_FEATURE, &half(self.offered(), common.device_feature_select).to_le_bytes());
        put(common::DRIVER_FEATURE_SELECT, &common.driver_feature_select.to_le_bytes());
        let accepted = half(common.driver_features, common.driver_feature_select);
        put(common::DRIVER_FEATURE, &accepted.to_le_bytes());
        put(common::CONFIG_VECTOR, &self.signals.config_vector().to_le_bytes());
        put(common::NUM_QUEUES, &(common.queues.len() as u16).to_le_bytes());
        put(common::DEVICE_STATUS, &[self.signals.status()]);
        put(common::CONFIG_GENERATION, &[self.signals.generation()]);
        put(common::QUEUE_SELECT, &common.queue_select.to_le_bytes());
        if let Some(queue) = common.queues.get(usize::from(common.queue_select)) {
            put(common::QUEUE_SIZE, &queue.addresses.size.to_le_bytes());
            put(common::QUEUE_VECTOR, &self.signals.queue_vector(common.queue_select).to_le_bytes());
            put(common::QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            put(common::QUEUE_NOTIFY_OFF, &common.queue_select.to_le_bytes());
            put(common::QUEUE_DESC, &queue.addresses.descriptors.to_le_bytes());
            put(common::QUEUE_DRIVER, &queue.addresses.driver.to_le_bytes());
            put(common::QUEUE_DEVICE, &queue.addresses.device.to_le_bytes());
        } else {
            put(common::QUEUE_VECTOR, &NO_VECTOR.to_le_bytes());
        }
        read_window(&image, offset, data);
    }

    fn write_common(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let value = data.iter().rev().fold(0u64, |acc, byte| acc << 8 | u64::from(*byte));
        let mut common = lock(&self.common);
        let common = &mut *common;
        match (offset, data.len()) {
            (common::DEVICE_FEATURE_SELECT, 4) => common.device_feature_select = value as u32,
            (common::DRIVER_FEATURE_SELECT, 4) => common.driver_feature_select = value as u32,
            (common::DRIVER_FEATURE, 4) => self.accept_features(common, value),
            (common::CONFIG_VECTOR, 2) => self.signals.set_config_vector(value as u16),
            (common::DEVICE_STATUS, 1) => self.write_status(common, value as u8),
            (common::QUEUE_SELECT, 2) => common.queue_select = value as u16,
            (common::QUEUE_VECTOR, 2) => self.signals.set_queue_vector(common.queue_select, value as u16),
            (common::QUEUE_ENABLE, 2) if value == 1 => self.enable_queue(common),
            (common::QUEUE_RESET, 2) if value == 1 => self.reset_queue(common),
            _ => return write_queue_setup(common, self.device.as_ref(), (offset, data.len()), value),
        }
        Ok(())
    }

    /// Features are fixed once the device accepted them.
    fn accept_features(&self, common: &mut Common, value: u64) {
        if self.signals.status() & status::FEATURES_OK != 0 {
            return;
        }
        let value = value & 0xffff_ffff;
        match common.driver_feature_select {
            0 => common.driver_features = common.driver_features & !0xffff_ffff | value,
            1 => common.driver_features = common.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    fn write_status(&self, common: &mut Common, value: u8) {
        if value == 0 {
            self.reset_device(common);
            return;
        }
        let mut new = value & !self.signals.status() & !status::NEEDS_RESET;
        let required = feature::VERSION_1 | self.device.required_features();
        let acceptable =
            common.driver_features & !self.offered() == 0 && required & !common.driver_features == 0;
        if new & status::FEATURES_OK != 0 && !acceptable {
            // The driver reads the bit back and finds that it did not stick (section 3.1.1).
            new &= !status::FEATURES_OK;
        }
        let negotiated = (self.signals.status() | new) & status::FEATURES_OK != 0;
        if new & status::DRIVER_OK != 0 && !negotiated {
            new &= !status::DRIVER_OK;
        }
        self.signals.add_status(new);
        if new & status::DRIVER_OK != 0 {
            self.activate(common);
        }
    }

    fn activate(&self, common: &mut Common) {
        let activation = Activation { features: common.driver_features, interrupt: self.signals.clone() };
        if let Err(error) = self.device.activate(activation) {
            if !self.complained.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, device = self.device.kind().id, "virtio device cannot start a thread");
            }
            self.signals.needs_reset();
            return;
        }
        for index in 0..common.queues.len() as u16 {
            self.start_queue(common, index);
        }
    }

    fn enable_queue(&self, common: &mut Common) {
        let index = common.queue_select;
        let Some(queue) = common.queues.get_mut(usize::from(index)) else { return };
        if !queue.enabled {
            queue.enabled = true;
            if self.signals.status() & status::DRIVER_OK != 0 {
                self.start_queue(common, index);
            }
        }
    }

    fn start_queue(&self, common: &Common, index: u16) {
        let Some(setup) = common.queues.get(usize::from(index)).filter(|setup| setup.enabled) else { return };
        let Some(queue) = self.device.queues().get(usize::from(index)) else { return };
        queue.start(self.start(common, index, setup.addresses));
    }

    /// Section 4.1.4.3.2: when this returns the queue is off, as `queue_reset` and `queue_enable` then read.
    fn reset_queue(&self, common: &mut Common) {
        let index = usize::from(common.queue_select);
        let Some(queue) = self.device.queues().get(index) else { return };
        queue.stop();
        if let Some(setup) = common.queues.get_mut(index) {
            *setup = initial_setup(queue.max_size());
        }
        self.signals.set_queue_vector(common.queue_select, NO_VECTOR);
    }

    fn reset_device(&self, common: &mut Common) {
        self.device.queues().iter().for_each(|queue| queue.stop());
        self.device.reset();
        self.signals.reset();
        common.driver_features = 0;
        common.device_feature_select = 0;
        common.driver_feature_select = 0;
        common.queue_select = 0;
        for (setup, queue) in common.queues.iter_mut().zip(self.device.queues()) {
            *setup = initial_setup(queue.max_size());
        }
    }

    fn notify(&self, offset: u64) {
        let index = usize::try_from(offset / u64::from(layout::NOTIFY_MULTIPLIER)).unwrap_or(usize::MAX);
        if let Some(queue) = self.device.queues().get(index) {
            queue.kick();
        }
    }

    /// The window that the PCI configuration access capability opens into the BAR (section 4.1.4.9): the range, if the
    /// driver set up one that makes sense.
    fn access_window(&self) -> Option<(u64, usize)> {
        let config = lock(&self.config);
        let at = self.access_capability;
        let length = config.read_u32(at + cap::LENGTH);
        let offset = config.read_u32(at + cap::OFFSET);
        let bar = config.read_u16(at + cap::BAR) & 0xff;
        let fits = u64::from(offset) + u64::from(length) <= layout::BAR_SIZE;
        let sensible = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length) && fits;
        (usize::from(bar) == layout::BAR && sensible).then_some((u64::from(offset), length as usize))
    }

    /// A function that is no bus master leaves memory alone: a kernel that hands over to the next (kexec) counts on it.
    pub(super) fn gate_memory_access(&self, allowed: bool) {
        // Held so that of two vCPUs that write the command register the same one wins in all queues.
        let _common = lock(&self.common);
        if self.bus_master.swap(allowed, Ordering::AcqRel) != allowed {
            self.device.queues().iter().for_each(|queue| queue.set_paused(!allowed));
        }
    }

    fn in_access_data(&self, offset: u16, len: usize) -> bool {
        let data = self.access_capability + cap::DATA;
        usize::from(offset) < usize::from(data) + 4 && usize::from(offset) + len > usize::from(data)
    }
}

fn initial_setup(max_size: u16) -> QueueSetup {
    QueueSetup { addresses: RingAddresses { size: max_size, ..Default::default() }, enabled: false }
}

fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// The size and addresses of the selected queue; an enabled queue does not change any more.
fn write_queue_setup(
    common: &mut Common,
    device: &dyn VirtioDevice,
    (offset, len): (u64, usize),
    value: u64,
) -> Result<(), AccessError> {
    let index = usize::from(common.queue_select);
    let (Some(setup), Some(queue)) = (common.queues.get_mut(index), device.queues().get(index)) else {
        return Ok(());
    };
    if setup.enabled {
        return Ok(());
    }
    let addresses = &mut setup.addresses;
    let size = value as u16;
    match (offset, len) {
        (common::QUEUE_SIZE, 2) if size.is_power_of_two() && size <= queue.max_size() => {
            addresses.size = size
        }
        (common::QUEUE_DESC, 8) => addresses.descriptors = value,
        (common::QUEUE_DRIVER, 8) => addresses.driver = value,
        (common::QUEUE_DEVICE, 8) => addresses.device = value,
        (common::QUEUE_DESC..common::QUEUE_RESET, 4) if offset.is_multiple_of(4) => {
            let field = match offset & !7 {
                common::QUEUE_DESC => &mut addresses.descriptors,
                common::QUEUE_DRIVER => &mut addresses.driver,
                common::QUEUE_DEVICE => &mut addresses.device,
                _ => return Err(AccessError::NoRegister),
            };
            let shift = (offset & 4) * 8;
            *field = *field & !(0xffff_ffff << shift) | value << shift;
        }
        _ => return Err(AccessError::Width),
    }
    Ok(())
}

/// Adds the five vendor capabilities; returns where the last one, for configuration access, starts.
fn add_capabilities(config: &mut ConfigSpace) -> Result<u16, LayoutError> {
    for (kind, offset) in
        [(cap::COMMON, layout::COMMON), (cap::ISR, layout::ISR), (cap::DEVICE, layout::DEVICE)]
    {
        let length = if kind == cap::COMMON { common::SIZE as u64 } else { layout::PAGE };
        config.add_capability(CAPABILITY_VENDOR, &capability(kind, offset, length, &[]), &[])?;
    }
    let multiplier = layout::NOTIFY_MULTIPLIER.to_le_bytes();
    let notify = capability(cap::NOTIFY, layout::NOTIFY, layout::PAGE, &multiplier);
    config.add_capability(CAPABILITY_VENDOR, &notify, &[])?;
    let access = capability(cap::PCI, 0, 0, &[0; 4]);
    // Of the body the driver writes the BAR's number, then offset, length and data; length and type stay.
    let mut writable = [0xff; 18];
    for fixed in [0, 1, 3, 4, 5] {
        writable[fixed] = 0;
    }
    config.add_capability(CAPABILITY_VENDOR, &access, &writable)
}

/// The body of `struct virtio_pci_cap` after its ID and link, with `extra` behind it.
fn capability(kind: u8, offset: u64, length: u64, extra: &[u8]) -> Vec<u8> {
    let mut body = vec![16 + extra.len() as u8, kind, layout::BAR as u8, 0, 0, 0];
    body.extend((offset as u32).to_le_bytes());
    body.extend((length as u32).to_le_bytes());
    body.extend(extra);
    body
}

impl PciFunction for VirtioPci {
    fn attach(&self, attachment: Attachment) {
        self.signals.attach(&attachment);
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        if self.in_access_data(offset, data.len())
            && let Some((at, len)) = self.access_window()
        {
            let mut window = [0; 4];
            let (now, _) = window.split_at_mut(len);
            if self.bar_read(layout::BAR, at, now).is_ok() {
                lock(&self.config).write(self.access_capability + cap::DATA, &window);
            }
        }
        lock(&self.config).read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let (control, command) = {
            let mut config = lock(&self.config);
            config.write(offset, data);
            (config.read_u16(self.msix_capability + 2), config.command())
        };
        self.signals.msix.set_control(control, command);
        self.signals.update_wiring(command & command::INTX_DISABLE != 0);
        self.gate_memory_access(command & command::BUS_MASTER != 0);
        if self.in_access_data(offset, data.len())
            && let Some((at, len)) = self.access_window()
        {
            let mut window = [0; 4];
            lock(&self.config).read(self.access_capability + cap::DATA, &mut window);
            let (now, _) = window.split_at(len);
            if let Err(error) = self.bar_write(layout::BAR, at, now) {
                tracing::debug!(at, len, %error, "configuration access to nothing");
            }
        }
    }

    fn bar(&self, index: usize) -> Option<Range<Gpa>> {
        lock(&self.config).bar(index)
    }

    fn bar_read(&self, _: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let within = offset % layout::PAGE;
        match offset - within {
            layout::COMMON => self.read_common(within, data),
            layout::ISR if within == 0 => read_window(&[self.signals.take_isr()], 0, data),
            layout::DEVICE => self.device.read_config(within, data),
            layout::NOTIFY => data.fill(0),
            layout::MSIX_TABLE => return self.signals.msix.table_read(within, data),
            layout::MSIX_PENDING => return self.signals.msix.pending_read(within, data),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn bar_write(&self, _: usize, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let within = offset % layout::PAGE;
        match offset - within {
            layout::COMMON => return self.write_common(within, data),
            layout::DEVICE => self.device.write_config(within, data),
            layout::NOTIFY => self.notify(within),
            layout::MSIX_TABLE => return self.signals.msix.table_write(within, data),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn outline(&self) -> String {
        self.device.outline()
    }

    fn hold(&self) {
        self.device.queues().iter().for_each(|queue| queue.hold());
    }

    fn drain(&self, deadline: Instant) -> Result<(), StateError> {
        self.drain_queues(deadline)
    }

    fn save(&self) -> Result<Encoded, StateError> {
        self.save_state()
    }

    fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        self.restore_state(state)
    }

    fn proceed(&self, restored: bool) {
        self.go_on(restored);
    }
}
