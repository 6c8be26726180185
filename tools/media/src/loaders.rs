//! CDs and disks with boot loaders.

use std::{os::unix::fs::FileExt, sync::Arc};

use anyhow::{Context, Result};
use tearless_efi::media::{Volume, fat::Fat};
use tearless_image::{Progress, gpt};
use tearless_storage::{OpenOptions, RawDisk};

use crate::{IsoBuilder, files};

/// 2025-01-01.
const WHEN: (u16, u16) = (0x5a21, 0);

/// What a medium boots in the end.
pub struct System {
    /// A kernel.
    pub kernel: Vec<u8>,
    /// Its RAM disk.
    pub initrd: Vec<u8>,
    /// Its command line.
    pub cmdline: String,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// Debian's signed shim with its signed GRUB.
    Grub,
    /// systemd-boot.
    SystemdBoot,
}

/// An EFI system partition of `size` bytes with these files.
fn partition(size: u64, content: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(size)?;
    let volume = Volume::whole(Arc::new(RawDisk::open(file.path(), OpenOptions::default())?));
    let mut fat = Fat::format(volume, "ESP")?;
    for (path, bytes) in content {
        fat.put(path, bytes, WHEN).with_context(|| format!("cannot put {path} onto the partition"))?;
    }
    fat.flush()?;
    Ok(std::fs::read(file.path())?)
}

fn shim_and_grub(suite: &str, grub: &str, progress: &dyn Progress) -> Result<[Vec<u8>; 2]> {
    let wanted = [(["shim-signed", ""], "/shimaa64.efi.signed"), (["grub-efi-arm64-signed", ""], grub)];
    let [shim, grub]: [Vec<u8>; 2] =
        files(suite, &wanted, progress)?.try_into().map_err(|_| anyhow::anyhow!("a file too few"))?;
    Ok([shim, grub])
}

/// A CD as Debian's are: shim and the GRUB for CDs from the El Torito image, all else from the CD; `entries` is GRUB's script.
///
/// # Errors
/// When the mirror has not all that is needed.
pub fn debian_cd(suite: &str, entries: &str, iso: IsoBuilder, progress: &dyn Progress) -> Result<Vec<u8>> {
    let [shim, grub] = shim_and_grub(suite, "/gcdaa64.efi.signed", progress)?;
    let boot = partition(8 << 20, &[("EFI/BOOT/BOOTAA64.EFI", &shim), ("EFI/BOOT/grubaa64.efi", &grub)])?;
    Ok(iso.file(".disk/info", "Tearless test medium").file("boot/grub/grub.cfg", entries).boot(boot).finish())
}

/// A CD that boots `system` by shim and GRUB.
///
/// # Errors
/// When the mirror has not all that is needed.
pub fn cd(suite: &str, system: &System, progress: &dyn Progress) -> Result<Vec<u8>> {
    let menu = format!(
        "set timeout=0\nmenuentry 'Test' {{\n linux /boot/vmlinuz {}\n initrd /boot/initrd\n}}\n",
        system.cmdline
    );
    let iso = IsoBuilder::default()
        .file("boot/vmlinuz", &system.kernel[..])
        .file("boot/initrd", &system.initrd[..]);
    debian_cd(suite, &menu, iso, progress)
}

