//! Disk images that a stranger made.

use std::{fs, io::Write as _};

use tearless_storage::{Disk, Format, OpenOptions, backing_files, base_of, open};

/// Files of a chain are called by their number.
pub(crate) const MOST_FILES: usize = 4;
/// How a file begins, by the byte before it.
pub(crate) const KINDS: [(&[u8], Format); 3] =
    [(b"QFI\xfb", Format::Qcow2), (b"# Disk DescriptorFile\n", Format::Vmdk), (b"KDMV", Format::Vmdk)];

/// Opens `data` as an image and reads at its start and its end.
pub fn vmdk(data: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    // What is not of this kind goes to other parsers.
    if file.write_all(b"KDMV").and_then(|()| file.write_all(data)).is_err() {
        return;
    }
    let options = OpenOptions { read_only: true, format: Some(Format::Vmdk), ..OpenOptions::default() };
    if let Ok(disk) = open(file.path(), options) {
        read(&*disk);
    }
    assert!(
        fs::metadata(file.path()).is_ok_and(|m| m.len() == 4 + data.len() as u64),
        "the image was changed"
    );
}

fn read(disk: &dyn Disk) {
    let len = disk.size().min(1 << 20);
    let mut buffer = vec![0; len as usize];
    _ = disk.read_at(&mut buffer, 0);
    _ = disk.read_at(&mut buffer, disk.size() - len);
}

/// Images that name each other, or whatever else: each file is a kind, a length (two bytes) and its content after the magic
/// number. The first is opened, looked at, and written to if its format can be; the others must stay as they are.
pub fn image_chain(data: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let mut formats = Vec::new();
    let mut rest = data;
    while let ([kind, low, high, more @ ..], true) = (rest, formats.len() < MOST_FILES) {
        let (content, later) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        let (magic, format) = KINDS.get(usize::from(*kind)).copied().unwrap_or((b"", Format::Raw));
        let path = folder.path().join(formats.len().to_string());
        if fs::write(&path, [magic, content].concat()).is_err() {
            return;
        }
        formats.push(format);
        rest = later;
    }
    let Some(format) = formats.first().copied().filter(|format| *format != Format::Raw) else { return };
    let path = folder.path().join("0");
    let others = || (1..formats.len()).map(|n| fs::read(folder.path().join(n.to_string())).ok());
    let before: Vec<_> = others().collect();
    let options = OpenOptions { format: Some(format), ..OpenOptions::default() };
    _ = base_of(&path, format);
    _ = backing_files(&path, options);
    if let Ok(disk) = open(&path, OpenOptions { read_only: true, ..options }) {
        read(&*disk);
    }
    if let Ok(disk) = open(&path, options) {
        let end = disk.size() - 512;
        _ = disk
            .write_at(&[7; 512], 0)
            .and_then(|()| disk.write_at(&[8; 512], end))
            .and_then(|()| disk.flush());
        _ = disk.discard(0, disk.size().min(1 << 20)).and_then(|()| disk.flush());
        read(&*disk);
    }
    assert!(others().eq(before), "what an image builds on was changed");
}
