//! What a host can run. The policy on overcommitment stands here and nowhere else.

use std::collections::HashSet;

use crate::{
    Allow, BootConfig, ByteSize, ConfigError, NetConfig, PortForward, ScreenMode, SoundEnd, VmConfig,
};

/// Less than this and a distribution's kernel does not reach user space.
pub const MIN_MEMORY: ByteSize = ByteSize::mib(64);

/// Memory comes in whole MiB, so that no table of the guest ends in a part of a large page.
const MEMORY_STEP: u64 = 1 << 20;

/// Every host may run this many vCPUs: tests and builds want some, and on a small host they only share its CPUs.
const ALWAYS_ALLOWED: u32 = 8;

/// vCPUs per host CPU beyond which a VM is refused. A guest's spinlocks assume that the vCPU that holds one is
/// running; with many vCPUs per host CPU it mostly is not, and the guest crawls or deadlocks.
const PER_HOST_CPU: u32 = 4;

/// The board has slots for this many shared folders.
pub const MAX_SHARES: usize = 8;

/// Bytes of the longest tag of a shared folder (virtio 1.3, section 5.11.4).
pub const MAX_TAG: usize = 36;

/// The framework starts no macOS with less.
const MAC_CPUS: u32 = 2;
/// The same of memory.
const MAC_MEMORY: ByteSize = ByteSize::gib(4);

/// A line in a listing.
const MAX_DESCRIPTION: usize = 1000;

/// What the host and the board offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// CPUs of the host that this process may use.
    pub cpus: u32,
    /// vCPUs that the board has room for (QEMU's `virt`, whose map ours is, fits 123 redistributors).
    pub max_vcpus: u32,
    /// The host's physical memory in bytes.
    pub memory: u64,
}

impl HostLimits {
    /// The most vCPUs without `allow_overcommit`.
    pub fn default_max_vcpus(&self) -> u32 {
        self.cpus.saturating_mul(PER_HOST_CPU).max(ALWAYS_ALLOWED).min(self.max_vcpus)
    }
}

impl VmConfig {
    /// Checks what can be told without looking at files.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first value that cannot work on a host with `limits`.
    pub fn validate(&self, limits: &HostLimits) -> Result<(), ConfigError> {
        self.validate_cpus(limits)?;
        self.validate_memory(limits)?;
        self.validate_balloon()?;
        self.validate_disks()?;
        self.validate_shares()?;
        self.validate_network()?;
        self.validate_display()?;
        self.validate_sound()?;
        self.validate_identity()?;
        self.validate_words()?;
        self.validate_boot()
    }

    fn validate_cpus(&self, limits: &HostLimits) -> Result<(), ConfigError> {
        let refuse = |why: String, advice: String| invalid(format!("{} vCPUs", self.cpus), why, advice);
        let usual = limits.default_max_vcpus();
        if self.cpus == 0 {
            return refuse("a VM needs at least one".into(), format!("use 1 to {usual}"));
        }
        if self.cpus > limits.max_vcpus {
            let why = format!("the board has room for {}", limits.max_vcpus);
            return refuse(why, format!("use 1 to {usual}"));
        }
        if self.cpus > usual && !self.allow_overcommit {
            return refuse(
                format!(
                    "the host has {} CPUs, and a guest with many more vCPUs stalls or deadlocks",
                    limits.cpus
                ),
                format!("use 1 to {usual}, or --overcommit for up to {}", limits.max_vcpus),
            );
        }
        Ok(())
    }

    fn validate_memory(&self, limits: &HostLimits) -> Result<(), ConfigError> {
        let refuse = |why: String, advice: &str| invalid(format!("{} of memory", self.memory), why, advice);
        let bytes = self.memory.bytes();
        if bytes < MIN_MEMORY.bytes() {
            return refuse(format!("a guest needs at least {MIN_MEMORY}"), "give a size such as 512M or 4G");
        }
        if !bytes.is_multiple_of(MEMORY_STEP) {
            return refuse("memory comes in whole MiB".into(), "give a size such as 512M or 4G");
        }
        if bytes > limits.memory {
            return refuse(
                format!("the host has {}M", limits.memory >> 20),
                "give the VM less than the host has",
            );
        }
        Ok(())
    }

    fn validate_balloon(&self) -> Result<(), ConfigError> {
        let most = self.memory.bytes().saturating_sub(MIN_MEMORY.bytes());
        if self.balloon.bytes() > most {
            return invalid(
                format!("a balloon of {}", self.balloon),
                format!("the VM has {} of memory, and its guest needs at least {MIN_MEMORY}", self.memory),
                format!("let the balloon take {} or less", ByteSize::new(most)),
            );
        }
        Ok(())
    }

