//! What makes a bundle a particular virtual Mac, byte for byte as Virtualization.framework writes it.
//!
//! ```text
//!   MachineIdentifier    a property list {ECID}: serial number, hardware UUID and provisioning UUID follow from it
//!   HardwareModel        a property list: the kind of virtual Mac
//!   AuxiliaryStorage     boot loader, NVRAM and the permission to start this macOS on this ECID
//! ```
//! An installed macOS starts only with the identifier that it was installed with.

mod auxiliary;
mod blobs;
mod ledger;

use std::{fs, io::Read as _, path::Path};

pub use auxiliary::ecids;
pub use blobs::{HardwareModel, MachineIdentifier};
pub use ledger::Claim;
use tearless_config::BootConfig;

use crate::{
    Bundle, Error, Result,
    files::{failed, write_atomically},
};

/// The file of the [`MachineIdentifier`].
pub const IDENTIFIER_FILE: &str = "MachineIdentifier";
/// The file of the [`HardwareModel`].
pub const MODEL_FILE: &str = "HardwareModel";
/// The auxiliary storage of a new bundle; later its configuration says where it is.
pub const AUXILIARY_FILE: &str = "AuxiliaryStorage";
/// The size of the auxiliary storage that the framework makes.
pub const AUXILIARY_SIZE: u64 = 33_570_816;

/// These files have about a hundred bytes.
const MAX_BLOB: u64 = 4 << 10;

/// Which virtual Mac a bundle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Which one it is.
    pub identifier: MachineIdentifier,
    /// What it is.
    pub model: HardwareModel,
}

impl Bundle {
    /// Which virtual Mac it is.
    ///
    /// # Errors
    /// [`Error::Platform`] when one of its files is lost or damaged.
    pub fn platform(&self) -> Result<Platform> {
        Platform::read(self.path())
    }

    /// Makes it another virtual Mac, or again the one that it was. Its macOS starts only if that was installed on it.
    ///
    /// # Errors
    /// [`Error::Running`], or what the host says.
    pub fn set_identifier(&self, identifier: &MachineIdentifier) -> Result<()> {
        let _lock = self.lock()?;
        write_identifier(self.path(), identifier)
    }

    /// The identifier that the installed macOS belongs to, as its auxiliary storage has it.
    ///
    /// # Errors
    /// [`Error::Platform`] when it names none, or several; [`Error::Config`] when there is no virtual Mac.
    pub fn recover_identifier(&self) -> Result<MachineIdentifier> {
        let BootConfig::MacOs { auxiliary, .. } = self.config()?.boot else {
            let (why, advice) = ("it is no virtual Mac".into(), "name a VM that runs macOS");
            return Err(Error::Platform { path: self.path().into(), why, advice });
        };
        recover(&self.path().join(auxiliary))
    }
}

impl Platform {
    /// Reads the files of the virtual Mac in `folder`.
    ///
    /// # Errors
    /// [`Error::Platform`] when one is lost or damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(IDENTIFIER_FILE);
        let advice = "take it from a backup, or recover it: tearless set NAME --ecid recover";
        let damaged = |why| Error::Platform { path: path.clone(), why, advice };
        let data = read_blob(&path).map_err(|e| match e {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                damaged("it is lost".into())
            }
            other => other,
        })?;
        let identifier = MachineIdentifier::from_data(&data).map_err(damaged)?;
        Ok(Self { identifier, model: read_model(folder)? })
    }

    /// Writes the files into `folder`, where there is no auxiliary storage of another virtual Mac.
    ///
    /// # Errors
    /// What the host says.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_atomically(&folder.join(MODEL_FILE), self.model.data())?;
        write_identifier(folder, &self.identifier)
    }
}

/// Reads the hardware model of the virtual Mac in `folder`.
///
/// # Errors
/// [`Error::Platform`] when it is damaged, [`Error::Io`] when it cannot be read.
pub fn read_model(folder: &Path) -> Result<HardwareModel> {
    let path = folder.join(MODEL_FILE);
    let advice = "take it from a backup, or from another VM that was made from the same IPSW";
    let data = read_blob(&path)?;
    HardwareModel::from_data(&data).map_err(|why| Error::Platform { path, why, advice })
}

/// Makes the virtual Mac in `folder` the one that `identifier` says.
///
/// # Errors
/// What the host says.
pub fn write_identifier(folder: &Path, identifier: &MachineIdentifier) -> Result<()> {
    write_atomically(&folder.join(IDENTIFIER_FILE), identifier.data())
}

/// The identifier that the auxiliary storage `path` belongs to.
///
/// # Errors
/// [`Error::Platform`] when it names none or several.
pub fn recover(path: &Path) -> Result<MachineIdentifier> {
    let advice = "take the file MachineIdentifier from a backup";
    let refuse = |why: String| Error::Platform { path: path.into(), why, advice };
    let file = fs::File::open(path).map_err(failed("read", path))?;
    let found = ecids(file.take(4 * AUXILIARY_SIZE)).map_err(failed("read", path))?;
    match found.as_slice() {
        [ecid] => Ok(MachineIdentifier::from_ecid(*ecid)),
        [] => Err(refuse("it names no ECID; perhaps macOS was never installed".into())),
        several => {
            let several: Vec<_> = several.iter().map(|ecid| format!("{ecid:#x}")).collect();
            Err(refuse(format!("it names several: {}", several.join(", "))))
        }
    }
}

fn read_blob(path: &Path) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    let file = fs::File::open(path).map_err(failed("read", path))?;
    file.take(MAX_BLOB).read_to_end(&mut data).map_err(failed("read", path))?;
    Ok(data)
}

#[cfg(test)]
pub(crate) mod tests;
