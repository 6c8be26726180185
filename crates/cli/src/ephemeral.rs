//! What a VM of Apple's framework works on when nothing of its run is to stay: copies of all that its guest writes to, which share
//! their blocks with the originals where the file system can do that, as Macs' can.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tearless_config::{BootConfig, DiskFormat, VmConfig, apple_variables};
use tearless_vm::storage::{self, is_remote};

use crate::run::EPHEMERAL;

/// The copies. They go when this is dropped.
pub struct Copies(PathBuf);

impl Copies {
    /// Makes them in the folder of the VM in `bundle`, whose lock is held, and where nothing of another run is, and has `config`,
    /// which the framework can run, name them.
    pub fn make(bundle: &Path, config: &mut VmConfig) -> Result<Self> {
        let folder = bundle.join(EPHEMERAL);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let copies = Self(folder);
        for (index, disk) in config.disks.iter_mut().enumerate().filter(|(_, disk)| !disk.read_only) {
            let from = bundle.join(&disk.path);
            if is_remote(&disk.path) || !from.is_file() {
                bail!(
                    "cannot throw away what the guest writes to disk {}\n  because: only files can be copied for a run\n  try: read-only: \
                     {}:ro",
                    disk.path.display(),
                    disk.path.display()
                );
            }
            disk.path = copies.copy(&from, &format!("disk-{index}"))?;
            // That is what the framework takes; the name does not tell any more.
            disk.format = Some(DiskFormat::Raw);
        }
        match &mut config.boot {
            BootConfig::MacOs { auxiliary, .. } => {
                *auxiliary = copies.copy(&bundle.join(&*auxiliary), "auxiliary")?
            }
            BootConfig::Efi { variables, .. } => {
                // The framework has its own beside ours, from the first run on.
                let own = apple_variables(&bundle.join(&*variables));
                *variables = copies.0.join("variables");
                if own.exists() {
                    storage::copy(&own, &apple_variables(variables))?;
                }
            }
            BootConfig::LinuxKernel { .. } | BootConfig::LinuxDebian { .. } => {}
        }
        Ok(copies)
    }

    fn copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.0.join(name);
        storage::copy(from, &to).with_context(|| format!("cannot copy {} for this run", from.display()))?;
        Ok(to)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!("{error:#}");
        }
    }
}

/// Removes from the folder of the VM in `bundle` what a run that was killed has left.
pub fn clear(bundle: &Path) -> Result<()> {
    remove(&bundle.join(EPHEMERAL))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tearless_config::DiskConfig;

    use super::*;

    #[test]
    fn a_run_works_on_copies_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path();
        for name in ["Disk.img", "Other.img", "AuxiliaryStorage", "NVRAM", "NVRAM.vz"] {
            fs::write(bundle.join(name), name).unwrap();
        }
        let read_only = DiskConfig { read_only: true, ..DiskConfig::new("Other.img") };
        let mut config = VmConfig::new(BootConfig::MacOs {
            auxiliary: "AuxiliaryStorage".into(),
            version: None,
            build: None,
        });
        config.disks = vec![DiskConfig::new("Disk.img"), read_only.clone()];
        // A run that was killed has left something.
        fs::create_dir(bundle.join(EPHEMERAL)).unwrap();
        fs::write(bundle.join(EPHEMERAL).join("disk-0"), "old").unwrap();
        clear(bundle).unwrap();
        let copies = Copies::make(bundle, &mut config).unwrap();
        let disk = &config.disks[0].path;
        assert!(disk.starts_with(bundle.join(EPHEMERAL)) && config.disks[1] == read_only);
        fs::write(disk, "what the guest wrote").unwrap();
        let BootConfig::MacOs { auxiliary, .. } = &config.boot else { unreachable!() };
        assert_eq!(fs::read(auxiliary).unwrap(), b"AuxiliaryStorage");
        fs::write(auxiliary, "what the guest wrote").unwrap();
        drop(copies);
        assert!(!bundle.join(EPHEMERAL).exists());
        for name in ["Disk.img", "AuxiliaryStorage"] {
            assert_eq!(fs::read(bundle.join(name)).unwrap(), name.as_bytes());
        }

        let mut config = VmConfig::new(BootConfig::efi("NVRAM"));
        let copies = Copies::make(bundle, &mut config).unwrap();
        let BootConfig::Efi { variables, .. } = &config.boot else { unreachable!() };
        assert_eq!(fs::read(apple_variables(variables)).unwrap(), b"NVRAM.vz");
        drop(copies);
        config.boot = BootConfig::efi("NVRAM");
        config.disks = vec![DiskConfig::new("nbd://server/export")];
        let why = Copies::make(bundle, &mut config).err().unwrap().to_string();
        assert!(why.contains("nbd://server/export:ro"), "{why}");
        assert_eq!(why.lines().count(), 3, "{why}");
    }
}