    fn validate_display(&self) -> Result<(), ConfigError> {
        let mode = self.display.mode;
        if !mode.is_possible() {
            return invalid(
                format!("a screen of {mode}"),
                format!(
                    "sides are {} to {} pixels long, scales 1 to {}",
                    ScreenMode::MIN_SIDE,
                    ScreenMode::MAX_SIDE,
                    ScreenMode::MAX_SCALE
                ),
                "give a size such as 1920x1200 or 2560x1600@2x",
            );
        }
        Ok(())
    }

    fn validate_sound(&self) -> Result<(), ConfigError> {
        let (speaker, microphone) = (self.sound.speaker.as_ref(), &self.sound.microphone);
        for end in speaker.into_iter().chain([microphone]) {
            if let SoundEnd::Wav(path) = end
                && !path.is_absolute()
            {
                let why = "it depends on where the VM is started";
                return invalid(format!("sound file {}", path.display()), why, "give the whole path");
            }
        }
        if matches!(microphone, SoundEnd::Wav(_)) && speaker == Some(microphone) {
            let why = "it would be written over while it is read";
            return invalid(format!("{microphone} for both directions"), why, "use two files");
        }
        Ok(())
    }

    fn validate_words(&self) -> Result<(), ConfigError> {
        let nice = self.qos.nice;
        if !(-20..=19).contains(&nice) {
            return invalid(
                format!("niceness {nice}"),
                "hosts know -20 to 19",
                "give 1 to 19 for a VM that yields",
            );
        }
        if self.description.len() > MAX_DESCRIPTION || self.description.contains(char::is_control) {
            return invalid(
                "the description",
                format!("it is longer than {MAX_DESCRIPTION} bytes or has control characters"),
                "give one line of text",
            );
        }
        Ok(())
    }

    fn validate_disks(&self) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for disk in &self.disks {
            let name = disk.path.display();
            if disk.path.as_os_str().is_empty() {
                return invalid("a disk", "its path is empty", "name the disk image");
            }
            if !seen.insert(&disk.path) {
                return invalid(
                    format!("disk {name}"),
                    "it is attached twice, and the guest would corrupt it",
                    "attach it once",
                );
            }
        }
        Ok(())
    }

    fn validate_shares(&self) -> Result<(), ConfigError> {
        if self.shares.len() > MAX_SHARES {
            let why = format!("the board has room for {MAX_SHARES}");
            let advice = "share a folder that contains several of them";
            return invalid(format!("{} shared folders", self.shares.len()), why, advice);
        }
        let mut seen = HashSet::new();
        for share in &self.shares {
            let refuse = |why: String, advice: &str| {
                let what = format!("tag {:?} for the shared folder {}", share.tag, share.path.display());
                invalid(what, why, advice)
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if share.tag.is_empty() || share.tag.len() > MAX_TAG {
                return refuse(
                    format!("a tag has 1 to {MAX_TAG} characters"),
                    "give it a short name: --share DIR:TAG",
                );
            }
            if !share.tag.chars().all(plain) || share.tag.starts_with(['.', '-']) {
                return refuse(
                    "it becomes the name of a folder in the guest".into(),
                    "use letters, digits, '.', '_' and '-', with a letter, digit or '_' first: --share DIR:TAG",
                );
            }
            if !seen.insert(&share.tag) {
                return refuse(
                    "another shared folder has it".into(),
                    "give them different ones: --share DIR:TAG",
                );
            }
        }
        Ok(())
    }

    fn validate_network(&self) -> Result<(), ConfigError> {
        let NetConfig { mode, forwards, allow, .. } = &self.network;
        let is_loopback = |allow: &&Allow| matches!(allow, Allow::Range(address, _) if address.is_loopback());
        if let Some(allow) = allow.iter().find(is_loopback) {
            return invalid(
                format!("--allow {allow}"),
                "the host's loopback addresses are the guest's own to the guest",
                "--allow host, and reach its services at host.tearless.internal",
            );
        }
        if mode.is_nat() {
            let same = |a: &PortForward, b: &PortForward| (a.host, a.protocol) == (b.host, b.protocol);
            let again =
                forwards.iter().enumerate().find(|(i, f)| forwards.iter().take(*i).any(|g| same(f, g)));
            return match again {
                Some((_, forward)) => invalid(
                    format!("port forward {forward}"),
                    "the host's port is forwarded twice",
                    "forward it once",
                ),
                None => Ok(()),
            };
        }
        let what = match (forwards.first(), allow.first()) {
            (Some(forward), _) => format!("port forward {forward}"),
            (None, Some(allow)) => format!("--allow {allow}"),
            (None, None) => return Ok(()),
        };
        invalid(what, format!("network {mode} does not pass through Tearless"), "use --net nat or isolated")
    }

    fn validate_identity(&self) -> Result<(), ConfigError> {
        match &self.machine_id {
            Some(id) if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) => invalid(
                "the machine's identity",
                "it is not 32 hexadecimal digits",
                "remove `machine_id`, and the guest keeps its own",
            ),
            _ => Ok(()),
        }
    }

    fn validate_boot(&self) -> Result<(), ConfigError> {
        /// `COMMAND_LINE_SIZE` of arm64 Linux, with the terminator.
        const MAX_CMDLINE: usize = 2047;
        let cmdline = self.boot.cmdline().unwrap_or_default();
        if cmdline.len() > MAX_CMDLINE {
            let why = format!("it has {} bytes, arm64 Linux takes up to {MAX_CMDLINE}", cmdline.len());
            return invalid("the kernel command line", why, "shorten it");
        }
        if cmdline.contains(|c: char| c.is_control()) {
            return invalid("the kernel command line", "it has a control character", "write it on one line");
        }
        if let BootConfig::LinuxDebian { .. } = &self.boot
            && self.disks.first().is_none_or(|d| d.read_only)
        {
            return invalid("the disks", "Debian's root is the first disk, writable", "attach it first");
        }
        if self.boot.is_mac() && self.firmware.is_some() {
            return invalid("firmware", "macOS boots with Apple's", "leave it out");
        }
        match &self.boot {
            BootConfig::MacOs { version, build, .. } => self.validate_mac([version, build]),
            _ => Ok(()),
        }
    }

    fn validate_mac(&self, words: [&Option<String>; 2]) -> Result<(), ConfigError> {
        if self.cpus < MAC_CPUS {
            let why = format!("macOS guests need at least {MAC_CPUS}");
            return invalid(format!("{} vCPU", self.cpus), why, format!("use --cpus {MAC_CPUS} or more"));
        }
        if self.memory < MAC_MEMORY {
            let (what, why) = (format!("{} of memory", self.memory), "macOS guests need at least 4G");
            return invalid(what, why, "use --memory 4G or more");
        }
        if self.disks.first().is_none_or(|d| d.read_only) {
            return invalid("the disks", "macOS is on the first disk, writable", "attach it first");
        }
        let plain =
            |word: &String| word.len() <= 40 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if !words.into_iter().flatten().all(plain) {
            let why = "versions and builds have letters, digits and dots only";
            return invalid("the version of macOS", why, "write it as 15.1 and 24B83, or leave it out");
        }
        Ok(())
    }
}

