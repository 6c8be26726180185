//! What a device is to its transport.

use std::{io, sync::Arc};

use tearless_state::{Encoded, StateError};

use crate::VirtQueue;

/// Feature bits that are not a device type's own (section 6).
pub mod feature {
    /// A chain may point to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Both sides say up to which index they want no notification.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device is not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Single queues can be reset.
    pub const RING_RESET: u64 = 1 << 40;
    /// What every transport here offers besides the device's own bits.
    pub const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET;
}

/// Interrupts from a device to its driver. Called from workers, possibly with a queue's lock held.
pub trait Interrupt: Send + Sync {
    /// Queue `index` has used buffers.
    fn queue(&self, index: u16);
    /// The configuration changed: readers must see a new generation.
    fn config(&self);
    /// The device cannot go on until the driver resets it.
    fn needs_reset(&self);
}

/// What a device is.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKind {
    /// The device type (section 5).
    pub id: u16,
    /// The PCI class, `0xCCSSPP`.
    pub class: u32,
}

/// The driver is up.
pub struct Activation {
    /// What was negotiated.
    pub features: u64,
    /// The way back.
    pub interrupt: Arc<dyn Interrupt>,
}

/// A virtio device without its transport.
///
/// The transport starts the queues after [`VirtioDevice::activate`] and stops them before [`VirtioDevice::reset`]; both
/// run on a vCPU thread and must not wait for the host's files or terminals.
pub trait VirtioDevice: Send + Sync {
    /// What it is.
    fn kind(&self) -> DeviceKind;

    /// The feature bits of its type.
    fn features(&self) -> u64;

    /// The feature bits that a driver must accept (section 2.2.2); `FEATURES_OK` does not stick without them.
    fn required_features(&self) -> u64 {
        0
    }

    /// Its queues, in the order of their numbers; always the same.
    fn queues(&self) -> &[Arc<VirtQueue>];

    /// Reads the device-specific configuration; zeros where there is none.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes the device-specific configuration. Most devices have nothing to write.
    fn write_config(&self, _offset: u64, _data: &[u8]) {}

    /// The driver set `DRIVER_OK`.
    ///
    /// # Errors
    /// When the host cannot start a worker; the transport then asks the driver for a reset.
    fn activate(&self, activation: Activation) -> io::Result<()>;

    /// What it is, for people and for the outline of a saved machine: a machine goes on from a state only if each of its
    /// devices is what it was.
    fn outline(&self) -> String {
        let name = match self.kind().id {
            1 => "a network card",
            2 => "a disk",
            3 => "a console",
            4 => "a source of random numbers",
            5 => "a balloon",
            19 => "virtual sockets",
            26 => "a shared folder",
            other => return format!("a virtio device of type {other}"),
        };
        name.to_owned()
    }

    /// What a saved VM has of it besides what its transport has; called while its queues stand still. Most devices have
    /// nothing.
    ///
    /// # Errors
    /// When it cannot be told.
    fn save(&self) -> Result<Option<Encoded>, StateError> {
        Ok(None)
    }

    /// Takes a state over: after [`VirtioDevice::activate`] if the driver was up, while the queues stand still.
    ///
    /// # Errors
    /// When it is none of this device.
    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        match state {
            None => Ok(()),
            Some(_) => Err(StateError::malformed("it is of another device")),
        }
    }

    /// Whether requests that are in progress while its queues take no new ones end by themselves before long. Else nobody waits
    /// for them, and whoever goes on from the state begins them anew.
    fn ends_soon(&self) -> bool {
        true
    }

    /// Whether a request that was begun may be done a second time, by the VM that goes on from a state.
    fn may_repeat(&self) -> bool {
        true
    }

    /// The driver reset the device, or the machine did.
    fn reset(&self);
}
