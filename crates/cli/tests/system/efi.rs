//! Systems that boot through EFI in the VMM.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::Arc,
};

use tearless_efi::media::{Volume, fat::Fat};
use tearless_image::{QuickOptions, Silent, quick_boot};
use tearless_vm::storage::{OpenOptions, open};

use crate::tool::Tool;

const NOW: (u16, u16) = (0x5a21, 0);

/// An empty FAT16 file system of 64 MiB, with clusters of 2 KiB.
fn format(path: &Path) {
    const SECTORS: u32 = 64 << 11;
    let mut disk = vec![0; SECTORS as usize * 512];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(11, &[0, 2, 4, 1, 0, 2, 0, 2]);
    put(22, &128u16.to_le_bytes());
    put(32, &SECTORS.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    std::fs::write(path, disk).unwrap();
}

/// Puts a file onto the file system at `path`, in the folder where EFI looks.
fn install(path: &Path, name: &str, content: &[u8]) {
    let disk = open(path, OpenOptions::default()).unwrap();
    let mut fat = Fat::open(Volume::whole(Arc::clone(&disk))).unwrap();
    let efi = fat.create(&fat.root(), "EFI", true, NOW).unwrap();
    let boot = fat.create(&efi, "BOOT", true, NOW).unwrap();
    let mut file = fat.create(&boot, name, false, NOW).unwrap();
    fat.write(&mut file, 0, content).unwrap();
}

/// Debian's kernel is an EFI program itself: it finds memory, device tree and random numbers through boot services, takes
/// over, and uses runtime services from then on.
#[test]
fn a_kernel_boots_as_an_efi_program() {
    let tool = Tool::new();
    let kernel = quick_boot(&QuickOptions::default(), &Silent).unwrap().kernel.image;
    let disk = tool.home().join("esp.img");
    format(&disk);
    install(&disk, "BOOTAA64.EFI", &std::fs::read(kernel).unwrap());
    let args = ["run", "--efi", "--cpus", "1", "--memory", "512M", "--disk", disk.to_str().unwrap()];
    let mut guest = tool.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut wanted =
        vec!["Exiting boot services", "EFI v2.10 by Tearless", "DMI: Tearless", "Registered efivars"];
    let mut said = String::new();
    // Without a root file system it does not get far beyond.
    for line in BufReader::new(guest.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        wanted.retain(|text| !line.contains(text));
        said += &format!("{line}\n");
        if wanted.is_empty() || line.contains("end Kernel panic") {
            break;
        }
    }
    guest.kill().unwrap();
    guest.wait().unwrap();
    assert!(wanted.is_empty(), "no {wanted:?} in:\n{said}");
}

#[test]
fn a_disk_without_a_boot_loader_says_so_and_ends() {
    let tool = Tool::new();
    let disk = tool.home().join("esp.img");
    format(&disk);
    install(&disk, "BOOTX64.EFI", b"MZ");
    let outcome =
        tool.run(&["run", "--efi", "--cpus", "1", "--memory", "128M", "--disk", disk.to_str().unwrap()]);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("because: no disk has an EFI boot loader"), "{}", outcome.stdout);
}

#[test]
fn a_vm_keeps_its_disk_image_and_its_variables() {
    let tool = Tool::new();
    let disk = tool.home().join("esp.img");
    format(&disk);
    let disk = disk.to_str().unwrap();
    let made = tool.run(&["create", "e", "--disk-image", disk, "--disk", "128M", "--memory", "128M"]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let outcome = tool.run(&["run", "e"]);
    assert!(outcome.stdout.contains("cannot boot"), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(std::fs::metadata(tool.home().join("e.vm/Disk.img")).unwrap().len(), 128 << 20);
    let cloned = tool.run(&["clone", "e", "f"]);
    assert_eq!(cloned.status, Some(0), "{}", cloned.stderr);
    assert!(tool.home().join("f.vm/NVRAM").exists());
    std::fs::write(tool.home().join("e.vm/NVRAM"), "damaged").unwrap();
    let outcome = tool.run(&["run", "e"]);
    assert!(outcome.status == Some(1) && outcome.stderr.contains("EFI's variables"), "{}", outcome.stderr);
    let small = tool.run(&["create", "g", "--disk-image", disk, "--disk", "16M"]);
    assert!(small.status == Some(1) && small.stderr.contains("a larger --disk"), "{}", small.stderr);
}
