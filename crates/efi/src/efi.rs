//! The state of it all, and the tables that the guest finds it by.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

use tearless_bus::MmioDevice;
use tearless_display::{Input, Screen};
use tearless_memory::{Gpa, GuestMemory};

use crate::{
    Error, Kernel, Setup,
    abi::{Guid, OUT_OF_RESOURCES, Status, guid, memory_type as kind},
    boot::{LoadedImage, Pools},
    boot_manager::Queue,
    call::Pending,
    console::Console,
    events::Events,
    glass::{self, Glass},
    guest::{Guest, utf16},
    handles::Handles,
    keyboard::Keyboard,
    pages::{PAGE, PageMap, Where},
    protocol::Objects,
    runtime::Stage,
    service::{self, Group},
    smbios,
    stub::{self, doorbell, place},
    variables::Variables,
};

/// Version 2.10 of the specification.
const REVISION: u32 = 2 << 16 | 100;
const VENDOR: &str = "Tearless";
const FIRMWARE_REVISION: u32 = 1;
/// The stack of programs (the specification wants 128 KiB).
const STACK: u64 = 256 << 10;
/// Structures for the guest come from pieces of this size.
const ARENA: u64 = 64 << 10;

/// Where tables are, from [`place::TABLES`] on.
mod table {
    pub const SYSTEM: u64 = 0;
    pub const SYSTEM_SIZE: usize = 120;
    pub const RUNTIME: u64 = 0x80;
    pub const BOOT: u64 = 0x200;
    pub const VENDOR: u64 = 0x400;
    pub const RT_PROPERTIES: u64 = 0x440;
    pub const CONFIGURATION: u64 = 0x800;
    /// As many as fit.
    pub const MAX_CONFIGURATION: usize = 64;
    pub const SYSTEM_SIGNATURE: u64 = 0x5453_5953_2049_4249;
    pub const BOOT_SIGNATURE: u64 = 0x5652_4553_544f_4f42;
    pub const RUNTIME_SIGNATURE: u64 = 0x5652_4553_544e_5552;
}

/// Configuration tables that there may be.
pub(crate) const MAX_TABLES: usize = table::MAX_CONFIGURATION;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Boot,
    /// The OS takes over: functions of its events still run.
    Leaving,
    /// The OS has taken over: only runtime services are left.
    Runtime,
}

/// All that the host keeps for a guest with EFI.
pub(crate) struct Efi {
    pub guest: Guest,
    pub pages: PageMap,
    pub pools: Pools,
    pub handles: Handles,
    pub events: Events,
    pub images: BTreeMap<u64, LoadedImage>,
    pub objects: Objects,
    pub console: Console,
    pub variables: Arc<Variables>,
    /// Of a machine that goes on from a saved state: where its frame buffer is shown.
    pub screen: Option<Arc<Screen>>,
    pub tables: Vec<(Guid, u64)>,
    pub pending: Vec<Pending>,
    pub queue: Queue,
    pub tpl: u64,
    pub phase: Phase,
    pub count: u64,
    pub watchdog: Option<Instant>,
    /// Where the caller of the image that runs wants to have its last words.
    pub exit_data: (u64, u64),
    /// The region for the OS's calls.
    base: u64,
    /// The doorbell, as the guest has mapped it.
    doorbell: u64,
    arena: Range<u64>,
    consoles: [(u64, u64); 2],
    /// Where the OS has mapped the region for its calls.
    pub runtime_base: u64,
    pub stage: Stage,
    /// Address, fault address and syndrome of an exception.
    fault: [u64; 3],
    /// Why the machine is to be switched off.
    pub failure: Option<Error>,
}

