//! Owners and permissions.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn owner(guest: &mut Guest, node: u64) -> (u32, u32, u32) {
    let attr = guest.attr(node).ok();
    (attr.u32(MODE) & 0o7777, attr.u32(UID), attr.u32(GID))
}

fn host_mode(guest: &Guest, name: &str) -> u32 {
    fs::metadata(guest.path(name)).unwrap().permissions().mode() & 0o7777
}

#[test]
fn files_belong_to_the_host_user_whoever_makes_them() {
    let mut guest = Guest::new();
    let ours = fs::metadata(guest.folder.path()).unwrap();
    let by_root = guest.create(1, "root", 0o664).0;
    guest.uid = 1000;
    let by_user = guest.create(1, "user", 0o600).0;
    let folder = guest.name(opcode::MKDIR, 1, &[0o750, 0], "folder").ok().u64(0);
    let socket = guest.name(opcode::MKNOD, 1, &[0o140_755, 0, 0, 0], "socket").ok().u64(0);
    guest.chmod(socket, 0o1021).ok();
    assert_eq!((owner(&mut guest, socket).0, host_mode(&guest, "socket")), (0o1021, 0o1421));
    guest.chmod(folder, 0o1777).ok();
    assert_eq!(host_mode(&guest, "folder"), 0o1777);
    guest.chmod(folder, 0o750).ok();
    for name in ["root", "user", "folder", "socket"] {
        let metadata = fs::metadata(guest.path(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (ours.uid(), ours.gid()), "{name}");
    }
    assert_eq!(owner(&mut guest, by_root), (0o664, 0, 0));
    assert_eq!(owner(&mut guest, by_user), (0o600, 1000, 1000));
    assert_eq!(owner(&mut guest, folder), (0o750, 1000, 1000));
    assert_eq!(host_mode(&guest, "root"), 0o664);
    guest.set(by_root, fattr::UID | fattr::GID, (0, 33, 44), 0).ok();
    assert_eq!(owner(&mut guest, by_root), (0o664, 33, 44));
    guest.set(by_root, fattr::UID | fattr::GID, (0, 0, 0), 0).ok();
    assert_eq!(owner(&mut guest, by_root), (0o664, 0, 0));
    assert_eq!(fs::metadata(guest.path("root")).unwrap().uid(), ours.uid());
}

#[test]
fn the_host_user_can_appear_as_another_user() {
    let mut guest = Guest::with(ShareOptions { read_only: false, guest_owner: 1000 }, Limits::default());
    guest.host_file("a", "");
    let node = guest.node("a");
    assert_eq!(owner(&mut guest, node).1, 1000);
    let by_root = guest.create(1, "root", 0o600).0;
    assert_eq!(owner(&mut guest, by_root).1, 0);
}

#[test]
fn bits_that_give_rights_stay_in_the_guest() {
    let mut guest = Guest::new();
    let node = guest.create(1, "a", 0o755).0;
    guest.chmod(node, 0o6755).ok();
    assert_eq!((owner(&mut guest, node).0, host_mode(&guest, "a")), (0o6755, 0o755));
    guest.name(opcode::MKNOD, 1, &[0o104_755, 0, 0, 0], "b").ok();
    let node = guest.node("b");
    assert_eq!((owner(&mut guest, node).0, host_mode(&guest, "b")), (0o4755, 0o755));
    // A write by an ordinary user, an open that truncates, and a new owner take them away.
    let handle = guest.open(node, 1).ok().u64(0);
    let rest = [1u32, flag::WRITE_KILL_SUIDGID, 0, 0, 1, 0].map(u32::to_le_bytes).concat();
    guest.ask(opcode::WRITE, 1, &[&handle.to_le_bytes(), &[0; 8], &rest, b"x"]).ok();
    assert_eq!(owner(&mut guest, node).0, 0o755);
    guest.chmod(node, 0o4755).ok();
    guest.set(node, fattr::UID, (0, 5, 0), 0).ok();
    assert_eq!(owner(&mut guest, node), (0o755, 5, 0));
    guest.chmod(node, 0o4644).ok();
    guest.ask(opcode::OPEN, node, &[&[1, 2, 0, 0, 1, 0, 0, 0]]).ok();
    assert_eq!(owner(&mut guest, node).0, 0o644);
    // One that is the host's own means the host's user.
    guest.host_file("c", "");
    fs::set_permissions(guest.path("c"), fs::Permissions::from_mode(0o4755)).unwrap();
    let node = guest.node("c");
    assert_eq!(owner(&mut guest, node).0, 0o755);
}

#[test]
fn the_guests_devices_are_files_here() {
    let mut guest = Guest::new();
    for (kind, device) in [(0o010_000, 0), (0o140_000, 0), (0o020_000, 0x103), (0o060_000, 0x12_0834)] {
        let name = format!("{kind:o}");
        let node = guest.name(opcode::MKNOD, 1, &[kind | 0o640, device, 0, 0], &name).ok().u64(0);
        let attr = guest.attr(node).ok();
        assert_eq!((attr.u32(MODE), attr.u32(76)), (kind | 0o640, device));
        guest.set(node, fattr::UID | fattr::MODE, (kind | 0o604, 7, 0), 0).ok();
        let attr = guest.attr(node).ok();
        assert_eq!((attr.u32(MODE), attr.u32(UID), attr.u32(76)), (kind | 0o604, 7, device));
        let host = fs::symlink_metadata(guest.path(&name)).unwrap();
        assert!(host.is_file() && host.len() == 0, "{name}");
    }
    for kind in [0o040_000, 0o120_000, 0o170_000, 0o030_000] {
        guest.name(opcode::MKNOD, 1, &[kind | 0o644, 0, 0, 0], "no").failed(Errno::INVAL);
    }
}

#[test]
fn the_hosts_change_of_permissions_counts() {
    let mut guest = Guest::new();
    let node = guest.create(1, "a", 0o644).0;
    guest.chmod(node, 0o4755).ok();
    fs::set_permissions(guest.path("a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(owner(&mut guest, node).0, 0o700);
    // What the attribute holds when it is damaged does not.
    rustix::fs::setxattr(
        guest.path("a"),
        "user.tearless.stat",
        b"7777 700 0 x 0",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    assert_eq!(owner(&mut guest, node), (0o700, 0, 0));
}

#[test]
fn the_guests_root_gets_past_permissions() {
    let mut guest = Guest::new();
    let (file, _) = guest.create(1, "a", 0o000);
    assert_eq!((owner(&mut guest, file).0, host_mode(&guest, "a")), (0, 0o400));
    let handle = guest.open(file, 2).ok().u64(0);
    guest.write(handle, 0, 2, b"x").ok();
    assert_eq!(host_mode(&guest, "a"), 0o400);
    let folder = guest.name(opcode::MKDIR, 1, &[0o555, 0], "d").ok().u64(0);
    assert_eq!((owner(&mut guest, folder).0, host_mode(&guest, "d")), (0o555, 0o755));
    guest.create(folder, "in", 0o444);
    assert_eq!(host_mode(&guest, "d/in"), 0o444);
    guest.chmod(file, 0o440).ok();
    assert_eq!((owner(&mut guest, file).0, host_mode(&guest, "a")), (0o440, 0o440));
}

#[test]
fn a_folder_hands_its_group_on() {
    let mut guest = Guest::new();
    let folder = guest.name(opcode::MKDIR, 1, &[0o755, 0], "d").ok().u64(0);
    guest.set(folder, fattr::MODE | fattr::GID, (0o2775, 0, 50), 0).ok();
    guest.uid = 1000;
    let file = guest.create(folder, "f", 0o644).0;
    let inner = guest.name(opcode::MKDIR, folder, &[0o755, 0], "i").ok().u64(0);
    assert_eq!(owner(&mut guest, file), (0o644, 1000, 50));
    assert_eq!(owner(&mut guest, inner), (0o2755, 1000, 50));
}

#[test]
fn times_are_set() {
    let mut guest = Guest::new();
    let node = guest.create(1, "a", 0o644).0;
    let link = guest.ask(opcode::SYMLINK, 1, &[b"l\0nowhere\0"]).ok().u64(0);
    for (node, name) in [(node, "a"), (link, "l")] {
        let head = [fattr::MTIME, 0].map(u32::to_le_bytes).concat();
        let times = [0u64, 0, 0, 0, (-5i64).cast_unsigned(), 0].map(u64::to_le_bytes).concat();
        let tail = [0, 999, 0, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
        guest.ask(opcode::SETATTR, node, &[&head, &times, &tail]).ok();
        let metadata = fs::symlink_metadata(guest.path(name)).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-5, 999), "{name}");
    }
}
