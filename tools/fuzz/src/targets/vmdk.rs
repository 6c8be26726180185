//! Disk images that a stranger made.

use std::{fs, io::Write as _};

use tearless_storage::{Format, OpenOptions, open};

/// Opens `data` as an image and reads at its start and its end.
pub fn vmdk(data: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    // What is not of this kind goes to other parsers.
    if file.write_all(b"KDMV").and_then(|()| file.write_all(data)).is_err() {
        return;
    }
    let options = OpenOptions { read_only: true, format: Some(Format::Vmdk), ..OpenOptions::default() };
    if let Ok(disk) = open(file.path(), options) {
        let len = disk.size().min(1 << 20);
        let mut buffer = vec![0; len as usize];
        _ = disk.read_at(&mut buffer, 0);
        _ = disk.read_at(&mut buffer, disk.size() - len);
    }
    assert!(
        fs::metadata(file.path()).is_ok_and(|m| m.len() == 4 + data.len() as u64),
        "the image was changed"
    );
}
