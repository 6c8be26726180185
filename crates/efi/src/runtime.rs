//! Runtime services (UEFI 8), in the order of their table.
//!
//! The OS calls them with addresses of its own, that only its page tables know. So a call comes in three steps: what its
//! pointers point to is copied in by the guest's own instructions; the host does the work; the results are copied out.

use std::time::SystemTime;

use crate::{
    abi::{
        BUFFER_TOO_SMALL, Guid, INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES, SUCCESS, Status, UNSUPPORTED,
    },
    efi::Efi,
    stub::{action, frame, place},
    time::Time,
    variables::{MAX_DATA, MAX_NAME, MAX_STORE, NON_VOLATILE, Name},
};

/// How many there are.
pub(crate) const COUNT: u16 = 14;

const GET_TIME: u16 = 0;
const SET_VIRTUAL_ADDRESS_MAP: u16 = 4;
const GET_VARIABLE: u16 = 6;
const GET_NEXT_VARIABLE_NAME: u16 = 7;
const SET_VARIABLE: u16 = 8;
const GET_NEXT_HIGH_MONOTONIC_COUNT: u16 = 9;
const RESET_SYSTEM: u16 = 10;
const QUERY_VARIABLE_INFO: u16 = 13;

/// `EFI_RT_PROPERTIES_TABLE` (4.6): time, variables, addresses, reset, room for variables.
pub(crate) const SUPPORTED: u32 = 0x1 | 0x10 | 0x20 | 0x40 | 0x80 | 0x200 | 0x1000;

const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;
const PSCI_SYSTEM_RESET: u64 = 0x8400_0009;

/// In the region for inputs: a name, a GUID, a length.
const NAME: u64 = place::INPUTS;
const GUID: u64 = place::INPUTS + 0x1000;
const LEN: u64 = GUID + 16;
/// Bytes for small outputs.
const OUT: u64 = GUID + 0x100;

/// To, from, length, and whether it is text.
type Copy = [u64; 4];

/// Where a call is.
#[derive(Default)]
pub(crate) enum Stage {
    #[default]
    Idle,
    /// Inputs are on their way.
    Inputs(u16, [u64; 6]),
    /// Outputs are on their way; the result waits.
    Outputs(u64),
}

impl Efi {
    /// The guest calls a runtime service.
    pub fn runtime_called(&mut self) {
        let at = self.runtime().start + place::RUNTIME_FRAME;
        let mut x = [0; 6];
        for (slot, offset) in x.iter_mut().zip((at..).step_by(8)) {
            *slot = self.guest.u64(offset).unwrap_or(0);
        }
        let number = self.guest.u64(at + frame::NUMBER).unwrap_or(0) as u16 % 64;
        tracing::trace!(number, ?x, "EFI runtime");
        match self.inputs(number, &x) {
            Err(status) => self.runtime_done(status.0),
            Ok(copies) if copies.is_empty() => self.runtime_work(number, &x),
            Ok(copies) => {
                self.stage = Stage::Inputs(number, x);
                self.runtime_copy(&copies);
            }
        }
    }

    /// The guest has done the copies of a runtime service.
    pub fn runtime_copied(&mut self) {
        match std::mem::take(&mut self.stage) {
            Stage::Idle => self.runtime_done(INVALID_PARAMETER.0),
            Stage::Inputs(number, x) => self.runtime_work(number, &x),
            Stage::Outputs(result) => self.runtime_done(result),
        }
    }

    fn runtime_put(&self, words: &[(u64, u64)]) {
        let at = self.runtime().start + place::RUNTIME_FRAME;
        for (offset, word) in words {
            // The region is RAM.
            let _ = self.guest.put_u64(at + offset, *word);
        }
    }

    fn runtime_done(&mut self, result: u64) {
        self.runtime_put(&[(frame::ARGS, result), (frame::ACTION, action::RETURN)]);
    }

    /// Has the guest copy. An address below the region's size is one of ours.
    fn runtime_copy(&mut self, copies: &[Copy]) {
        let ours = |at: u64| if at < place::SIZE { self.runtime_base + at } else { at };
        let mut words = vec![(frame::ACTION, action::COPY), (frame::TARGET, copies.len() as u64)];
        for ([to, from, len, text], offset) in copies.iter().zip((frame::COPIES..).step_by(32)) {
            let entry = [ours(*to), ours(*from), *len, *text];
            words.extend((offset..).step_by(8).zip(entry));
        }
        self.runtime_put(&words);
    }

