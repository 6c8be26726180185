//! `EFI_GRAPHICS_OUTPUT_PROTOCOL` (UEFI 12.9).

use crate::{
    abi::{INVALID_PARAMETER, Status, UNSUPPORTED, guid, memory_type::BOOT_DATA},
    call::{Args, DONE, Flow, Service},
    device_path,
    efi::Efi,
    glass::{Glass, PIXEL},
    service::Group,
};

pub(crate) const METHODS: [Service; 3] = [query_mode, set_mode, blt];

/// Bytes of `EFI_GRAPHICS_OUTPUT_MODE_INFORMATION`.
const INFO_SIZE: u64 = 36;
/// Of its pixel formats: blue, green, red, reserved; a byte each.
const BGR: u32 = 1;
/// The place of `Mode` in the protocol.
const MODE_AT: u64 = 3 * 8;

impl Efi {
    /// Makes the handle of the frame buffer.
    pub fn add_graphics(&mut self) -> Result<(), Status> {
        let Some(glass) = &self.console.glass else { return Ok(()) };
        let info = info(glass, 0)?;
        let info = self.place(&info)?;
        let mode = self.place(&[0; 40])?;
        let interface = self.interface(&[], Group::Graphics, &[mode])?;
        let path = [device_path::vendor(guid::GRAPHICS_OUTPUT), device_path::END_NODE.to_vec()].concat();
        let path = self.place(&path)?;
        let handle = self.install(0, guid::DEVICE_PATH, path)?;
        self.install(handle, guid::GRAPHICS_OUTPUT, interface)?;
        self.tell_graphics(mode, info)
    }

    /// Writes the current mode to where the guest reads it.
    fn tell_graphics(&self, mode: u64, info: u64) -> Result<(), Status> {
        let glass = self.console.glass.as_ref().ok_or(UNSUPPORTED)?;
        let numbers = glass.modes().len() as u64 | (glass.mode() as u64) << 32;
        let size = glass.size().area() * PIXEL;
        let bytes: Vec<u8> = [numbers, info, INFO_SIZE, glass.base(), size]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        self.guest.write(mode, &bytes)
    }
}

/// What there is to say of a mode.
fn info(glass: &Glass, mode: u64) -> Result<Vec<u8>, Status> {
    let mode = usize::try_from(mode).ok().and_then(|mode| glass.modes().get(mode));
    let size = mode.ok_or(INVALID_PARAMETER)?;
    let words = [0, size.width, size.height, BGR, 0, 0, 0, 0, size.width];
    Ok(words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect())
}

fn query_mode(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (mode, size, slot) = (args.get::<1>() as u32, args.get::<2>(), args.get::<3>());
    let info = info(efi.console.glass.as_ref().ok_or(UNSUPPORTED)?, mode.into())?;
    efi.guest.check(size, 8)?;
    efi.guest.check(slot, 8)?;
    let at = efi.pool_with(BOOT_DATA, &info)?;
    efi.guest.put_u64(size, INFO_SIZE)?;
    efi.guest.put_u64(slot, at)?;
    Ok(DONE)
}

fn set_mode(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let wanted = args.get::<1>() as u32;
    let glass = efi.console.glass.as_mut().ok_or(UNSUPPORTED)?;
    let info = info(glass, wanted.into()).map_err(|_| UNSUPPORTED)?;
    let mode = efi.guest.u64(args.get::<0>().wrapping_add(MODE_AT))?;
    let at = efi.guest.u64(mode.wrapping_add(8))?;
    efi.guest.write(at, &info)?;
    glass.set_mode(wanted as usize)?;
    efi.tell_graphics(mode, at)?;
    Ok(DONE)
}

/// A rectangle's corner and size.
#[derive(Clone, Copy)]
struct Area {
    x: u64,
    y: u64,
    width: u64,
    height: u64,
}

impl Area {
    /// Whether all of it is on the screen.
    fn is_on(self, glass: &Glass) -> bool {
        let (size, end) = (glass.size(), |at: u64, len: u64| at.checked_add(len));
        end(self.x, self.width).is_some_and(|end| end <= size.width.into())
            && end(self.y, self.height).is_some_and(|end| end <= size.height.into())
    }

    /// Where its row `row` is, in a frame buffer.
    fn row(self, glass: &Glass, row: u64) -> u64 {
        glass.at(self.x as u32, (self.y + row) as u32)
    }
}

fn blt(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (buffer, operation) = (args.get::<1>(), args.get::<2>() as u32);
    let (width, height) = (args.get::<7>(), args.nth(&efi.guest, 8)?);
    let from = Area { x: args.get::<3>(), y: args.get::<4>(), width, height };
    let to = Area { x: args.get::<5>(), y: args.get::<6>(), width, height };
    let glass = efi.console.glass.as_ref().ok_or(UNSUPPORTED)?;
    let (source_on_screen, target_on_screen) = match operation {
        0 | 2 => (false, true),
        1 => (true, false),
        3 => (true, true),
        _ => return Err(INVALID_PARAMETER),
    };
    if width == 0
        || height == 0
        || (source_on_screen && !from.is_on(glass))
        || (target_on_screen && !to.is_on(glass))
    {
        return Err(INVALID_PARAMETER);
    }
    // One of both is on the screen, so neither is larger than that.
    let line = width * PIXEL;
    if operation == 0 {
        let pixel = efi.guest.u32(buffer)?;
        let pixels = vec![pixel; width as usize];
        for row in 0..height {
            glass.put(to.x as u32, (to.y + row) as u32, &pixels)?;
        }
        return Ok(DONE);
    }
    if operation == 3 {
        for row in 0..height {
            // The lower rows first when they would be written over.
            let row = if to.y > from.y { height - 1 - row } else { row };
            efi.guest.copy(to.row(glass, row), from.row(glass, row), line)?;
        }
        return Ok(DONE);
    }
    let delta = match args.nth(&efi.guest, 9)? {
        0 => line,
        delta => delta,
    };
    let in_buffer = |area: Area, row: u64| {
        let down = area.y.checked_add(row)?.checked_mul(delta)?;
        buffer.checked_add(down)?.checked_add(area.x.checked_mul(PIXEL)?)
    };
    for row in 0..height {
        let (target, source) = if operation == 1 {
            (in_buffer(to, row).ok_or(INVALID_PARAMETER)?, from.row(glass, row))
        } else {
            (to.row(glass, row), in_buffer(from, row).ok_or(INVALID_PARAMETER)?)
        };
        efi.guest.copy(target, source, line)?;
    }
    Ok(DONE)
}
