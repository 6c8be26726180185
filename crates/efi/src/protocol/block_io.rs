//! `EFI_BLOCK_IO_PROTOCOL` and `EFI_DISK_IO_PROTOCOL` (UEFI 13.9, 13.7), for disks and their partitions.

use std::{io, sync::Arc};

use tearless_storage::Disk;

use crate::{
    abi::{BAD_BUFFER_SIZE, DEVICE_ERROR, INVALID_PARAMETER, Status, WRITE_PROTECTED, guid},
    call::{Args, DONE, Flow, Service},
    device_path,
    efi::Efi,
    media::{Volume, fat::Fat, partition},
    service::Group,
};

pub(crate) const METHODS: [Service; 4] = [|_, _| Ok(DONE), read_blocks, write_blocks, flush_blocks];
pub(crate) const DISK_METHODS: [Service; 2] = [read_disk, write_disk];

const BLOCK: u64 = 512;
const REVISION: u64 = 0x1_0000;
/// As many file systems as are mounted; a hostile table may have many partitions.
const MAX_MOUNTED: usize = 32;

fn device_error(error: &io::Error) -> Status {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return WRITE_PROTECTED;
    }
    tracing::warn!(%error, "a disk failed while EFI used it");
    DEVICE_ERROR
}

impl Efi {
    /// Makes handles for a disk in a slot and for its partitions, and mounts their file systems.
    pub fn add_disk(&mut self, disk: Arc<dyn Disk>, slot: u8) -> Result<(), Status> {
        let whole = Volume::whole(disk);
        let path = device_path::pci(slot);
        self.add_volume(&whole, &path, false)?;
        for part in partition::partitions(&whole) {
            if let Some(volume) = whole.part(part.start, part.len) {
                let path = [&path[..], &device_path::partition(&part)].concat();
                self.add_volume(&volume, &path, true)?;
            }
        }
        Ok(())
    }

    fn add_volume(&mut self, volume: &Volume, path: &[u8], is_partition: bool) -> Result<(), Status> {
        // Media: identifier, removable, present, partition, read-only, caches writes; block size and alignment; last block.
        let flags = [0, 1, is_partition.into(), volume.read_only().into(), 0, 0, 0, 0];
        let last = (volume.len() / BLOCK).saturating_sub(1);
        let words =
            [u64::from_le_bytes([0, 0, 0, 0, flags[0], flags[1], flags[2], flags[3]]), BLOCK << 32, 0, last];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        let media = self.place(&bytes)?;
        let block_io = self.interface(&[REVISION, media], Group::BlockIo, &[])?;
        let disk_io = self.interface(&[REVISION], Group::DiskIo, &[])?;
        let full_path = self.place(&[path, &device_path::END_NODE].concat())?;
        let handle = self.install(0, guid::DEVICE_PATH, full_path)?;
        self.install(handle, guid::BLOCK_IO, block_io)?;
        self.install(handle, guid::DISK_IO, disk_io)?;
        self.objects.volumes.insert(block_io, volume.clone());
        self.objects.volumes.insert(disk_io, volume.clone());
        match Fat::open(volume.clone()) {
            Ok(fat) if self.objects.mounted.len() < MAX_MOUNTED => self.add_file_system(handle, fat)?,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, path = device_path::text(path), "no file system"),
        }
        Ok(())
    }

    fn volume(&self, this: u64) -> Result<Volume, Status> {
        self.objects.volumes.get(&this).cloned().ok_or(INVALID_PARAMETER)
    }

    pub fn flush_disks(&self) {
        for volume in self.objects.volumes.values() {
            if let Err(error) = volume.flush() {
                tracing::warn!(%error, "a disk failed as EFI handed over to the OS");
            }
        }
    }

    fn transfer(
        &self,
        volume: &Volume,
        offset: u64,
        (buffer, len): (u64, u64),
        write: bool,
    ) -> Result<Flow, Status> {
        if offset.checked_add(len).is_none_or(|end| end > volume.len()) {
            return Err(INVALID_PARAMETER);
        }
        if write {
            self.guest.for_pieces(buffer, len, |done, part| {
                volume.write(offset + done, part).map_err(|e| device_error(&e))
            })?;
        } else {
            self.guest.in_pieces(buffer, len, |done, part| {
                volume.read(offset + done, part).map_err(|e| device_error(&e))
            })?;
        }
        Ok(DONE)
    }

    fn blocks(&self, args: &Args, write: bool) -> Result<Flow, Status> {
        let (lba, len, buffer) = (args.get::<2>(), args.get::<3>(), args.get::<4>());
        let volume = self.volume(args.get::<0>())?;
        if !len.is_multiple_of(BLOCK) {
            return Err(BAD_BUFFER_SIZE);
        }
        let offset = lba.checked_mul(BLOCK).ok_or(INVALID_PARAMETER)?;
        self.transfer(&volume, offset, (buffer, len), write)
    }

    fn bytes(&self, args: &Args, write: bool) -> Result<Flow, Status> {
        let volume = self.volume(args.get::<0>())?;
        self.transfer(&volume, args.get::<2>(), (args.get::<4>(), args.get::<3>()), write)
    }
}

fn read_blocks(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.blocks(args, false)
}

fn write_blocks(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.blocks(args, true)
}

fn flush_blocks(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.volume(args.get::<0>())?.flush().map_err(|e| device_error(&e))?;
    Ok(DONE)
}

fn read_disk(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.bytes(args, false)
}

fn write_disk(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.bytes(args, true)
}
