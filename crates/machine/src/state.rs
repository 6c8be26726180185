//! A machine that is saved, and one that goes on.
//!
//! ```text
//!   pause ──► quiesce ──► Still: outline, parts, memory ──► dropped: the devices go on; resume: the vCPUs too
//!             devices take no new requests and finish those in progress
//! ```
//! Going on is a new machine ([`Machine::restore`](crate::Machine::restore)) whose devices are told what they were before
//! anything runs. The interrupt controller comes last, so that what the others signal meanwhile is not taken twice; then all
//! drive their lines.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tearless_arm64::SysReg;
use tearless_engine::VcpuState;
use tearless_memory::{Gpa, GuestMemory};
use tearless_state::{Encoded, Machine as Outline, Parts, StateError};
use tearless_storage::Disk;

use crate::{
    Handle,
    build::Devices,
    firmware::FirmwareDevices,
    gate::Stopped,
    psci::{CpuPower, Power},
    vcpu_loop::Restored,
};

/// The versions of the formats of what is here.
const VCPUS_VERSION: u32 = 1;
const VCPU_VERSION: u32 = 1;

const VCPUS: &str = "vcpus";
const FIRMWARE: &str = "efi";
const FLASH: &str = "flash";
const FW_CFG: &str = "fw-cfg";

/// What the vCPUs have in common.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedVcpus {
    power: Vec<CpuPower>,
    /// For how long the counter has counted, in nanoseconds.
    counted: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedVcpu {
    x: [u64; 31],
    sp_el0: u64,
    sp_el1: u64,
    pc: u64,
    pstate: u32,
    /// Lower and upper half.
    v: Vec<(u64, u64)>,
    fpcr: u32,
    fpsr: u32,
    /// By encoding, as [`SysReg`].
    sys: Vec<(u16, u64)>,
}

impl From<VcpuState> for SavedVcpu {
    fn from(state: VcpuState) -> Self {
        let VcpuState { x, sp_el0, sp_el1, pc, pstate, v, fpcr, fpsr, sys } = state;
        let v = v.iter().map(|v| (*v as u64, (*v >> 64) as u64)).collect();
        let sys = sys.into_iter().map(|(reg, value)| (reg.0, value)).collect();
        Self { x, sp_el0, sp_el1, pc, pstate, v, fpcr, fpsr, sys }
    }
}

impl TryFrom<SavedVcpu> for VcpuState {
    type Error = StateError;

    fn try_from(saved: SavedVcpu) -> Result<Self, StateError> {
        let SavedVcpu { x, sp_el0, sp_el1, pc, pstate, v, fpcr, fpsr, sys } = saved;
        let v: Vec<_> = v.into_iter().map(|(low, high)| u128::from(high) << 64 | u128::from(low)).collect();
        let v = v.try_into().map_err(|_| StateError::malformed("there are 32 vector registers"))?;
        let sys = sys.into_iter().map(|(reg, value)| (SysReg(reg), value)).collect();
        Ok(Self { x, sp_el0, sp_el1, pc, pstate, v, fpcr, fpsr, sys })
    }
}

fn vcpu_name(index: usize) -> String {
    format!("vcpu/{index}")
}

/// Takes the vCPUs of a machine with `vcpus` of them from `parts`.
pub(crate) fn take_vcpus(parts: &mut Parts, vcpus: u32) -> Result<(Power, Restored), StateError> {
    let saved: SavedVcpus = parts.take(VCPUS)?.decode(VCPUS_VERSION).map_err(|e| e.of(VCPUS))?;
    if saved.power.len() != vcpus as usize {
        let why = format!("it was saved with {} vCPUs, and is to have {vcpus} now", saved.power.len());
        return Err(StateError::Differs(why));
    }
    let mut states = Vec::new();
    for (index, power) in saved.power.iter().enumerate() {
        let name = vcpu_name(index);
        let state = match power {
            CpuPower::On => {
                let saved: SavedVcpu = parts.take(&name)?.decode(VCPU_VERSION).map_err(|e| e.of(&name))?;
                Some(VcpuState::try_from(saved).map_err(|e| e.of(&name))?)
            }
            CpuPower::Off | CpuPower::OnPending(_) => None,
        };
        states.push(state);
    }
    let restored = Restored {
        vcpus: states.into(),
        counted: Duration::from_nanos(saved.counted),
        at: std::sync::OnceLock::new(),
    };
    Ok((Power::restored(saved.power), restored))
}

/// A machine that stands still altogether. Dropped, its devices go on; its vCPUs wait for [`Handle::resume`].
#[must_use]
pub struct Still {
    handle: Handle,
    ended: bool,
}

impl Drop for Still {
    fn drop(&mut self) {
        if !self.ended {
            self.handle.devices.pci.proceed(false);
        }
    }
}

impl Still {
    /// The outline of the machine, which the engine called `engine` runs, and the state of its parts.
    ///
    /// # Errors
    /// When a part cannot tell its state, or the machine ends meanwhile.
    pub fn save(&self, engine: &str) -> Result<(Outline, Parts), StateError> {
        let (shared, devices) = (&self.handle.shared, &self.handle.devices);
        let mut parts = Parts::default();
        if let Some(firmware) = &devices.firmware {
            parts.put(FIRMWARE, firmware.save()?);
        }
        self.save_vcpus(&mut parts)?;
        devices.pci.save(&mut parts)?;
        parts.put("uart", devices.uart.save()?);
        parts.put("rtc", devices.rtc.save()?);
        parts.put("gpio", devices.gpio.save()?);
        if let Some(FirmwareDevices { flash, fw_cfg }) = &devices.flashed {
            parts.put(FLASH, flash.save()?);
            parts.put(FW_CFG, fw_cfg.save()?);
        }
        parts.put("gic", shared.gic.save()?);
        Ok((devices.outline(engine), parts))
    }

