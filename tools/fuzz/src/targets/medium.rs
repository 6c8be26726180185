//! What comes of installation media.

use std::io::Cursor;

use tearless_image::installer::Iso;

/// The longest content that is read.
const MAX: u64 = 1 << 20;

/// Looks for what an installer has, and reads it.
pub fn medium(data: &[u8]) {
    let Ok(mut iso) = Iso::open(Cursor::new(data)) else { return };
    for path in ["install.a64/vmlinuz", "a/b", "linux", ""] {
        if let Ok(Some(node)) = iso.find(path)
            && let Ok(content) = iso.read(node, MAX)
        {
            assert!(content.len() as u64 <= MAX);
        }
    }
}
