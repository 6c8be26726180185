//! `EFI_LOAD_FILE2_PROTOCOL` (UEFI 13.2): the RAM disk of the host's kernel, where Linux' EFI stub looks for it.

use crate::{
    abi::{BUFFER_TOO_SMALL, INVALID_PARAMETER, NOT_FOUND, Status, UNSUPPORTED, guid},
    call::{Args, DONE, Flow, Service},
    device_path,
    efi::Efi,
    service::Group,
};

pub(crate) const METHODS: [Service; 1] = [load_file];

impl Efi {
    /// Lets the guest fetch `initrd`.
    pub fn add_initrd(&mut self, initrd: Vec<u8>) -> Result<(), Status> {
        let path = [&device_path::media(guid::LINUX_INITRD)[..], &device_path::END_NODE].concat();
        let path = self.place(&path)?;
        let handle = self.install(0, guid::DEVICE_PATH, path)?;
        let interface = self.interface(&[], Group::LoadFile, &[])?;
        self.install(handle, guid::LOAD_FILE2, interface)?;
        self.objects.initrd = initrd;
        Ok(())
    }
}

fn load_file(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (path, boot_policy, size, buffer) =
        (args.get::<1>(), args.get::<2>(), args.get::<3>(), args.get::<4>());
    if path == 0 || size == 0 {
        return Err(INVALID_PARAMETER);
    }
    if boot_policy as u8 != 0 {
        return Err(UNSUPPORTED);
    }
    // What is left of the path names a file there; there is only one, without a name.
    let rest = device_path::read(&efi.guest, path)?;
    if !device_path::without_end(&rest).is_empty() {
        return Err(NOT_FOUND);
    }
    let room = efi.guest.u64(size)?;
    let len = efi.objects.initrd.len() as u64;
    efi.guest.put_u64(size, len)?;
    if buffer == 0 || room < len {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(buffer, &efi.objects.initrd)?;
    Ok(DONE)
}
