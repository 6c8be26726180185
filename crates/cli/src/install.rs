//! `create --iso --unattended`: installation without questions, and what goes when an installation is complete.

use std::{env, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use tearless_boot::initramfs::Initramfs;
use tearless_bundle::Bundle;
use tearless_config::{
    BootConfig, ByteSize, DiskConfig, DiskFormat, InstallerConfig, UnattendedConfig, VmConfig,
};
use tearless_guest::AGENT;
use tearless_image::{
    installer::{Answers, CIDATA, Family, META_DATA, Medium, OEMDRV, has_security},
    mirror::Mirror,
};
use tearless_vm::efi::{INSTALLED, Variables};

use crate::{args::CreateArgs, seed, store};

/// The names of the bundle's files that are there until the installation is complete.
const KERNEL: &str = "InstallerKernel";
const INITRD: &str = "InstallerInitrd";
const ANSWERS: &str = "Answers.img";

/// What Debian's installer finds its answers as.
const PRESEED: &str = "preseed.cfg";
/// No question is so important that it would be asked, and progress is shown in lines, which a log can keep.
const DEBIAN_CMDLINE: &str = "auto=true priority=critical DEBIAN_FRONTEND=text";
const UBUNTU_CMDLINE: &str = "autoinstall";

/// Anaconda looks for answers on their volume by itself. Its other parts are on the medium; udev writes what is no plain character of a
/// label in hexadecimal.
fn anaconda_cmdline(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
    let escaped = |c: char| {
        let mut bytes = [0; 4];
        c.encode_utf8(&mut bytes).bytes().map(|byte| format!(r"\x{byte:02x}")).collect::<String>()
    };
    let label: String = label.chars().map(|c| if plain(c) { c.to_string() } else { escaped(c) }).collect();
    format!("inst.stage2=hd:LABEL={label} inst.text")
}

/// An installation without questions, before the VM is made.
pub struct Unattended {
    medium: Medium,
    answers: Answers,
    cmdline: String,
}

impl Unattended {
    /// What `args` want on a disk of `disk`, if they want that.
    pub fn read(args: &CreateArgs, disk: ByteSize) -> Result<Option<Self>> {
        let Some(iso) = &args.iso else { return Ok(None) };
        if !args.unattended.unattended {
            refuse_unused(args, None)?;
            return Ok(None);
        }
        let mut answers = answers(args)?;
        let medium = Medium::read(iso)?;
        refuse_unused(args, Some(medium.family))?;
        let least = ByteSize::new(medium.family.least_disk());
        if disk < least {
            bail!(
                "cannot install from {} on a disk of {disk}\n  because: the system would not fit\n  try: --disk {least} or more",
                iso.display()
            );
        }
        answers.has_security = medium.family == Family::Debian && has_security(&answers.mirror);
        let own = match medium.family {
            Family::Debian => DEBIAN_CMDLINE.to_owned(),
            Family::Ubuntu => UBUNTU_CMDLINE.to_owned(),
            Family::Anaconda => anaconda_cmdline(&medium.label),
        };
        let cmdline = args.cmdline.iter().fold(own, |all, extra| format!("{all} {extra}"));
        Ok(Some(Self { medium, answers, cmdline }))
    }

    /// The disk that the installer takes its answers from, if it does.
    fn disk(&self) -> Option<DiskConfig> {
        let own = DiskConfig { read_only: true, format: Some(DiskFormat::Raw), ..DiskConfig::new(ANSWERS) };
        (self.medium.family != Family::Debian).then_some(own)
    }

    /// Puts its files into the VM's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        seed::put(&folder.join(KERNEL), &self.medium.kernel)?;
        let mut initrd = self.medium.initrd.clone();
        match self.medium.family {
            Family::Debian => {
                let mut archive = Initramfs::new();
                archive.file(PRESEED, 0o600, self.answers.preseed())?;
                archive.file(seed::PROGRAM, 0o755, AGENT)?;
                initrd.resize(initrd.len().next_multiple_of(4), 0);
                initrd.extend(archive.finish());
            }
            Family::Ubuntu => {
                let user_data = self.answers.autoinstall();
                let files = [
                    ("user-data", user_data.as_bytes()),
                    ("meta-data", META_DATA.as_bytes()),
                    (seed::PROGRAM, AGENT),
                ];
                seed::write_volume(&folder.join(ANSWERS), CIDATA, &files)?;
            }
            Family::Anaconda => {
                let answers = self.answers.kickstart();
                let files = [("ks.cfg", answers.as_bytes()), (seed::PROGRAM, AGENT)];
                seed::write_volume(&folder.join(ANSWERS), OEMDRV, &files)?;
            }
        }
        seed::put(&folder.join(INITRD), &initrd)
    }
}

/// Fails if `args` say what an installation by a medium would not heed: one of this family without questions, or one by hand.
fn refuse_unused(args: &CreateArgs, family: Option<Family>) -> Result<()> {
    let (debian, by_debian) = (&args.debian, family == Some(Family::Debian));
    let given = [
        ("--suite", debian.suite.is_some() && !by_debian),
        ("--mirror", debian.mirror.is_some() && !by_debian),
        ("--flavour", debian.flavour.is_some()),
        ("--refresh", debian.refresh),
        ("--cmdline", args.cmdline.is_some() && family.is_none()),
    ];
    let Some((option, _)) = given.iter().find(|(_, is_unused)| *is_unused) else { return Ok(()) };
    let because = match family {
        None => "whoever sits before the installer answers its questions",
        Some(Family::Debian) => "Debian's installer chooses its kernel, from the medium or the mirror",
        Some(_) => "that is for Debian, and the medium's system is another",
    };
    bail!("cannot create {} with {option}\n  because: {because}\n  try: without {option}", args.name);
}