/// The first instruction's address is in `Ok`.
pub(crate) fn build(setup: Setup) -> Result<(Efi, Gpa), Error> {
    let Setup { memory, ram, doorbell, serial, device_tree, disks, variables, identity, display, kernel } =
        setup;
    let no_room = |_| Error::NoRoom;
    variables.begin_boot();
    let mut efi = Efi::new(memory, (ram.clone(), doorbell), serial, variables);
    // Whole pages of 64 KiB: an OS with such pages maps it with one protection.
    let base = efi.pages.allocate(Where::Anywhere, place::SIZE / PAGE, 0x1_0000, kind::RUNTIME_CODE);
    let base = base.map_err(no_room)?;
    (efi.base, efi.runtime_base) = (base, base);
    efi.fill(&ram, &device_tree, &identity).map_err(no_room)?;
    if let Some((screen, input)) = display {
        efi.add_glass(screen, &input)?;
    }
    efi.add_consoles().map_err(no_room)?;
    efi.add_graphics().map_err(no_room)?;
    efi.add_rng().map_err(no_room)?;
    efi.add_path_to_text().map_err(no_room)?;
    for (disk, slot) in disks {
        efi.add_disk(disk, slot).map_err(no_room)?;
    }
    if let Some(Kernel { program, initrd, cmdline }) = kernel {
        if !initrd.is_empty() {
            efi.add_initrd(initrd).map_err(no_room)?;
        }
        efi.boot_first(program, &cmdline);
    }
    efi.write_tables().map_err(no_room)?;
    Ok((efi, Gpa(base)))
}

impl Efi {
    /// A frame buffer for the screen.
    fn add_glass(&mut self, screen: Arc<Screen>, input: &Input) -> Result<(), Error> {
        let modes = glass::modes(&screen);
        let bytes = glass::bytes(&modes).next_multiple_of(0x1_0000);
        // Reserved: the OS leaves it to whatever shows pictures before the screen's driver does.
        let base = self.pages.allocate(Where::Anywhere, bytes / PAGE, 0x1_0000, kind::RESERVED);
        let base = base.map_err(|_| Error::NoRoom)?;
        let glass = Glass::new(self.guest.clone(), base, modes, screen).map_err(|_| Error::NoThread)?;
        self.console.glass = Some(glass);
        self.console.keyboard = Some(Keyboard::plug(input));
        Ok(())
    }

    /// EFI that has put nothing into the guest's memory yet.
    pub fn new(
        memory: GuestMemory,
        (ram, doorbell): (Range<Gpa>, Range<Gpa>),
        serial: Arc<dyn MmioDevice>,
        variables: Arc<Variables>,
    ) -> Self {
        Self {
            guest: Guest::new(memory),
            pages: PageMap::new(ram.start.0..ram.end.0, doorbell.start.0..doorbell.end.0),
            pools: Pools::default(),
            handles: Handles::default(),
            events: Events::default(),
            images: BTreeMap::new(),
            objects: Objects::default(),
            console: Console::new(serial),
            variables,
            screen: None,
            tables: Vec::new(),
            pending: Vec::new(),
            queue: Queue::default(),
            tpl: crate::boot::TPL_APPLICATION,
            phase: Phase::Boot,
            count: 0,
            watchdog: None,
            exit_data: (0, 0),
            base: 0,
            doorbell: doorbell.start.0,
            arena: 0..0,
            consoles: [(0, 0); 2],
            runtime_base: 0,
            stage: Stage::Idle,
            fault: [0; 3],
            failure: None,
        }
    }

    /// The OS had taken over, when the VM was saved, with the region for its calls at `base`.
    pub fn take_over(&mut self, base: u64, tables: Vec<(Guid, u64)>) {
        (self.base, self.tables, self.phase) = (base, tables, Phase::Runtime);
    }

    /// Code, page tables, and the tables that the OS reads.
    fn fill(
        &mut self,
        ram: &Range<Gpa>,
        device_tree: &[u8],
        identity: &smbios::Identity,
    ) -> Result<(), Status> {
        let base = self.base;
        self.guest.write(base, &stub::image(service::COUNT, service::is_runtime))?;
        let stack = self.pages.allocate(Where::Anywhere, STACK / PAGE, PAGE, kind::BOOT_DATA)?;
        let root = self.pages.allocate(Where::Anywhere, 1, PAGE, kind::BOOT_DATA)?;
        self.guest.write(root, &identity_map(ram))?;
        for (at, value) in [
            (place::DOORBELL, self.doorbell),
            (place::STACK, stack + STACK),
            (place::TTBR, root),
            (place::MAIR, MAIR),
            (place::TCR, TCR),
        ] {
            self.guest.put_u64(base + at, value)?;
        }
        self.guest.write(base + place::TABLES + table::VENDOR, &utf16(VENDOR))?;
        // Version 1, 8 bytes, and what works once the OS has taken over.
        let properties = [1u16.to_le_bytes(), 8u16.to_le_bytes()].concat();
        let properties = [&properties[..], &crate::runtime::SUPPORTED.to_le_bytes()].concat();
        self.guest.write(base + place::TABLES + table::RT_PROPERTIES, &properties)?;
        self.tables.push((guid::RT_PROPERTIES, base + place::TABLES + table::RT_PROPERTIES));
        let tree = self.keep(kind::ACPI_RECLAIM, device_tree)?;
        self.tables.push((guid::DEVICE_TREE, tree));
        let at = self.keep(kind::RUNTIME_DATA, &[0; PAGE as usize])?;
        let bytes = smbios::tables(identity, at);
        self.guest.write(at, bytes.get(..PAGE as usize).unwrap_or(&bytes))?;
        self.tables.push((guid::SMBIOS3, at));
        Ok(())
    }

