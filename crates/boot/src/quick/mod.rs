//! The RAM disk of `tearless run`: busybox, kernel modules and an init made of shell scripts.
//!
//! ```text
//!  /init (PID 1) ── mounts, modules, host name ──► busybox init ──► tearless/shell      Mode::Shell
//!       │                                               └─────────► tearless/command    Mode::Command, no terminal
//!       │                                               └─────────► tearless/terminal   Mode::Command, terminal
//!       └── tearless/root: mount the disk, switch_root ──────────► the disk's /sbin/init    Mode::Root
//! ```
//! A guest CPU in software runs some hundred million instructions a second and a process start costs it several
//! milliseconds, so what can be prepared in the archive is: links, FIFOs, folders of `/dev`, the command line.
//!
//! **With the host** a command talks through ports of the virtio console: `tearless.stdin`, `tearless.stdout`,
//! `tearless.stderr` and `tearless.control`. When the command has ended and every byte of its output is in the ports'
//! queues, the guest writes the exit status to the control port, a decimal line. The host then takes what the queues
//! hold and ends the VM, or answers with a line; on an answer, or after ten seconds without one, the guest powers off.
//! (It must not at once: a kernel may reset its devices, and what their queues hold is lost.)

mod applets;

use std::fmt::Write as _;

use crate::{
    Error, Result,
    initramfs::{Initramfs, NodeKind},
};

/// Kernel parameters that spare a CPU in software two thirds of its way to the shell: with Debian 13's cloud kernel
/// 0.29 instead of 0.86 thousand million instructions (measured in QEMU with `-icount shift=0`).
///
/// They leave out the self-tests of the crypto code, the jitter random number generator (its start tests itself at
/// length; the machine offers better entropy) and the check of the kernel's own certificates, whose only use is module
/// signatures, which this RAM disk has not. A kernel without these functions ignores their names.
pub const FAST_START: &str =
    "cryptomgr.notests initcall_blacklist=load_system_certificate_list,jent_mod_init";

/// What a single argument may hold, `MAX_ARG_STRLEN` of a kernel with 4 KiB pages.
const MAX_ARGUMENT: usize = (128 << 10) - 1;
/// What all arguments may hold; Linux takes up to a quarter of the stack, 2 MiB, less the environment.
const MAX_ARGUMENTS: usize = 1 << 20;
/// `HOST_NAME_MAX`.
const MAX_HOSTNAME: usize = 64;

/// The unit that starts the agent.
const AGENT_UNIT: &str = "tearless-agent.service";

const INIT: &str = include_str!("guest/init");
const LIBRARY: &str = include_str!("guest/library");
const SHELL: &str = include_str!("guest/shell");
const COMMAND: &str = include_str!("guest/command");
const TERMINAL: &str = include_str!("guest/terminal");
const NETWORK: &str = include_str!("guest/network");
const LEASE: &str = include_str!("guest/lease");
const ROOT: &str = include_str!("guest/root");
const OFF: &str = include_str!("guest/off");
const FSTAB: &str = include_str!("guest/fstab");
const PROFILE: &str = include_str!("guest/profile");
const SHRC: &str = include_str!("guest/shrc");

/// A kernel module.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The ELF file, not compressed. Its signature is left out.
    pub bytes: &'a [u8],
}

/// What the guest does once it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An interactive shell on the virtio console; its end powers the guest off.
    Shell,
    /// One command; its end powers the guest off.
    Command {
        /// The command and its arguments: any bytes but NUL, passed on as they are.
        argv: Vec<Vec<u8>>,
        /// On the virtio console, rather than on ports for each stream.
        tty: bool,
    },
    /// The system on a disk.
    Root {
        /// The disk's device file.
        device: String,
        /// Its file system.
        fstype: String,
        /// Mount options, for example "rw".
        options: String,
    },
}

/// A shared folder (virtiofs), mounted at `/mnt/TAG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The device's tag.
    pub tag: String,
    /// Mounted read-only.
    pub read_only: bool,
}

