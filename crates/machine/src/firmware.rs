//! Firmware of another's making, on the board as it is on QEMU's `virt`: its code in flash at 0, where the first vCPU starts,
//! its variables in the flash behind, the device tree at the start of RAM, and what else it asks for in `fw_cfg`.

use std::sync::Arc;

use tearless_devices::{
    fw_cfg::{FwCfg, Items, Kernel},
    pflash::{Flash, Pflash},
};
use tearless_efi::Identity;
use tearless_engine::{Region, Vm};
use tearless_memory::GuestMemory;

use crate::{Error, Plan, board, build::Board, fdt, psci::Entry};

/// How long firmware waits for someone who wants its menu, in milliseconds. EDK2 counts in seconds.
const MENU_WAIT: u16 = 1000;

/// What a machine with firmware starts with.
#[derive(Clone)]
pub struct FirmwareBoot {
    /// The firmware's code, at most as much as the flash holds.
    pub code: Arc<[u8]>,
    /// Its variables.
    pub variables: Arc<Flash>,
    /// A kernel that it boots instead of what it finds on the disks.
    pub kernel: Option<Kernel>,
    /// Who the machine is.
    pub identity: Identity,
}

/// The devices that only a machine with firmware has.
pub(crate) struct FirmwareDevices {
    pub flash: Arc<Pflash>,
    pub fw_cfg: Arc<FwCfg>,
}

/// Maps the code. It cannot be changed: what is written there goes nowhere.
pub(crate) fn map_code(vm: &impl Vm, code: &[u8]) -> Result<(), Error> {
    let range = board::FLASH_CODE;
    if code.len() as u64 > range.end - range.start {
        return Err(Error::Board(format!(
            "firmware of {} bytes does not fit: the board's flash has {} MiB",
            code.len(),
            (range.end - range.start) >> 20
        )));
    }
    let memory = GuestMemory::new(std::slice::from_ref(&range))?;
    memory.write(range.start, code)?;
    Ok(vm.map(&Region { range, memory, writable: false })?)
}

impl Board {
    /// Adds what firmware finds on the board.
    pub(crate) fn add_firmware(
        &mut self,
        plan: &Plan,
        boot: &FirmwareBoot,
    ) -> Result<FirmwareDevices, Error> {
        let mut items = Items::new(plan.vcpus);
        items.set_menu_wait(MENU_WAIT);
        let (anchor, tables) = boot.identity.smbios();
        items.add_file("etc/smbios/smbios-anchor", anchor);
        items.add_file("etc/smbios/smbios-tables", tables);
        if let Some(kernel) = &boot.kernel {
            items.add_kernel(kernel);
        }
        let flash = Arc::new(Pflash::new(Arc::clone(&boot.variables)));
        let fw_cfg = Arc::new(FwCfg::new(items, self.memory.clone()));
        self.insert("flash", board::FLASH_VARIABLES, Arc::clone(&flash) as _)?;
        self.insert("fw_cfg", board::FW_CFG, Arc::clone(&fw_cfg) as _)?;
        Ok(FirmwareDevices { flash, fw_cfg })
    }
}

/// Puts the device tree where firmware expects it; returns where that starts.
pub(crate) fn load(plan: &Plan, memory: &GuestMemory) -> Result<Entry, Error> {
    memory.write(plan.ram.start, &fdt::for_firmware(plan)?)?;
    Ok(Entry { pc: board::FLASH_CODE.start.0, context: 0 })
}