    /// What a service wants to have copied in.
    fn inputs(&self, number: u16, x: &[u64; 6]) -> Result<Vec<Copy>, Status> {
        let name = |from| [NAME, from, MAX_NAME as u64 + 1, 1];
        let guid = |from| [GUID, from, 16, 0];
        let len = |from| [LEN, from, 8, 0];
        let present = |pointers: &[u64]| pointers.iter().all(|p| *p != 0);
        match number {
            GET_VARIABLE | GET_NEXT_VARIABLE_NAME | SET_VARIABLE if !present(&x[..2]) => {
                Err(INVALID_PARAMETER)
            }
            GET_VARIABLE if !present(&x[3..4]) => Err(INVALID_PARAMETER),
            GET_VARIABLE => Ok(vec![name(x[0]), guid(x[1]), len(x[3])]),
            GET_NEXT_VARIABLE_NAME if x[2] == 0 => Err(INVALID_PARAMETER),
            GET_NEXT_VARIABLE_NAME => Ok(vec![len(x[0]), name(x[1]), guid(x[2])]),
            SET_VARIABLE if x[3] > MAX_DATA as u64 => Err(OUT_OF_RESOURCES),
            SET_VARIABLE if x[3] > 0 && x[4] == 0 => Err(INVALID_PARAMETER),
            SET_VARIABLE => Ok(vec![name(x[0]), guid(x[1]), [place::DATA, x[4], x[3], 0]]),
            GET_TIME if x[0] == 0 => Err(INVALID_PARAMETER),
            QUERY_VARIABLE_INFO if !present(&x[1..4]) => Err(INVALID_PARAMETER),
            GET_NEXT_HIGH_MONOTONIC_COUNT if x[0] == 0 => Err(INVALID_PARAMETER),
            _ => Ok(Vec::new()),
        }
    }

    /// All inputs are there.
    fn runtime_work(&mut self, number: u16, x: &[u64; 6]) {
        if number == RESET_SYSTEM {
            let function = if x[0] as u32 == 2 { PSCI_SYSTEM_OFF } else { PSCI_SYSTEM_RESET };
            return self.runtime_put(&[(frame::ACTION, action::HVC), (frame::TARGET, function)]);
        }
        let mut copies = Vec::new();
        let result = match number {
            GET_TIME => self.get_time(x, &mut copies),
            SET_VIRTUAL_ADDRESS_MAP => self.set_virtual_address_map(x),
            GET_VARIABLE => self.get_variable(x, &mut copies),
            GET_NEXT_VARIABLE_NAME => self.get_next_variable_name(x, &mut copies),
            SET_VARIABLE => self.set_variable(x),
            GET_NEXT_HIGH_MONOTONIC_COUNT => self.get_high_count(x, &mut copies),
            QUERY_VARIABLE_INFO => self.query_variable_info(x, &mut copies),
            _ => Err(UNSUPPORTED),
        };
        let result = result.map_or_else(|status| status.0, |()| SUCCESS);
        if copies.is_empty() {
            return self.runtime_done(result);
        }
        self.stage = Stage::Outputs(result);
        self.runtime_copy(&copies);
    }

    /// Leaves bytes at one of our addresses and has them copied out.
    fn output(&self, (at, to): (u64, u64), bytes: &[u8], copies: &mut Vec<Copy>) -> Result<(), Status> {
        self.guest.write(self.runtime().start + at, bytes)?;
        copies.push([to, at, bytes.len() as u64, 0]);
        Ok(())
    }

    fn variable_name(&self) -> Result<Name, Status> {
        let base = self.runtime().start;
        let guid: Guid = self.guest.guid(base + GUID)?;
        Ok((guid, self.guest.text(base + NAME, MAX_NAME as u64)?))
    }

    fn is_runtime(&self) -> bool {
        self.phase != crate::efi::Phase::Boot
    }

    fn get_time(&mut self, x: &[u64; 6], copies: &mut Vec<Copy>) -> Result<(), Status> {
        self.output((OUT, x[0]), &Time::of(SystemTime::now()).efi(), copies)?;
        if x[1] != 0 {
            // Once a second, exact, and setting it is not supported.
            let capabilities = [1u32, 0, 0].map(u32::to_le_bytes).concat();
            self.output((OUT + 16, x[1]), &capabilities, copies)?;
        }
        Ok(())
    }

