//! What the commands map: devices, their events, and collections.
//!
//! The guest gives the ITS memory for this, in a format that is the ITS's own affair. The maps are kept in the host's
//! memory instead, where a guest cannot corrupt them and a translation reads no guest memory. They accept only what
//! the guest gave table space for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tearless_arm64::gic::{LPI_BASE, gits};
use tearless_memory::{Gpa, GuestMemory};
use tearless_state::StateError;

use super::{
    command::{Command, EventId},
    port::Port,
};
use crate::gic::lpi;

/// Bits of device, event and collection numbers.
pub const ID_BITS: u32 = 16;
/// Size of an entry of every table, as the ITS tells the guest. In bytes.
pub const ENTRY_SIZE: u64 = 8;
/// The most events mapped at a time: there are fewer LPIs than this, and several events on one LPI are of no use.
/// Bounds the host memory that a guest can make this take to a few MiB.
const MAX_EVENTS: usize = 1 << ID_BITS;

/// Why a command was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("not a command")]
    Unknown,
    #[error("device number out of the table's range")]
    Device,
    #[error("collection number out of the table's range")]
    Collection,
    #[error("device not mapped")]
    DeviceUnmapped,
    #[error("collection not mapped")]
    CollectionUnmapped,
    #[error("event not mapped")]
    EventUnmapped,
    #[error("event number out of the device's range")]
    Event,
    #[error("not an LPI")]
    Lpi,
    #[error("no such redistributor")]
    Target,
    #[error("too many events mapped")]
    TooMany,
}

/// A table as a `GITS_BASER` describes it.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub u64);

impl Default for Table {
    /// Pages of 64 KiB, as with QEMU and KVM: some software takes the reset value for the only page size.
    fn default() -> Self {
        Self(2 << gits::BASER_PAGE_SHIFT)
    }
}

impl Table {
    /// Whether the guest gave memory for entry `id`.
    fn covers(self, id: u32, memory: &GuestMemory) -> bool {
        if self.0 & gits::VALID == 0 || id >> ID_BITS != 0 {
            return false;
        }
        let page: u64 = match self.0 >> gits::BASER_PAGE_SHIFT & 3 {
            0 => 0x1000,
            1 => 0x4000,
            _ => 0x1_0000,
        };
        let len = ((self.0 & gits::SIZE_MASK) + 1) * page;
        if self.0 & gits::BASER_INDIRECT == 0 {
            return u64::from(id) * ENTRY_SIZE < len;
        }
        let offset = u64::from(id) / (page / ENTRY_SIZE) * 8;
        let mut entry = [0; 8];
        offset < len
            && self.address(page).checked_add(offset).is_some_and(|gpa| memory.read(gpa, &mut entry).is_ok())
            && u64::from_le_bytes(entry) & gits::VALID != 0
    }

    fn address(self, page: u64) -> Gpa {
        let address = self.0 & gits::BASER_ADDRESS;
        if page == 0x1_0000 { Gpa(address & !0xf000 | (address & 0xf000) << 36) } else { Gpa(address) }
    }
}

#[derive(Clone, Debug)]
struct Device {
    event_bits: u32,
    events: BTreeMap<u32, Event>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    lpi: u32,
    collection: u16,
}

/// The maps.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Where the guest wants the devices.
    pub device_table: Table,
    /// Where the guest wants the collections.
    pub collection_table: Table,
    devices: BTreeMap<u32, Device>,
    collections: BTreeMap<u16, usize>,
    events: usize,
}

/// The maps as a saved VM has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedTables {
    device_table: u64,
    collection_table: u64,
    devices: Vec<SavedDevice>,
    /// Number and vCPU.
    collections: Vec<(u16, usize)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedDevice {
    id: u32,
    event_bits: u32,
    /// Number, LPI, collection.
    events: Vec<(u32, u32, u16)>,
}

impl Tables {
    /// For a saved VM.
    pub fn save(&self) -> SavedTables {
        let events = |device: &Device| device.events.iter().map(|(&n, e)| (n, e.lpi, e.collection)).collect();
        let devices = self.devices.iter();
        SavedTables {
            device_table: self.device_table.0,
            collection_table: self.collection_table.0,
            devices: devices
                .map(|(&id, device)| SavedDevice {
                    id,
                    event_bits: device.event_bits,
                    events: events(device),
                })
                .collect(),
            collections: self.collections.iter().map(|(&id, &vcpu)| (id, vcpu)).collect(),
        }
    }

    /// What was saved, of a machine with `vcpus` vCPUs, within the bounds that commands are held to.
    ///
    /// # Errors
    /// [`StateError::Malformed`] for what is outside of them.
    pub fn restored(saved: &SavedTables, vcpus: usize) -> Result<Self, StateError> {
        let events: usize = saved.devices.iter().map(|device| device.events.len()).sum();
        let device_fits = |device: &SavedDevice| {
            let event_fits = |&(n, lpi, _): &(u32, u32, u16)| {
                u64::from(n) >> device.event_bits == 0 && (LPI_BASE..1 << lpi::ID_BITS).contains(&lpi)
            };
            device.id >> ID_BITS == 0
                && (1..=ID_BITS).contains(&device.event_bits)
                && device.events.iter().all(event_fits)
        };
        let targets_exist = saved.collections.iter().all(|(_, vcpu)| *vcpu < vcpus);
        if events > MAX_EVENTS || !saved.devices.iter().all(device_fits) || !targets_exist {
            return Err(StateError::malformed("the ITS maps what it cannot map"));
        }
        let device = |saved: &SavedDevice| {
            let event = |&(n, lpi, collection): &(u32, u32, u16)| (n, Event { lpi, collection });
            let events = saved.events.iter().map(event).collect();
            (saved.id, Device { event_bits: saved.event_bits, events })
        };
        let devices: BTreeMap<_, _> = saved.devices.iter().map(device).collect();
        Ok(Self {
            device_table: Table(saved.device_table & gits::BASER_MASK),
            collection_table: Table(saved.collection_table & gits::BASER_MASK),
            events: devices.values().map(|device| device.events.len()).sum(),
            devices,
            collections: saved.collections.iter().copied().collect(),
        })
    }

