//! `EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL` (UEFI 12.4).

use crate::{
    abi::{INVALID_PARAMETER, Status, UNSUPPORTED, guid},
    call::{Args, DONE, Flow, Service},
    console::{COLUMNS, ROWS},
    device_path,
    efi::Efi,
    guest::string,
    service::Group,
};

pub(crate) const METHODS: [Service; 9] = [
    reset,
    output_string,
    |_, _| Ok(DONE),
    query_mode,
    set_mode,
    set_attribute,
    clear_screen,
    set_cursor_position,
    enable_cursor,
];

/// The longest string that is shown at once.
const MAX_TEXT: u64 = 1 << 16;
/// Bytes of `SIMPLE_TEXT_OUTPUT_MODE`, and the protocol's pointer to it.
const MODE_SIZE: usize = 24;
const MODE_AT: u64 = 9 * 8;

impl Efi {
    /// Makes the console's handle, with its protocols for both ways.
    pub fn add_consoles(&mut self) -> Result<(), Status> {
        let mode = self.place(&[0; MODE_SIZE])?;
        let output = self.interface(&[], Group::TextOutput, &[mode])?;
        let handle = self.install(0, guid::TEXT_OUTPUT, output)?;
        let path = [device_path::vendor(guid::TEXT_OUTPUT), device_path::END_NODE.to_vec()].concat();
        let path = self.place(&path)?;
        self.install(handle, guid::DEVICE_PATH, path)?;
        let input = self.add_input(handle)?;
        self.set_consoles([(handle, input), (handle, output)]);
        self.tell_mode(output)
    }

    /// Writes the mode that the guest reads.
    fn tell_mode(&self, this: u64) -> Result<(), Status> {
        let mode = self.guest.u64(this.wrapping_add(MODE_AT))?;
        let c = &self.console;
        let words = [1, 0, c.attribute, c.column, c.row, u32::from(c.visible)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.guest.write(mode, &bytes)
    }
}

fn reset(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.console.attribute = 7;
    clear_screen(efi, args)
}

fn output_string(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let text = efi.guest.text(args.get::<1>(), MAX_TEXT)?;
    efi.console.show(&string(&text));
    efi.tell_mode(args.get::<0>())?;
    Ok(DONE)
}

fn query_mode(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    if args.get::<1>() != 0 {
        return Err(UNSUPPORTED);
    }
    efi.guest.put_u64(args.get::<2>(), COLUMNS.into())?;
    efi.guest.put_u64(args.get::<3>(), ROWS.into())?;
    Ok(DONE)
}

fn set_mode(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    if args.get::<1>() != 0 {
        return Err(UNSUPPORTED);
    }
    clear_screen(efi, args)
}

/// EFI counts colours as a PC does (blue is 1), terminals the other way round (red is 1).
fn ansi(colour: u32) -> u32 {
    let rgb = colour & 7;
    rgb >> 2 & 1 | rgb & 2 | (rgb & 1) << 2
}

fn set_attribute(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let attribute = args.get::<1>() as u32;
    if args.get::<1>() > 0x7f {
        return Err(INVALID_PARAMETER);
    }
    if efi.console.attribute != attribute {
        efi.console.attribute = attribute;
        let bold = if attribute & 8 != 0 { "1;" } else { "" };
        let (front, back) = (30 + ansi(attribute & 7), 40 + ansi(attribute >> 4 & 7));
        let usual =
            if attribute == 7 { "\x1b[0m".to_owned() } else { format!("\x1b[0;{bold}{front};{back}m") };
        efi.console.send(usual.as_bytes());
    }
    efi.tell_mode(args.get::<0>())?;
    Ok(DONE)
}

fn clear_screen(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.console.clear();
    efi.tell_mode(args.get::<0>())?;
    Ok(DONE)
}

fn set_cursor_position(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (column, row) = (args.get::<1>(), args.get::<2>());
    if column >= COLUMNS.into() || row >= ROWS.into() {
        return Err(UNSUPPORTED);
    }
    (efi.console.column, efi.console.row) = (column as u32, row as u32);
    efi.console.send(format!("\x1b[{};{}H", row + 1, column + 1).as_bytes());
    efi.tell_mode(args.get::<0>())?;
    Ok(DONE)
}

fn enable_cursor(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let visible = args.get::<1>() as u8 != 0;
    if visible != efi.console.visible {
        efi.console.visible = visible;
        efi.console.send(if visible { b"\x1b[?25h" } else { b"\x1b[?25l" });
    }
    efi.tell_mode(args.get::<0>())?;
    Ok(DONE)
}
