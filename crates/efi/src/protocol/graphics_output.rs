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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tearless_bus::{AccessError, MmioDevice};
    use tearless_display::{Input, Mode, Screen, Size};
    use tearless_memory::{Gpa, GuestMemory};

    use super::*;
    use crate::{Identity, Setup, Variables, abi::SUCCESS, stub::frame};

    const RAM: u64 = 0x4000_0000;
    const END: u64 = RAM + (64 << 20);
    /// Where the tests' frame, stack and buffer are: RAM that nobody has allocated.
    const FRAME: u64 = RAM + 0x1000;
    const STACK: u64 = RAM + 0x3000;
    const BUFFER: u64 = RAM + 0x1_0000;

    struct Nothing;

    impl MmioDevice for Nothing {
        fn read(&self, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
            data.fill(0);
            Ok(())
        }

        fn write(&self, _: u64, _: &[u8]) -> Result<(), AccessError> {
            Ok(())
        }
    }

    fn efi() -> Efi {
        let ram = Gpa(RAM)..Gpa(END);
        let setup = Setup {
            memory: GuestMemory::new(std::slice::from_ref(&ram)).unwrap(),
            ram,
            doorbell: Gpa(0x0b00_0000)..Gpa(0x0b01_0000),
            serial: Arc::new(Nothing),
            device_tree: Vec::new(),
            disks: Vec::new(),
            variables: Arc::new(Variables::default()),
            identity: Identity { uuid: [0; 16], strings: Vec::new() },
            display: Some((Screen::new(Mode { size: Size::new(640, 480), scale: 1 }), Input::new())),
            kernel: None,
        };
        crate::efi::build(setup).unwrap().0
    }

    /// Calls a service as a guest does: eight arguments in registers, the others on its stack.
    fn call(efi: &mut Efi, service: Service, x: &[u64]) -> Result<(), Status> {
        let (registers, stacked) = x.split_at(x.len().min(8));
        for (at, x) in (FRAME + frame::ARGS..).step_by(8).zip(registers) {
            efi.guest.put_u64(at, *x).unwrap();
        }
        for (at, x) in (STACK..).step_by(8).zip(stacked) {
            efi.guest.put_u64(at, *x).unwrap();
        }
        efi.guest.put_u64(FRAME + frame::SP, STACK).unwrap();
        let args = Args::read(&efi.guest, FRAME).unwrap();
        service(efi, &args).map(|flow| assert!(matches!(flow, Flow::Done(done) if done == SUCCESS)))
    }

    /// `Blt` with buffer, operation, source, destination, size and bytes of a row.
    fn blt_with(efi: &mut Efi, x: [u64; 9]) -> Result<(), Status> {
        call(efi, blt, &[&[0], &x[..]].concat())
    }

    #[test]
    fn rectangles_come_back_as_they_went() {
        let mut efi = efi();
        let pixels: Vec<u8> = (0..4 * 3 * PIXEL as u8).collect();
        efi.guest.write(BUFFER, &pixels).unwrap();
        blt_with(&mut efi, [BUFFER, 2, 0, 0, 100, 50, 4, 3, 0]).unwrap();
        blt_with(&mut efi, [0, 3, 100, 50, 101, 51, 4, 3, 0]).unwrap();
        let back = BUFFER + 0x1000;
        blt_with(&mut efi, [back, 1, 101, 51, 0, 0, 4, 3, 0]).unwrap();
        assert_eq!(efi.guest.bytes(back, pixels.len() as u64).unwrap(), pixels);
        blt_with(&mut efi, [BUFFER, 0, 0, 0, 0, 0, 640, 480, 0]).unwrap();
        blt_with(&mut efi, [back, 1, 639, 479, 0, 0, 1, 1, 0]).unwrap();
        assert_eq!(efi.guest.bytes(back, PIXEL).unwrap(), pixels[..4]);
    }

    /// Nothing that is asked for reaches beyond the screen or the guest's memory, takes long, or is painted in part.
    #[test]
    fn hostile_rectangles_are_refused() {
        let mut efi = efi();
        let huge = [641, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 61, 1 << 62, 1 << 63, u64::MAX];
        for operation in 0..4 {
            for at in 2..8 {
                let relevant = match operation {
                    0 => at >= 4,
                    1 => !(4..6).contains(&at),
                    2 => at >= 4,
                    _ => true,
                };
                for value in huge.into_iter().chain([0].into_iter().filter(|_| at >= 6)) {
                    let mut x = [BUFFER, operation, 1, 1, 1, 1, 4, 3, 0];
                    x[at] = value;
                    let refused = blt_with(&mut efi, x) == Err(INVALID_PARAMETER);
                    assert!(refused || !relevant, "{x:x?}");
                }
            }
        }
        for operation in [4, 5, 0xffff_ffff] {
            assert!(blt_with(&mut efi, [BUFFER, operation, 0, 0, 0, 0, 1, 1, 0]).is_err());
        }
    }

    #[test]
    fn hostile_buffers_are_refused() {
        let mut efi = efi();
        for buffer in [0, RAM - 4, END - 4, END, u64::MAX - 3, u64::MAX] {
            for operation in [1, 2] {
                assert!(blt_with(&mut efi, [buffer, operation, 0, 0, 0, 0, 4, 3, 0]).is_err(), "{buffer:#x}");
            }
            assert_eq!(blt_with(&mut efi, [buffer, 0, 0, 0, 0, 0, 4, 3, 0]).is_ok(), buffer == END - 4);
        }
        for delta in [1 << 40, 1 << 63, u64::MAX] {
            for (operation, [from, to]) in [(1, [0, 1]), (2, [1, 0])] {
                let x = [BUFFER, operation, 0, from, 0, to, 4, 3, delta];
                assert!(blt_with(&mut efi, x).is_err(), "{x:x?}");
            }
        }
        for x in [u64::MAX, 1 << 62, END] {
            assert!(blt_with(&mut efi, [BUFFER, 2, x, 0, 0, 0, 4, 3, 0]).is_err());
            assert!(blt_with(&mut efi, [BUFFER, 1, 0, 0, x, 0, 4, 3, 0]).is_err());
        }
    }

    #[test]
    fn hostile_modes_and_places_are_refused() {
        let mut efi = efi();
        let good = [0, 0, BUFFER, BUFFER + 8];
        call(&mut efi, query_mode, &good).unwrap();
        for at in [0, END, END - 4, u64::MAX] {
            assert!(call(&mut efi, query_mode, &[0, 0, at, BUFFER]).is_err());
            assert!(call(&mut efi, query_mode, &[0, 0, BUFFER, at]).is_err());
            assert!(call(&mut efi, set_mode, &[at, 0]).is_err(), "{at:#x}");
            // A protocol of the guest's making that leads nowhere.
            efi.guest.put_u64(BUFFER + MODE_AT, at).unwrap();
            assert!(call(&mut efi, set_mode, &[BUFFER, 0]).is_err(), "{at:#x}");
        }
        for mode in [1, 2, 0xffff_ffff] {
            assert_eq!(call(&mut efi, query_mode, &[0, mode, BUFFER, BUFFER]), Err(INVALID_PARAMETER));
            assert_eq!(call(&mut efi, set_mode, &[0, mode]), Err(UNSUPPORTED));
        }
    }
}
