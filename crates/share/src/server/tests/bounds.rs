//! What a hostile guest can do.

use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;

const PLAIN: ShareOptions = ShareOptions { read_only: false, guest_owner: 0 };

#[test]
fn files_are_found_again_when_descriptors_are_short() {
    let limits = Limits { descriptors: 8, ..Limits::default() };
    let mut guest = Guest::with(PLAIN, limits);
    fs::create_dir_all(guest.path("x/y/z")).unwrap();
    for i in 0..100 {
        guest.host_file(&format!("x/y/z/{i}"), &"c".repeat(i));
    }
    let nodes: Vec<_> = (0..100).map(|i| guest.node(&format!("x/y/z/{i}"))).collect();
    let (known, held) = guest.server.files().counts();
    assert!(known == 103 && held <= 8, "{held}");
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(guest.attr(*node).ok().u64(SIZE), i as u64);
        assert!(guest.server.files().counts().1 <= 8);
    }
    let (x, y) = (guest.node("x"), guest.node("x/y"));
    guest.rename((x, "y"), (1, "moved"), 0).ok();
    let other = guest.name(opcode::MKDIR, y, &[0o755, 0], "other").ok().u64(0);
    assert!(guest.path("moved/other").exists());
    assert_eq!(guest.attr(nodes[50]).ok().u64(SIZE), 50);
    // The host puts another file there: that is not the one that the guest knew.
    fs::remove_file(guest.path("moved/z/3")).unwrap();
    guest.host_file("moved/z/3", "another");
    guest.attr(nodes[3]).failed(Errno::STALE);
    let node = guest.node("moved/z/3");
    assert_eq!(guest.attr(node).ok().u64(SIZE), 7);
    // One that is open has kept its descriptor.
    let handle = guest.open(nodes[60], 0).ok().u64(0);
    fs::remove_file(guest.path("moved/z/60")).unwrap();
    nodes.iter().filter(|node| **node != nodes[60]).for_each(|node| _ = guest.attr(*node));
    assert_eq!(guest.read(handle, 0, 99).ok().body.len(), 60);
    assert_eq!(guest.attr(nodes[60]).ok().u64(SIZE), 60);
    assert!(other != 0);
}

#[test]
fn the_guest_can_make_the_host_keep_so_much_and_no_more() {
    let limits = Limits { nodes: 10, descriptors: 4, handles: 3 };
    let mut guest = Guest::with(PLAIN, limits);
    for i in 0..12 {
        guest.host_file(&i.to_string(), "");
    }
    let nodes: Vec<_> = (0..10).map(|i| guest.node(&i.to_string())).collect();
    guest.lookup(1, "10").failed(Errno::NFILE);
    guest.name(opcode::CREATE, 1, &[2, 0o644, 0, 0], "new").failed(Errno::NFILE);
    let handles: Vec<_> = nodes[..3].iter().map(|node| guest.open(*node, 0).ok().u64(0)).collect();
    guest.open(nodes[3], 0).failed(Errno::NFILE);
    guest.ask(opcode::OPENDIR, 1, &[&[0; 8]]).failed(Errno::NFILE);
    guest.release(handles[0]);
    guest.open(nodes[3], 0).ok();
    guest.forget(nodes[9], 1);
    guest.lookup(1, "10").ok();
    // Forgetting more than was looked up, or what never was, forgets.
    guest.forget(nodes[8], u64::MAX);
    guest.forget(nodes[8], u64::MAX);
    guest.forget(12345, 1);
    guest.forget(1, u64::MAX);
    guest.attr(1).ok();
    // A new mount starts with nothing.
    guest.init().ok();
    assert_eq!(guest.server.files().counts(), (0, 0));
    guest.read(handles[1], 0, 1).failed(Errno::BADF);
}

#[test]
fn create_and_forget_leaves_nothing_behind() {
    let mut guest = Guest::with(PLAIN, Limits { nodes: 10, descriptors: 4, handles: 3 });
    for _ in 0..1000 {
        let (node, handle) = guest.create(1, "a", 0o600);
        guest.release(handle);
        guest.name(opcode::UNLINK, 1, &[], "a").ok();
        guest.forget(node, 1);
    }
    assert_eq!(guest.server.files().counts(), (0, 0));
}

