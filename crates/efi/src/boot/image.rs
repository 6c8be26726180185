//! Images: programs that are loaded, run and end (UEFI 7.4).

use crate::{
    abi::{
        INVALID_PARAMETER, LOAD_ERROR, NOT_FOUND, OUT_OF_RESOURCES, Status, UNSUPPORTED, guid, memory_type,
    },
    call::{Args, DONE, Flow, Then},
    device_path,
    efi::Efi,
    guest::string,
    pages::{PAGE, Where},
    pe::{self, Subsystem},
    stub::frame,
};

/// A boot manager has a handful loaded at once.
const MAX_IMAGES: usize = 256;
/// Bytes of `EFI_LOADED_IMAGE_PROTOCOL` (9.1).
const PROTOCOL_SIZE: usize = 96;
/// `LoadOptionsSize`, `LoadOptions` in that.
const OPTIONS_SIZE: u64 = 48;
const OPTIONS: u64 = 56;
/// What an image says as it ends is shown up to this length.
const MAX_EXIT_TEXT: u64 = 256;

/// A loaded image.
pub(crate) struct LoadedImage {
    base: u64,
    pages: u64,
    entry: u64,
    subsystem: Subsystem,
    /// Its protocol's structure.
    protocol: u64,
    path: u64,
    /// The frame of the call that runs it.
    running: Option<u64>,
}

pub(super) fn load_image(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (parent, path, source, size, slot) =
        (args.get::<1>(), args.get::<2>(), args.get::<3>(), args.get::<4>(), args.get::<5>());
    if slot == 0 || (path == 0 && source == 0) {
        return Err(INVALID_PARAMETER);
    }
    efi.handles.protocols(parent)?;
    let path = if path == 0 { device_path::END_NODE.to_vec() } else { device_path::read(&efi.guest, path)? };
    let file = if source == 0 { efi.read_path(&path)? } else { efi.guest.bytes(source, size)? };
    let handle = efi.load(&file, &path, parent)?;
    efi.guest.put_u64(slot, handle)?;
    Ok(DONE)
}

pub(super) fn start_image(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let handle = args.get::<0>();
    efi.exit_data = (args.get::<1>(), args.get::<2>());
    efi.start(handle, args.frame, Then::Started(handle))
}

pub(super) fn exit(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (handle, status, size, data) = (args.get::<0>(), args.get::<1>(), args.get::<2>(), args.get::<3>());
    let running = efi.images.get(&handle).ok_or(INVALID_PARAMETER)?.running;
    let Some(frame) = running else {
        efi.unload(handle)?;
        return Ok(DONE);
    };
    if size > 0 && data != 0 {
        // It starts with a text for people. The rest means something to its caller alone, and nobody asks for it.
        let text = efi.guest.text(data, MAX_EXIT_TEXT).unwrap_or_default();
        tracing::info!(status, said = %string(&text), "an EFI program ended");
    }
    efi.guest.put_u64(frame.wrapping_add(frame::CALL_ARGS), status)?;
    efi.again(frame);
    Ok(Flow::Unwind { frame })
}

pub(super) fn unload_image(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.unload(args.get::<0>())?;
    Ok(DONE)
}

