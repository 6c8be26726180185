//! Installation media: what is on them, and the answers with which they install a system without asking; and what a cloud image's
//! cloud-init is told ([`CloudConfig`]).
//!
//! A medium is known by its kernel and RAM disk ([`Medium::read`]). They are started directly, by EFI in the VMM, for only then is
//! the command line ours; the medium itself stays as it is. Debian's installer finds its answers in a file that is added to the
//! RAM disk ([`Answers::preseed`]), Ubuntu's and Fedora's on a volume that is labelled for them ([`Answers::autoinstall`],
//! [`Answers::kickstart`]).

mod answers;
mod cloud;
mod iso;
mod kickstart;

use std::{fs::File, io::Read, path::Path};

use flate2::read::GzDecoder;

pub use answers::{Answers, META_DATA, has_security, hash_password};
pub use cloud::{CIDATA, CloudConfig};
pub use iso::Iso;
pub use kickstart::OEMDRV;

use crate::error::{Error, Kind, Result};

/// Kernels are below 100 MiB, RAM disks below 300.
const MAX_FILE: u64 = 512 << 20;

/// Whose installer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian's.
    Debian,
    /// Ubuntu's, the server's and the desktop's.
    Ubuntu,
    /// Anaconda: Fedora's, CentOS Stream's and their kin's.
    Anaconda,
}

impl Family {
    /// The smallest disk, in bytes, that its system fits on: installers notice only when they have written to all of a smaller one.
    pub const fn least_disk(self) -> u64 {
        match self {
            // 256 MiB for EFI, 1.2 GiB that are in use then, and room to work.
            Self::Debian => 2 << 30,
            // What the manuals ask for.
            Self::Ubuntu => 5 << 30,
            Self::Anaconda => 10 << 30,
        }
    }
}

/// Where installers have kernel and RAM disk.
const PLACES: [(Family, &str, &str); 5] = [
    (Family::Debian, "install.a64/vmlinuz", "install.a64/initrd.gz"),
    // Of a `mini.iso`.
    (Family::Debian, "linux", "initrd.gz"),
    (Family::Ubuntu, "casper/vmlinuz", "casper/initrd"),
    (Family::Ubuntu, "casper/hwe-vmlinuz", "casper/hwe-initrd"),
    (Family::Anaconda, "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
];

/// What Anaconda's RAM disk goes on with. Media that only show a system have the same kernel, and not this.
const STAGE: &str = "images/install.img";

/// What an installation medium starts.
pub struct Medium {
    /// Whose it is.
    pub family: Family,
    /// The label of its volume.
    pub label: String,
    /// Its kernel, as EFI takes it.
    pub kernel: Vec<u8>,
    /// Its RAM disk.
    pub initrd: Vec<u8>,
}

impl Medium {
    /// Looks for an installer on the image at `path`.
    ///
    /// # Errors
    /// [`Kind::Local`] when it cannot be read; [`Kind::Format`] when it is damaged, or none that can do without questions.
    pub fn read(path: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(
                Kind::Format,
                format!("cannot install from {} without questions", path.display()),
                why,
                "without --unattended, and answer its installer's questions",
            )
        };
        let file = File::open(path).map_err(|e| Error::local("read", path, &e))?;
        let mut iso = Iso::open(file).map_err(|e| refuse(&e.to_string()))?;
        for (family, kernel, initrd) in PLACES {
            let found = iso.find(kernel).map_err(|e| refuse(&e.to_string()))?;
            let Some(kernel) = found else { continue };
            let initrd = iso.find(initrd).map_err(|e| refuse(&e.to_string()))?;
            let Some(initrd) = initrd else { continue };
            if family == Family::Anaconda && iso.find(STAGE).map_err(|e| refuse(&e.to_string()))?.is_none() {
                return Err(refuse("it shows a system, and its installer takes no answers"));
            }
            let kernel = iso.read(kernel, MAX_FILE).map_err(|e| refuse(&e.to_string()))?;
            let initrd = iso.read(initrd, MAX_FILE).map_err(|e| refuse(&e.to_string()))?;
            let kernel = unpacked(kernel).map_err(|e| refuse(&format!("its kernel is damaged: {e}")))?;
            return Ok(Self { family, label: iso.label().to_owned(), kernel, initrd });
        }
        Err(refuse("it has no installer for ARM64 of Debian's, Ubuntu's or Fedora's kind"))
    }
}

/// EFI takes no kernel that is merely packed; Ubuntu's boot loader unpacks it.
fn unpacked(kernel: Vec<u8>) -> std::io::Result<Vec<u8>> {
    if !kernel.starts_with(&[0x1f, 0x8b]) {
        return Ok(kernel);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(&kernel[..]).take(MAX_FILE).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests;
