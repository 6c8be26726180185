//! `EFI_SIMPLE_FILE_SYSTEM_PROTOCOL` and `EFI_FILE_PROTOCOL` (UEFI 13.4, 13.5), over FAT.

use std::{io, time::SystemTime};

use crate::{
    abi::{
        ACCESS_DENIED, BUFFER_TOO_SMALL, DEVICE_ERROR, INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES,
        Status, UNSUPPORTED, VOLUME_CORRUPTED, VOLUME_FULL, WRITE_PROTECTED, guid,
    },
    call::{Args, DONE, Flow, Service},
    device_path,
    efi::Efi,
    guest::{string, utf16},
    media::fat::{DIRECTORY, Fat, Node, READ_ONLY},
    service::Group,
    time,
};

pub(crate) const SYSTEM_METHODS: [Service; 1] = [open_volume];
pub(crate) const METHODS: [Service; 10] =
    [open, close, delete, read, write, get_position, set_position, get_info, set_info, flush];

const REVISION: u64 = 0x1_0000;
const MODE_WRITE: u64 = 2;
const MODE_CREATE: u64 = 1 << 63;
/// A loader has a few open; more are an attack on our memory.
const MAX_FILES: usize = 1024;
const MAX_PATH: u64 = 1024;
/// A position that means the end.
const END: u64 = u64::MAX;
/// A delete that did not happen (13.5.4): a warning, for the handle is closed all the same.
const WARN_DELETE_FAILURE: u64 = 2;

/// A file or directory that the guest has open.
pub(crate) struct OpenFile {
    system: usize,
    /// From the root down to the file: its own node is the last.
    trail: Vec<Node>,
    position: u64,
    writable: bool,
}

fn status(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        io::ErrorKind::InvalidData => VOLUME_CORRUPTED,
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => VOLUME_FULL,
        io::ErrorKind::ReadOnlyFilesystem => WRITE_PROTECTED,
        io::ErrorKind::InvalidInput => INVALID_PARAMETER,
        _ => {
            tracing::warn!(%error, "a disk failed while EFI used a file on it");
            DEVICE_ERROR
        }
    }
}

fn fat_now() -> (u16, u16) {
    time::Time::of(SystemTime::now()).fat()
}

impl Efi {
    pub fn add_file_system(&mut self, handle: u64, fat: Fat) -> Result<(), Status> {
        let interface = self.interface(&[REVISION], Group::FileSystem, &[])?;
        self.objects.systems.insert(interface, self.objects.mounted.len());
        self.objects.mounted.push(fat);
        self.install(handle, guid::SIMPLE_FILE_SYSTEM, interface).map(drop)
    }

    fn fat(&mut self, system: usize) -> Result<&mut Fat, Status> {
        self.objects.mounted.get_mut(system).ok_or(INVALID_PARAMETER)
    }

    fn file(&mut self, this: u64) -> Result<&mut OpenFile, Status> {
        self.objects.files.get_mut(&this).ok_or(INVALID_PARAMETER)
    }

    /// The file system and the node behind a file protocol; the root stands for itself.
    fn parts(&mut self, this: u64) -> Result<(&mut Fat, &mut OpenFile), Status> {
        let file = self.objects.files.get_mut(&this).ok_or(INVALID_PARAMETER)?;
        let fat = self.objects.mounted.get_mut(file.system).ok_or(INVALID_PARAMETER)?;
        Ok((fat, file))
    }

    fn give_file(&mut self, file: OpenFile) -> Result<u64, Status> {
        if self.objects.files.len() >= MAX_FILES {
            return Err(OUT_OF_RESOURCES);
        }
        let interface = match self.objects.spare.pop() {
            Some(spare) => spare,
            None => self.interface(&[REVISION], Group::File, &[])?,
        };
        self.objects.files.insert(interface, file);
        Ok(interface)
    }

    /// Walks `path` from the last node of `trail`.
    fn walk(fat: &mut Fat, mut trail: Vec<Node>, path: &str) -> io::Result<Vec<Node>> {
        if path.starts_with('\\') {
            trail.truncate(1);
        }
        for name in path.split('\\') {
            match name {
                "" | "." => {}
                ".." => {
                    if trail.len() > 1 {
                        trail.pop();
                    }
                }
                name => {
                    let here = trail.last().cloned().unwrap_or_else(|| fat.root());
                    let node = fat.find(&here, name)?;
                    trail.push(node);
                }
            }
        }
        Ok(trail)
    }

    /// The content of the file that a device path leads to.
    pub fn read_path(&mut self, path: &[u8]) -> Result<Vec<u8>, Status> {
        let (handle, used) = self.nearest(guid::SIMPLE_FILE_SYSTEM, path).ok_or(NOT_FOUND)?;
        let name = device_path::file_name(path.get(used..).unwrap_or_default()).ok_or(NOT_FOUND)?;
        self.read_file(handle, &name)
    }

