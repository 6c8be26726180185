//! Shared folders as a hostile guest sees them: requests of every kind, over files that exist, and one thing to show:
//! whatever it asks, what lies beside the folder stays as it is.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tearless_share::{Limits, Passthrough, Reply, Server, Share, ShareOptions, opcode};

use crate::Input;

/// Most requests of one input.
const REQUESTS: usize = 64;
/// Sizes of files and of copies, so that an input does not fill the host's disk.
const SMALL: u64 = 1 << 16;
const NAMES: [&[u8]; 12] =
    [b"a", b"b", b"d", b"link", b"up", b"new", b"..", b".", b"", b"a/b", b"../beside", b"/etc/passwd"];

/// Not chosen blindly: these take room or time on the host by their numbers.
fn is_costly(code: u32) -> bool {
    matches!(
        code,
        opcode::FALLOCATE | opcode::COPY_FILE_RANGE | opcode::SYNCFS | opcode::FSYNC | opcode::FSYNCDIR
    )
}

struct Folder {
    root: tempfile::TempDir,
}

impl Folder {
    /// A folder with links that lead out of it, and a file beside it.
    fn new() -> Option<Self> {
        let root = tempfile::tempdir().ok()?;
        let share = root.path().join("share");
        fs::create_dir_all(share.join("d")).ok()?;
        fs::write(share.join("a"), "content").ok()?;
        fs::write(root.path().join("beside"), "untouched").ok()?;
        symlink("../beside", share.join("link")).ok()?;
        symlink("..", share.join("up")).ok()?;
        Some(Self { root })
    }

    fn share(&self) -> PathBuf {
        self.root.path().join("share")
    }

    fn check(&self) {
        let entries: Vec<_> = fs::read_dir(self.root.path()).into_iter().flatten().flatten().collect();
        assert_eq!(entries.len(), 2, "a name led out of the folder");
        let beside: &Path = &self.root.path().join("beside");
        assert!(fs::read(beside).is_ok_and(|text| text == b"untouched"), "a link led out of the folder");
    }
}

/// Takes bytes as a list of requests.
pub fn share(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Some(folder) = Folder::new() else { return };
    let options = ShareOptions { read_only: input.one_in(16), guest_owner: 0 };
    let Ok(share) = Share::open(&folder.share(), options) else { return };
    let limits = Limits { nodes: 24, descriptors: 4, handles: 8 };
    let Ok(files) = Passthrough::new(share, limits) else { return };
    let (server, mut reply) = (Server::new(files), Reply::default());
    let init = [7u32, 38, 0, u32::MAX].map(u32::to_le_bytes).concat();
    server.handle(&request(opcode::INIT, 0, &init), 80, &mut reply);
    for _ in 0..REQUESTS {
        if input.is_empty() {
            break;
        }
        let request = next(&mut input);
        let room = if input.one_in(8) { usize::from(input.u8()) } else { 8192 };
        server.handle(&request, room, &mut reply);
        assert!(reply.bytes().len() <= room, "a reply is longer than its room");
    }
    drop(server);
    folder.check();
}

fn request(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = (40 + body.len() as u32).to_le_bytes().to_vec();
    request.extend(code.to_le_bytes());
    request.extend(1u64.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.extend([0; 16]);
    request.extend(body);
    request
}

/// Mostly one that makes sense.
fn next(input: &mut Input<'_>) -> Vec<u8> {
    let code = if input.one_in(16) { input.u32() } else { input.below(54) as u32 };
    let node = if input.one_in(16) { input.u64() } else { 1 + input.below(8) };
    if is_costly(code) {
        return request(code, node, &costly(code, input));
    }
    let mut body = Vec::new();
    let before = match code {
        opcode::LOOKUP | opcode::UNLINK | opcode::RMDIR | opcode::SYMLINK | opcode::REMOVEXATTR => 0,
        opcode::LINK | opcode::MKDIR | opcode::GETXATTR | opcode::SETXATTR | opcode::RENAME => 8,
        opcode::CREATE | opcode::MKNOD | opcode::RENAME2 => 16,
        opcode::OPEN | opcode::OPENDIR | opcode::ACCESS => return request(code, node, &words(input, 2)),
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS | opcode::WRITE | opcode::LSEEK => {
            body.extend(input.below(8).to_le_bytes());
            body.extend(input.value().to_le_bytes());
            body.extend(words(input, 6));
            body.extend(input.bytes(16));
            return request(code, node, &body);
        }
        _ => return request(code, node, &words(input, 24)),
    };
    body.extend(words(input, before / 4));
    for _ in 0..2 {
        body.extend(input.pick(&NAMES));
        body.push(0);
    }
    let mut request = request(code, node, &body);
    if input.one_in(32) {
        request.truncate(usize::from(input.u8()));
    }
    request
}

fn words(input: &mut Input<'_>, count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|_| {
            (if input.flag() { input.below(16) as u32 } else { input.value() as u32 }).to_le_bytes()
        })
        .collect()
}

/// Handles and small numbers.
fn costly(code: u32, input: &mut Input<'_>) -> Vec<u8> {
    let mut body = input.below(8).to_le_bytes().to_vec();
    body.extend(input.below(SMALL).to_le_bytes());
    if code == opcode::FALLOCATE {
        body.extend(input.below(SMALL).to_le_bytes());
        body.extend(input.u32().to_le_bytes());
        return body;
    }
    for value in [0, input.below(8), input.below(SMALL), input.below(SMALL), 0] {
        body.extend(value.to_le_bytes());
    }
    body
}
