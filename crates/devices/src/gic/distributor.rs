//! The distributor's frame (IHI 0069, 12.9).

use std::sync::Arc;

use tearless_arm64::gic::{ID_REGISTERS, IIDR_ARM, SPI_BASE, gicd, identification};
use tearless_bus::{AccessError, MmioDevice};

use super::{Gic, Wakes, bank::Place, lpi};
use crate::access::{fill, lock, value};

/// The 64 KiB of the distributor.
pub struct Frame(pub Arc<Gic>);

impl MmioDevice for Frame {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        if let Some((intid, shift)) = router_register(offset, data.len()) {
            fill(data, lock(&self.0.distributor).router(intid) >> shift);
            return Ok(());
        }
        if let Some(word) = self.0.distributor_word(offset) {
            if data.len() != 4 {
                return Err(AccessError::Width);
            }
            fill(data, word.into());
            return Ok(());
        }
        let place = Place::decode(offset, data.len())?;
        lock(&self.0.distributor).read(place, data);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let gic = &self.0;
        if let Some((intid, shift)) = router_register(offset, data.len()) {
            gic.write_router(intid, shift, data);
            return Ok(());
        }
        match (offset, data.len()) {
            (gicd::CTLR, 4) => gic.write_groups(value(data) as u32),
            (gicd::SETSPI_NSR, 2 | 4) => gic.message_spi(value(data) as u32, true),
            (gicd::CLRSPI_NSR, 2 | 4) => gic.message_spi(value(data) as u32, false),
            (gicd::SETSPI_SR | gicd::CLRSPI_SR, 2 | 4) => {}
            _ if gic.distributor_word(offset).is_some() => {}
            (_, len) => gic.write_bank(Place::decode(offset, len)?, data),
        }
        Ok(())
    }
}

/// The INTID whose `GICD_IROUTER` is accessed, and the first bit of the access in it.
fn router_register(offset: u64, len: usize) -> Option<(u32, u32)> {
    let within = offset.checked_sub(gicd::IROUTER)?;
    let whole = matches!(len, 4 | 8) && offset.is_multiple_of(len as u64);
    (within < 8 * 1020 && whole).then_some(((within / 8) as u32, (within as u32 & 4) * 8))
}

/// The identification register at `offset` of a frame whose part number ends in `part`.
pub fn identification_register(part: u8, offset: u64) -> Option<u32> {
    let index = offset.checked_sub(ID_REGISTERS)?;
    let registers = identification(part);
    registers.get((index / 4) as usize).filter(|_| index.is_multiple_of(4)).map(|id| u32::from(*id))
}

impl Gic {
    /// The registers that are words and not in the banks.
    fn distributor_word(&self, offset: u64) -> Option<u32> {
        Some(match offset {
            gicd::CTLR => u32::from(lock(&self.distributor).groups) | gicd::CTLR_ARE | gicd::CTLR_DS,
            gicd::TYPER => {
                let lpis = if self.its.is_some() { gicd::TYPER_LPIS } else { 0 };
                lock(&self.distributor).lines_number()
                    | gicd::TYPER_MBIS
                    | lpis
                    | (lpi::ID_BITS - 1) << gicd::TYPER_IDBITS_SHIFT
            }
            gicd::IIDR => IIDR_ARM,
            gicd::TYPER2 | gicd::STATUSR => 0,
            gicd::SGIR..gicd::SGIR_END if offset.is_multiple_of(4) => 0,
            _ => return identification_register(0x92, offset),
        })
    }

    fn write_groups(&self, value: u32) {
        let groups = (value & (gicd::CTLR_ENABLE_GRP0 | gicd::CTLR_ENABLE_GRP1)) as u8;
        let mut wakes = Wakes::default();
        let mut spis = lock(&self.distributor);
        spis.groups = groups;
        for cpu in 0..self.cpus.len() {
            let best = spis.best(cpu);
            self.update_cpu(cpu, &mut wakes, |state| {
                state.forwarded = groups;
                state.spi = best;
            });
        }
        drop(spis);
        self.wake_all(&wakes);
    }

    fn message_spi(&self, value: u32, raise: bool) {
        let intid = value & 0x1fff;
        let mut wakes = Wakes::default();
        let mut spis = lock(&self.distributor);
        spis.message(intid, raise);
        self.refresh_target(&spis, intid, &mut wakes);
        drop(spis);
        self.wake_all(&wakes);
    }

    fn write_bank(&self, place: Place, data: &[u8]) {
        let mut wakes = Wakes::default();
        let mut spis = lock(&self.distributor);
        let (base, mut changed) = spis.write(place, data);
        if changed != 0 && spis.reroute(base, 32) {
            self.refresh_all(&spis, &mut wakes);
            changed = 0;
        }
        let mut last = None;
        while changed != 0 {
            let target = spis.target(base + changed.trailing_zeros());
            changed &= changed - 1;
            if let Some(cpu) = target.filter(|_| target != last) {
                self.refresh(&spis, cpu, &mut wakes);
                last = target;
            }
        }
        drop(spis);
        self.wake_all(&wakes);
    }

    fn write_router(&self, intid: u32, shift: u32, data: &[u8]) {
        if intid < SPI_BASE {
            return;
        }
        let mut wakes = Wakes::default();
        let mut spis = lock(&self.distributor);
        let before = spis.target(intid);
        let written = if data.len() == 8 { u64::MAX } else { 0xffff_ffff << shift };
        let router = spis.router(intid) & !written | value(data) << shift;
        spis.set_router(intid, router);
        for cpu in before.into_iter().chain(spis.target(intid)) {
            self.refresh(&spis, cpu, &mut wakes);
        }
        drop(spis);
        self.wake_all(&wakes);
    }
}
