//! Debian guests: the fresh one in memory, and the RAM disk that starts an installed one.

use std::{fs, io, path::Path, sync::Arc};

use tearless_boot::{
    Source,
    quick::{self, Mode, Module, Network, QuickSpec},
};
use tearless_config::NetMode;
use tearless_image::{DebianDisk, Kernel, Progress, QuickOptions, quick_boot};
use tearless_machine::efi::media::{Volume, fat::Fat};
use tearless_net::nat;
use tearless_storage::{OpenOptions, RawDisk};

use crate::{Error, LinuxPayload};

/// The console is virtio's; what the kernel says before that is up, or when it panics, goes to the UART. A panic ends the
/// VM at once, so that its last words are seen.
const CONSOLES: &str = "console=ttyAMA0 console=hvc0 quiet panic=-1";
/// The fresh guest's name.
const HOSTNAME: &str = "tearless";
/// When files of the EFI system partition were written, as FAT has it: 2025-01-01.
const WHEN: (u16, u16) = (0x5a21, 0);
/// The disk that an installed Debian has its root on.
const ROOT_DEVICE: &str = "/dev/vda";

/// Our kernel command line for Debian, with the user's additions.
pub fn cmdline(extra: &str) -> String {
    let own = format!("{CONSOLES} {}", quick::FAST_START);
    if extra.is_empty() { own } else { format!("{own} {extra}") }
}

/// A fresh Debian that lives in memory and does what `mode` says.
///
/// # Errors
/// When it cannot be fetched or does not fit together.
pub fn quick(
    options: &QuickOptions,
    mode: Mode,
    network: &NetMode,
    extra: &str,
    progress: &dyn Progress,
) -> Result<LinuxPayload, Error> {
    let quick = quick_boot(options, progress)?;
    let known = FixedAddresses::new();
    let network = match network {
        NetMode::Nat | NetMode::Isolated => known.network(),
        NetMode::None => Network::Untouched,
        NetMode::Named(_) | NetMode::Bridged(_) | NetMode::Tap(_) | NetMode::Socket(_) | NetMode::Fd(_) => {
            Network::Dhcp
        }
    };
    payload(&quick.kernel, &quick.busybox, (mode, network), extra)
}

/// What the NAT's DHCP server would say: a guest that knows it need not ask.
struct FixedAddresses([String; 4]);

impl FixedAddresses {
    fn new() -> Self {
        let known = nat::ADDRESSES;
        Self([known.guest, known.mask(), known.gateway, known.dns].map(|address| address.to_string()))
    }

    fn network(&self) -> Network<'_> {
        let [address, mask, gateway, dns] = &self.0;
        Network::Fixed { address, mask, gateway, dns }
    }
}

/// What boots into the Debian on the machine's first disk.
///
/// # Errors
/// When the parts do not fit together.
pub fn root_payload(kernel: &Kernel, busybox: &[u8]) -> Result<LinuxPayload, Error> {
    let mode = Mode::Root { device: ROOT_DEVICE.into(), fstype: "ext4".into(), options: "rw".into() };
    payload(kernel, busybox, (mode, Network::Untouched), "")
}

/// Makes the EFI system partition of a Debian with a boot loader: from it the first boot starts.
///
/// # Errors
/// When the parts do not fit together, or the disk cannot be written.
pub fn write_esp(path: &Path, disk: &DebianDisk, busybox: &[u8]) -> Result<(), Error> {
    let Some(esp) = &disk.esp else { return Ok(()) };
    let mode = Mode::Root { device: esp.root_device.into(), fstype: "ext4".into(), options: "rw".into() };
    let payload = payload(&disk.kernel, busybox, (mode, Network::Untouched), "")?;
    let cannot = |e: io::Error| Error::Host("write the EFI system partition", e);
    let whole = Volume::whole(Arc::new(RawDisk::open(path, OpenOptions::default())?));
    let volume = whole.part(esp.start, esp.len).ok_or_else(|| cannot(io::ErrorKind::UnexpectedEof.into()))?;
    let mut fat = Fat::format(volume, "ESP").map_err(cannot)?;
    let kernel = fs::read(&disk.kernel.image).map_err(cannot)?;
    let initrd = payload.initrd.read()?;
    let own = [(esp.kernel, &kernel), (esp.initrd, &initrd)];
    for (path, content) in esp.files.iter().map(|(path, content)| (*path, content)).chain(own) {
        fat.put(path, content, WHEN).map_err(cannot)?;
    }
    fat.flush().map_err(cannot)
}

/// Adds the guest agent to what boots the Debian on a disk. Its `/run` has it then, and systemd starts it.
///
/// # Errors
/// When it does not fit.
pub fn add_agent(payload: &mut LinuxPayload) -> Result<(), Error> {
    payload.initrd.append(quick::agent_archive(tearless_guest::AGENT, tearless_guest::AGENT_UNIT)?);
    Ok(())
}

/// The guest agent as a disk with a boot loader has it.
pub fn agent() -> (&'static [u8], &'static str) {
    (tearless_guest::AGENT, tearless_guest::AGENT_UNIT)
}

fn payload(
    kernel: &Kernel,
    busybox: &[u8],
    (mode, network): (Mode, Network<'_>),
    extra: &str,
) -> Result<LinuxPayload, Error> {
    let modules: Vec<_> = kernel.modules.iter().map(|m| Module { name: &m.name, bytes: &m.bytes }).collect();
    let term = std::env::var("TERM").ok();
    let spec = QuickSpec {
        busybox,
        modules: &modules,
        hostname: HOSTNAME,
        term: term.as_deref().filter(|term| is_word(term)),
        network,
        mode,
    };
    let mut initrd = Source::nothing();
    initrd.append(quick::build(&spec)?);
    Ok(LinuxPayload { initrd, kernel: Source::kernel(&kernel.image)?, cmdline: cmdline(extra) })
}

/// Whether a terminal type is a plain word; anything else would be refused, and a guest can do without.
fn is_word(term: &str) -> bool {
    !term.is_empty()
        && term.len() <= 64
        && term.chars().all(|c| c.is_ascii_alphanumeric() || "-+._".contains(c))
}
