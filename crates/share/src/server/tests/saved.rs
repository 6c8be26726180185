//! A guest that goes on with another server, of the same folder.

use super::*;

impl Guest {
    /// The same guest on a server that has the state of its own.
    fn go_on(self) -> Self {
        let state = self.server.save().unwrap();
        let share =
            Share::open(self.folder.path(), ShareOptions { read_only: false, guest_owner: 0 }).unwrap();
        let server = Server::new(Passthrough::new(share, Limits::default()).unwrap());
        server.restore(&state).unwrap();
        Self { server, ..self }
    }
}

const RDWR: u32 = 2;

#[test]
fn files_stay_open_and_nodes_stay_what_they_are() {
    let mut guest = Guest::new();
    fs::create_dir(guest.path("d")).unwrap();
    guest.host_file("d/a", "content");
    let (d, a) = (guest.node("d"), guest.node("d/a"));
    let handle = guest.open(a, RDWR).ok().u64(0);
    let listing = guest.ask(opcode::OPENDIR, d, &[&[0; 8]]).ok().u64(0);
    let (made, of_made) = guest.create(d, "new", 0o600);
    guest.write(of_made, 0, 0, b"12345678").ok();

    let mut guest = guest.go_on();
    assert_eq!(guest.read(handle, 0, 16).ok().body, b"content");
    guest.write(handle, 0, 0, b"CON").ok();
    assert_eq!(fs::read_to_string(guest.path("d/a")).unwrap(), "CONtent");
    assert_eq!(guest.read(of_made, 0, 16).ok().body, b"12345678", "it is not cut again");
    assert_eq!(guest.attr(made).u64(SIZE), 8);
    assert_eq!(guest.node("d/a"), a);
    let words = [listing.to_le_bytes().as_slice(), &[0; 8], &4096u32.to_le_bytes(), &[0; 20]].concat();
    assert!(guest.ask(opcode::READDIR, d, &[&words]).ok().body.windows(3).any(|name| name == b"new"));
    guest.release(handle);
    // Numbers are not given out again.
    let (other, other_handle) = guest.create(1, "other", 0o600);
    assert!(other > made && other_handle > of_made);
    // Once more.
    let mut guest = guest.go_on();
    assert_eq!(guest.read(of_made, 0, 4).ok().body, b"1234");
    guest.read(handle, 0, 16).failed(Errno::BADF);
}

#[test]
fn what_is_gone_or_another_file_is_stale() {
    let mut guest = Guest::new();
    for name in ["deleted", "replaced", "moved", "kept"] {
        guest.host_file(name, name);
    }
    let mut open = |name: &str| {
        let node = guest.node(name);
        (node, guest.open(node, RDWR).ok().u64(0))
    };
    let [deleted, replaced, moved, kept] = ["deleted", "replaced", "moved", "kept"].map(&mut open);
    fs::remove_file(guest.path("deleted")).unwrap();
    fs::rename(guest.path("moved"), guest.path("replaced")).unwrap();
    let mut guest = guest.go_on();
    for (node, handle) in [deleted, replaced, moved] {
        guest.read(handle, 0, 4).failed(Errno::STALE);
        guest.ask(opcode::GETATTR, node, &[&[0; 16]]).failed(Errno::STALE);
        guest.ask(opcode::RELEASE, node, &[&handle.to_le_bytes(), &[0; 16]]);
        guest.read(handle, 0, 4).failed(Errno::BADF);
    }
    assert_eq!(guest.read(kept.1, 0, 4).ok().body, b"kept");
    // Its name leads to what is there now.
    let now = guest.node("replaced");
    assert_ne!(now, replaced.0);
}

#[test]
fn a_state_cannot_lead_out_of_the_folder() {
    let mut guest = Guest::new();
    guest.host_file("name", "x");
    let node = guest.node("name");
    guest.open(node, 0).ok();
    let state = serde_json::to_string(&guest.server.save().unwrap()).unwrap();
    let restore = |text: &str| {
        let share =
            Share::open(guest.folder.path(), ShareOptions { read_only: false, guest_owner: 0 }).unwrap();
        let server =
            Server::new(Passthrough::new(share, Limits { handles: 1, ..Limits::default() }).unwrap());
        server.restore(&serde_json::from_str(text).unwrap())
    };
    restore(&state).unwrap();
    for name in ["..", ".", "a/b", "/etc/passwd", "../../etc/passwd", "a\\u0000b"] {
        let text = state.replace(r#""name":"name""#, &format!(r#""name":"{name}""#));
        assert_ne!(text, state);
        assert!(restore(&text).is_err(), "{name}");
    }
    let id = format!(r#""id":{node}"#);
    assert!(state.contains(&id));
    for other in ["0", "1", "99999"] {
        assert!(restore(&state.replace(&id, &format!(r#""id":{other}"#))).is_err(), "{other}");
    }
    let two = state.replace(r#""handles":["#, r#""handles":[{"id":9,"node":null,"flags":null},"#);
    assert!(two != state && restore(&two).is_err(), "more handles than there may be");
}
