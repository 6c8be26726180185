//! Handles and protocols (UEFI 7.3).

use crate::{
    abi::{
        ACCESS_DENIED, ALREADY_STARTED, BUFFER_TOO_SMALL, Guid, INVALID_PARAMETER, NOT_FOUND, Status, guid,
        memory_type::BOOT_DATA,
    },
    call::{Args, DONE, Flow},
    device_path,
    efi::Efi,
    handles::{BY_CHILD, BY_DRIVER, EXCLUSIVE},
};

const BY_HANDLE: u32 = 1;
const GET: u32 = 2;
const TEST: u32 = 4;
/// As many as one call may install.
const MAX_PAIRS: u64 = 32;

pub(super) fn install(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    if args.get::<2>() as u32 != 0 {
        return Err(INVALID_PARAMETER);
    }
    let (slot, guid) = (args.get::<0>(), efi.guest.guid(args.get::<1>())?);
    let handle = efi.guest.u64(slot)?;
    let handle = efi.install(handle, guid, args.get::<3>())?;
    efi.guest.put_u64(slot, handle)?;
    Ok(DONE)
}

pub(super) fn reinstall(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<1>())?;
    efi.handles.reinstall(args.get::<0>(), guid, args.get::<2>(), args.get::<3>())?;
    efi.tell_watchers(guid);
    Ok(DONE)
}

pub(super) fn uninstall(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<1>())?;
    efi.handles.uninstall(args.get::<0>(), guid, args.get::<2>())?;
    Ok(DONE)
}

pub(super) fn handle_protocol(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<1>())?;
    let interface = efi.handles.protocol(args.get::<0>(), guid)?.interface;
    efi.guest.put_u64(args.get::<2>(), interface)?;
    Ok(DONE)
}

pub(super) fn open_protocol(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (handle, slot, agent, controller) =
        (args.get::<0>(), args.get::<2>(), args.get::<3>(), args.get::<4>());
    let attributes = args.get::<5>() as u32;
    let guid = efi.guest.guid(args.get::<1>())?;
    let protocol = efi.handles.protocol(handle, guid)?;
    let exclusive = |a: u32| a & (BY_DRIVER | EXCLUSIVE) != 0;
    match attributes {
        BY_HANDLE | GET | TEST => {}
        BY_CHILD | BY_DRIVER | EXCLUSIVE => {}
        both if both == BY_DRIVER | EXCLUSIVE => {}
        _ => return Err(INVALID_PARAMETER),
    }
    if let Some(open) = protocol.opens.iter().find(|open| exclusive(open.attributes) && exclusive(attributes))
    {
        let same = open.agent == agent && open.controller == controller && open.attributes == attributes;
        return Err(if same { ALREADY_STARTED } else { ACCESS_DENIED });
    }
    let interface = protocol.interface;
    protocol.open(agent, controller, attributes)?;
    if attributes != TEST {
        efi.guest.put_u64(slot, interface)?;
    }
    Ok(DONE)
}

pub(super) fn close_protocol(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<1>())?;
    let protocol = efi.handles.protocol(args.get::<0>(), guid)?;
    let before = protocol.opens.len();
    protocol.opens.retain(|open| open.agent != args.get::<2>() || open.controller != args.get::<3>());
    if protocol.opens.len() == before { Err(NOT_FOUND) } else { Ok(DONE) }
}

pub(super) fn open_protocol_information(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<1>())?;
    let opens = efi.handles.protocol(args.get::<0>(), guid)?.opens.clone();
    let words = |open: &crate::handles::Open| {
        [open.agent, open.controller, u64::from(open.attributes) | u64::from(open.count) << 32]
    };
    let bytes: Vec<u8> = opens.iter().flat_map(words).flat_map(u64::to_le_bytes).collect();
    give(efi, &bytes, opens.len(), (args.get::<3>(), args.get::<2>()))
}