impl Efi {
    /// Loads a program.
    pub fn load(&mut self, file: &[u8], path: &[u8], parent: u64) -> Result<u64, Status> {
        if self.images.len() >= MAX_IMAGES {
            return Err(OUT_OF_RESOURCES);
        }
        let refuse = |error: pe::PeError| {
            tracing::info!(%error, path = device_path::text(path), "cannot load an EFI program");
            match error {
                pe::PeError::Damaged(_) => LOAD_ERROR,
                _ => UNSUPPORTED,
            }
        };
        let image = pe::parse(file).map_err(refuse)?;
        let kind = match image.subsystem {
            Subsystem::Application => memory_type::LOADER_CODE,
            Subsystem::BootDriver => memory_type::BOOT_CODE,
            Subsystem::RuntimeDriver => memory_type::RUNTIME_CODE,
        };
        let pages = image.size.div_ceil(PAGE);
        let base = self.pages.allocate(Where::Anywhere, pages, image.align, kind)?;
        let loaded = image.load(base).map_err(refuse).and_then(|memory| self.guest.write(base, &memory));
        if let Err(status) = loaded {
            self.pages.free(base, pages)?;
            return Err(status);
        }
        let (device, rest) = self.device_of(path);
        let data = match image.subsystem {
            Subsystem::Application => memory_type::LOADER_DATA,
            Subsystem::BootDriver => memory_type::BOOT_DATA,
            Subsystem::RuntimeDriver => memory_type::RUNTIME_DATA,
        };
        let (path, file_path) = (self.place(path)?, self.place(rest)?);
        let kinds = u64::from(kind) | u64::from(data) << 32;
        let words =
            [0x1000, parent, self.system_table(), device, file_path, 0, 0, 0, base, image.size, kinds, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        debug_assert_eq!(bytes.len(), PROTOCOL_SIZE);
        let protocol = self.place(&bytes)?;
        let handle = self.install(0, guid::LOADED_IMAGE, protocol)?;
        self.install(handle, guid::LOADED_IMAGE_DEVICE_PATH, path)?;
        let (entry, subsystem) = (base + image.entry, image.subsystem);
        let loaded = LoadedImage { base, pages, entry, subsystem, protocol, path, running: None };
        self.images.insert(handle, loaded);
        tracing::debug!(base = format_args!("{base:#x}"), size = image.size, "loaded an EFI program");
        Ok(handle)
    }

    /// The handle of the device that `path` starts with, and what follows.
    fn device_of<'a>(&self, path: &'a [u8]) -> (u64, &'a [u8]) {
        match self.nearest(guid::DEVICE_PATH, path) {
            Some((handle, len)) if len > 0 => (handle, path.get(len..).unwrap_or_default()),
            _ => (0, path),
        }
    }

    /// Has the guest run an image; `then` it goes on in the call that has this frame.
    pub fn start(&mut self, handle: u64, frame: u64, then: Then) -> Result<Flow, Status> {
        let table = self.system_table();
        let image = self.images.get_mut(&handle).ok_or(INVALID_PARAMETER)?;
        if image.running.is_some() {
            return Err(INVALID_PARAMETER);
        }
        image.running = Some(frame);
        Ok(Flow::Call { function: image.entry, args: [handle, table], fresh: true, then })
    }

    /// What an image is told, as its load options.
    pub fn set_options(&mut self, handle: u64, options: &[u8]) -> Result<(), Status> {
        let at = self.place(options)?;
        let image = self.images.get(&handle).ok_or(NOT_FOUND)?;
        self.guest.put_u32(image.protocol + OPTIONS_SIZE, options.len() as u32)?;
        self.guest.put_u64(image.protocol + OPTIONS, at)
    }

    /// An image that the guest has started has come back.
    pub fn image_returned(&mut self, handle: u64, status: u64) -> Result<Flow, Status> {
        let (size, data) = self.exit_data;
        for slot in [size, data] {
            if slot != 0 {
                self.guest.put_u64(slot, 0)?;
            }
        }
        self.image_ended(handle);
        Ok(Flow::Done(status))
    }

    /// An image's run is over: a program's memory goes, a driver's stays.
    pub fn image_ended(&mut self, handle: u64) {
        let Some(image) = self.images.get_mut(&handle) else { return };
        image.running = None;
        if image.subsystem == Subsystem::Application {
            // It is there and does not run.
            let _ = self.unload(handle);
        }
    }

    fn unload(&mut self, handle: u64) -> Result<(), Status> {
        let image = self.images.get(&handle).ok_or(INVALID_PARAMETER)?;
        if image.running.is_some() {
            return Err(UNSUPPORTED);
        }
        let Some(image) = self.images.remove(&handle) else { return Ok(()) };
        for (guid, interface) in
            [(guid::LOADED_IMAGE, image.protocol), (guid::LOADED_IMAGE_DEVICE_PATH, image.path)]
        {
            // The guest may have taken them off itself.
            let _ = self.handles.uninstall(handle, guid, interface);
        }
        // The guest may have freed it itself.
        let _ = self.pages.free(image.base, image.pages);
        Ok(())
    }
}