    /// Bytes in pages of their own.
    fn keep(&mut self, kind: u32, bytes: &[u8]) -> Result<u64, Status> {
        let pages = (bytes.len() as u64).div_ceil(PAGE).max(1);
        let at = self.pages.allocate(Where::Anywhere, pages, PAGE, kind)?;
        self.guest.write(at, bytes)?;
        Ok(at)
    }

    /// Bytes for the guest that stay until the OS takes over.
    pub fn place(&mut self, bytes: &[u8]) -> Result<u64, Status> {
        let len = (bytes.len() as u64).next_multiple_of(16);
        if self.arena.end - self.arena.start < len {
            let size = len.max(ARENA);
            let start = self.pages.allocate(Where::Anywhere, size.div_ceil(PAGE), PAGE, kind::BOOT_DATA)?;
            self.arena = start..start + size;
        }
        let at = self.arena.start;
        self.arena.start += len;
        self.guest.write(at, bytes)?;
        Ok(at)
    }

    /// The address of a group's entry `index`.
    fn entry(&self, group: Group, index: u16) -> u64 {
        self.base + stub::entry(service::number(group, index))
    }

    /// The entries of a group, as they are in a protocol.
    pub fn entries(&self, group: Group) -> Vec<u64> {
        (0..service::len(group)).map(|index| self.entry(group, index)).collect()
    }

    /// An interface: words, then the entries of a group.
    pub fn interface(&mut self, head: &[u64], group: Group, tail: &[u64]) -> Result<u64, Status> {
        let words = [head, &self.entries(group), tail].concat();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.place(&bytes)
    }

    pub fn system_table(&self) -> u64 {
        self.base + place::TABLES + table::SYSTEM
    }

    /// The runtime region.
    pub fn runtime(&self) -> Range<u64> {
        self.base..self.base + place::SIZE
    }

    pub fn doorbell(&self) -> u64 {
        self.doorbell
    }

    /// The consoles for input and for output: handle and interface.
    pub fn set_consoles(&mut self, consoles: [(u64, u64); 2]) {
        self.consoles = consoles;
    }

    /// Writes the system table and all that it leads to.
    pub fn write_tables(&mut self) -> Result<(), Status> {
        if self.tables.len() > table::MAX_CONFIGURATION {
            self.tables.truncate(table::MAX_CONFIGURATION);
            return Err(OUT_OF_RESOURCES);
        }
        let at = self.base + place::TABLES;
        let list: Vec<u8> = self
            .tables
            .iter()
            .flat_map(|(guid, table)| [&guid.0[..], &table.to_le_bytes()].concat())
            .collect();
        self.guest.write(at + table::CONFIGURATION, &list)?;
        let words = |group| self.entries(group).iter().flat_map(|e| e.to_le_bytes()).collect::<Vec<u8>>();
        let (boot, runtime) = (words(Group::Boot), words(Group::Runtime));
        self.put_table(at + table::BOOT, table::BOOT_SIGNATURE, &boot)?;
        self.put_table(at + table::RUNTIME, table::RUNTIME_SIGNATURE, &runtime)?;
        self.put_system_table([self.consoles[0], self.consoles[1]], at + table::BOOT)
    }

