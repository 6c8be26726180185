//! The redistributors' frames, two for each vCPU (IHI 0069, 12.11).

use std::sync::Arc;

use tearless_arm64::gic::{IIDR_ARM, affinity, gicr};
use tearless_bus::{AccessError, MmioDevice};

use super::{Gic, Wakes, bank::Place, cpu::CpuState, distributor::identification_register, lpi::PendingLpis};
use crate::access::{fill, lock, value};

/// The 128 KiB of each vCPU, one after the other.
pub struct Frames(pub Arc<Gic>);

impl MmioDevice for Frames {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let (cpu, offset) = ((offset / gicr::SIZE) as usize, offset % gicr::SIZE);
        match offset.checked_sub(gicr::FRAME) {
            None => self.0.read_redistributor(cpu, offset, data),
            Some(offset) => self.0.read_private(cpu, offset, data),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let (cpu, offset) = ((offset / gicr::SIZE) as usize, offset % gicr::SIZE);
        match offset.checked_sub(gicr::FRAME) {
            None => self.0.write_redistributor(cpu, offset, data),
            Some(offset) => self.0.write_private(cpu, offset, data),
        }
    }
}

/// The register of 64 bits that an access of four or eight bytes goes to, and its first bit there.
pub fn wide(offset: u64, len: usize) -> Result<(u64, u32), AccessError> {
    if matches!(len, 4 | 8) && offset.is_multiple_of(len as u64) {
        Ok((offset & !7, (offset as u32 & 4) * 8))
    } else {
        Err(AccessError::Width)
    }
}

/// `register` with `data` written to it from bit `shift` on.
pub fn merge(register: u64, shift: u32, data: &[u8]) -> u64 {
    if data.len() == 8 { value(data) } else { register & !(0xffff_ffff << shift) | value(data) << shift }
}

impl Gic {
    fn read_redistributor(&self, cpu: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let slot = self.cpus.get(cpu).ok_or(AccessError::NoRegister)?;
        let registers = lock(&slot.state).redistributor;
        let lpis = self.its.is_some();
        let word = match offset {
            gicr::CTLR => registers.control | if lpis { gicr::CTLR_CES } else { 0 },
            gicr::IIDR => IIDR_ARM,
            gicr::STATUSR => 0,
            gicr::WAKER if registers.asleep => gicr::WAKER_SLEEP | gicr::WAKER_ASLEEP,
            gicr::WAKER => 0,
            _ => match identification_register(0x93, offset) {
                Some(id) => id,
                None => return self.read_wide(cpu, offset, data),
            },
        };
        if data.len() != 4 {
            return Err(AccessError::Width);
        }
        fill(data, word.into());
        Ok(())
    }

    fn read_wide(&self, cpu: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let (register, shift) = wide(offset, data.len())?;
        let slot = self.cpus.get(cpu).ok_or(AccessError::NoRegister)?;
        let lpis = self.its.is_some();
        let value = match register {
            gicr::TYPER => {
                let last = if cpu + 1 == self.cpus.len() { gicr::TYPER_LAST } else { 0 };
                gicr::TYPER_DPGS
                    | last
                    | if lpis { gicr::TYPER_PLPIS } else { 0 }
                    | (cpu as u64) << gicr::TYPER_NUMBER_SHIFT
                    | u64::from(affinity(cpu as u32)) << gicr::TYPER_AFFINITY_SHIFT
            }
            gicr::PROPBASER if lpis => lock(&slot.state).redistributor.propbaser,
            gicr::PENDBASER if lpis => lock(&slot.state).redistributor.pendbaser & gicr::PENDBASER_MASK,
            _ => return Err(AccessError::NoRegister),
        };
        fill(data, value >> shift);
        Ok(())
    }

    fn write_redistributor(&self, cpu: usize, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let slot = self.cpus.get(cpu).ok_or(AccessError::NoRegister)?;
        match (offset, data.len()) {
            (gicr::CTLR, 4) => {
                let mut wakes = Wakes::default();
                let control = value(data) as u32;
                self.update_cpu(cpu, &mut wakes, |state| self.write_control(cpu, state, control));
                self.wake_all(&wakes);
                self.update_taker(cpu);
                return Ok(());
            }
            (gicr::WAKER, 4) => {
                lock(&slot.state).redistributor.asleep = value(data) as u32 & gicr::WAKER_SLEEP != 0;
                return Ok(());
            }
            (gicr::IIDR | gicr::STATUSR, 4) => return Ok(()),
            _ => {}
        }
        let (register, shift) = wide(offset, data.len())?;
        let registers = &mut lock(&slot.state).redistributor;
        match register {
            gicr::TYPER => {}
            // Neither can change while the tables are in use.
            gicr::PROPBASER | gicr::PENDBASER if registers.lpis_enabled() => {}
            gicr::PROPBASER if self.its.is_some() => {
                registers.propbaser = merge(registers.propbaser, shift, data) & gicr::PROPBASER_MASK;
            }
            gicr::PENDBASER if self.its.is_some() => {
                let mask = gicr::PENDBASER_MASK | gicr::PENDBASER_ADDRESS | gicr::PENDBASER_PTZ;
                registers.pendbaser = merge(registers.pendbaser, shift, data) & mask;
            }
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }

    fn write_control(&self, cpu: usize, state: &mut CpuState, value: u32) {
        let lpis = if self.its.is_some() { gicr::CTLR_ENABLE_LPIS } else { 0 };
        let before = state.redistributor;
        state.redistributor.control = value & (lpis | gicr::CTLR_DPG0 | gicr::CTLR_DPG1);
        let (pendbaser, propbaser) = (before.pendbaser, before.propbaser);
        match (before.lpis_enabled(), state.redistributor.lpis_enabled()) {
            (false, true) => {
                self.lpi_config.load_all(&self.memory, propbaser);
                let zero = pendbaser & gicr::PENDBASER_PTZ != 0;
                state.lpi = if zero {
                    PendingLpis::default()
                } else {
                    PendingLpis::load(&self.memory, pendbaser, propbaser)
                };
            }
            (true, false) => {
                if !std::mem::take(&mut state.lpi).store(&self.memory, pendbaser, propbaser) {
                    tracing::debug!(cpu, pendbaser, "the LPI pending table is not RAM");
                }
                // From now on the table may be anything.
                state.redistributor.pendbaser &= !gicr::PENDBASER_PTZ;
            }
            _ => {}
        }
    }

    fn read_private(&self, cpu: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let place = private_place(offset, data.len())?;
        let slot = self.cpus.get(cpu).ok_or(AccessError::NoRegister)?;
        lock(&slot.state).private.read(place, data);
        Ok(())
    }

    fn write_private(&self, cpu: usize, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let place = private_place(offset, data.len())?;
        let mut wakes = Wakes::default();
        self.update_cpu(cpu, &mut wakes, |state| _ = state.private.write(place, data));
        self.wake_all(&wakes);
        Ok(())
    }
}

/// A register of the SGI frame, which has the private bank only.
fn private_place(offset: u64, len: usize) -> Result<Place, AccessError> {
    Place::decode(offset, len)
        .and_then(|place| if place.bank == 0 { Ok(place) } else { Err(AccessError::NoRegister) })
}
