use std::{
    fs,
    io::{self, Write as _},
    process::Command,
};

use super::*;
use crate::{OpenOptions, open};

const SIZE: usize = (80 << 20) + 1024;

/// Data of all kinds, far enough apart for several grain tables; not whole grains.
fn content() -> Vec<u8> {
    let mut content = vec![0; SIZE];
    let noise = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8;
    for start in [0, 65_536 + 512, 33 << 20, 70 << 20, SIZE - 5000] {
        content.iter_mut().enumerate().skip(start).take(100_000).for_each(|(i, byte)| *byte = noise(i));
    }
    content[40 << 20..(40 << 20) + 300_000].fill(0x55);
    content
}

/// An image that `qemu-img` made; `None` without it.
fn image(folder: &Path, kind: &str, content: &[u8]) -> Option<PathBuf> {
    let (raw, path) = (folder.join("raw"), folder.join(format!("{kind}.vmdk")));
    fs::write(&raw, content).unwrap();
    let option = format!("subformat={kind}");
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "vmdk", "-o", &option]).args([&raw, &path]);
    match command.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "skipped: no qemu-img here: {error}");
            return None;
        }
    }
    Some(path)
}

fn read_only() -> OpenOptions {
    OpenOptions { read_only: true, ..OpenOptions::default() }
}

fn error(path: &Path) -> String {
    open(path, read_only()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn reads_what_qemu_img_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let content = content();
    let kinds = [
        "monolithicSparse",
        "streamOptimized",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
    ];
    for kind in kinds {
        let Some(path) = image(folder.path(), kind, &content) else { return };
        let disk = open(&path, read_only()).unwrap();
        assert_eq!((disk.size(), disk.read_only()), (SIZE as u64, true));
        let mut all = vec![1; SIZE];
        disk.read_at(&mut all, 0).unwrap();
        assert!(all == content, "{kind}");
        for at in [511, 65_535, (33 << 20) - 3, (70 << 20) + 99_999] {
            let mut few = [1; 1030];
            disk.read_at(&mut few, at as u64).unwrap();
            assert!(few == content[at..at + 1030], "{kind} at {at}");
        }
        assert!(disk.write_at(&[1], 0).is_err());
        let writable = open(&path, OpenOptions::default()).map(|_| ()).unwrap_err();
        assert!(writable.to_string().contains("read-only"), "{writable}");
    }
}

#[test]
fn damage_is_found_and_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["monolithicSparse", "streamOptimized"] {
        let Some(path) = image(folder.path(), kind, &content()[..3 << 20]) else { return };
        let mut whole = fs::read(&path).unwrap();
        let bad = folder.path().join("bad.vmdk");
        for cut in [4, 511, 600, 3000] {
            fs::write(&bad, &whole[..cut]).unwrap();
            assert!(error(&bad).contains("try: "), "{kind} cut at {cut}");
        }
        for at in 4..80 {
            whole[at] ^= 0xff;
            fs::write(&bad, &whole).unwrap();
            if let Ok(disk) = open(&bad, read_only()) {
                let len = disk.size().min(4 << 20) as usize;
                let _ = disk.read_at(&mut vec![0; len], 0);
            }
            whole[at] ^= 0xff;
        }
        let parent = whole.windows(18).position(|w| w == b"parentCID=ffffffff").unwrap();
        whole[parent + 10] = b'0';
        fs::write(&bad, &whole).unwrap();
        assert!(error(&bad).contains("changes to another image"));
    }
}
/// A descriptor of our own, for extents that `qemu-img` made.
fn described(folder: &Path, extents: &str) -> PathBuf {
    let path = folder.join("own.vmdk");
    let text = format!("# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\n{extents}\nddb.x = \"1\"\n");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_image_of_several_parts_is_read_across_them() {
    let folder = tempfile::tempdir().unwrap();
    let content = content();
    if image(folder.path(), "twoGbMaxExtentSparse", &content).is_none() {
        return;
    }
    fs::write(folder.path().join("flat"), &content[..3 << 20]).unwrap();
    let sectors = SIZE as u64 / SECTOR;
    let path = described(
        folder.path(),
        &format!(
            "RW 1000 FLAT \"flat\" 24\nRW {sectors} SPARSE \"twoGbMaxExtentSparse-s001.vmdk\"\nRW 8 ZERO\nRW 9 FLAT \"flat\" 0"
        ),
    );
    let disk = open(&path, read_only()).unwrap();
    let mut expected = content[24 * 512..1024 * 512].to_vec();
    expected.extend(&content);
    expected.extend([0; 4096]);
    expected.extend(&content[..9 * 512]);
    let mut all = vec![1; disk.size() as usize];
    disk.read_at(&mut all, 0).unwrap();
    assert!(all == expected);
    let mut names: Vec<_> = crate::backing_files(&path, read_only()).unwrap();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    let part = error(&folder.path().join("twoGbMaxExtentSparse-s001.vmdk"));
    assert!(part.contains("part of an image"), "{part}");
}

#[test]
fn descriptors_lead_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("flat"), [7; 4096]).unwrap();
    std::os::unix::fs::symlink("flat", folder.path().join("link")).unwrap();
    for (extents, why) in [
        ("RW 8 FLAT \"../flat\" 0", "outside of its folder"),
        ("RW 8 FLAT \"/etc/passwd\" 0", "outside of its folder"),
        ("RW 8 FLAT \"own.vmdk/x\" 0", "outside of its folder"),
        ("RW 8 FLAT \"missing\" 0", "missing"),
        ("RW 8 FLAT \"link\" 0", "is a link"),
        ("RW 9 FLAT \"flat\" 0", "shorter than"),
        ("RW 8 FLAT \"flat\" 1", "shorter than"),
        ("RW 36028797018963968 FLAT \"flat\" 0", "too large"),
        ("RW 8 SPARSE \"flat\"", "damaged"),
        ("RW 8 VMFS \"flat\"", "VMFS"),
        ("RW x FLAT \"flat\" 0", "makes no sense"),
        ("", "no extents"),
        ("parentCID=1234abcd\nRW 8 FLAT \"flat\" 0", "changes to another image"),
    ] {
        let error = error(&described(folder.path(), extents));
        assert!(error.contains(why) && error.contains("try: "), "{extents}: {error}");
    }
    let many = "RW 1 ZERO\n".repeat(MAX_EXTENTS + 1);
    assert!(error(&described(folder.path(), &many)).contains("more than"));
}
