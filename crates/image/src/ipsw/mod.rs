//! IPSW files: what a macOS is installed from. They are zip archives of up to 23 GB; what they hold stands in a file of
//! some megabytes inside, which is read without the rest, from a file or from a server that gives parts.
//!
//! Nothing here judges whether Apple made the file: its installer checks Apple's signatures.

mod archive;
mod catalogue;
mod download;
mod manifest;
mod remote;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use archive::Source;
pub use catalogue::{CATALOGUE_VARIABLE, Catalogue, Firmware};
pub use download::{cached, fetch};
pub use manifest::{Ipsw, Requirements, VIRTUAL_MAC};
pub use remote::RemoteFile;

use crate::error::{Error, Kind, Result};

/// Reads what the IPSW `source` is, a path or an http(s) address.
///
/// # Errors
/// [`Kind::Format`] when it is no IPSW, or why it cannot be read.
pub fn inspect(source: &str) -> Result<Ipsw> {
    if is_url(source) {
        return read(&mut RemoteFile::open(source)?, source);
    }
    let path = Path::new(source);
    let file = File::open(path).map_err(|e| Error::local("read", path, &e).with_help("check the path"))?;
    read(&mut LocalFile(file), source)
}

/// Whether `source` is an address rather than a path.
pub fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Reads what the IPSW in `source` is; `name` is for errors.
///
/// # Errors
/// As [`inspect`].
pub fn read(source: &mut impl Source, name: &str) -> Result<Ipsw> {
    let size = source.size()?;
    let manifest = archive::member(source, "BuildManifest.plist").map_err(|e| e.named(name))?;
    manifest::parse(&manifest, size).map_err(|why| malformed(name, why))
}

fn malformed(name: &str, why: impl std::fmt::Display) -> Error {
    let help =
        "name the file of a macOS release that ends in .ipsw; `tearless ipsw list` shows Apple's newest";
    Error::new(Kind::Format, format!("cannot use {name} as an IPSW"), why, help)
}

struct LocalFile(File);

impl Source for LocalFile {
    fn size(&mut self) -> Result<u64> {
        Ok(self.0.metadata().map_err(|e| broken(&e))?.len())
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.0.read_exact_at(&mut bytes, offset).map_err(|e| broken(&e))?;
        Ok(bytes)
    }
}

fn broken(error: &io::Error) -> Error {
    Error::new(Kind::Local, "cannot read the IPSW", error, "check the file and the disk it is on")
}

#[cfg(test)]
pub(crate) mod tests;
