//! What comes of VMs in registries, and of other programs.

use std::path::Path;

use tearless_bundle::Foreign;
use tearless_image::oci::{Manifest, Reference, Unpacker};

/// Unpacks the bytes as a piece of a disk, and reads them as a manifest and as the name of an image.
pub fn oci(data: &[u8]) {
    let mut unpacker = Unpacker::new(data);
    while let Ok(Some(block)) = unpacker.block() {
        assert!(block.len() <= 4 << 20);
    }
    if let Ok(disks) = Manifest::parse(data).map(|manifest| manifest.disks()) {
        assert!(disks.is_err() || disks.is_ok_and(|disks| !disks.is_empty()));
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference));
    }
}

/// Reads the bytes as the description of a VM of each other program.
pub fn foreign(data: &[u8]) {
    for foreign in Foreign::parse_all(data, Path::new("/nonexistent")) {
        _ = foreign.config().to_json();
    }
}
