//! What comes from a guest's agent, which is as hostile as its guest.

use std::{fs, path::Path};

use tearless_guest_proto::{
    Reply, Request,
    frame::{self, DataReader},
    read_hello,
    tree::Unpack,
};

/// Frames, messages and streams of data.
pub fn guest_frames(data: &[u8]) {
    let mut from = data;
    _ = read_hello(&mut from);
    let mut bytes = Vec::new();
    let mut from = data;
    while let Ok(Some(_)) = frame::read(&mut from, &mut bytes) {
        assert!(bytes.len() <= frame::MAX);
        if let Ok(reply) = frame::decode::<Reply>(&bytes) {
            let mut again = Vec::new();
            assert!(frame::send(&mut again, &reply).is_ok());
            assert_eq!(frame::receive::<Reply>(&mut again.as_slice()).ok(), Some(reply));
        }
        _ = frame::decode::<Request>(&bytes);
    }
    _ = DataReader::new(data).finish();
}

/// A tree of files: nothing may appear or change outside of the folder that it is unpacked to.
pub fn guest_tree(data: &[u8]) {
    let folder = std::env::temp_dir().join(format!("tearless-fuzz-{}", std::process::id()));
    let target = folder.join("target");
    let bystander = folder.join("bystander");
    if fs::create_dir_all(&folder).and_then(|()| fs::write(&bystander, "mine")).is_err() {
        return;
    }
    let unpacked =
        Unpack::default().unpack(data, &target, |made| assert!(made.starts_with(&folder), "{made:?}"));
    if let Ok(unpacked) = unpacked {
        assert!(!target.exists(), "it is not whole yet");
        _ = unpacked.place();
    }
    assert_eq!(fs::read(&bystander).ok().as_deref(), Some(&b"mine"[..]));
    let strangers = names(&folder).into_iter().filter(|name| name != "target" && name != "bystander");
    assert_eq!(strangers.count(), 0);
    _ = fs::remove_dir_all(&folder);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