/// Gives the guest a buffer of its own with `bytes`, and their number.
fn give(efi: &mut Efi, bytes: &[u8], count: usize, (counter, slot): (u64, u64)) -> Result<Flow, Status> {
    efi.guest.check(counter, 8)?;
    efi.guest.check(slot, 8)?;
    let buffer = efi.pool_with(BOOT_DATA, bytes)?;
    efi.guest.put_u64(counter, count as u64)?;
    efi.guest.put_u64(slot, buffer)?;
    Ok(DONE)
}

pub(super) fn protocols_per_handle(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guids: Vec<Guid> = efi.handles.protocols(args.get::<0>())?.iter().map(|p| p.guid).collect();
    // The list is of pointers to GUIDs; the GUIDs follow it.
    let buffer = efi.allocate_pool(BOOT_DATA, guids.len() as u64 * 24)?;
    let first = buffer + 8 * guids.len() as u64;
    for (index, guid) in (0..).zip(&guids) {
        efi.guest.put_u64(buffer + 8 * index, first + 16 * index)?;
        efi.guest.write(first + 16 * index, &guid.0)?;
    }
    efi.guest.put_u64(args.get::<1>(), buffer)?;
    efi.guest.put_u64(args.get::<2>(), guids.len() as u64)?;
    Ok(DONE)
}

/// The handles that a search finds: all, those with a protocol, or what is news to a registration.
fn search(efi: &mut Efi, kind: u32, protocol: u64, key: u64) -> Result<Vec<u64>, Status> {
    let found = match kind {
        0 => efi.handles.with(None),
        1 => vec![efi.handles.news(key)?],
        2 => {
            let guid = efi.guest.guid(protocol)?;
            efi.handles.with(Some(guid))
        }
        _ => return Err(INVALID_PARAMETER),
    };
    if found.is_empty() { Err(NOT_FOUND) } else { Ok(found) }
}

fn bytes_of(handles: &[u64]) -> Vec<u8> {
    handles.iter().flat_map(|handle| handle.to_le_bytes()).collect()
}

pub(super) fn locate_handle(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let found = bytes_of(&search(efi, args.get::<0>() as u32, args.get::<1>(), args.get::<2>())?);
    let room = efi.guest.u64(args.get::<3>())?;
    efi.guest.put_u64(args.get::<3>(), found.len() as u64)?;
    if room < found.len() as u64 {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(args.get::<4>(), &found)?;
    Ok(DONE)
}

pub(super) fn locate_handle_buffer(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let found = search(efi, args.get::<0>() as u32, args.get::<1>(), args.get::<2>())?;
    give(efi, &bytes_of(&found), found.len(), (args.get::<3>(), args.get::<4>()))
}

pub(super) fn locate_protocol(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<0>())?;
    let handle = match args.get::<1>() {
        0 => efi.handles.with(Some(guid)).first().copied().ok_or(NOT_FOUND),
        key => efi.handles.news(key),
    };
    let interface = handle.and_then(|handle| efi.handles.interface(handle, guid).ok_or(NOT_FOUND));
    efi.guest.put_u64(args.get::<2>(), interface.unwrap_or(0))?;
    interface.map(|_| DONE)
}

pub(super) fn locate_device_path(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<0>())?;
    let at = efi.guest.u64(args.get::<1>())?;
    let path = device_path::read(&efi.guest, at)?;
    let (handle, used) = efi.nearest(guid, &path).ok_or(NOT_FOUND)?;
    efi.guest.put_u64(args.get::<1>(), at + used as u64)?;
    efi.guest.put_u64(args.get::<2>(), handle)?;
    Ok(DONE)
}

pub(super) fn register_notify(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<0>())?;
    efi.events.get(args.get::<1>())?;
    efi.guest.check(args.get::<2>(), 8)?;
    let key = efi.handles.watch(guid, args.get::<1>())?;
    efi.guest.put_u64(args.get::<2>(), key)?;
    Ok(DONE)
}

/// All that our devices need is connected from the start.
pub(super) fn connect_controller(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.handles.protocols(args.get::<0>())?;
    Ok(DONE)
}