impl Mount {
    fn options(&self) -> &'static str {
        if self.read_only { "ro" } else { "rw" }
    }

    /// The name of systemd's unit for `/mnt/TAG` (systemd.unit(5), "String escaping").
    fn unit(&self) -> String {
        let escaped = self.tag.replace('-', "\\x2d");
        format!("mnt-{escaped}.mount")
    }
}

/// How the guest's network card gets its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network<'a> {
    /// It stays down, or whoever starts after the RAM disk sees to it.
    #[default]
    Untouched,
    /// They are known: no question, no time.
    Fixed {
        /// The guest's address.
        address: &'a str,
        /// The network's mask.
        mask: &'a str,
        /// The router.
        gateway: &'a str,
        /// The name server.
        dns: &'a str,
    },
    /// The network is asked, in the background.
    Dhcp,
}

/// What the RAM disk is made of.
#[derive(Clone, Debug)]
pub struct QuickSpec<'a> {
    /// A statically linked arm64 busybox.
    pub busybox: &'a [u8],
    /// Kernel modules in load order.
    pub modules: &'a [Module<'a>],
    /// The guest's host name.
    pub hostname: &'a str,
    /// The terminal's type (`TERM`); without it `vt102`.
    pub term: Option<&'a str>,
    /// How it finds its network.
    pub network: Network<'a>,
    /// What the guest does.
    pub mode: Mode,
}

/// The RAM disk of `spec`, a cpio archive.
///
/// # Errors
/// [`Error::Initramfs`] for a value that cannot work; [`Error::Unsuitable`] when the busybox is none.
pub fn build(spec: &QuickSpec<'_>) -> Result<Vec<u8>> {
    let mut fs = Initramfs::new();
    add_skeleton(&mut fs, spec)?;
    add_busybox(&mut fs, spec.busybox)?;
    for (i, module) in spec.modules.iter().enumerate() {
        check_word("module name", module.name, 64)?;
        // The init loads them in the order of their file names. Without ".ko", busybox takes them for compressed.
        let file = format!("tearless/modules/{i:03}-{}.ko", module.name);
        fs.file(&file, 0o644, without_signature(module.bytes))?;
    }
    add_network(&mut fs, spec.network)?;
    add_mode(&mut fs, &spec.mode)?;
    Ok(fs.finish())
}

/// A RAM disk to append to that of [`Mode::Root`]: it puts `agent`, a static arm64 program, into the `/run` of the system
/// on the disk, where systemd starts it as `unit` says. The disk itself is not touched, and each boot brings the agent
/// of this release.
///
/// # Errors
/// [`Error::Initramfs`] when the agent is larger than 4 GiB.
pub fn agent_archive(agent: &[u8], unit: &str) -> Result<Vec<u8>> {
    const SYSTEMD: &str = "tearless/run/systemd/system";
    let mut fs = Initramfs::new();
    fs.file("tearless/run/tearless/agent", 0o755, agent)?;
    // RAM disks that an older release made do not know about it.
    fs.file("tearless/root", 0o644, ROOT)?;
    fs.file(&format!("{SYSTEMD}/{AGENT_UNIT}"), 0o644, unit)?;
    fs.symlink(&format!("{SYSTEMD}/multi-user.target.wants/{AGENT_UNIT}"), &format!("../{AGENT_UNIT}"))?;
    Ok(fs.finish())
}

