//! `EFI_RNG_PROTOCOL` (UEFI 37.5).

use crate::{
    abi::{BUFFER_TOO_SMALL, DEVICE_ERROR, INVALID_PARAMETER, Status, UNSUPPORTED, guid},
    call::{Args, DONE, Flow, Service},
    efi::Efi,
    service::Group,
};

pub(crate) const METHODS: [Service; 2] = [get_info, get_rng];

impl Efi {
    pub fn add_rng(&mut self) -> Result<(), Status> {
        let interface = self.interface(&[], Group::Rng, &[])?;
        self.install(0, guid::RNG, interface).map(drop)
    }
}

fn get_info(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let room = efi.guest.u64(args.get::<1>())?;
    efi.guest.put_u64(args.get::<1>(), 16)?;
    if room < 16 {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(args.get::<2>(), &guid::RNG_RAW.0)?;
    Ok(DONE)
}

fn get_rng(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (algorithm, len, buffer) = (args.get::<1>(), args.get::<2>(), args.get::<3>());
    if algorithm != 0 && efi.guest.guid(algorithm)? != guid::RNG_RAW {
        return Err(UNSUPPORTED);
    }
    if len == 0 {
        return Err(INVALID_PARAMETER);
    }
    efi.guest.in_pieces(buffer, len, |_, part| getrandom::fill(part).map_err(|_| DEVICE_ERROR))?;
    Ok(DONE)
}