    fn put_system_table(&self, [input, output]: [(u64, u64); 2], boot: u64) -> Result<(), Status> {
        let at = self.base + place::TABLES;
        let words = [
            at + table::VENDOR,
            FIRMWARE_REVISION.into(),
            input.0,
            input.1,
            output.0,
            output.1,
            output.0,
            output.1,
            at + table::RUNTIME,
            boot,
            self.tables.len() as u64,
            at + table::CONFIGURATION,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        debug_assert_eq!(bytes.len() + 24, table::SYSTEM_SIZE);
        self.put_table(at + table::SYSTEM, table::SYSTEM_SIGNATURE, &bytes)
    }

    /// Writes a table with its header and checksum (4.2).
    fn put_table(&self, at: u64, signature: u64, content: &[u8]) -> Result<(), Status> {
        let len = content.len() as u32 + 24;
        let header =
            [&signature.to_le_bytes()[..], &REVISION.to_le_bytes(), &len.to_le_bytes(), &[0; 8]].concat();
        let mut bytes = [&header, content].concat();
        let crc = crc32fast::hash(&bytes).to_le_bytes();
        bytes.iter_mut().skip(16).zip(crc).for_each(|(to, from)| *to = from);
        self.guest.write(at, &bytes)
    }

    /// What only boot services had is gone from the system table.
    pub fn forget_boot_services(&mut self) -> Result<(), Status> {
        self.put_system_table([(0, 0); 2], 0)?;
        // The screen stays: the OS may paint as loaders did. What is typed is not for us any more.
        self.console.keyboard = None;
        self.handles = Handles::default();
        self.objects = Objects::default();
        self.images.clear();
        Ok(())
    }

    /// An exception in a loader, one register after the other: the last makes a message of them. The guest then powers off.
    pub fn exception(&mut self, offset: u64, value: u64) {
        let index = (offset.saturating_sub(doorbell::ELR) / 8) as usize;
        if let Some(slot) = self.fault.get_mut(index) {
            *slot = value;
        }
        if offset == doorbell::ESR {
            let [at, address, syndrome] = self.fault;
            self.fail("the boot loader crashed", Error::Crashed { syndrome, at, address });
        }
    }

    /// The machine is to be switched off, and its user told why; whoever looks at the guest's console sees `what`.
    pub fn fail(&mut self, what: &str, failure: Error) {
        self.console.show(&format!("\r\n{what}\r\n"));
        self.failure = Some(failure);
    }

    /// The OS has given the runtime region and the doorbell other addresses: `moved` says which.
    pub fn relocate(&mut self, moved: impl Fn(u64) -> Option<u64>) -> Result<(), Status> {
        let at = self.base + place::TABLES;
        let new = |address: u64| moved(address).unwrap_or(address);
        let entries: Vec<u8> =
            self.entries(Group::Runtime).into_iter().flat_map(|e| new(e).to_le_bytes()).collect();
        self.put_table(at + table::RUNTIME, table::RUNTIME_SIGNATURE, &entries)?;
        let (runtime, tables) = (new(at + table::RUNTIME), new(at + table::CONFIGURATION));
        let words = [new(at + table::VENDOR), FIRMWARE_REVISION.into(), 0, 0, 0, 0, 0, 0, runtime, 0];
        let words = words.into_iter().chain([self.tables.len() as u64, tables]);
        let bytes: Vec<u8> = words.flat_map(|word: u64| word.to_le_bytes()).collect();
        self.put_table(at + table::SYSTEM, table::SYSTEM_SIGNATURE, &bytes)?;
        self.guest.put_u64(self.base + place::DOORBELL, new(self.doorbell))
    }
}

/// Normal memory (write-back) at index 0, devices (nGnRnE) at index 1.
const MAIR: u64 = 0xff;
/// 39 bits of address by TTBR0, 4 KiB pages, tables in write-back memory, 40 bits of physical address; no TTBR1.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32 | 25 << 16 | 2 << 30;

/// Blocks of 1 GiB: RAM as memory, all else as devices.
fn identity_map(ram: &Range<Gpa>) -> Vec<u8> {
    const GIB: u64 = 1 << 30;
    const BLOCK: u64 = 1;
    const ACCESSED: u64 = 1 << 10;
    const SHAREABLE: u64 = 3 << 8;
    const DEVICE: u64 = 1 << 2;
    const NEVER_EXECUTE: u64 = 3 << 53;
    let entry = |index: u64| {
        let at = index * GIB;
        let is_ram = at < ram.end.0 && at + GIB > ram.start.0;
        let attributes = if is_ram { SHAREABLE } else { DEVICE | NEVER_EXECUTE };
        at | BLOCK | ACCESSED | attributes
    };
    (0..512).flat_map(|index| entry(index).to_le_bytes()).collect()
}
