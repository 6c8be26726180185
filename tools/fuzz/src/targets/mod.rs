//! The targets, one file each.

mod config;
mod cpu;
mod deb;
mod efi;
mod gic;
mod guest;
mod images;
mod ipsw;
mod kernel_image;
mod medium;
mod member;
mod modules;
mod nbd;
mod network;
mod oci;
mod packages;
mod pci;
mod platform;
mod release;
mod saved;
mod self_test;
mod share;
mod unpack;
mod viewer;
mod virtqueue;

pub use config::config;
pub(crate) use cpu::HEAD;
pub use cpu::cpu;
pub use deb::deb;
pub use efi::{MemoryDisk, efi_disk, efi_program};
pub use gic::gic;
pub use guest::{guest_frames, guest_tree};
pub(crate) use images::KINDS;
pub use images::{image_chain, vmdk};
pub use ipsw::{ipsw, virtual_mac};
pub use kernel_image::kernel_image;
pub use medium::medium;
pub use member::member;
pub use modules::modules;
pub use nbd::nbd;
pub use network::network;
pub use oci::{foreign, oci};
pub use packages::packages;
pub use pci::pci;
pub use platform::{fw_cfg, pflash, pl011, pl031, pl061};
pub use release::release;
pub use saved::saved;
pub(crate) use saved::seed as saved_seed;
pub use share::share;
pub use unpack::unpack;
pub use viewer::{desktop_agent, terminal_picture, vnc_viewer as vnc, web_page, web_request};
pub use virtqueue::{card, display, sound, virtqueue};

use crate::seeds;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of the function and of the libFuzzer binary.
    pub name: &'static str,
    /// What it feeds, for the list.
    pub about: &'static str,
    /// Takes an input. A panic, in whatever thread, is a finding.
    pub run: fn(&[u8]),
    /// Inputs that get somewhere.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// MiB of heap that one execution may add. More is a finding.
    pub memory_mib: usize,
}

