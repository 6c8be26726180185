//! The configuration files that make the disk a machine: name, file systems, network, console, apt, first boot.

use super::{DebianOptions, LABEL};
use crate::error::Result;
use crate::mirror::Mirror;
use crate::tree::{Meta, Tree};

/// Runs as the first process until the packages are configured.
const FIRST_BOOT: &str = include_str!("first-boot.sh");

const NETWORK: &str = "\
# Every wired interface asks for an address; a machine without one starts all the same.
[Match]
Name=en* eth*

[Network]
DHCP=yes
IPv6AcceptRA=yes
LinkLocalAddressing=ipv6

[DHCPv4]
ClientIdentifier=mac
# On a named network: short names of other VMs.
UseDomains=yes
";

/// Whoever has the console has the machine: it is the window of the person who runs the VM.
const AUTOLOGIN: &str = "\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - ${TERM}
";

/// The screen, where there is one, is that window too. The kernel has this file for graphics adapters only, and before their
/// drivers come; a VM without a screen spends nothing on a terminal that nobody sees.
const AUTOLOGIN_SCREEN: &str = "\
[Unit]
ConditionPathExistsGlob=/sys/bus/pci/devices/*/boot_vga

[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear - ${TERM}
";

/// RSA and ECDSA keys are for clients of the last decade, and making an RSA key takes a software CPU minutes.
const SSHD: &str = "\
# Delete this file, run ssh-keygen -A and restart ssh to have keys of all kinds.
HostKey /etc/ssh/ssh_host_ed25519_key
";

/// Answers that packages compute in scripts that run before the questions; here those do not run.
const ANSWERS: [(&str, &str); 2] = [("tzdata/Areas", "Etc"), ("tzdata/Zones/Etc", "UTC")];

/// Programs that show a login on the screen. Their packages ask which one of them is to do so; the first of these that is there.
const DISPLAY_MANAGERS: [&str; 6] = ["gdm3", "sddm", "lightdm", "lxdm", "slim", "xdm"];

/// Programs that do nothing while packages are configured. Units are enabled by the host, no service may start yet, links
/// for run levels mean nothing to systemd, and the hardware database describes devices that no virtual machine has.
const SHORTCUTS: [&str; 5] =
    ["deb-systemd-helper", "deb-systemd-invoke", "invoke-rc.d", "systemd-hwdb", "update-rc.d"];

/// Writes the files.
pub(super) fn write(
    tree: &mut Tree,
    options: &DebianOptions,
    sources: &[(Mirror, Vec<String>)],
    time: u64,
) -> Result<()> {
    let host = &options.hostname;
    let short = host.split('.').next().unwrap_or(host);
    let names = if short == host { host.clone() } else { format!("{host} {short}") };
    let text = |tree: &mut Tree, path: &str, content: &str| {
        tree.write(path, content.as_bytes(), Meta::root(0o644, time))
    };
    text(tree, "etc/hostname", &format!("{host}\n"))?;
    text(
        tree,
        "etc/hosts",
        &format!(
            "127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        ),
    )?;
    // No check at boot: the journal makes the file system whole, and fsck costs seconds of a software CPU.
    text(tree, "etc/fstab", &format!("LABEL={LABEL}\t/\text4\trw,relatime\t0\t0\n"))?;
    text(tree, "etc/systemd/network/80-wired.network", NETWORK)?;
    text(tree, "etc/ssh/sshd_config.d/10-tearless.conf", SSHD)?;
    text(tree, "etc/systemd/system/serial-getty@.service.d/autologin.conf", AUTOLOGIN)?;
    text(tree, "etc/systemd/system/getty@tty1.service.d/autologin.conf", AUTOLOGIN_SCREEN)?;
    text(tree, "etc/apt/sources.list.d/debian.sources", &apt_sources(tree, sources))?;
    text(tree, "etc/default/locale", "LANG=C.UTF-8\n")?;
    text(tree, "etc/locale.conf", "LANG=C.UTF-8\n")?;
    tree.symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC", time)?;
    tree.symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf", time)?;
    // Made from scratch at the first boot.
    text(tree, "etc/machine-id", "")?;
    // systemd would otherwise redo at the first start what is done here or by the packages' scripts.
    for path in ["etc/.updated", "var/.updated"] {
        text(tree, path, "")?;
    }
    for (path, mode) in
        [("proc", 0o555), ("sys", 0o555), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777), ("root", 0o700)]
    {
        tree.directory(path, Meta::root(mode, time))?;
        tree.set_meta(path, |meta| meta.mode = mode)?;
    }
    tree.write("usr/lib/tearless/first-boot", FIRST_BOOT.as_bytes(), Meta::root(0o755, time))?;
    for (question, answer) in ANSWERS {
        text(tree, &format!("usr/lib/tearless/answers/{question}"), &format!("{answer}\n"))?;
    }
    let manager = |name: &&&str| tree.exists(&format!("var/lib/dpkg/info/{name}.list"));
    if let Some(name) = DISPLAY_MANAGERS.iter().find(manager) {
        text(tree, "usr/lib/tearless/answers/shared/default-x-display-manager", &format!("{name}\n"))?;
    }
    for name in SHORTCUTS {
        tree.symlink(&format!("usr/lib/tearless/shortcuts/{name}"), "/usr/bin/true", time)?;
    }
    tree.symlink("usr/sbin/init", "../lib/tearless/first-boot", time)
}

fn apt_sources(tree: &Tree, sources: &[(Mirror, Vec<String>)]) -> String {
    let keyrings =
        ["usr/share/keyrings/debian-archive-keyring.pgp", "usr/share/keyrings/debian-archive-keyring.gpg"];
    let keyring = keyrings.iter().find(|k| tree.exists(k)).unwrap_or(&keyrings[1]);
    let stanzas: Vec<String> = sources
        .iter()
        .map(|(mirror, suites)| {
            format!(
                "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: /{keyring}\n",
                mirror.base(),
                suites.join(" ")
            )
        })
        .collect();
    stanzas.join("\n")
}