/// Every operation, cut off anywhere, with any room for the reply, over files that exist.
#[test]
fn requests_that_are_cut_short_are_refused_or_harmless() {
    let mut guest = Guest::new();
    guest.host_file("aaaaaaaa", "content");
    let (node, _) = guest.create(1, "b", 0o644);
    let mut reply = Reply::default();
    for code in (0..=60).chain([4096, u32::MAX]) {
        for len in 0..=160usize {
            for (fill, at) in [(0u8, node), (1, 1), (b'a', 0)] {
                if code == opcode::DESTROY || code == opcode::INIT {
                    continue;
                }
                let mut request = vec![fill; len];
                let header = [(len as u32).to_le_bytes(), code.to_le_bytes()].concat();
                request.iter_mut().zip(header).for_each(|(to, from)| *to = from);
                request.iter_mut().skip(16).zip(at.to_le_bytes()).for_each(|(to, from)| *to = from);
                request.iter_mut().skip(36).take(2).for_each(|to| *to = 0);
                for room in [0, 15, 16, 40, 200] {
                    guest.server.handle(&request, room, &mut reply);
                    assert!(reply.bytes().len() <= room, "{code} {len} {room}");
                }
            }
        }
    }
    // Lengths that do not fit what came.
    for len in [0u32, 39, 41, u32::MAX] {
        let mut request = [0; 40];
        request[..4].copy_from_slice(&len.to_le_bytes());
        request[4] = 3;
        guest.server.handle(&request, 200, &mut reply);
        assert!(reply.bytes().is_empty());
    }
    guest.attr(1).ok();
}

#[test]
fn what_is_no_folder_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = |path: &std::path::Path| Share::open(path, PLAIN).unwrap_err().to_string();
    assert!(error(&file).contains("not a folder"));
    assert!(error(&folder.path().join("none")).contains("mkdir"));
}

/// Sends a request without the help of [`Guest::ask`], which is for one thread. The reply, or nothing after an error.
fn send(server: &Server<Passthrough>, code: u32, node: u64, body: &[u8]) -> Option<Vec<u8>> {
    let mut request = (40 + body.len() as u32).to_le_bytes().to_vec();
    request.extend(code.to_le_bytes());
    request.extend(1u64.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.extend([0; 16]);
    request.extend(body);
    let mut reply = Reply::default();
    server.handle(&request, 1 << 16, &mut reply);
    let (head, body) = reply.bytes().split_at_checked(16)?;
    (head[4..8] == [0; 4]).then(|| body.to_vec())
}

fn first(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk().unwrap())
}

/// The host swaps a folder for a link that leads out, again and again; the guest never gets there.
#[test]
fn no_race_leads_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "secret").unwrap();
    let guest = Guest::new();
    fs::create_dir(guest.path("d")).unwrap();
    guest.host_file("d/f", "public");
    symlink(outside.path(), guest.path("evil")).unwrap();
    let (done, server) = (AtomicBool::new(false), &guest.server);
    let mut reads = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let root = fs::File::open(guest.folder.path()).unwrap();
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&root, "d", &root, "evil", rustix::fs::RenameFlags::EXCHANGE)
                    .unwrap();
            }
        });
        for _ in 0..3000 {
            let file = send(server, opcode::LOOKUP, 1, b"d\0")
                .and_then(|entry| send(server, opcode::LOOKUP, first(&entry), b"f\0"))
                .and_then(|entry| send(server, opcode::OPEN, first(&entry), &[0; 8]));
            let Some(opened) = file else { continue };
            let rest = [99u32, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
            let read = [&opened[..8], &[0; 8], &rest].concat();
            assert_eq!(send(server, opcode::READ, 1, &read).unwrap(), b"public");
            send(server, opcode::RELEASE, 1, &[&opened[..8], &[0; 16]].concat()).unwrap();
            reads += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads > 0);
}

/// Several of the guest's processes move files about, with few descriptors, and none gets lost.
#[test]
fn renames_from_all_sides_lose_nothing() {
    const FILES: usize = 16;
    let mut guest = Guest::with(PLAIN, Limits { descriptors: 6, ..Limits::default() });
    let folders: Vec<u64> =
        ["a", "b", "c"].map(|name| guest.name(opcode::MKDIR, 1, &[0o755, 0], name).ok().u64(0)).to_vec();
    for i in 0..FILES {
        guest.host_file(&format!("a/{i}"), &i.to_string());
    }
    let (server, folders) = (&guest.server, &folders);
    thread::scope(|scope| {
        for worker in 0..4usize {
            scope.spawn(move || {
                let mut seed = worker as u64 + 1;
                for _ in 0..2000 {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let pick = |shift: u32, limit: usize| (seed >> shift) as usize % limit;
                    let (from, to) = (folders[pick(20, 3)], folders[pick(30, 3)]);
                    let name = format!("{}\0", pick(40, FILES));
                    let body = [&to.to_le_bytes()[..], &1u64.to_le_bytes(), name.as_bytes(), name.as_bytes()]
                        .concat();
                    send(server, opcode::RENAME2, from, &body);
                    if let Some(entry) = send(server, opcode::LOOKUP, to, name.as_bytes()) {
                        send(server, opcode::FORGET, first(&entry), &1u64.to_le_bytes());
                    }
                }
            });
        }
    });
    let mut found: Vec<usize> = ["a", "b", "c"]
        .iter()
        .flat_map(|folder| fs::read_dir(guest.path(folder)).unwrap())
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap().parse().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..FILES).collect::<Vec<_>>());
    assert_eq!(guest.server.files().counts().0, 3);
}