/// Notes an installation from `medium` in the configuration.
pub fn note(config: &mut VmConfig, medium: DiskConfig, unattended: Option<&Unattended>) {
    let BootConfig::Efi { installer, .. } = &mut config.boot else { return };
    let unattended_config = unattended.map(|unattended| UnattendedConfig {
        kernel: KERNEL.into(),
        initrd: INITRD.into(),
        cmdline: unattended.cmdline.clone(),
        answers: unattended.disk().map(|disk| disk.path),
    });
    *installer = Some(InstallerConfig { medium: medium.path.clone(), unattended: unattended_config });
    config.disks.push(medium);
    config.disks.extend(unattended.and_then(Unattended::disk));
}

/// Takes the installation medium out of a VM on which a system is installed, and removes what was for the installation only.
/// Whether one is, its variables say.
pub fn settle(bundle: &Bundle, config: &mut VmConfig, variables: &Variables) -> Result<()> {
    let BootConfig::Efi { installer, .. } = &mut config.boot else { return Ok(()) };
    let complete = match installer {
        None => false,
        Some(InstallerConfig { unattended: Some(_), .. }) => variables.is_installed(),
        Some(InstallerConfig { unattended: None, .. }) => variables.has_boot_order(),
    };
    let Some(done) = installer.take_if(|_| complete) else { return Ok(()) };
    let answers = done.unattended.as_ref().and_then(|unattended| unattended.answers.as_ref());
    config.disks.retain(|disk| disk.path != done.medium && Some(&disk.path) != answers);
    bundle.save_config(config)?;
    eprintln!("tearless: {} is installed; took out {}", bundle.name(), done.medium.display());
    for file in done.unattended.iter().flat_map(|u| [Some(&u.kernel), Some(&u.initrd), u.answers.as_ref()]) {
        // The bundle's own only. One that is gone already needs no removing.
        if let Some(file) = file.filter(|file| [KERNEL, INITRD, ANSWERS].iter().any(|own| **file == **own))
            && let Err(error) = fs::remove_file(bundle.path().join(file))
        {
            tracing::debug!(%error, file = %file.display(), "cannot remove what is not needed any more");
        }
    }
    Ok(())
}

/// The variables of the VM in `folder`.
pub fn variables(folder: &Path, file: &Path) -> Result<Arc<Variables>> {
    let path = folder.join(file);
    let variables = Variables::open(&path).with_context(|| {
        format!(
            "cannot use EFI's variables in {}\n  try: remove it, and boot entries are made anew",
            path.display()
        )
    })?;
    Ok(Arc::new(variables))
}

fn answers(args: &CreateArgs) -> Result<Answers> {
    let own = &args.unattended;
    let password_hash = own.password_file.as_deref().map(seed::password).transpose()?;
    let ssh_keys = args.ssh_key.as_deref().map(store::ssh_keys).transpose()?.unwrap_or_default();
    if password_hash.is_none() && ssh_keys.is_empty() {
        bail!(
            "cannot install a system without questions\n  because: nobody could log into it\n  try: --password-file with \
             the password in the first line of a file, or --ssh-key FILE"
        );
    }
    let mirror = Mirror::choose(args.debian.mirror.as_deref())?;
    let answers = Answers {
        hostname: own.hostname.clone().unwrap_or_else(|| store::hostname(&args.name)),
        user: own.user.clone().unwrap_or_else(host_user),
        password_hash,
        ssh_keys,
        locale: own.locale.clone().unwrap_or_else(host_locale),
        keyboard: own.keyboard.clone().unwrap_or_else(host_keyboard),
        timezone: own.timezone.clone().unwrap_or_else(host_timezone),
        suite: args.debian.suite.clone(),
        has_security: false,
        mirror,
        packages: args.packages.clone(),
        program: seed::PROGRAM.to_owned(),
        done: INSTALLED.to_owned(),
    };
    answers.check()?;
    Ok(answers)
}

/// This user's name, if it can be one of a guest's.
pub fn host_user() -> String {
    let fits = |name: &String| {
        name != "root"
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    env::var("USER").ok().filter(fits).unwrap_or_else(|| "user".to_owned())
}

fn host_locale() -> String {
    let set = ["LC_ALL", "LANG"].into_iter().find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()));
    // A locale of the C library only, or none, says nothing about the user.
    set.filter(|locale| locale.contains('_')).unwrap_or_else(|| "en_US.UTF-8".to_owned())
}

fn host_keyboard() -> String {
    let text = fs::read_to_string("/etc/default/keyboard").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("XKBLAYOUT="));
    let first = value.map(|value| value.trim_matches('"').split(',').next().unwrap_or_default());
    first.filter(|layout| !layout.is_empty()).unwrap_or("us").to_owned()
}

fn host_timezone() -> String {
    let link = fs::read_link("/etc/localtime").unwrap_or_default();
    let name = link.to_str().and_then(|path| path.split_once("zoneinfo/")).map(|(_, name)| name.to_owned());
    name.unwrap_or_else(|| "Etc/UTC".to_owned())
}