fn invalid(
    what: impl Into<String>,
    why: impl Into<String>,
    advice: impl Into<String>,
) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid { what: what.into(), why: why.into(), advice: advice.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiskConfig, ShareConfig};

    const SMALL: HostLimits = HostLimits { cpus: 2, max_vcpus: 123, memory: 8 << 30 };

    fn kernel(cmdline: &str) -> BootConfig {
        BootConfig::LinuxKernel { kernel: "k".into(), initrd: None, cmdline: cmdline.into() }
    }

    fn check(change: impl FnOnce(&mut VmConfig)) -> Result<(), String> {
        let mut config = VmConfig::new(kernel(""));
        change(&mut config);
        config.validate(&SMALL).map_err(|e| e.to_string())
    }

    #[test]
    fn vcpus_beyond_what_the_host_can_keep_running_need_consent() {
        assert_eq!(check(|c| c.cpus = 8), Ok(()));
        for (cpus, hint) in [(0, "at least one"), (9, "use 1 to 8"), (1000, "room for 123")] {
            assert!(check(|c| c.cpus = cpus).unwrap_err().contains(hint), "{cpus}");
        }
        let with_consent = |cpus| move |c: &mut VmConfig| (c.cpus, c.allow_overcommit) = (cpus, true);
        assert_eq!(check(with_consent(123)), Ok(()));
        assert!(check(with_consent(124)).is_err());
        assert!(check(with_consent(0)).is_err());
        assert_eq!(HostLimits { cpus: 16, ..SMALL }.default_max_vcpus(), 64);
        assert_eq!(HostLimits { cpus: 64, ..SMALL }.default_max_vcpus(), 123);
    }

    #[test]
    fn memory_fits_the_host_and_the_guest() {
        assert_eq!(check(|c| c.memory = ByteSize::mib(64)), Ok(()));
        assert_eq!(check(|c| c.memory = ByteSize::gib(8)), Ok(()));
        let text = check(|c| c.memory = ByteSize::gib(9)).unwrap_err();
        assert!(text.contains("9G of memory") && text.contains("8192M"), "{text}");
        assert!(check(|c| c.memory = ByteSize::new(512)).unwrap_err().contains("512M"));
        assert!(check(|c| c.memory = ByteSize::mib(63)).is_err());
        assert!(check(|c| c.memory = ByteSize::new((64 << 20) + 4096)).unwrap_err().contains("whole MiB"));
    }

    #[test]
    fn shares_have_tags_that_can_be_told_apart() {
        let share =
            |tag: &str| ShareConfig { path: "/d".into(), tag: tag.into(), read_only: false, owner: 0 };
        let with = |tags: &[&str]| check(|c| c.shares = tags.iter().map(|tag| share(tag)).collect());
        assert_eq!(with(&["a", "b-c", "_.x", &"y".repeat(36)]), Ok(()));
        for (tags, hint) in [
            (&["a", "a"][..], "different"),
            (&[""], "1 to 36"),
            (&["a/b"], "letters"),
            (&["-a"], "letters"),
            (&[".."], "letters"),
            (&["1", "2", "3", "4", "5", "6", "7", "8", "9"], "room for 8"),
        ] {
            assert!(with(tags).unwrap_err().contains(hint), "{tags:?}");
        }
        assert!(with(&["ä"]).is_err() && with(&[&"y".repeat(37)]).is_err());
    }

    #[test]
    fn networks_make_sense() {
        let net = |mode: &str, forwards: &[&str], allow: &[&str]| {
            let network = NetConfig {
                mode: mode.parse().unwrap(),
                mac: None,
                forwards: forwards.iter().map(|f| f.parse().unwrap()).collect(),
                allow: allow.iter().map(|a| a.parse().unwrap()).collect(),
                auto_forward: false,
            };
            check(|c| c.network = network)
        };
        assert_eq!(net("nat", &["80:80", "80:80/udp", "0.0.0.0:80:80"], &["host"]), Ok(()));
        assert_eq!(net("none", &[], &[]), Ok(()));
        assert!(net("isolated", &["80:80", "80:81"], &[]).unwrap_err().contains("twice"));
        assert!(net("none", &["80:80"], &[]).unwrap_err().contains("--net nat"));
        assert!(net("bridged:br0", &[], &["dns"]).unwrap_err().contains("--allow dns"));
    }

    #[test]
    fn priorities_and_descriptions_are_bounded() {
        assert_eq!(check(|c| c.qos.nice = -20), Ok(()));
        assert!(check(|c| c.qos.nice = 20).unwrap_err().contains("-20 to 19"));
        assert!(check(|c| c.description = "a\nb".into()).unwrap_err().contains("one line"));
        assert!(check(|c| c.description = "a".repeat(1001)).is_err());
    }

    #[test]
    fn virtual_macs_have_what_macos_needs() {
        let mac = |cpus, memory, disk: Option<bool>, version: &str| {
            check(|c| {
                let auxiliary = "AuxiliaryStorage".into();
                c.boot = BootConfig::MacOs { auxiliary, version: Some(version.into()), build: None };
                (c.cpus, c.memory) = (cpus, ByteSize::gib(memory));
                c.disks = disk
                    .map(|read_only| DiskConfig { read_only, ..DiskConfig::new("d") })
                    .into_iter()
                    .collect();
            })
        };
        assert_eq!(mac(2, 4, Some(false), "15.1"), Ok(()));
        for (result, hint) in [
            (mac(1, 4, Some(false), "15"), "--cpus 2"),
            (mac(2, 3, Some(false), "15"), "--memory 4G"),
            (mac(2, 4, Some(true), "15"), "first disk"),
            (mac(2, 4, None, "15"), "first disk"),
            (mac(2, 4, Some(false), "15\n"), "24B83"),
        ] {
            assert!(result.unwrap_err().contains(hint), "{hint}");
        }
    }

    #[test]
    fn disks_and_boot_make_sense() {
        let disk = |path: &str, read_only| DiskConfig { read_only, ..DiskConfig::new(path) };
        assert_eq!(check(|c| c.disks = vec![disk("a", false), disk("b", false)]), Ok(()));
        assert!(check(|c| c.disks = vec![disk("a", false), disk("a", true)]).unwrap_err().contains("twice"));
        assert!(check(|c| c.disks = vec![disk("", false)]).unwrap_err().contains("empty"));
        assert!(check(|c| c.boot = kernel(&"x".repeat(2048))).unwrap_err().contains("2047"));
        assert!(check(|c| c.boot = kernel("a\nb")).unwrap_err().contains("control"));
        let debian = BootConfig::LinuxDebian {
            suite: "trixie".into(),
            kernel: "Kernel".into(),
            initrd: "Initrd".into(),
            cmdline: String::new(),
        };
        assert!(check(|c| c.boot = debian.clone()).unwrap_err().contains("first disk"));
        assert_eq!(check(|c| (c.boot, c.disks) = (debian, vec![disk("a", false)])), Ok(()));
    }
}
