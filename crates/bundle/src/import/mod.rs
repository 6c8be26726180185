//! VMs of other programs: what they are is read, their files are taken over as copies that share blocks where the file
//! system can do that. The originals stay as they are. The guest stays the machine that it was.

mod apple;

use std::path::{Path, PathBuf};

use tearless_config::{BootConfig, ByteSize, DiskConfig, MacAddr, VmConfig};

use crate::{
    Bundle, Error, Result, Store,
    bundle::DISK_FILE,
    mac::{AUXILIARY_FILE, MachineIdentifier, Platform},
};

/// What a virtual Mac gets whose program did not say.
const MAC_CPUS: u32 = 4;
const MAC_MEMORY: ByteSize = ByteSize::gib(8);

/// A VM of another program.
#[derive(Debug)]
pub struct Foreign {
    /// Whose format it is in.
    pub program: &'static str,
    /// How many vCPUs it has, if that is said.
    pub cpus: Option<u32>,
    /// How much memory it has, if that is said.
    pub memory: Option<ByteSize>,
    /// The address of its network card, if that is said.
    pub mac: Option<MacAddr>,
    /// Its disk.
    pub disk: PathBuf,
    /// Which virtual Mac it is.
    pub platform: Platform,
    /// That Mac's auxiliary storage.
    pub auxiliary: PathBuf,
    /// What the user is to know.
    pub notes: Vec<String>,
}

impl Foreign {
    /// Looks at the VM in `folder`.
    ///
    /// # Errors
    /// [`Error::Foreigner`] when it is none that can be taken over; [`Error::Platform`] when it is damaged.
    pub fn inspect(folder: &Path) -> Result<Self> {
        if apple::is_one(folder) {
            return apple::read(folder);
        }
        let why = if folder.is_dir() {
            "it has not the files of a VM that is known here"
        } else {
            "there is no such folder"
        };
        Err(refused(folder, why.into()))
    }

    /// Makes the VM `name` in `store` of it. `adapt` has the last word on its configuration.
    ///
    /// # Errors
    /// [`Error::Exists`], or what the host says; then there is no VM.
    pub fn adopt(&self, store: &Store, name: &str, adapt: impl FnOnce(&mut VmConfig)) -> Result<Bundle> {
        let new = store.create(name)?;
        tearless_storage::copy(&self.disk, &new.path().join(DISK_FILE))?;
        tearless_storage::copy(&self.auxiliary, &new.path().join(AUXILIARY_FILE))?;
        self.platform.write(new.path())?;
        let auxiliary = AUXILIARY_FILE.into();
        let mut config = VmConfig::new(BootConfig::MacOs { auxiliary, version: None, build: None });
        config.cpus = self.cpus.unwrap_or(MAC_CPUS);
        config.memory = self.memory.unwrap_or(MAC_MEMORY);
        config.network.mac = self.mac;
        config.disks.push(DiskConfig::new(DISK_FILE));
        adapt(&mut config);
        new.finish(&config)
    }
}

/// The identifier that is given, or that the auxiliary storage has.
fn identifier(given: Option<&[u8]>, auxiliary: &Path, notes: &mut Vec<String>) -> Result<MachineIdentifier> {
    match given.map(MachineIdentifier::from_data) {
        Some(Ok(identifier)) => Ok(identifier),
        lost => {
            let why = match lost {
                Some(Err(why)) => format!("was damaged ({why})"),
                _ => "was lost".into(),
            };
            let identifier = crate::mac::recover(auxiliary)?;
            notes.push(format!("its identifier {why}; it was recovered from the auxiliary storage"));
            Ok(identifier)
        }
    }
}

fn refused(path: &Path, why: String) -> Error {
    Error::Foreigner { path: path.into(), why }
}

#[cfg(test)]
mod tests;