    /// The content of a file on a handle's file system.
    pub fn read_file(&mut self, handle: u64, name: &str) -> Result<Vec<u8>, Status> {
        let interface = self.handles.interface(handle, guid::SIMPLE_FILE_SYSTEM).ok_or(NOT_FOUND)?;
        let system = *self.objects.systems.get(&interface).ok_or(NOT_FOUND)?;
        let room = self.pages.size();
        let fat = self.fat(system)?;
        let root = fat.root();
        let trail = Self::walk(fat, vec![root], name).map_err(|e| status(&e))?;
        let node = trail.last().filter(|node| !node.is_directory()).ok_or(NOT_FOUND)?;
        // What does not fit into the guest need not fit into the host.
        if u64::from(node.size) > room {
            return Err(OUT_OF_RESOURCES);
        }
        // In pieces: a length is easily claimed.
        let mut content = Vec::new();
        while (content.len() as u64) < u64::from(node.size) {
            let at = content.len();
            content.resize((at + (4 << 20)).min(node.size as usize), 0);
            fat.read(node, at as u64, content.get_mut(at..).unwrap_or_default()).map_err(|e| status(&e))?;
        }
        Ok(content)
    }
}

fn open_volume(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let system = *efi.objects.systems.get(&args.get::<0>()).ok_or(INVALID_PARAMETER)?;
    efi.guest.check(args.get::<1>(), 8)?;
    let root = efi.fat(system)?.root();
    let file = efi.give_file(OpenFile { system, trail: vec![root], position: 0, writable: true })?;
    efi.guest.put_u64(args.get::<1>(), file)?;
    Ok(DONE)
}

fn open(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (this, slot, mode, attributes) = (args.get::<0>(), args.get::<1>(), args.get::<3>(), args.get::<4>());
    let path = string(&efi.guest.text(args.get::<2>(), MAX_PATH)?);
    efi.guest.check(slot, 8)?;
    let create = mode & MODE_CREATE != 0;
    let writable = mode & MODE_WRITE != 0;
    if create && !writable {
        return Err(INVALID_PARAMETER);
    }
    let (fat, file) = efi.parts(this)?;
    if writable && fat.read_only() {
        return Err(WRITE_PROTECTED);
    }
    let (system, start) = (file.system, file.trail.clone());
    let trail = match Efi::walk(fat, start.clone(), &path) {
        Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
            let (folder, name) = path.rsplit_once('\\').map_or(("", path.as_str()), |(f, n)| (f, n));
            let folder = if folder.is_empty() && path.starts_with('\\') { "\\" } else { folder };
            let mut trail = Efi::walk(fat, start, folder).map_err(|e| status(&e))?;
            let parent = trail.last().cloned().unwrap_or_else(|| fat.root());
            let is_directory = attributes & u64::from(DIRECTORY) != 0;
            trail.push(fat.create(&parent, name, is_directory, fat_now()).map_err(|e| status(&e))?);
            trail
        }
        result => result.map_err(|e| status(&e))?,
    };
    let protected = trail.last().is_some_and(|node| node.attributes & READ_ONLY != 0 && !node.is_directory());
    if writable && protected {
        return Err(ACCESS_DENIED);
    }
    let file = efi.give_file(OpenFile { system, trail, position: 0, writable })?;
    efi.guest.put_u64(slot, file)?;
    Ok(DONE)
}

fn close(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let this = args.get::<0>();
    efi.objects.files.remove(&this).ok_or(INVALID_PARAMETER)?;
    efi.objects.spare.push(this);
    Ok(DONE)
}

fn delete(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let result = {
        let (fat, file) = efi.parts(args.get::<0>())?;
        let node = file.trail.last().cloned().ok_or(INVALID_PARAMETER)?;
        // A directory has its two names for itself and above, and nothing else.
        let empty = !node.is_directory() || matches!(fat.list(&node, 64), Ok(None));
        if file.writable && empty { fat.remove(&node).is_ok() } else { false }
    };
    close(efi, args)?;
    Ok(if result { DONE } else { Flow::Done(WARN_DELETE_FAILURE) })
}

fn read(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (this, size, buffer) = (args.get::<0>(), args.get::<1>(), args.get::<2>());
    let room = efi.guest.u64(size)?;
    let guest = efi.guest.clone();
    let (fat, file) = efi.parts(this)?;
    let node = file.trail.last().ok_or(INVALID_PARAMETER)?;
    if node.is_directory() {
        return read_directory(efi, this, (size, room, buffer));
    }
    let rest = u64::from(node.size).checked_sub(file.position).ok_or(DEVICE_ERROR)?;
    let len = room.min(rest);
    let (node, position) = (node.clone(), file.position);
    guest.in_pieces(buffer, len, |done, part| {
        fat.read(&node, position + done, part).map(drop).map_err(|e| status(&e))
    })?;
    file.position += len;
    guest.put_u64(size, len)?;
    Ok(DONE)
}

