//! `EFI_DEVICE_PATH_TO_TEXT_PROTOCOL` (UEFI 10.6): loaders show paths, and systemd-boot notes which it was loaded from.

use crate::{
    abi::{Status, guid, memory_type::BOOT_DATA},
    call::{Args, Flow, Service},
    device_path,
    efi::Efi,
    guest::utf16,
    service::Group,
};

pub(crate) const METHODS: [Service; 2] = [node_to_text, path_to_text];

impl Efi {
    pub fn add_path_to_text(&mut self) -> Result<(), Status> {
        let interface = self.interface(&[], Group::PathToText, &[])?;
        self.install(0, guid::DEVICE_PATH_TO_TEXT, interface).map(drop)
    }

    /// The text of a path, in a buffer of the guest's; null when there is no room.
    fn path_text(&mut self, path: &[u8]) -> Flow {
        Flow::Done(self.pool_with(BOOT_DATA, &utf16(&device_path::text(path))).unwrap_or(0))
    }
}

fn node_to_text(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let at = args.get::<0>();
    let node = efi.guest.u32(at).and_then(|head| efi.guest.bytes(at, u64::from(head >> 16)));
    Ok(node.map_or(Flow::Done(0), |node| efi.path_text(&node)))
}

fn path_to_text(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let path = device_path::read(&efi.guest, args.get::<0>());
    Ok(path.map_or(Flow::Done(0), |path| efi.path_text(&path)))
}
