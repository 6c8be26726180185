//! A disk that EFI boots: partitions, Debian's signed shim and GRUB, and the kernel as the distribution installs it.
//!
//! The first boot is GRUB's too, but with a RAM disk of ours on the EFI system partition: the distribution's is made in the
//! guest. When all is configured there, `grub-install` and `update-grub` take over, and what started that is removed.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::DebianOptions;
use crate::error::{Error, Kind, Result};
use crate::ext4;
use crate::gpt::{self, Partition};
use crate::tree::{Meta, Tree};

/// What a disk with a boot loader has beside the base system, and the kernel's package.
pub(super) const PACKAGES: [&str; 6] =
    ["efibootmgr", "grub-efi-arm64", "grub-efi-arm64-signed", "initramfs-tools", "shim-signed", "zstd"];
/// As large as Debian's installer makes it at least; it has room for more than this loader.
const ESP_LEN: u64 = 256 << 20;
const AGENT: &str = "usr/local/sbin/tearless-agent";
const UNIT: &str = "tearless-agent.service";

/// What makes a disk one that EFI boots.
#[derive(Clone, Debug)]
pub struct Loader {
    /// Added to the kernel's command line.
    pub cmdline: String,
    /// The guest agent, and its systemd unit, which starts `/run/tearless/agent`.
    pub agent: (&'static [u8], &'static str),
}

/// An EFI system partition.
#[derive(Clone, Debug)]
pub struct Esp {
    /// Its first byte on the disk.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What is to be on it, but for kernel and RAM disk: paths with their contents.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Where the kernel is to be.
    pub kernel: &'static str,
    /// Where its RAM disk is to be.
    pub initrd: &'static str,
    /// The root file system, as the guest's first boot names it.
    pub root_device: &'static str,
}

/// Where file systems are on the disk.
pub(super) struct Layout {
    size: u64,
    root: (u64, u64),
    uuid: [u8; 16],
    partitions: Vec<Partition>,
}

impl Layout {
    /// Of all of the disk, or of partitions if it has a boot loader. `uuid` is the root file system's.
    ///
    /// # Errors
    /// When the disk is too small.
    pub(super) fn new(options: &DebianOptions, uuid: [u8; 16]) -> Result<Self> {
        let size = options.size / gpt::SECTOR * gpt::SECTOR;
        if options.loader.is_none() {
            return Ok(Self { size, root: (0, size), uuid, partitions: Vec::new() });
        }
        let start = gpt::ALIGN + ESP_LEN;
        let len = gpt::end(size).saturating_sub(start) / gpt::ALIGN * gpt::ALIGN;
        if len < ESP_LEN {
            return Err(Error::new(
                Kind::Request,
                format!("a disk of {} MiB is too small", size >> 20),
                "it has an EFI system partition of 256 MiB beside the root file system",
                "choose a --disk of 4G or more",
            ));
        }
        let esp = Partition {
            kind: gpt::Kind::EfiSystem,
            id: derived(uuid, "ESP"),
            start: gpt::ALIGN,
            len: ESP_LEN,
        };
        let root = Partition { kind: gpt::Kind::LinuxRootArm64, id: derived(uuid, "root"), start, len };
        Ok(Self { size, root: (start, len), uuid, partitions: vec![esp, root] })
    }

    /// How to make the root file system.
    pub(super) fn root(&self, label: &str, time: u64) -> ext4::Options {
        let (start, size) = self.root;
        ext4::Options { start, size, label: label.to_owned(), uuid: self.uuid, time }
    }

    /// Writes the partition table, if there are partitions.
    pub(super) fn write(&self, disk: &Path) -> io::Result<()> {
        if self.partitions.is_empty() {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).open(disk)?;
        file.set_len(self.size)?;
        gpt::write(&file, self.size, derived(self.uuid, "disk"), &self.partitions)?;
        file.sync_all()
    }

    /// The EFI system partition's GUID in the usual form, if there is one.
    fn esp_id(&self) -> String {
        self.partitions.first().map(|esp| guid_text(&esp.id)).unwrap_or_default()
    }
}

/// An ID that follows from another.
fn derived(uuid: [u8; 16], what: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(uuid).chain_update(what).finalize();
    let mut random = [0; 16];
    random.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    let mut id = ext4::uuid_from(random);
    // On a disk the version is in the upper byte of a little-endian number (UEFI, appendix A).
    (id[6], id[7]) = (random[7], random[6] & 0x0f | 0x40);
    id
}