    fn save_vcpus(&self, parts: &mut Parts) -> Result<(), StateError> {
        let shared = &self.handle.shared;
        let power = shared.power.save();
        let on: Vec<_> = power.iter().map(|power| *power == CpuPower::On).collect();
        let ended = || StateError::Busy("the machine has ended, or is not paused".to_owned());
        let stopped = shared.gate.collect(&on).ok_or_else(ended)?;
        let mut counted = Duration::ZERO;
        // One that came on since is saved as it was seen first: about to start.
        for (index, (stopped, _)) in stopped.into_iter().zip(on).enumerate().filter(|(_, (_, on))| *on) {
            let Some(stopped) = stopped else { continue };
            let Stopped { state, counted: here } = stopped.map_err(StateError::Busy)?;
            // They differ by how long it took to ask them.
            counted = counted.max(here);
            parts.put(vcpu_name(index), Encoded::new(VCPU_VERSION, &SavedVcpu::from(state))?);
        }
        let counted = u64::try_from(counted.as_nanos()).unwrap_or(u64::MAX);
        parts.put(VCPUS, Encoded::new(VCPUS_VERSION, &SavedVcpus { power, counted })?);
        Ok(())
    }

    /// Ends the machine, whose state is safe. Its devices do nothing any more: what they would do is in the state.
    pub fn end(mut self) {
        self.ended = true;
        self.handle.suspend();
    }

    /// The RAM, and where it starts and how long it is.
    pub fn memory(&self) -> (&GuestMemory, (Gpa, u64)) {
        (&self.handle.devices.memory, self.handle.devices.ram())
    }

    /// Has the guest go on with `disk` in the place of disk `index`: a new layer, which has the same content.
    ///
    /// # Errors
    /// When there is no such disk.
    pub fn replace_disk(&self, index: usize, disk: Arc<dyn Disk>) -> Result<(), StateError> {
        let device = self.handle.devices.disks.get(index);
        let device = device.ok_or_else(|| StateError::Busy(format!("there is no disk {index}")))?;
        device.replace_disk(disk);
        Ok(())
    }

    /// Makes all durable that the guest has written to its disks.
    ///
    /// # Errors
    /// What the host says.
    pub fn flush_disks(&self) -> Result<(), StateError> {
        let flush = |disk: &Arc<tearless_virtio::blk::Blk>| disk.flush();
        self.handle
            .devices
            .disks
            .iter()
            .try_for_each(flush)
            .map_err(|e| StateError::Busy(format!("a disk cannot be flushed: {e}")))
    }
}

impl Devices {
    pub(crate) fn ram(&self) -> (Gpa, u64) {
        let ram = &self.plan.ram;
        (ram.start, ram.end - ram.start)
    }

    pub(crate) fn outline(&self, engine: &str) -> Outline {
        Outline {
            engine: engine.to_owned(),
            vcpus: self.plan.vcpus,
            memory: self.ram().1,
            devices: self.pci.outline(),
        }
    }
}

impl Handle {
    /// The disks as they are now: a snapshot puts new layers in their place.
    pub fn disks(&self) -> Vec<Arc<dyn Disk>> {
        self.devices.disks.iter().map(|disk| disk.disk()).collect()
    }

    /// Has the devices finish what the guest asked for, until `deadline`, and then stand still as the vCPUs do, which are
    /// paused.
    ///
    /// # Errors
    /// When a device has something in progress that takes longer and cannot be repeated; then all devices go on.
    pub fn quiesce(&self, deadline: Instant) -> Result<Still, StateError> {
        let still = Still { handle: self.clone(), ended: false };
        still.handle.devices.pci.quiesce(deadline)?;
        Ok(still)
    }

    /// Gives the devices their states.
    pub(crate) fn restore(&self, mut parts: Parts) -> Result<(), StateError> {
        let devices = &self.devices;
        devices.pci.restore(&mut parts)?;
        let mut give = |name: &str, restore: &dyn Fn(&Encoded) -> Result<(), StateError>| {
            restore(&parts.take(name)?).map_err(|e| e.of(name))
        };
        give("uart", &|state| devices.uart.restore(state))?;
        give("rtc", &|state| devices.rtc.restore(state))?;
        give("gpio", &|state| devices.gpio.restore(state))?;
        if let Some(firmware) = &devices.firmware {
            give(FIRMWARE, &|state| firmware.restore(state))?;
        }
        if let Some(FirmwareDevices { flash, fw_cfg }) = &devices.flashed {
            give(FLASH, &|state| flash.restore(state))?;
            give(FW_CFG, &|state| fw_cfg.restore(state))?;
        }
        give("gic", &|state| self.shared.gic.restore(state))?;
        parts.finish()?;
        devices.uart.drive();
        devices.rtc.drive();
        devices.gpio.drive();
        Ok(())
    }
}
