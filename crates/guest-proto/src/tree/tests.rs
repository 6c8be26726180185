use std::os::unix::fs::symlink;

use super::*;

fn copy(from: &Path, to: &Path) -> Skipped {
    let mut stream = Vec::new();
    let skipped = pack(from, &mut stream).unwrap();
    Unpack::default().unpack(stream.as_slice(), to, |_| {}).unwrap().place().unwrap();
    skipped
}

#[test]
fn a_folder_arrives_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("sub/deeper")).unwrap();
    fs::write(from.join("sub/file"), "content").unwrap();
    fs::set_permissions(from.join("sub/file"), Permissions::from_mode(0o4751)).unwrap();
    let long = "n".repeat(200);
    fs::write(from.join("sub/deeper").join(&long), "").unwrap();
    symlink("../nowhere", from.join("link")).unwrap();
    fs::set_permissions(from.join("sub/deeper"), Permissions::from_mode(0o500)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(from.join("sub")).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
    std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();

    let skipped = copy(&from, &to);
    assert_eq!(skipped.count, 1);
    assert!(skipped.why.unwrap().contains("socket"));
    let file = fs::metadata(to.join("sub/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, fs::read(to.join("sub/file")).unwrap()), (0o751, b"content".to_vec()));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("../nowhere"));
    assert_eq!(fs::metadata(to.join("sub/deeper")).unwrap().mode() & 0o777, 0o500);
    assert!(to.join("sub/deeper").join(&long).exists());
    assert_eq!(fs::metadata(to.join("sub")).unwrap().modified().unwrap(), old);
    // And once more over itself.
    copy(&from, &to);
    assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"content");
}

#[test]
fn a_file_keeps_its_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut file = File::create(&from).unwrap();
    file.set_len(64 << 20).unwrap();
    io::Seek::seek(&mut file, io::SeekFrom::Start(32 << 20)).unwrap();
    file.write_all(b"in the middle").unwrap();
    let mut stream = Vec::new();
    pack(&from, &mut stream).unwrap();
    assert!(stream.len() < 1 << 20, "{} bytes for a file of holes", stream.len());
    fs::write(&to, "old").unwrap();
    Unpack::default().unpack(stream.as_slice(), &to, |_| {}).unwrap().place().unwrap();
    assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
    assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// A stream that ends anywhere leaves what was there; only its whole makes something new, and only when it is placed.
#[test]
fn what_breaks_off_leaves_nothing_half() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::write(from.join("a"), vec![1; 3000]).unwrap();
    fs::write(from.join("sub/b"), vec![2; 3000]).unwrap();
    fs::set_permissions(from.join("sub"), Permissions::from_mode(0o500)).unwrap();
    let (mut folder, mut file) = (Vec::new(), Vec::new());
    pack(&from, &mut folder).unwrap();
    pack(&from.join("a"), &mut file).unwrap();
    for stream in [&folder, &file] {
        for end in (0..stream.len()).step_by(100) {
            drop(Unpack::default().unpack(&stream[..end], &to, |_| {}));
            assert_eq!(names(dir.path()), ["from"], "{end} of {}", stream.len());
        }
    }
    fs::create_dir(&to).unwrap();
    fs::write(to.join("a"), "old").unwrap();
    fs::write(to.join("kept"), "").unwrap();
    for end in (0..folder.len()).step_by(100) {
        drop(Unpack::default().unpack(&folder[..end], &to, |_| {}));
        let a = fs::read(to.join("a")).unwrap();
        assert!(a == b"old" || a == [1; 3000], "{end}");
        let b = fs::read(to.join("sub/b")).unwrap_or_default();
        assert!(b.is_empty() || b == [2; 3000], "{end}");
        let known = |name: &String| ["a", "kept", "sub"].contains(&name.as_str());
        assert!(names(&to).iter().all(known), "{end}: {:?}", names(&to));
    }
    assert!(Unpack::default().unpack(file.as_slice(), &to, |_| {}).is_err(), "a folder is no file");
    let null = Unpack::default().unpack(file.as_slice(), Path::new("/dev/null"), |_| {}).err().unwrap();
    assert!(null.to_string().contains("device"), "{null}");
}

fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o777);
    // `append_data` would not write such names.
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    if !target.is_empty() {
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_cksum();
    archive.append(&header, io::empty()).unwrap();
}

#[test]
fn nothing_leads_out_of_the_target() {
    let bad: [&[(EntryType, &str, &str)]; 8] = [
        &[(EntryType::Symlink, "a", "."), (EntryType::Directory, "a", "")],
        &[(EntryType::Regular, "../evil", "")],
        &[(EntryType::Regular, "/evil", "")],
        &[(EntryType::Directory, "a", ""), (EntryType::Regular, "a/../../evil", "")],
        &[(EntryType::Symlink, "a", ".."), (EntryType::Regular, "a/evil", "")],
        &[(EntryType::Symlink, "a", ".."), (EntryType::Directory, "a/evil", "")],
        &[(EntryType::Link, "a", "../secret")],
        &[(EntryType::Char, "a", "")],
    ];
    for entries in bad {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        let target = dir.path().join("target");
        let mut archive = Builder::new(Vec::new());
        entry(&mut archive, EntryType::Directory, ".", "");
        entries.iter().for_each(|(kind, name, link)| entry(&mut archive, *kind, name, link));
        let stream = archive.into_inner().unwrap();
        let result = Unpack::default().unpack(stream.as_slice(), &target, |_| {});
        assert!(result.is_err(), "{entries:?}");
        assert_eq!(names(dir.path()), ["secret"], "{entries:?}");
    }
}

#[test]
fn the_root_is_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Builder::new(Vec::new());
    entry(&mut archive, EntryType::Symlink, ".", "/etc");
    let stream = archive.into_inner().unwrap();
    assert!(Unpack::default().unpack(stream.as_slice(), &dir.path().join("t"), |_| {}).is_err());
}

#[test]
fn a_name_without_end_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let stream = header.as_bytes().chain(io::repeat(b'n'));
    let error = Unpack::default().unpack(stream, &dir.path().join("t"), |_| {}).err().unwrap();
    assert!(error.to_string().contains("16 MiB"), "{error}");
}