    /// Forgets the devices: their table is another one now.
    pub fn clear_devices(&mut self) {
        self.devices.clear();
        self.events = 0;
    }

    /// Forgets the collections: their table is another one now.
    pub fn clear_collections(&mut self) {
        self.collections.clear();
    }

    /// The vCPU and the LPI for an event.
    ///
    /// # Errors
    /// When something on the way is not mapped.
    pub fn translate(&self, id: EventId) -> Result<(usize, u32), Fault> {
        let event = self.event(id)?;
        Ok((self.collection(event.collection)?, event.lpi))
    }

    fn event(&self, id: EventId) -> Result<Event, Fault> {
        let device = self.devices.get(&id.device).ok_or(Fault::DeviceUnmapped)?;
        device.events.get(&id.event).copied().ok_or(Fault::EventUnmapped)
    }

    fn collection(&self, collection: u16) -> Result<usize, Fault> {
        self.collections.get(&collection).copied().ok_or(Fault::CollectionUnmapped)
    }

    /// Executes one command.
    ///
    /// # Errors
    /// When it names what is not there; it has had no effect then.
    pub fn execute(&mut self, command: Command, port: &mut Port) -> Result<(), Fault> {
        match command {
            Command::MapDevice { device, event_bits } => self.map_device(device, event_bits, port)?,
            Command::MapCollection { collection, target } => self.map_collection(collection, target, port)?,
            Command::MapEvent { id, lpi, collection } => {
                self.map_event(id, Event { lpi, collection }, port)?
            }
            Command::Move { id, collection } => self.move_event(id, collection, port)?,
            Command::MoveAll { from, to } => {
                port.move_all(port.vcpu(from).ok_or(Fault::Target)?, port.vcpu(to).ok_or(Fault::Target)?);
            }
            Command::Invalidate { id } => {
                let (vcpu, lpi) = self.translate(id)?;
                port.reload(vcpu, lpi);
            }
            Command::InvalidateAll { collection } => port.reload_all(self.collection(collection)?),
            Command::Set { id } => {
                let (vcpu, lpi) = self.translate(id)?;
                port.set(vcpu, lpi);
            }
            Command::Clear { id } => {
                let (vcpu, lpi) = self.translate(id)?;
                port.clear(vcpu, lpi);
            }
            Command::Discard { id } => self.discard(id, port)?,
            Command::Sync => {}
        }
        Ok(())
    }

    fn map_device(&mut self, device: u32, event_bits: Option<u32>, port: &Port) -> Result<(), Fault> {
        if !self.device_table.covers(device, port.memory()) {
            return Err(Fault::Device);
        }
        if event_bits.is_some_and(|bits| bits > ID_BITS) {
            return Err(Fault::Event);
        }
        let old = match event_bits {
            Some(event_bits) => self.devices.insert(device, Device { event_bits, events: BTreeMap::new() }),
            None => self.devices.remove(&device),
        };
        self.events -= old.map_or(0, |device| device.events.len());
        Ok(())
    }

    fn map_collection(&mut self, collection: u16, target: Option<u32>, port: &Port) -> Result<(), Fault> {
        if !self.collection_table.covers(collection.into(), port.memory()) {
            return Err(Fault::Collection);
        }
        match target {
            Some(target) => {
                let vcpu = port.vcpu(target).ok_or(Fault::Target)?;
                self.collections.insert(collection, vcpu);
            }
            None => _ = self.collections.remove(&collection),
        }
        Ok(())
    }

    fn map_event(&mut self, id: EventId, event: Event, port: &mut Port) -> Result<(), Fault> {
        if !(LPI_BASE..1 << lpi::ID_BITS).contains(&event.lpi) {
            return Err(Fault::Lpi);
        }
        if !self.collection_table.covers(event.collection.into(), port.memory()) {
            return Err(Fault::Collection);
        }
        let device = self.devices.get_mut(&id.device).ok_or(Fault::DeviceUnmapped)?;
        if u64::from(id.event) >> device.event_bits != 0 {
            return Err(Fault::Event);
        }
        if self.events >= MAX_EVENTS && !device.events.contains_key(&id.event) {
            return Err(Fault::TooMany);
        }
        if device.events.insert(id.event, event).is_none() {
            self.events += 1;
        }
        if let Ok(vcpu) = self.collection(event.collection) {
            port.reload(vcpu, event.lpi);
        }
        Ok(())
    }

    fn move_event(&mut self, id: EventId, collection: u16, port: &mut Port) -> Result<(), Fault> {
        let (from, lpi) = self.translate(id)?;
        let to = self.collection(collection)?;
        let device = self.devices.get_mut(&id.device).ok_or(Fault::DeviceUnmapped)?;
        if let Some(event) = device.events.get_mut(&id.event) {
            event.collection = collection;
        }
        if from != to && port.clear(from, lpi) {
            port.set(to, lpi);
        }
        Ok(())
    }

    fn discard(&mut self, id: EventId, port: &mut Port) -> Result<(), Fault> {
        let event = self.event(id)?;
        if let Ok(vcpu) = self.collection(event.collection) {
            port.clear(vcpu, event.lpi);
        }
        if let Some(device) = self.devices.get_mut(&id.device)
            && device.events.remove(&id.event).is_some()
        {
            self.events -= 1;
        }
        Ok(())
    }
}
