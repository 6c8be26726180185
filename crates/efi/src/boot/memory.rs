//! Memory (UEFI 7.2).

use std::collections::BTreeMap;

use crate::{
    abi::{BUFFER_TOO_SMALL, INVALID_PARAMETER, OUT_OF_RESOURCES, Status},
    call::{Args, DONE, Flow},
    efi::Efi,
    pages::{DESCRIPTOR, DESCRIPTOR_VERSION, PAGE, Where},
};

/// So many pieces of pool there may be; a loader has some hundred.
const MAX_POOLS: usize = 1 << 16;

/// What has been allocated from pools. Each allocation has whole pages: loaders make few, and one that writes past its end
/// harms itself only.
#[derive(Default)]
pub(crate) struct Pools(BTreeMap<u64, u64>);

pub(super) fn allocate_pages(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let at = efi.guest.u64(args.get::<3>())?;
    let place = match args.get::<0>() as u32 {
        0 => Where::Anywhere,
        1 => Where::Below(at),
        2 => Where::At(at),
        _ => return Err(INVALID_PARAMETER),
    };
    let start = efi.pages.allocate(place, args.get::<2>(), PAGE, args.get::<1>() as u32)?;
    efi.guest.put_u64(args.get::<3>(), start)?;
    Ok(DONE)
}

pub(super) fn free_pages(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.pages.free(args.get::<0>(), args.get::<1>())?;
    Ok(DONE)
}

pub(super) fn get_memory_map(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let map = efi.pages.descriptors();
    let (size, buffer) = (args.get::<0>(), args.get::<1>());
    let room = efi.guest.u64(size)?;
    efi.guest.put_u64(size, map.len() as u64)?;
    for (pointer, value) in [(args.get::<2>(), efi.pages.key()), (args.get::<3>(), DESCRIPTOR)] {
        if pointer != 0 {
            efi.guest.put_u64(pointer, value)?;
        }
    }
    if args.get::<4>() != 0 {
        efi.guest.put_u32(args.get::<4>(), DESCRIPTOR_VERSION)?;
    }
    if room < map.len() as u64 {
        return Err(BUFFER_TOO_SMALL);
    }
    efi.guest.write(buffer, &map)?;
    Ok(DONE)
}

pub(super) fn allocate_pool(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let start = efi.allocate_pool(args.get::<0>() as u32, args.get::<1>())?;
    efi.guest.put_u64(args.get::<2>(), start)?;
    Ok(DONE)
}

pub(super) fn free_pool(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.free_pool(args.get::<0>())?;
    Ok(DONE)
}

impl Efi {
    /// `size` bytes for the guest, which it may free.
    pub fn allocate_pool(&mut self, kind: u32, size: u64) -> Result<u64, Status> {
        if self.pools.0.len() >= MAX_POOLS {
            return Err(OUT_OF_RESOURCES);
        }
        let pages = size.max(1).div_ceil(PAGE);
        let start = self.pages.allocate(Where::Anywhere, pages, PAGE, kind)?;
        self.pools.0.insert(start, pages);
        Ok(start)
    }

    /// Bytes for the guest, which it may free.
    pub fn pool_with(&mut self, kind: u32, content: &[u8]) -> Result<u64, Status> {
        let start = self.allocate_pool(kind, content.len() as u64)?;
        self.guest.write(start, content)?;
        Ok(start)
    }

    pub fn free_pool(&mut self, start: u64) -> Result<(), Status> {
        let pages = self.pools.0.remove(&start).ok_or(INVALID_PARAMETER)?;
        // What the guest has freed by pages already is gone.
        self.pages.free(start, pages).map_err(|_| INVALID_PARAMETER)
    }
}