/// Enough for what keeps no data of the guest's choice of size.
const LITTLE: usize = 32;
/// The windows of the decompressors may take 192 and 256 MiB, and a growing buffer exists twice for a moment.
const DECOMPRESSOR: usize = 800;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "cpu",
        about: "instruction decoder, interpreter and MMU of the software CPU",
        run: cpu,
        seeds: seeds::cpu,
        memory_mib: 64,
    },
    Target {
        name: "virtqueue",
        about: "console, disk, entropy and socket device through their PCI registers and rings",
        run: virtqueue,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "display",
        about: "display and keyboard through their PCI registers and rings",
        run: display,
        seeds: seeds::none,
        // 256 MiB of pictures, the screen, and a copy of that for a viewer.
        memory_mib: 512,
    },
    Target {
        name: "card",
        about: "network card of two queue pairs through its PCI registers and rings, its control queue among these",
        run: card,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "sound",
        about: "sound card through its PCI registers and rings, streams that play and record among that",
        run: sound,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "vnc",
        about: "messages of VNC viewers",
        run: vnc,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "web_page",
        about: "messages of a page in a browser and of a window, both ways",
        run: web_page,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "web_request",
        about: "what browsers ask for",
        run: web_request,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "desktop_agent",
        about: "messages of a guest's desktop",
        run: desktop_agent,
        seeds: seeds::desktop_agent,
        memory_mib: LITTLE,
    },
    Target {
        name: "terminal_picture",
        about: "the picture of a console",
        run: terminal_picture,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "network",
        about: "frames of a guest behind NAT: ARP, IP, TCP, UDP, ICMP, DHCP, DNS",
        run: network,
        seeds: seeds::none,
        memory_mib: 64,
    },
    Target {
        name: "member",
        about: "the stream of another member of a named network",
        run: member,
        seeds: seeds::none,
        memory_mib: 64,
    },
    Target {
        name: "gic",
        about: "distributor, redistributors, ITS and CPU interface",
        run: gic,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target { name: "pl011", about: "serial port", run: pl011, seeds: seeds::none, memory_mib: LITTLE },
    Target { name: "pl031", about: "clock", run: pl031, seeds: seeds::none, memory_mib: LITTLE },
    Target { name: "pflash", about: "NOR flash", run: pflash, seeds: seeds::none, memory_mib: 96 },
    Target {
        name: "fw_cfg",
        about: "what firmware is told, and its transfers",
        run: fw_cfg,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target { name: "pl061", about: "GPIO", run: pl061, seeds: seeds::none, memory_mib: LITTLE },
    Target {
        name: "pci",
        about: "configuration space, BAR routing and MSI-X",
        run: pci,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "share",
        about: "requests to a shared folder (FUSE)",
        run: share,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "nbd",
        about: "what a disk's server says: handshake and replies (NBD)",
        run: nbd,
        seeds: seeds::nbd,
        memory_mib: LITTLE,
    },
    Target {
        name: "vmdk",
        about: "sparse and stream-optimised disk images (VMDK)",
        run: vmdk,
        seeds: seeds::vmdk,
        memory_mib: LITTLE,
    },
    Target {
        name: "image_chain",
        about: "qcow2 and VMDK images that build on others, or on themselves",
        run: image_chain,
        seeds: seeds::image_chain,
        memory_mib: 128,
    },
    Target {
        name: "saved",
        about: "states of saved VMs: the file, and what devices take over from it",
        run: saved,
        seeds: seeds::saved,
        memory_mib: 64,
    },
    Target {
        name: "kernel_image",
        about: "kernel files: Image, EFI zboot, ELF, compressed; and where they are placed",
        run: kernel_image,
        seeds: seeds::kernels,
        memory_mib: 2048,
    },
    Target {
        name: "efi_program",
        about: "EFI programs: PE headers, sections, relocations",
        run: efi_program,
        seeds: seeds::efi_programs,
        memory_mib: 128,
    },
    Target {
        name: "efi_disk",
        about: "GPT, MBR, El Torito, and FAT on them, read and written",
        run: efi_disk,
        seeds: seeds::efi_disks,
        memory_mib: 64,
    },
    Target {
        name: "medium",
        about: "installation CDs: ISO 9660 with Rock Ridge names",
        run: medium,
        seeds: seeds::media,
        memory_mib: LITTLE,
    },
    Target {
        name: "unpack",
        about: "gzip, xz, zstd and lzma streams",
        run: unpack,
        seeds: seeds::streams,
        memory_mib: DECOMPRESSOR,
    },
    Target {
        name: "deb",
        about: "Debian packages: ar, tar, the file tree",
        run: deb,
        seeds: seeds::debs,
        memory_mib: DECOMPRESSOR,
    },
    Target {
        name: "release",
        about: "signed release files",
        run: release,
        seeds: seeds::releases,
        memory_mib: LITTLE,
    },
    Target {
        name: "packages",
        about: "package index, versions and dependencies",
        run: packages,
        seeds: seeds::indices,
        memory_mib: 64,
    },
    Target {
        name: "modules",
        about: "kernel modules and their index",
        run: modules,
        seeds: seeds::modules,
        memory_mib: DECOMPRESSOR,
    },
    Target {
        name: "guest_frames",
        about: "what a guest's agent sends: frames and messages",
        run: guest_frames,
        seeds: seeds::guest_frames,
        memory_mib: LITTLE,
    },
    Target {
        name: "guest_tree",
        about: "files that a guest sends",
        run: guest_tree,
        seeds: seeds::guest_trees,
        memory_mib: LITTLE,
    },
    Target {
        name: "ipsw",
        about: "IPSW archives, their manifests, Apple's catalogue",
        run: ipsw,
        seeds: seeds::archives,
        memory_mib: DECOMPRESSOR,
    },
    Target {
        name: "oci",
        about: "images of VMs: pieces of disks, manifests, names",
        run: oci,
        seeds: seeds::images,
        memory_mib: LITTLE,
    },
    Target {
        name: "foreign",
        about: "descriptions of VMs of other programs",
        run: foreign,
        seeds: seeds::foreigners,
        memory_mib: LITTLE,
    },
    Target {
        name: "virtual_mac",
        about: "identifier, hardware model and auxiliary storage of virtual Macs",
        run: virtual_mac,
        seeds: seeds::virtual_macs,
        memory_mib: LITTLE,
    },
    Target { name: "config", about: "config.json", run: config, seeds: seeds::configs, memory_mib: LITTLE },
];

/// Targets that fail on purpose: they show that failures are seen. They run only when named.
pub const SELF_TESTS: &[Target] = &[
    Target {
        name: "self-test-panic",
        about: "panics in another thread",
        run: self_test::panics,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "self-test-hang",
        about: "never returns",
        run: self_test::hangs,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "self-test-memory",
        about: "takes memory without bound",
        run: self_test::hoards,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
    Target {
        name: "self-test-stack",
        about: "recurses without bound",
        run: self_test::recurses,
        seeds: seeds::none,
        memory_mib: LITTLE,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::{Random, next_input};

    /// The real runs are the program's; this keeps each target alive in `cargo test`, with overflow checks.
    #[test]
    fn every_target_takes_its_seeds_and_some_noise() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            seeds.iter().for_each(|seed| (target.run)(seed));
            let mut random = Random::new(1);
            (0..30).for_each(|_| (target.run)(&next_input(&mut random, &seeds)));
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TARGETS.iter().chain(SELF_TESTS).map(|target| target.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TARGETS.len() + SELF_TESTS.len());
    }
}
