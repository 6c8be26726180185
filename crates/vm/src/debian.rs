//! Debian guests: the fresh one in memory, and the RAM disk that starts an installed one.

use tearless_boot::{
    Source,
    quick::{self, Mode, Module, Network, QuickSpec},
};
use tearless_config::NetMode;
use tearless_image::{Kernel, Progress, QuickOptions, quick_boot};
use tearless_net::nat;

use crate::{Error, LinuxPayload};

/// The console is virtio's; what the kernel says before that is up, or when it panics, goes to the UART. A panic ends the
/// VM at once, so that its last words are seen.
const CONSOLES: &str = "console=ttyAMA0 console=hvc0 quiet panic=-1";
/// The fresh guest's name.
const HOSTNAME: &str = "tearless";
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

/// Adds the guest agent to what boots the Debian on a disk. Its `/run` has it then, and systemd starts it.
///
/// # Errors
/// When it does not fit.
pub fn add_agent(payload: &mut LinuxPayload) -> Result<(), Error> {
    payload.initrd.append(quick::agent_archive(tearless_guest::AGENT, tearless_guest::AGENT_UNIT)?);
    Ok(())
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
