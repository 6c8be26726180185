//! Names and listings.

use std::collections::BTreeMap;

use super::*;

/// All entries of a listing that comes in pieces of `size` bytes: name to (node, type).
fn list(guest: &mut Guest, node: u64, size: u32, plus: bool) -> BTreeMap<String, (u64, u32)> {
    let handle = guest.ask(opcode::OPENDIR, node, &[&[0; 8]]).ok().u64(0);
    let (mut found, mut offset) = (BTreeMap::new(), 0u64);
    loop {
        let code = if plus { opcode::READDIRPLUS } else { opcode::READDIR };
        let rest = [size, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
        let body = guest.ask(code, node, &[&handle.to_le_bytes(), &offset.to_le_bytes(), &rest]).ok().body;
        assert!(body.len() <= size as usize);
        if body.is_empty() {
            break;
        }
        let mut rest = Fields(&body);
        while !rest.0.is_empty() {
            let entry = if plus { rest.u64().unwrap() } else { 0 };
            rest.skip(if plus { 120 } else { 0 }).unwrap();
            rest.skip(8).unwrap();
            offset = rest.u64().unwrap();
            let (len, kind) = (rest.u32().unwrap() as usize, rest.u32().unwrap());
            let name = String::from_utf8(rest.bytes(len).unwrap().to_vec()).unwrap();
            rest.skip(len.next_multiple_of(8) - len).unwrap();
            assert!(found.insert(name, (entry, kind)).is_none());
        }
    }
    guest.ask(opcode::RELEASEDIR, node, &[&handle.to_le_bytes(), &[0; 16]]).ok();
    found
}

#[test]
fn each_entry_is_listed_once_however_small_the_pieces() {
    let mut guest = Guest::new();
    for i in 0..500 {
        guest.host_file(&format!("file-{i:03}{}", "x".repeat(i % 60)), "");
    }
    for (size, plus) in [(300, true), (4096, true), (300, false), (1 << 16, false)] {
        let found = list(&mut guest, 1, size, plus);
        assert_eq!(found.len(), 502, "{size}");
        assert_eq!((found["."].1, found["file-000"].1, found["."].0), (4, 8, 0));
        assert_eq!(found["file-000"].0 != 0, plus);
    }
    // Those listed with their attributes count as looked up: twice, above.
    assert_eq!(guest.server.files().counts().0, 500);
    let node = guest.node("file-000");
    guest.forget(node, 2);
    assert_eq!(guest.server.files().counts().0, 500);
    guest.forget(node, 1);
    guest.attr(node).failed(Errno::STALE);
    let batch: Vec<u8> = (2..502u64).flat_map(|node| [node, 2]).flat_map(u64::to_le_bytes).collect();
    guest.ask(opcode::BATCH_FORGET, 0, &[&500u64.to_le_bytes(), &batch]);
    assert_eq!(guest.server.files().counts(), (0, 0));
    let handle = guest.ask(opcode::OPENDIR, 1, &[&[0; 8]]).ok().u64(0);
    let rest = [20u32, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    guest.ask(opcode::READDIR, 1, &[&handle.to_le_bytes(), &[0; 8], &rest]).failed(Errno::INVAL);
}

#[test]
fn names_are_one_component() {
    let mut guest = Guest::new();
    for name in ["", ".", "..", "a/b", "/etc", "../x"] {
        guest.lookup(1, name).failed(Errno::INVAL);
        guest.name(opcode::MKDIR, 1, &[0o755, 0], name).failed(Errno::INVAL);
        guest.name(opcode::CREATE, 1, &[2, 0o644, 0, 0], name).failed(Errno::INVAL);
        guest.name(opcode::UNLINK, 1, &[], name).failed(Errno::INVAL);
        guest.rename((1, name), (1, "x"), 0).failed(Errno::INVAL);
        guest.rename((1, "x"), (1, name), 0).failed(Errno::INVAL);
    }
    guest.lookup(1, &"x".repeat(256)).failed(Errno::NAMETOOLONG);
    guest.lookup(1, &"x".repeat(255)).failed(Errno::NOENT);
    guest.ask(opcode::LOOKUP, 1, &[b"no end"]).failed(Errno::INVAL);
}

#[test]
fn renames_keep_replace_and_swap() {
    let mut guest = Guest::new();
    let folder = guest.name(opcode::MKDIR, 1, &[0o755, 0], "d").ok().u64(0);
    guest.host_file("a", "a");
    guest.host_file("b", "b");
    let node = guest.node("a");
    guest.rename((1, "a"), (1, "b"), 1).failed(Errno::EXIST);
    guest.rename((1, "a"), (1, "b"), 2).ok();
    assert_eq!(fs::read(guest.path("b")).unwrap(), b"a");
    guest.rename((1, "b"), (folder, "c"), 0).ok();
    assert_eq!(fs::read(guest.path("d/c")).unwrap(), b"a");
    assert_eq!(guest.lookup(folder, "c").ok().u64(0), node);
    guest.rename((1, "a"), (folder, "c"), 0).ok();
    assert_eq!(fs::read(guest.path("d/c")).unwrap(), b"b");
    guest.rename((folder, "c"), (1, "w"), 4).failed(Errno::INVAL);
    guest.rename((1, "d"), (folder, "d"), 0).failed(Errno::INVAL);
    guest.name(opcode::RMDIR, 1, &[], "d").failed(Errno(39));
    guest.name(opcode::UNLINK, folder, &[], "c").ok();
    guest.name(opcode::RMDIR, 1, &[], "d").ok();
}

#[test]
fn links_of_both_kinds() {
    let mut guest = Guest::new();
    guest.host_file("a", "a");
    let node = guest.node("a");
    let linked = guest.ask(opcode::LINK, 1, &[&node.to_le_bytes(), b"b\0"]).ok();
    assert_eq!((linked.u64(0), linked.u32(40 + 64)), (node, 2));
    let link = guest.ask(opcode::SYMLINK, 1, &[b"s\0../../etc\0"]).ok().u64(0);
    assert_eq!(fs::read_link(guest.path("s")).unwrap().to_str(), Some("../../etc"));
    let linked = guest.ask(opcode::LINK, 1, &[&link.to_le_bytes(), b"t\0"]).ok();
    assert_eq!(linked.u64(0), link);
    assert_eq!(fs::read_link(guest.path("t")).unwrap().to_str(), Some("../../etc"));
    let long = [&b"u\0"[..], &[b'x'; 4096], b"\0"].concat();
    guest.ask(opcode::SYMLINK, 1, &[&long]).failed(Errno::NAMETOOLONG);
}

#[test]
fn a_replaced_file_is_another_one() {
    let mut guest = Guest::new();
    guest.host_file("a", "old");
    let old = guest.node("a");
    fs::remove_file(guest.path("a")).unwrap();
    guest.host_file("a", "newer");
    let new = guest.node("a");
    assert_ne!(old, new);
    assert_eq!((guest.attr(old).ok().u64(SIZE), guest.attr(new).ok().u64(SIZE)), (3, 5));
}

#[test]
fn a_folder_on_another_file_system_is_marked() {
    let share = Share::open("/".as_ref(), ShareOptions { read_only: true, guest_owner: 0 }).unwrap();
    let mut guest = Guest::new();
    guest.server = Server::new(Passthrough::new(share, Limits::default()).unwrap());
    guest.init().ok();
    assert_eq!(guest.lookup(1, "proc").ok().u32(40 + FLAGS), flag::ATTR_SUBMOUNT);
    assert_eq!(guest.lookup(1, "usr").ok().u32(40 + FLAGS), 0);
}
