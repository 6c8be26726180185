//! The volume that cloud-init looks for: answers for Ubuntu's installer, and how a cloud image is to be set up.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context, Result};
use tearless_config::{DiskConfig, DiskFormat};
use tearless_guest::AGENT;
use tearless_image::installer::{CIDATA, CloudConfig, hash_password};
use tearless_vm::{
    efi::media::{Volume, fat::Fat},
    storage::{self, OpenOptions},
};

use crate::{args::CreateArgs, store};

/// The bundle's file. It stays: cloud-init looks for it at each boot.
const SEED: &str = "Seed.img";
/// The agent's name on it.
pub const PROGRAM: &str = "agent";
/// Bytes of a volume, which has some kilobytes and perhaps the agent.
const SIZE: usize = 4 << 20;
/// The first day that FAT has.
const LONG_AGO: (u16, u16) = (0x21, 0);

/// What a cloud image is to be told, before the VM is made.
pub struct CloudInit(CloudConfig);

impl CloudInit {
    /// What `args` want, if they want that. `instance` names the VM.
    pub fn read(args: &CreateArgs, instance: &str) -> Result<Option<Self>> {
        if !args.cloud_init {
            return Ok(None);
        }
        let own = &args.unattended;
        let config = CloudConfig {
            hostname: own.hostname.clone().unwrap_or_else(|| store::hostname(&args.name)),
            instance: instance.to_owned(),
            user: own.user.clone(),
            password_hash: own.password_file.as_deref().map(password).transpose()?,
            ssh_keys: args.ssh_key.as_deref().map(store::ssh_keys).transpose()?.unwrap_or_default(),
            locale: own.locale.clone(),
            keyboard: own.keyboard.clone(),
            timezone: own.timezone.clone(),
            packages: args.packages.clone(),
            program: PROGRAM.to_owned(),
        };
        config.check()?;
        Ok(Some(Self(config)))
    }

    /// The disk that cloud-init finds it on.
    pub fn disk() -> DiskConfig {
        DiskConfig { read_only: true, format: Some(DiskFormat::Raw), ..DiskConfig::new(SEED) }
    }

    /// Puts it into the VM's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let (user_data, meta_data) = (self.0.user_data(), self.0.meta_data());
        let files =
            [("user-data", user_data.as_bytes()), ("meta-data", meta_data.as_bytes()), (PROGRAM, AGENT)];
        write_volume(&folder.join(SEED), CIDATA, &files)
    }
}

/// Makes the volume at `path`, with `files`, and with the label by which it is found.
pub fn write_volume(path: &Path, label: &str, files: &[(&str, &[u8])]) -> Result<()> {
    put(path, &vec![0; SIZE])?;
    let fill = || -> Result<()> {
        let mut fat = Fat::format(Volume::whole(storage::open(path, OpenOptions::default())?), label)?;
        for (name, content) in files {
            fat.put(name, content, LONG_AGO)?;
        }
        fat.flush()?;
        Ok(())
    };
    fill().with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a file that only the user may read: a password's hash is nobody else's business.
pub fn put(path: &Path, content: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The hash of the password in the first line of the file at `path`.
pub fn password(path: &Path) -> Result<String> {
    Ok(hash_password(&first_line(path)?)?)
}

/// The password in the first line of the file at `path`.
pub fn first_line(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the password in {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
