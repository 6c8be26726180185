//! Firmware of another's making, such as EDK2.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use tearless_machine::{FirmwareBoot, FirmwareKernel, Flash, efi::Identity};

use crate::{Error, LinuxPayload, Payload};

/// Bytes of the largest firmware: the board's flash.
pub const MAX_FIRMWARE: u64 = 64 << 20;

/// Firmware, and what it keeps. Resets find both as they are.
#[derive(Clone)]
pub struct Firmware {
    code: Arc<[u8]>,
    variables: Arc<Flash>,
    identity: Identity,
}

impl Firmware {
    /// The firmware in the file `code`, whose variables are in the file `variables`, which is made if it is not there; or,
    /// without one, are gone in the end.
    ///
    /// # Errors
    /// When a file cannot be used: three lines for people.
    pub fn open(code: &Path, variables: Option<&Path>, identity: Identity) -> Result<Self, Error> {
        let refuse =
            |path: &Path, error: io::Error| Error::Firmware { path: path.to_owned(), why: error.to_string() };
        let bytes = read(code).map_err(|e| refuse(code, e))?;
        let flash = match variables {
            None => Flash::volatile(),
            Some(path) => open(path).and_then(Flash::with_file).map_err(|e| refuse(path, e))?,
        };
        Ok(Self { code: bytes.into(), variables: Arc::new(flash), identity })
    }

    /// Keeps what it writes from now on in memory only.
    pub(crate) fn detach(&self) {
        self.variables.detach();
    }

    /// How the machine starts that boots `payload` with it.
    pub(crate) fn boot(&self, payload: &Payload) -> Result<FirmwareBoot, Error> {
        let (kernel, identity) = match payload {
            Payload::Efi { identity, kernel: linux, variables } => {
                let linux = linux.as_ref().filter(|_| !variables.is_installed());
                (linux.map(kernel).transpose()?, identity)
            }
            Payload::Linux(linux) => (Some(kernel(linux)?), &self.identity),
        };
        Ok(FirmwareBoot {
            code: Arc::clone(&self.code),
            variables: Arc::clone(&self.variables),
            kernel,
            identity: identity.clone(),
        })
    }
}

fn kernel(linux: &LinuxPayload) -> Result<FirmwareKernel, Error> {
    Ok(FirmwareKernel {
        program: linux.kernel.efi_program()?.into(),
        initrd: linux.initrd.read()?.into(),
        cmdline: linux.cmdline.clone(),
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// The code, without the zeros that fill up the flash.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FIRMWARE + 1).read_to_end(&mut bytes)?;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if bytes.len() as u64 > MAX_FIRMWARE {
        return Err(invalid(format!("it is larger than {} MiB", MAX_FIRMWARE >> 20)));
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    bytes.shrink_to_fit();
    if bytes.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_firmware_is_refused_and_padding_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code.fd");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Firmware::open(&path, None, Identity::default())
        };
        assert_eq!(*open(&[1, 2, 0, 3, 0, 0]).unwrap().code, [1, 2, 0, 3]);
        for wrong in [&[][..], &[0; 100]] {
            let error = open(wrong).err().unwrap().to_string();
            assert!(error.contains("code.fd") && error.contains("empty"), "{error}");
        }
        File::options().write(true).open(&path).unwrap().set_len(MAX_FIRMWARE + 1).unwrap();
        assert!(Firmware::open(&path, None, Identity::default()).is_err());
        std::fs::write(&path, [1]).unwrap();
        let variables = dir.path().join("none/NVRAM.fd");
        assert!(Firmware::open(&path, Some(&variables), Identity::default()).is_err());
    }
}
