//! Debian packages.

use std::io::Read as _;

use tearless_image::{deb as package, tree::Tree};

/// Most bytes of a file to keep.
const SPOOLED: u64 = 1 << 20;

/// Reads a package into a file tree, as building a disk does.
pub fn deb(data: &[u8]) {
    let folder = std::env::temp_dir();
    let Ok(mut tree) = Tree::new(&folder, 0) else { return };
    let outcome = package::read_from("input", data, &mut |_, entry, content| {
        let clean = |path: &str| !path.starts_with('/') && path.split('/').all(|part| part != "..");
        assert!(clean(&entry.path), "{:?} leaves the package", entry.path);
        // A bound on what a mutant leaves on the disk for a moment.
        tree.add(entry, &mut content.take(SPOOLED))
    });
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty());
    }
    for path in ["", "etc", "a/b"] {
        _ = tree.list(path);
    }
}