/// Gives the next entry of a directory; nothing at its end.
fn read_directory(efi: &mut Efi, this: u64, (size, room, buffer): (u64, u64, u64)) -> Result<Flow, Status> {
    let (fat, file) = efi.parts(this)?;
    let node = file.trail.last().cloned().ok_or(INVALID_PARAMETER)?;
    let Some((entry, next)) = fat.list(&node, file.position).map_err(|e| status(&e))? else {
        efi.guest.put_u64(size, 0)?;
        return Ok(DONE);
    };
    let info = info(&entry);
    efi.guest.put_u64(size, info.len() as u64)?;
    if room < info.len() as u64 {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(buffer, &info)?;
    efi.file(this)?.position = next;
    Ok(DONE)
}

fn write(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (size, buffer) = (args.get::<1>(), args.get::<2>());
    let len = efi.guest.u64(size)?;
    let guest = efi.guest.clone();
    let (fat, file) = efi.parts(args.get::<0>())?;
    let (position, writable) = (file.position, file.writable);
    let node = file.trail.last_mut().ok_or(INVALID_PARAMETER)?;
    if node.is_directory() {
        return Err(UNSUPPORTED);
    }
    if !writable {
        return Err(ACCESS_DENIED);
    }
    node.modified = fat_now();
    let mut written = 0;
    let result = guest.for_pieces(buffer, len, |done, part| {
        fat.write(node, position + done, part).map_err(|e| status(&e))?;
        written = done + part.len() as u64;
        Ok(())
    });
    file.position += written;
    guest.put_u64(size, written)?;
    result.map(|()| DONE)
}

fn get_position(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let file = efi.file(args.get::<0>())?;
    if file.trail.last().is_none_or(Node::is_directory) {
        return Err(UNSUPPORTED);
    }
    let position = file.position;
    efi.guest.put_u64(args.get::<1>(), position)?;
    Ok(DONE)
}

fn set_position(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (file, to) = (efi.file(args.get::<0>())?, args.get::<1>());
    let node = file.trail.last().ok_or(INVALID_PARAMETER)?;
    file.position = match to {
        0 => 0,
        _ if node.is_directory() => return Err(UNSUPPORTED),
        END => node.size.into(),
        to => to,
    };
    Ok(DONE)
}

/// `EFI_FILE_INFO` (13.5.16).
fn info(node: &Node) -> Vec<u8> {
    let name = utf16(&node.name);
    let size = u64::from(node.size);
    let time = time::Time::from_fat(node.modified).efi();
    let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let len = 80 + name.len() as u64;
    let head = words(&[len, size, size.next_multiple_of(512)]);
    [&head[..], &time, &time, &time, &words(&[u64::from(node.attributes)]), &name].concat()
}

fn get_info(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let kind = efi.guest.guid(args.get::<1>())?;
    let (fat, file) = efi.parts(args.get::<0>())?;
    let node = file.trail.last().ok_or(INVALID_PARAMETER)?;
    let bytes = match kind {
        guid::FILE_INFO => info(node),
        guid::FILE_SYSTEM_LABEL => utf16(fat.label()),
        guid::FILE_SYSTEM_INFO => {
            let label = utf16(fat.label());
            let (size, cluster, free) = fat.space().map_err(|e| status(&e))?;
            let words = [36 + label.len() as u64, fat.read_only().into(), size, free];
            let head: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            [&head[..], &(cluster as u32).to_le_bytes(), &label].concat()
        }
        _ => return Err(UNSUPPORTED),
    };
    let room = efi.guest.u64(args.get::<2>())?;
    efi.guest.put_u64(args.get::<2>(), bytes.len() as u64)?;
    if room < bytes.len() as u64 {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(args.get::<3>(), &bytes)?;
    Ok(DONE)
}

/// Changes a file's length, attributes or name within its directory. The volume's label stays as it is.
fn set_info(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    if efi.guest.guid(args.get::<1>())? != guid::FILE_INFO {
        return Err(UNSUPPORTED);
    }
    let at = args.get::<3>();
    if args.get::<2>() < 80 {
        return Err(INVALID_PARAMETER);
    }
    let size = u32::try_from(efi.guest.u64(at.wrapping_add(8))?).map_err(|_| VOLUME_FULL)?;
    let attributes = efi.guest.u64(at.wrapping_add(72))? as u8;
    let name = string(&efi.guest.text(at.wrapping_add(80), MAX_PATH)?);
    let (fat, file) = efi.parts(args.get::<0>())?;
    if !file.writable {
        return Err(ACCESS_DENIED);
    }
    let (parent, node) = match file.trail.as_mut_slice() {
        [.., parent, node] => (parent, node),
        _ => return Err(ACCESS_DENIED),
    };
    let change = |result: io::Result<()>| result.map_err(|e| status(&e));
    if size != node.size && !node.is_directory() {
        change(fat.resize(node, size))?;
    }
    if (attributes ^ node.attributes) & !DIRECTORY != 0 {
        change(fat.set_attributes(node, attributes))?;
    }
    if name != node.name && !name.is_empty() {
        if name.contains('\\') {
            return Err(UNSUPPORTED);
        }
        match fat.find(parent, &name) {
            Ok(other) if !other.is(node) => return Err(ACCESS_DENIED),
            _ => *node = fat.rename(parent, node, &name).map_err(|e| status(&e))?,
        }
    }
    Ok(DONE)
}

fn flush(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (fat, _) = efi.parts(args.get::<0>())?;
    fat.flush().map_err(|e| status(&e))?;
    Ok(DONE)
}
