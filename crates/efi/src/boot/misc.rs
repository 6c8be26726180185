//! Services without a section of their own (UEFI 7.5), and the end of boot services (7.4.6).

use std::time::{Duration, Instant};

use crate::{
    abi::{INVALID_PARAMETER, NOT_FOUND, Status, guid},
    call::{Args, DONE, Flow},
    efi::{Efi, Phase},
};

pub(super) fn install_configuration_table(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let guid = efi.guest.guid(args.get::<0>())?;
    efi.set_table(guid, args.get::<1>())?;
    Ok(DONE)
}

pub(super) fn exit_boot_services(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.events.signal_group(guid::EVENT_BEFORE_EXIT_BOOT);
    if args.get::<1>() != efi.pages.key() {
        return Err(INVALID_PARAMETER);
    }
    efi.events.signal_group(guid::EVENT_EXIT_BOOT_SERVICES);
    efi.flush_disks();
    efi.phase = Phase::Leaving;
    efi.forget_boot_services()?;
    tracing::info!("the OS has taken over from EFI");
    Ok(DONE)
}

pub(super) fn get_next_monotonic_count(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.count += 1;
    efi.guest.put_u64(args.get::<0>(), efi.count)?;
    Ok(DONE)
}

pub(super) fn set_watchdog_timer(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.watchdog = match args.get::<0>() {
        0 => None,
        seconds => Instant::now().checked_add(Duration::from_secs(seconds)),
    };
    Ok(DONE)
}

pub(super) fn calculate_crc32(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (data, len, slot) = (args.get::<0>(), args.get::<1>(), args.get::<2>());
    if data == 0 || len == 0 || slot == 0 {
        return Err(INVALID_PARAMETER);
    }
    let mut hasher = crc32fast::Hasher::new();
    efi.guest.for_pieces(data, len, |_, part| {
        hasher.update(part);
        Ok(())
    })?;
    efi.guest.put_u32(slot, hasher.finalize())?;
    Ok(DONE)
}

pub(super) fn copy_mem(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.guest.copy(args.get::<0>(), args.get::<1>(), args.get::<2>())?;
    Ok(DONE)
}

pub(super) fn set_mem(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.guest.fill(args.get::<0>(), args.get::<1>(), args.get::<2>() as u8)?;
    Ok(DONE)
}

impl Efi {
    /// Publishes a table for the OS, or takes it back with address 0.
    pub fn set_table(&mut self, guid: crate::abi::Guid, table: u64) -> Result<(), Status> {
        let known = self.tables.iter().position(|(g, _)| *g == guid);
        match (known, table) {
            (None, 0) => return Err(NOT_FOUND),
            (Some(at), 0) => drop(self.tables.remove(at)),
            (Some(at), _) => {
                if let Some(entry) = self.tables.get_mut(at) {
                    entry.1 = table;
                }
            }
            (None, _) => self.tables.push((guid, table)),
        }
        self.write_tables()
    }

    /// Ends the machine if the watchdog has not been heard of.
    pub fn watchdog_bites(&self) -> bool {
        self.watchdog.is_some_and(|at| Instant::now() >= at)
    }
}
