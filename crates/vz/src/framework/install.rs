//! What macOS is installed from, and what must be there before.

use std::{path::Path, sync::mpsc::channel};

use block2::RcBlock;
use objc2::{AnyThread as _, rc::autoreleasepool};
use objc2_foundation::NSError;
use objc2_virtualization::{
    VZLinuxRosettaDirectoryShare, VZMacAuxiliaryStorage, VZMacAuxiliaryStorageInitializationOptions,
    VZMacOSRestoreImage,
};

use super::{
    Failure,
    build::{file_url, hardware_model},
    machine::{completion, path_text},
};

/// What an IPSW installs, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreImage {
    /// Its macOS, "15.1".
    pub version: String,
    /// Its build, "24B83".
    pub build: String,
    /// The file `HardwareModel` of the best virtual Mac that this host can be for it.
    pub model: Vec<u8>,
    /// The fewest vCPUs.
    pub cpus: u32,
    /// The least memory, in bytes.
    pub memory: u64,
}

impl RestoreImage {
    /// Has the framework look at the IPSW at `path`.
    ///
    /// # Errors
    /// When it is none, or this host cannot run what it installs.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = path_text(path)?;
        let what = format!("use the IPSW {}", path.display());
        let (sender, receiver) = channel();
        let failed = what.clone();
        let done = RcBlock::new(move |image: *mut VZMacOSRestoreImage, error: *mut NSError| {
            // SAFETY: one of them is there, and stays during the call.
            let result = unsafe {
                match (image.as_ref(), error.as_ref()) {
                    (Some(image), _) => Self::of(image, &failed),
                    (None, Some(error)) => Err(Failure::of(failed.clone(), error)),
                    (None, None) => {
                        Err(Failure::new(failed.clone(), "the framework gives no reason", "another IPSW"))
                    }
                }
            };
            // Whoever waited may have gone.
            let _ = sender.send(result);
        });
        // SAFETY: a class method; the framework keeps a copy of the block.
        autoreleasepool(|_| unsafe {
            VZMacOSRestoreImage::loadFileURL_completionHandler(&file_url(text), &done);
        });
        drop(done);
        let gone = |_| Err(Failure::new(what, "the framework gave no answer", "again"));
        receiver.recv().unwrap_or_else(gone)
    }

    fn of(image: &VZMacOSRestoreImage, what: &str) -> Result<Self, Failure> {
        // SAFETY: getters of an object that is there.
        unsafe {
            let version = image.operatingSystemVersion();
            let Some(needs) = image.mostFeaturefulSupportedConfiguration() else {
                let why = "no virtual Mac that this host can be runs what it installs";
                return Err(Failure::new(
                    what,
                    why,
                    "a newer macOS on this Mac, or an older IPSW: tearless ipsw list",
                ));
            };
            let patch =
                if version.patchVersion > 0 { format!(".{}", version.patchVersion) } else { String::new() };
            Ok(Self {
                version: format!("{}.{}{patch}", version.majorVersion, version.minorVersion),
                build: image.buildVersion().to_string(),
                model: needs.hardwareModel().dataRepresentation().to_vec(),
                cpus: u32::try_from(needs.minimumSupportedCPUCount()).unwrap_or(u32::MAX),
                memory: needs.minimumSupportedMemorySize(),
            })
        }
    }
}

/// Makes the auxiliary storage of a new virtual Mac of that `model` at `path`.
///
/// # Errors
/// When the framework does not know the model, or the host refuses the file.
pub fn create_auxiliary_storage(path: &Path, model: &[u8]) -> Result<(), Failure> {
    let text = path_text(path)?;
    let options = VZMacAuxiliaryStorageInitializationOptions::empty();
    // Whoever calls this may have no pool, and the framework's error would stay until the thread ends.
    autoreleasepool(|_| {
        let (url, model) = (file_url(text), hardware_model(model)?);
        // SAFETY: the model is one that this host supports.
        let made = unsafe {
            VZMacAuxiliaryStorage::initCreatingStorageAtURL_hardwareModel_options_error(
                VZMacAuxiliaryStorage::alloc(),
                &url,
                &model,
                options,
            )
        };
        made.map(drop).map_err(|e| Failure::of(format!("make {}", path.display()), &e))
    })
}

/// Installs Rosetta on this host; macOS asks its user.
///
/// # Errors
/// When its user says no, or there is no network.
pub fn install_rosetta() -> Result<(), Failure> {
    let (sender, receiver) = channel();
    // SAFETY: a class method; the framework keeps a copy of the block.
    autoreleasepool(|_| unsafe {
        let done = completion("install Rosetta", sender);
        VZLinuxRosettaDirectoryShare::installRosettaWithCompletionHandler(&done);
    });
    let gone = |_| Err(Failure::new("install Rosetta", "the framework gave no answer", "again"));
    receiver.recv().unwrap_or_else(gone)
}
