use std::{io::Write as _, sync::Arc};

use tearless_storage::{OpenOptions, RawDisk};

use super::*;

const NOW: (u16, u16) = (0x5a00, 0x6000);

fn volume(content: &[u8]) -> Volume {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    Volume::whole(Arc::new(RawDisk::open(file.path(), OpenOptions::default()).unwrap()))
}

/// An empty file system with clusters of one sector.
fn empty(sectors: u32, fat_sectors: u32) -> Vec<u8> {
    let mut disk = vec![0; sectors as usize * 512];
    let is_32 = sectors > 65525;
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(11, &512u16.to_le_bytes());
    put(13, &[1]);
    put(14, &1u16.to_le_bytes());
    put(16, &[2]);
    put(17, &if is_32 { 0u16 } else { 16 }.to_le_bytes());
    put(32, &sectors.to_le_bytes());
    if is_32 {
        put(36, &fat_sectors.to_le_bytes());
        put(44, &2u32.to_le_bytes());
        let entry = [0xff; 4];
        put(512 + 8, &entry);
        put(512 * (1 + fat_sectors as usize) + 8, &entry);
    } else {
        put(22, &(fat_sectors as u16).to_le_bytes());
    }
    put(510, &[0x55, 0xaa]);
    disk
}

fn kinds() -> [Vec<u8>; 3] {
    [empty(2000, 6), empty(10_000, 40), empty(70_000, 550)]
}

#[test]
fn files_are_made_written_read_renamed_and_removed() {
    for content in kinds() {
        let volume = volume(&content);
        let mut fat = Fat::open(volume.clone()).unwrap();
        let (_, _, before) = fat.space().unwrap();
        let root = fat.root();
        let directory = fat.create(&root, "a directory", true, NOW).unwrap();
        let data: Vec<u8> = (0..5000u32).map(|i| (i % 253) as u8).collect();
        let mut file = fat.create(&directory, "Some file with a long name.conf", false, NOW).unwrap();
        fat.write(&mut file, 0, &data[..700]).unwrap();
        fat.write(&mut file, 700, &data[700..]).unwrap();

        let mut fat = Fat::open(volume).unwrap();
        let directory = fat.find(&fat.root(), "A DIRECTORY").unwrap();
        let mut file = fat.find(&directory, "some FILE with a long name.conf").unwrap();
        assert_eq!((file.size, file.modified), (5000, NOW));
        let mut back = vec![0; 6000];
        assert_eq!(fat.read(&file, 0, &mut back).unwrap(), 5000);
        assert_eq!(back[..5000], data);
        assert_eq!(fat.read(&file, 4000, &mut back).unwrap(), 1000);
        assert_eq!(back[..1000], data[4000..]);

        fat.resize(&mut file, 600).unwrap();
        fat.resize(&mut file, 1500).unwrap();
        assert_eq!(fat.read(&file, 0, &mut back).unwrap(), 1500);
        assert!(back[..600] == data[..600] && back[600..1500].iter().all(|b| *b == 0));
        let file = fat.rename(&directory, &file, "b").unwrap();
        let (listed, next) = fat.list(&directory, 64).unwrap().unwrap();
        assert_eq!(listed, file);
        assert_eq!(fat.list(&directory, next).unwrap(), None);
        fat.remove(&file).unwrap();
        assert_eq!(fat.find(&directory, "b").unwrap_err().kind(), io::ErrorKind::NotFound);
        fat.remove(&directory).unwrap();
        assert_eq!(fat.space().unwrap().2, before);
    }
}

#[test]
fn directories_grow_and_a_full_volume_says_so() {
    let mut fat = Fat::open(volume(&empty(2000, 6))).unwrap();
    let root = fat.root();
    let directory = fat.create(&root, "d", true, NOW).unwrap();
    for i in 0..200 {
        fat.create(&directory, &format!("file number {i}"), false, NOW).unwrap();
    }
    assert!(fat.find(&directory, "file number 199").is_ok());
    let mut big = fat.create(&root, "big", false, NOW).unwrap();
    assert_eq!(fat.resize(&mut big, 2 << 20).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let full = (0..).find_map(|i| fat.create(&root, &format!("{i}"), false, NOW).err()).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull, "a root of fixed size");
    for bad in ["", "a/b", "a\\b", "x.", "q?", &"n".repeat(256)] {
        assert_eq!(fat.create(&directory, bad, false, NOW).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn loops_end() {
    let mut content = empty(2000, 6);
    // The root has a directory whose only cluster leads to itself, and a file whose chain does.
    let root = 512 * 13;
    content[root..root + 11].copy_from_slice(b"D          ");
    content[root + 11] = DIRECTORY;
    content[root + 26] = 2;
    content[root + 32..root + 43].copy_from_slice(b"F          ");
    content[root + 58] = 2;
    content[root + 60..root + 64].copy_from_slice(&u32::MAX.to_le_bytes());
    content[512 + 3] = 2;
    // What the directory has are files without end.
    for entry in content[512 * 14..512 * 15].chunks_exact_mut(32) {
        entry[0] = b'x';
    }
    let mut fat = Fat::open(volume(&content)).unwrap();
    let root = fat.root();
    let directory = fat.find(&root, "d").unwrap();
    assert!(fat.find(&directory, "nothing").is_err());
    let file = fat.find(&root, "f").unwrap();
    let mut data = vec![0; 8192];
    assert!(fat.read(&file, 0, &mut data).is_ok(), "it does have these bytes, again and again");
    assert!(fat.read(&file, 0xf000_0000, &mut data).is_err(), "more than the volume has");
    let _ = fat.remove(&file);
}

#[test]
fn a_new_file_system_holds_files_in_folders() {
    for size in [3 << 20, 64 << 20, 513 << 20] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let volume = Volume::whole(Arc::new(RawDisk::open(file.path(), OpenOptions::default()).unwrap()));
        let mut fat = Fat::format(volume.clone(), "CIDATA").unwrap();
        fat.put("EFI/BOOT/a long name.efi", &[7; 5000], NOW).unwrap();
        fat.put("EFI/BOOT/b", b"b", NOW).unwrap();
        let mut fat = Fat::open(volume).unwrap();
        assert_eq!(fat.label(), "CIDATA");
        let efi = fat.find(&fat.root(), "efi").unwrap();
        let boot = fat.find(&efi, "boot").unwrap();
        let node = fat.find(&boot, "A long name.EFI").unwrap();
        let mut content = [0; 5001];
        assert_eq!((fat.read(&node, 0, &mut content).unwrap(), content[4999]), (5000, 7));
    }
}

#[test]
fn what_cannot_be_formatted_is_refused() {
    for (size, label) in [(1 << 20, "A"), (5 << 30, "A"), (3 << 20, "lower"), (3 << 20, "TWELVE CHARS")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let volume = Volume::whole(Arc::new(RawDisk::open(file.path(), OpenOptions::default()).unwrap()));
        assert!(Fat::format(volume, label).is_err(), "{size} {label}");
    }
}
