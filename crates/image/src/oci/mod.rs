//! VMs as images of OCI registries, such as Tart makes them.
//!
//! ```text
//!   manifest ─┬─ tart.config      Tart's description of the VM
//!             ├─ tart.disk.v2 …   the disk in pieces, packed with Apple's LZ4, each with the digest of what it unpacks to
//!             ├─ tart.nvram       auxiliary storage, or EFI's variables
//!             └─ tearless.* …     what else our VMs have; Tart does not look at it
//! ```
//! What moves is streamed: memory holds a few blocks per connection. What a registry or an earlier attempt has already
//! is found by its digest and does not move again.

mod auth;
mod disk;
mod lz4;
mod manifest;
mod parallel;
mod reference;
mod registry;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

pub use auth::{PASSWORD_VARIABLE, USER_VARIABLE};
pub use disk::Content;
pub use lz4::{Lz4Error, Unpacker};
pub use manifest::{
    Descriptor, DiskLayers, Manifest, OWN_CONFIG, OWN_DISK, OWN_FILE, TART_CONFIG, TART_DISK, TART_NVRAM,
};
pub use reference::Reference;
pub use registry::{Access, Registry};
use serde::Serialize;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::progress::Progress;
use disk::Work;

/// How many pieces are on their way at once, unless told otherwise: as many as Tart has.
pub const JOBS: usize = 4;

/// A part of a VM, and what kind of layer it becomes.
pub enum Part<'a> {
    /// Some text.
    Text(&'static str, &'a [u8]),
    /// A file.
    File(&'static str, Option<&'a str>, &'a Path),
    /// A disk.
    Disk(&'static str, Option<&'a str>, &'a dyn Content),
}

/// Stores a VM in the registry. Pushing the same once more stores nothing.
///
/// # Errors
/// What the registry or the host says; the image's name then leads where it led before.
pub fn push(
    registry: &Registry,
    os: &str,
    parts: &[Part<'_>],
    jobs: usize,
    progress: &(dyn Progress + Sync),
) -> Result<Digest> {
    let work = Work { registry, jobs, progress };
    let mut layers = Vec::new();
    let mut disk_size = 0;
    for part in parts {
        match part {
            Part::Text(media_type, text) => layers.push(push_bytes(registry, media_type, text)?),
            Part::File(media_type, title, path) => {
                layers.push(push_file(registry, media_type, path)?.titled(*title));
            }
            Part::Disk(media_type, title, content) => {
                let size = content.size();
                if *media_type == TART_DISK {
                    disk_size = size;
                }
                progress.begin(&format!("Pushing {}", title.unwrap_or("the disk")), Some(size));
                let pieces = disk::push_disk(&work, *content, media_type, *title);
                progress.end();
                layers.extend(pieces?);
            }
        }
    }
    let labels = [(manifest::DISK_FORMAT, "raw")].into();
    let config = serde_json::to_vec(&Configuration { architecture: "arm64", os, config: Labels { labels } });
    let config = push_bytes(registry, manifest::CONFIG, &config.map_err(|e| registry.unusable(e))?)?;
    let manifest = Manifest::new(config, layers, disk_size);
    registry.put_manifest(&serde_json::to_vec(&manifest).map_err(|e| registry.unusable(e))?)
}

/// The image's configuration, as far as registries and Tart look at it.
#[derive(Serialize)]
struct Configuration<'a> {
    architecture: &'a str,
    os: &'a str,
    config: Labels<'a>,
}

#[derive(Serialize)]
struct Labels<'a> {
    #[serde(rename = "Labels")]
    labels: BTreeMap<&'a str, &'a str>,
}

fn push_bytes(registry: &Registry, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    let digest = Digest::of(bytes);
    registry.upload(&digest, bytes.len() as u64, || bytes, &|_| {})?;
    Ok(Descriptor::new(media_type, bytes.len() as u64, &digest))
}

fn push_file(registry: &Registry, media_type: &str, path: &Path) -> Result<Descriptor> {
    let fail = |e: &io::Error| Error::local("read", path, e).with_help("check the VM's folder");
    let size = path.metadata().map_err(|e| fail(&e))?.len();
    let digest = Digest::of_file(path).map_err(|e| fail(&e))?;
    // Opened now, so that it cannot fail later.
    let file = File::open(path).map_err(|e| fail(&e))?;
    registry.upload(&digest, size, || At { file: &file, at: 0 }, &|_| {})?;
    Ok(Descriptor::new(media_type, size, &digest))
}

/// Reads a file from its beginning, wherever others are in it.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Brings the disks of an image into files: `place` says into which. What is there already of them is verified and kept.
///
/// # Errors
/// [`crate::error::Kind::Integrity`] when something is not what its digest says; then the files are of no use. After
/// any other error they can be gone on with.
pub fn pull_disks(
    registry: &Registry,
    disks: &[(DiskLayers, &Path)],
    jobs: usize,
    progress: &(dyn Progress + Sync),
) -> Result<()> {
    let work = Work { registry, jobs, progress };
    let packed = disks.iter().flat_map(|(disk, _)| &disk.pieces).map(|piece| piece.layer.size);
    progress.begin(
        &format!("Pulling {}", registry.reference().name()),
        Some(packed.fold(0, u64::saturating_add)),
    );
    let result = disks.iter().try_for_each(|(disk, path)| disk::pull_disk(&work, disk, path));
    progress.end();
    result
}

/// Brings a layer that is a file into the file `path`.
///
/// # Errors
/// As [`pull_disks`].
pub fn pull_file(registry: &Registry, blob: &Descriptor, path: &Path) -> Result<()> {
    let fail = |e: &io::Error| {
        Error::local("write", path, e).with_help("free some space, and pull again: it resumes")
    };
    if blob.digest().is_ok_and(|digest| Digest::of_file(path).is_ok_and(|there| there == digest)) {
        return Ok(());
    }
    let mut file = File::create(path).map_err(|e| fail(&e))?;
    let mut reader = registry.blob(blob)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut reader, &mut buffer).map_err(|e| registry.reading(e))? {
            0 => break,
            n => io::Write::write_all(&mut file, &buffer[..n]).map_err(|e| fail(&e))?,
        }
    }
    file.sync_all().map_err(|e| fail(&e))?;
    reader.finish()
}

#[cfg(test)]
mod tests;
