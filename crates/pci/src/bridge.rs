//! The host bridge, function 00:00.0: nothing but an identity that guests look for.

use std::{ops::Range, sync::Mutex};

use tearless_bus::AccessError;
use tearless_memory::Gpa;
use tearless_state::{Encoded, StateError};

use crate::{Attachment, ConfigSpace, Identity, PciFunction, lock};

/// The identity that QEMU's generic host bridge has, so that guests treat both alike.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: 0x06_00_00,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

pub(crate) struct HostBridge {
    config: Mutex<ConfigSpace>,
}

impl HostBridge {
    pub(crate) fn new() -> Self {
        Self { config: Mutex::new(ConfigSpace::new(&IDENTITY)) }
    }
}

impl PciFunction for HostBridge {
    fn attach(&self, _: Attachment) {}

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        lock(&self.config).read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        lock(&self.config).write(offset, data);
    }

    fn bar(&self, _: usize) -> Option<Range<Gpa>> {
        None
    }

    fn bar_read(&self, _: usize, _: u64, _: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    fn bar_write(&self, _: usize, _: u64, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    fn save(&self) -> Result<Encoded, StateError> {
        Encoded::new(STATE_VERSION, &lock(&self.config).save())
    }

    fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        let bytes: Vec<u8> = state.decode(STATE_VERSION)?;
        lock(&self.config).restore(&bytes)
    }
}
