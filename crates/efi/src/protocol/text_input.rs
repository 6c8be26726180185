//! `EFI_SIMPLE_TEXT_INPUT_PROTOCOL` and its `_EX` (UEFI 12.2, 12.3).

use crate::{
    abi::{NOT_READY, Status, UNSUPPORTED, guid},
    call::{Args, DONE, Flow, Service},
    console::Key,
    efi::Efi,
    events::{NOTIFY_WAIT, Source},
    service::Group,
};

pub(crate) const METHODS: [Service; 2] = [reset, read];
/// Without the event, which is their third word. A terminal has no toggles, and tells of keys only when asked.
pub(crate) const EX_METHODS: [Service; 5] =
    [reset, read_ex, |_, _| Ok(DONE), |_, _| Err(UNSUPPORTED), |_, _| Err(UNSUPPORTED)];

/// A notification function that is never called: ours have none.
const NO_FUNCTION: [u64; 2] = [u64::MAX, 0];
const TPL_NOTIFY: u64 = 16;

impl Efi {
    /// Gives the console's handle its input; returns the interface.
    pub fn add_input(&mut self, handle: u64) -> Result<u64, Status> {
        let event = self.events.create((NOTIFY_WAIT, Source::Key), TPL_NOTIFY, NO_FUNCTION, None)?;
        let input = self.interface(&[], Group::TextInput, &[event])?;
        self.install(handle, guid::TEXT_INPUT, input)?;
        let mut words = self.entries(Group::TextInputEx);
        words.insert(2, event);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let ex = self.place(&bytes)?;
        self.install(handle, guid::TEXT_INPUT_EX, ex)?;
        Ok(input)
    }
}

fn reset(efi: &mut Efi, _: &Args) -> Result<Flow, Status> {
    efi.console.clear_keys();
    Ok(DONE)
}

fn read(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.guest.check(args.get::<1>(), 4)?;
    let Key { scan, unicode } = efi.console.key().ok_or(NOT_READY)?;
    efi.guest.put_u32(args.get::<1>(), u32::from(scan) | u32::from(unicode) << 16)?;
    Ok(DONE)
}

fn read_ex(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.guest.check(args.get::<1>(), 12)?;
    let key = efi.console.key();
    let Key { scan, unicode } = key.unwrap_or(Key { scan: 0, unicode: 0 });
    efi.guest.put_u32(args.get::<1>(), u32::from(scan) | u32::from(unicode) << 16)?;
    // No shift state is known, nor one of toggles.
    efi.guest.write(args.get::<1>().wrapping_add(4), &[0; 8])?;
    if key.is_some() { Ok(DONE) } else { Err(NOT_READY) }
}
