//! Writes an ext4 file system from a [`Tree`] into a sparse file: without root, without tools of the host, and the same
//! bytes for the same tree and options. (Linux, Documentation/filesystems/ext4.)
//!
//! The layout is the plain one: groups of 128 MiB, each with its own bitmaps and inode table, a journal, extents,
//! checksums on all metadata. Contents are placed one after the other, so nearly every file is one extent. What is never
//! written stays a hole: a 64 GiB disk with 300 MB in it takes some 320 MB.

mod layout;
mod write;

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::tree::Tree;

pub use layout::BLOCK;

/// How to make the file system.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where on the disk the file system starts, in bytes: 0, or where its partition is.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Volume label, at most 16 bytes.
    pub label: String,
    /// UUID; it also seeds the checksums.
    pub uuid: [u8; 16],
    /// Time of making, seconds since 1970.
    pub time: u64,
}

/// Makes `path` a disk image with a file system that holds `tree`. An existing file is overwritten.
///
/// # Errors
/// The size is too small or too large, or the file cannot be written; then an incomplete file may be left.
pub fn format(path: &Path, tree: &mut Tree, options: &Options, progress: &dyn Progress) -> Result<()> {
    let geometry = layout::Geometry::new(options.size)?;
    if options.label.len() > 16 {
        let why = format!("{:?} is longer than 16 bytes", options.label);
        return Err(Error::new(Kind::Request, "cannot label the file system", why, "choose a shorter label"));
    }
    let fail = |e: &std::io::Error| {
        Error::local("write the disk image", path, e)
            .with_help("free some space, or choose another place for the disk")
    };
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(path).map_err(|e| fail(&e))?;
    file.set_len(options.start + geometry.blocks * BLOCK).map_err(|e| fail(&e))?;
    let mut writer = write::Writer::new(file, geometry, options);
    let total = tree.nodes().iter().map(write::content_len).sum();
    progress.begin("Writing the disk image", Some(total));
    let result = writer.run(tree, progress);
    progress.end();
    match result {
        Ok(()) => Ok(()),
        Err(write::Failure::Io(e)) => Err(fail(&e)),
        Err(write::Failure::Full) => Err(Error::new(
            Kind::Request,
            format!("the disk of {} MiB is too small", options.size >> 20),
            format!("the files alone take {} MiB", total >> 20),
            "choose a larger --disk",
        )),
    }
}

/// A UUID of version 4 from random bytes.
#[must_use]
pub fn uuid_from(mut random: [u8; 16]) -> [u8; 16] {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    random
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