fn add_skeleton(fs: &mut Initramfs, spec: &QuickSpec<'_>) -> Result<()> {
    check_word("host name", spec.hostname, MAX_HOSTNAME)?;
    let term = spec.term.unwrap_or("vt102");
    check_word("terminal type", term, 64)?;

    for dir in ["proc", "sys", "run", "newroot", "mnt", "var"] {
        fs.dir(dir, 0o755)?;
    }
    fs.dir("tmp", 0o1777)?.dir("root", 0o700)?;
    // Until devtmpfs is there.
    let devices = [("console", 0o600, (5, 1)), ("null", 0o666, (1, 3)), ("kmsg", 0o600, (1, 11))];
    for (name, mode, number) in devices {
        fs.node(&format!("dev/{name}"), mode, NodeKind::Char, number)?;
    }
    // Copied over devtmpfs, which has the devices only.
    fs.dir("tearless/dev/pts", 0o755)?.dir("tearless/dev/shm", 0o1777)?;
    fs.symlink("tearless/dev/fd", "/proc/self/fd")?;
    for (fd, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
        fs.symlink(&format!("tearless/dev/{name}"), &format!("/proc/self/fd/{fd}"))?;
    }
    fs.symlink("var/run", "/run")?.symlink("var/tmp", "/tmp")?;
    fs.file("etc/hostname", 0o644, format!("{}\n", spec.hostname))?;
    fs.file("etc/hosts", 0o644, format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost\n", spec.hostname))?;
    fs.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs.file("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    fs.file("etc/fstab", 0o644, FSTAB)?.file("etc/profile", 0o644, PROFILE)?.file("etc/shrc", 0o644, SHRC)?;
    fs.symlink("etc/mtab", "/proc/self/mounts")?;
    fs.file("init", 0o755, INIT)?.file("tearless/off", 0o755, OFF)?.file(
        "tearless/library",
        0o644,
        LIBRARY,
    )?;
    let on_console = if matches!(spec.mode, Mode::Command { tty: false, .. }) { "no" } else { "yes" };
    // The words were checked: they need no quotes.
    let settings = format!("hostname={}\nTERM={term}\non_console={on_console}\n", spec.hostname);
    fs.file("tearless/settings", 0o644, settings)?;
    Ok(())
}

fn add_busybox(fs: &mut Initramfs, busybox: &[u8]) -> Result<()> {
    fs.file("bin/busybox", 0o755, busybox)?;
    for name in applets::of(busybox)? {
        fs.symlink(&format!("bin/{name}"), "busybox")?;
    }
    for (link, target) in [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")] {
        fs.symlink(link, target)?;
    }
    Ok(())
}

/// A second archive, to stand behind the first in memory: the kernel unpacks both. It makes the system mount `mounts`,
/// whether it stays in the RAM disk or goes on to a disk; so a VM's own RAM disk need not change with its shares.
///
/// # Errors
/// [`Error::Initramfs`] for a tag that is no plain word.
pub fn mounts(mounts: &[Mount]) -> Result<Vec<u8>> {
    const UNITS: &str = "tearless/run/systemd/system";
    let mut fs = Initramfs::new();
    let mut list = String::new();
    for mount in mounts {
        check_word("tag", &mount.tag, 36)?;
        let (tag, options, unit) = (&mount.tag, mount.options(), mount.unit());
        writeln!(list, "{tag} {options}").map_err(|_| Error::Initramfs("a list is too long".into()))?;
        let text = format!(
            "[Unit]\nDescription=Shared folder {tag}\nDefaultDependencies=no\nBefore=local-fs.target umount.target\n\
             Conflicts=umount.target\n\n[Mount]\nWhat={tag}\nWhere=/mnt/{tag}\nType=virtiofs\nOptions={options}\n"
        );
        fs.file(&format!("{UNITS}/{unit}"), 0o644, text)?;
        fs.symlink(&format!("{UNITS}/local-fs.target.wants/{unit}"), &format!("../{unit}"))?;
    }
    fs.file("tearless/mounts", 0o644, list)?;
    Ok(fs.finish())
}

fn add_network(fs: &mut Initramfs, network: Network<'_>) -> Result<()> {
    let settings = match network {
        Network::Untouched => return Ok(()),
        Network::Fixed { address, mask, gateway, dns } => {
            for (what, word) in
                [("address", address), ("mask", mask), ("gateway", gateway), ("name server", dns)]
            {
                check_word(what, word, 64)?;
            }
            fs.file("etc/resolv.conf", 0o644, format!("nameserver {dns}\n"))?;
            format!("address={address}\nmask={mask}\ngateway={gateway}\n")
        }
        Network::Dhcp => {
            fs.file("tearless/lease", 0o755, LEASE)?;
            String::new()
        }
    };
    fs.file("tearless/network-settings", 0o644, settings)?;
    fs.file("tearless/network", 0o644, NETWORK)?;
    Ok(())
}

fn add_mode(fs: &mut Initramfs, mode: &Mode) -> Result<()> {
    fs.file("tearless/shell", 0o755, SHELL)?;
    let session = match mode {
        Mode::Shell => "hvc0::respawn:/tearless/shell",
        Mode::Command { argv, tty } => {
            fs.file("tearless/argv", 0o644, argv_script(argv)?)?;
            if *tty {
                fs.file("tearless/terminal", 0o755, TERMINAL)?;
                "hvc0::once:/tearless/terminal"
            } else {
                fs.file("tearless/command", 0o755, COMMAND)?;
                fs.node("tearless/stdout", 0o600, NodeKind::Fifo, (0, 0))?;
                fs.node("tearless/stderr", 0o600, NodeKind::Fifo, (0, 0))?;
                "::once:/tearless/command"
            }
        }
        Mode::Root { device, fstype, options } => {
            for (what, word) in [("device", device), ("file system", fstype), ("mount options", options)] {
                check_word(what, word, 255)?;
            }
            fs.file("tearless/root", 0o644, ROOT)?;
            let settings = format!("device={device}\nfstype={fstype}\noptions={options}\n");
            fs.file("tearless/root-settings", 0o644, settings)?;
            // Where a disk that does not start leads to.
            "hvc0::respawn:/tearless/shell"
        }
    };
    fs.file("etc/inittab", 0o644, format!("{session}\n::shutdown:/tearless/off\n"))?;
    Ok(())
}

/// `module` without the signature that distributions append (Linux `include/linux/module_signature.h`).
///
/// The kernel would check it with 50 million instructions, ten times as many as all else that loading takes, although
/// whoever could change the module could change the kernel as well. Without it the kernel notes that it is tainted.
fn without_signature(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    const DESCRIPTION: usize = 12;
    let stripped = || {
        let (rest, description) = module.strip_suffix(MARK)?.split_last_chunk::<DESCRIPTION>()?;
        let length = u32::from_be_bytes(*description.last_chunk()?);
        rest.get(..rest.len().checked_sub(length as usize)?)
    };
    stripped().unwrap_or(module)
}

/// A word that a shell takes as it stands.
fn check_word(what: &str, word: &str, limit: usize) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+/=,:".contains(c);
    if word.is_empty() || word.len() > limit || word.starts_with('-') || !word.chars().all(plain) {
        return Err(Error::Initramfs(format!("`{}` is not a usable {what}", word.escape_debug())));
    }
    Ok(())
}

/// A shell script that sets the positional parameters to `argv`.
fn argv_script(argv: &[Vec<u8>]) -> Result<Vec<u8>> {
    let refuse = |why: &str| Err(Error::Initramfs(format!("the command {why}")));
    if argv.first().is_none_or(Vec::is_empty) {
        return refuse("is empty");
    }
    if argv.iter().any(|a| a.len() > MAX_ARGUMENT)
        || argv.iter().map(|a| a.len() + 9).sum::<usize>() > MAX_ARGUMENTS
    {
        return refuse(
            "has more than 1 MiB of arguments or one beyond 128 KiB; pass data through standard input",
        );
    }
    if argv.iter().any(|a| a.contains(&0)) {
        return refuse("has an argument with a NUL byte, which no program can be given");
    }
    let mut script = b"set --".to_vec();
    for argument in argv {
        // Within single quotes a shell takes every byte as it is but the quote.
        script.extend(b" '");
        for &byte in argument {
            match byte {
                b'\'' => script.extend(b"'\\''"),
                _ => script.push(byte),
            }
        }
        script.push(b'\'');
    }
    script.push(b'\n');
    Ok(script)
}

#[cfg(test)]
mod tests;