    fn get_variable(&mut self, x: &[u64; 6], copies: &mut Vec<Copy>) -> Result<(), Status> {
        let name = self.variable_name()?;
        let room = self.guest.u64(self.runtime().start + LEN)?;
        let (attributes, data) = self.variables.get(&name, self.is_runtime()).ok_or(NOT_FOUND)?;
        if x[2] != 0 {
            self.output((OUT, x[2]), &attributes.to_le_bytes(), copies)?;
        }
        self.output((OUT + 8, x[3]), &(data.len() as u64).to_le_bytes(), copies)?;
        if room < data.len() as u64 {
            return Err(BUFFER_TOO_SMALL);
        }
        if x[4] == 0 {
            return Err(INVALID_PARAMETER);
        }
        self.output((place::DATA, x[4]), &data, copies)
    }

    fn get_next_variable_name(&mut self, x: &[u64; 6], copies: &mut Vec<Copy>) -> Result<(), Status> {
        let room = self.guest.u64(self.runtime().start + LEN)?;
        let (guid, name) = self.variables.next(&self.variable_name()?, self.is_runtime())?;
        let name: Vec<u8> = name.into_iter().chain([0]).flat_map(u16::to_le_bytes).collect();
        self.output((OUT, x[0]), &(name.len() as u64).to_le_bytes(), copies)?;
        if room < name.len() as u64 {
            return Err(BUFFER_TOO_SMALL);
        }
        self.output((place::DATA, x[1]), &name, copies)?;
        self.output((OUT + 8, x[2]), &guid.0, copies)
    }

    fn set_variable(&mut self, x: &[u64; 6]) -> Result<(), Status> {
        let name = self.variable_name()?;
        let data = self.guest.bytes(self.runtime().start + place::DATA, x[3])?;
        self.variables.set(&name, x[2] as u32, &data, self.is_runtime())
    }

    fn get_high_count(&mut self, x: &[u64; 6], copies: &mut Vec<Copy>) -> Result<(), Status> {
        self.count = ((self.count >> 32) + 1) << 32;
        self.output((OUT, x[0]), &((self.count >> 32) as u32).to_le_bytes(), copies)
    }

    fn query_variable_info(&mut self, x: &[u64; 6], copies: &mut Vec<Copy>) -> Result<(), Status> {
        let attributes = x[0] as u32;
        let used = self.variables.used(attributes & NON_VOLATILE);
        let left = MAX_STORE.saturating_sub(used);
        for (index, (to, value)) in (0..).zip([(x[1], MAX_STORE), (x[2], left), (x[3], MAX_DATA)]) {
            self.output((OUT + 8 * index, to), &(value as u64).to_le_bytes(), copies)?;
        }
        Ok(())
    }

    /// The OS says where it has mapped what it keeps of ours.
    fn set_virtual_address_map(&mut self, x: &[u64; 6]) -> Result<(), Status> {
        let [size, step, version, map, ..] = *x;
        if !self.is_runtime() || self.runtime_base != self.runtime().start {
            return Err(UNSUPPORTED);
        }
        if version != u64::from(crate::pages::DESCRIPTOR_VERSION)
            || step < 40
            || size > 1 << 20
            || size % step != 0
        {
            return Err(INVALID_PARAMETER);
        }
        let mut moves = Vec::new();
        for at in (0..size / step).map(|index| map.wrapping_add(index * step)) {
            let word = |offset: u64| self.guest.u64(at.wrapping_add(offset));
            moves.push((word(8)?, word(16)?, word(24)?.saturating_mul(crate::pages::PAGE)));
        }
        let moved = move |address: u64| {
            let of = |(from, to, len): &(u64, u64, u64)| {
                let offset = address.checked_sub(*from).filter(|offset| offset < len)?;
                to.checked_add(offset)
            };
            moves.iter().find_map(of)
        };
        let region = self.runtime();
        let (Some(base), Some(_)) = (moved(region.start), moved(self.doorbell())) else {
            return Err(NOT_FOUND);
        };
        self.runtime_base = base;
        self.relocate(moved)
    }
}