/// Debian's installer, from its package for booting by network, on a CD; `graphical` is the one with GTK.
///
/// # Errors
/// When the mirror has not all that is needed.
pub fn installer(suite: &str, graphical: bool, progress: &dyn Progress) -> Result<Vec<u8>> {
    let package = ["debian-installer-", "-netboot-arm64"];
    let kind = if graphical { "gtk" } else { "text" };
    let inside = |name: &str| format!("{kind}/debian-installer/arm64/{name}");
    let paths = ["linux", "initrd.gz", "grub/font.pf2"].map(inside);
    let wanted: Vec<_> = paths.iter().map(|path| (package, path.as_str())).collect();
    let [kernel, initrd, font]: [Vec<u8>; 3] =
        files(suite, &wanted, progress)?.try_into().map_err(|_| anyhow::anyhow!("a file too few"))?;
    let menu = "if loadfont $prefix/font.pf2; then\n set gfxmode=800x600\n set gfxpayload=keep\n \
                insmod efi_gop\n insmod gfxterm\n terminal_output gfxterm\nfi\n\
                set timeout=30\nmenuentry 'Install' {\n linux /install.a64/vmlinuz --- quiet\n initrd \
                /install.a64/initrd.gz\n}\nmenuentry 'Expert install' {\n linux /install.a64/vmlinuz priority=low ---\n \
                initrd /install.a64/initrd.gz\n}\n";
    let iso = IsoBuilder::default()
        .file("install.a64/vmlinuz", kernel)
        .file("install.a64/initrd.gz", initrd)
        .file("boot/grub/font.pf2", font);
    debian_cd(suite, menu, iso, progress)
}

/// A disk from which shim starts GRUB, which does what `script` says.
///
/// # Errors
/// When the mirror has not all that is needed.
pub fn grub_disk(suite: &str, script: &str, progress: &dyn Progress) -> Result<Vec<u8>> {
    let [shim, grub] = shim_and_grub(suite, "/grubaa64.efi.signed", progress)?;
    let files: [(&str, &[u8]); 3] = [
        ("EFI/BOOT/BOOTAA64.EFI", &shim),
        ("EFI/BOOT/grubaa64.efi", &grub),
        ("EFI/debian/grub.cfg", script.as_bytes()),
    ];
    with_table(&partition(16 << 20, &files)?)
}

/// A disk of one EFI system partition, by a GUID partition table, from which `loader` boots `system`.
///
/// # Errors
/// When the mirror has not all that is needed.
pub fn disk(suite: &str, loader: Loader, system: &System, progress: &dyn Progress) -> Result<Vec<u8>> {
    let size = (system.kernel.len() + system.initrd.len()) as u64 + (16 << 20);
    let size = size.next_multiple_of(1 << 20);
    let own: [(&str, &[u8]); 2] = [("vmlinuz", &system.kernel), ("initrd", &system.initrd)];
    let esp = match loader {
        Loader::Grub => {
            let [shim, grub] = shim_and_grub(suite, "/grubaa64.efi.signed", progress)?;
            let menu = format!(
                "search --file --set=root /vmlinuz\nlinux /vmlinuz {}\ninitrd /initrd\nboot\n",
                system.cmdline
            );
            let loaders: [(&str, &[u8]); 3] = [
                ("EFI/BOOT/BOOTAA64.EFI", &shim),
                ("EFI/BOOT/grubaa64.efi", &grub),
                ("EFI/debian/grub.cfg", menu.as_bytes()),
            ];
            partition(size, &[&loaders[..], &own].concat())?
        }
        Loader::SystemdBoot => {
            let wanted = [(["systemd-boot-efi", ""], "/systemd-bootaa64.efi")];
            let loader = files(suite, &wanted, progress)?.pop().context("a file too few")?;
            let entry = format!("title Test\nlinux /vmlinuz\ninitrd /initrd\noptions {}\n", system.cmdline);
            let loaders: [(&str, &[u8]); 3] = [
                ("EFI/BOOT/BOOTAA64.EFI", &loader),
                ("loader/loader.conf", b"timeout 0\n"),
                ("loader/entries/test.conf", entry.as_bytes()),
            ];
            partition(size, &[&loaders[..], &own].concat())?
        }
    };
    with_table(&esp)
}

/// A disk with one partition, which is an EFI system partition.
fn with_table(esp: &[u8]) -> Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new()?;
    let size = esp.len() as u64 + 2 * gpt::ALIGN;
    file.as_file().set_len(size)?;
    let only =
        gpt::Partition { kind: gpt::Kind::EfiSystem, id: [2; 16], start: gpt::ALIGN, len: esp.len() as u64 };
    gpt::write(file.as_file(), size, [1; 16], &[only])?;
    file.as_file().write_all_at(esp, only.start)?;
    Ok(std::fs::read(file.path())?)
}