/// Our devices have no drivers of the guest's kind, so there is nothing that could be taken off them.
pub(super) fn disconnect_controller(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.handles.protocols(args.get::<0>())?;
    Ok(DONE)
}

/// The pairs of GUID and interface from argument 1 on, up to a null pointer.
fn pairs(efi: &Efi, args: &Args) -> Result<Vec<(Guid, u64)>, Status> {
    let mut pairs = Vec::new();
    for n in (1..1 + 2 * MAX_PAIRS).step_by(2) {
        match args.nth(&efi.guest, n)? {
            0 => return Ok(pairs),
            guid => pairs.push((efi.guest.guid(guid)?, args.nth(&efi.guest, n + 1)?)),
        }
    }
    Err(INVALID_PARAMETER)
}

pub(super) fn install_multiple(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (slot, pairs) = (args.get::<0>(), pairs(efi, args)?);
    let before = efi.guest.u64(slot)?;
    let mut handle = before;
    for (index, (guid, interface)) in pairs.iter().enumerate() {
        if *guid == guid::DEVICE_PATH && efi.has_device_path(*interface)? {
            undo(efi, handle, pairs.get(..index).unwrap_or_default());
            return Err(ALREADY_STARTED);
        }
        match efi.install(handle, *guid, *interface) {
            Ok(installed) => handle = installed,
            Err(status) => {
                undo(efi, handle, pairs.get(..index).unwrap_or_default());
                return Err(status);
            }
        }
    }
    efi.guest.put_u64(slot, handle)?;
    Ok(DONE)
}

/// All or nothing: takes back what was installed.
fn undo(efi: &mut Efi, handle: u64, pairs: &[(Guid, u64)]) {
    for (guid, interface) in pairs {
        // It was installed a moment ago, and nobody has had time to open it.
        let _ = efi.handles.uninstall(handle, *guid, *interface);
    }
}

pub(super) fn uninstall_multiple(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (handle, pairs) = (args.get::<0>(), pairs(efi, args)?);
    for (guid, interface) in &pairs {
        let found = efi.handles.protocol(handle, *guid).map_err(|_| INVALID_PARAMETER)?;
        let used = found.opens.iter().any(|open| open.attributes & (BY_CHILD | BY_DRIVER) != 0);
        if found.interface != *interface || used {
            return Err(INVALID_PARAMETER);
        }
    }
    for (guid, interface) in pairs {
        efi.handles.uninstall(handle, guid, interface).map_err(|_| INVALID_PARAMETER)?;
    }
    Ok(DONE)
}

impl Efi {
    pub fn install(&mut self, handle: u64, guid: Guid, interface: u64) -> Result<u64, Status> {
        let handle = self.handles.install(handle, guid, interface)?;
        self.tell_watchers(guid);
        Ok(handle)
    }

    fn tell_watchers(&mut self, guid: Guid) {
        for event in self.handles.watchers(guid) {
            // An event that is closed meanwhile has nobody to tell.
            let _ = self.events.signal(event);
        }
    }

    /// The handle with a protocol whose device path is the longest beginning of `path`, and that beginning's length.
    pub fn nearest(&self, guid: Guid, path: &[u8]) -> Option<(u64, usize)> {
        let candidates = self.handles.with(Some(guid)).into_iter().filter_map(|handle| {
            let own =
                device_path::read(&self.guest, self.handles.interface(handle, guid::DEVICE_PATH)?).ok()?;
            let own = device_path::without_end(&own);
            path.starts_with(own).then_some((handle, own.len()))
        });
        candidates.max_by_key(|(_, len)| *len)
    }

    /// Whether a handle has this device path already.
    fn has_device_path(&self, at: u64) -> Result<bool, Status> {
        let path = device_path::read(&self.guest, at)?;
        let handles = self.handles.with(Some(guid::DEVICE_PATH));
        let interfaces =
            handles.into_iter().filter_map(|handle| self.handles.interface(handle, guid::DEVICE_PATH));
        Ok(interfaces
            .into_iter()
            .any(|other| device_path::read(&self.guest, other).is_ok_and(|other| other == path)))
    }
}