/// A GUID as it lies on a disk, in the form that people read.
fn guid_text(id: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let digits = order.iter().enumerate().map(|(place, at)| {
        let dash = if [4, 6, 8, 10].contains(&place) { "-" } else { "" };
        format!("{dash}{:02x}", id[*at])
    });
    digits.collect()
}

/// Writes what belongs to the boot loader into the root file system.
pub(super) fn write(tree: &mut Tree, loader: &Loader, layout: &Layout, time: u64) -> Result<()> {
    let text = Meta::root(0o644, time);
    let cmdline = format!("console=tty0 console=ttyAMA0 {}", loader.cmdline);
    let grub = format!(
        "# Seen on the serial console and on the screen, and not for long.\n\
         GRUB_TIMEOUT=1\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX={}\n",
        quoted(cmdline.trim_end())
    );
    tree.write("etc/default/grub.d/tearless.cfg", grub.as_bytes(), text)?;
    tree.directory("boot/efi", Meta::root(0o700, time))?;
    let fstab = tree.read_text("etc/fstab")?;
    let line = format!("PARTUUID={}\t/boot/efi\tvfat\tumask=0077\t0\t0\n", layout.esp_id());
    tree.write("etc/fstab", (fstab + &line).as_bytes(), text)?;
    tree.write("usr/lib/tearless/loader", b"", text)?;
    // Made once, when everything is configured.
    tree.symlink("usr/lib/tearless/shortcuts/update-initramfs", "/usr/bin/true", time)?;
    let (program, unit) = loader.agent;
    tree.write(AGENT, program, Meta::root(0o755, time))?;
    let unit = unit.replace("/run/tearless/agent", &format!("/{AGENT}"));
    let at = format!("etc/systemd/system/{UNIT}");
    tree.write(&at, unit.as_bytes(), text)?;
    tree.symlink(&format!("etc/systemd/system/multi-user.target.wants/{UNIT}"), &format!("/{at}"), time)
}

/// A word of a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The EFI system partition as the first boot needs it.
pub(super) fn esp(tree: &mut Tree, layout: &Layout) -> Result<Esp> {
    let script = "linux ($root)/first-boot/vmlinuz console=tty0 console=ttyAMA0 quiet\ninitrd ($root)/first-boot/initrd\nboot\n";
    let mut files = vec![("EFI/debian/grub.cfg", script.as_bytes().to_vec())];
    for (to, from) in [
        ("EFI/BOOT/BOOTAA64.EFI", "usr/lib/shim/shimaa64.efi.signed"),
        ("EFI/BOOT/grubaa64.efi", "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed"),
    ] {
        let content = tree.read(from)?;
        let missing = || Error::format("cannot make the disk bootable", format!("no package brings /{from}"));
        files.push((to, content.ok_or_else(missing)?));
    }
    let (start, len) = layout.partitions.first().map(|esp| (esp.start, esp.len)).unwrap_or_default();
    Ok(Esp {
        start,
        len,
        files,
        kernel: "first-boot/vmlinuz",
        initrd: "first-boot/initrd",
        root_device: "/dev/vda2",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(size: u64, loader: bool) -> DebianOptions {
        let loader = loader.then_some(Loader { cmdline: String::new(), agent: (b"", "") });
        DebianOptions { loader, ..DebianOptions::new(size, "deb") }
    }

    #[test]
    fn the_disk_is_shared_out() {
        let whole = Layout::new(&options(1 << 30, false), [7; 16]).unwrap();
        assert_eq!((whole.root, whole.partitions.len()), ((0, 1 << 30), 0));
        let layout = Layout::new(&options(1 << 30, true), [7; 16]).unwrap();
        let [esp, root] = layout.partitions[..] else { panic!("two partitions") };
        assert_eq!(esp.start + esp.len, root.start);
        assert_eq!(layout.root, (257 << 20, (1024 - 257 - 1) << 20));
        assert!(esp.id != root.id && root.start + root.len <= gpt::end(1 << 30));
        for small in [0, 1 << 20, 300 << 20, 513 << 20] {
            let error = Layout::new(&options(small, true), [7; 16]).err().unwrap();
            assert!(error.to_string().contains("too small"), "{error}");
        }
    }

    #[test]
    fn guids_are_read_as_others_read_them() {
        let id: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(guid_text(&id), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(guid_text(&derived([1; 16], "x")).as_bytes()[14], b'4');
    }

    #[test]
    fn a_command_line_stays_one_word() {
        assert_eq!(quoted("a 'b' $c"), r"'a '\''b'\'' $c'");
    }
}
