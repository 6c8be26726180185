//! The client against a server of our own, which can misbehave, and against those of others.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
};

use super::{
    handshake::{read_u16, read_u32, read_u64},
    wire::{
        ANSWER_MAGIC, CHUNK_MAGIC, MAGIC, OLD_MAGIC, OPTION_MAGIC, REQUEST_MAGIC, SIMPLE_MAGIC, answer,
        chunk, error, export, info, option,
    },
    *,
};
use crate::Pause;

const SIZE: usize = 4 << 20;
const ALL: u16 = export::FLUSH | export::FUA | export::TRIM | export::WRITE_ZEROES | 1;

/// How a server behaves.
#[derive(Clone, Copy)]
struct Manners {
    flags: u16,
    /// Knows GO and structured replies.
    modern: bool,
    blocks: Option<(u32, u32)>,
    size: u64,
}

const GOOD: Manners = Manners { flags: ALL, modern: true, blocks: None, size: SIZE as u64 };

/// What the server's disk holds: what survives its end, and what a reader sees.
struct Medium {
    durable: Vec<u8>,
    seen: Vec<u8>,
    /// What was asked, in order.
    log: Vec<(u16, u16, u64, u32)>,
    /// Errors for the next writes.
    errors: VecDeque<u32>,
}

/// A server with a volatile cache that serves one client at a time.
struct Server {
    medium: Arc<Mutex<Medium>>,
    manners: Arc<Mutex<Manners>>,
    client: Arc<Mutex<Option<UnixStream>>>,
    folder: tempfile::TempDir,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Server {
    fn start(manners: Manners) -> Self {
        let content: Vec<u8> = (0..SIZE).map(|i| (i / 512) as u8).collect();
        let medium =
            Medium { durable: content.clone(), seen: content, log: Vec::new(), errors: VecDeque::new() };
        let server = Self {
            medium: Arc::new(Mutex::new(medium)),
            manners: Arc::new(Mutex::new(manners)),
            client: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
        };
        server.listen();
        server
    }

    fn listen(&self) {
        let listener = UnixListener::bind(self.folder.path().join("s")).unwrap();
        let (medium, manners, current) = (self.medium.clone(), self.manners.clone(), self.client.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                *lock(&current) = Some(client.try_clone().unwrap());
                let manners = *lock(&manners);
                // It ends when the client goes or is thrown out.
                let _ = greet(&mut client, manners)
                    .and_then(|structured| while_connected(&mut client, manners, structured, &medium));
                let _ = client.shutdown(Shutdown::Both);
            }
        });
    }

    /// Loses the client, and what was not flushed.
    fn crash(&self) {
        self.hang_up();
        let mut medium = lock(&self.medium);
        medium.seen = medium.durable.clone();
    }

    fn hang_up(&self) {
        if let Some(client) = &*lock(&self.client) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn url(&self) -> PathBuf {
        format!("nbd+unix:///x?socket={}/s", self.folder.path().display()).into()
    }

    fn open(&self) -> NbdDisk {
        NbdDisk::open(&self.url(), OpenOptions::default()).unwrap()
    }

    fn error(&self, options: OpenOptions) -> String {
        NbdDisk::open(&self.url(), options).map(|_| ()).unwrap_err().to_string()
    }
}

fn greet(client: &mut UnixStream, manners: Manners) -> io::Result<bool> {
    client.write_all(&[&MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &[0, 3]].concat())?;
    assert_eq!(read_u32(client)?, 3);
    let mut structured = false;
    loop {
        assert_eq!(read_u64(client)?, OPTION_MAGIC);
        let option = read_u32(client)?;
        let mut data = vec![0; read_u32(client)? as usize];
        client.read_exact(&mut data)?;
        let mut say = |kind: u32, data: &[u8]| {
            let mut message = ANSWER_MAGIC.to_be_bytes().to_vec();
            for word in [option, kind, data.len() as u32] {
                message.extend(word.to_be_bytes());
            }
            client.write_all(&[&message, data].concat())
        };
        let about = [&manners.size.to_be_bytes()[..], &manners.flags.to_be_bytes()].concat();
        match option {
            option::EXPORT_NAME => {
                assert_eq!(data, b"x");
                client.write_all(&about)?;
                return Ok(structured);
            }
            option::STRUCTURED_REPLY if manners.modern => {
                structured = true;
                say(answer::ACK, &[])?;
            }
            option::GO if manners.modern => {
                assert_eq!(data, b"\0\0\0\x01x\0\x01\0\x03");
                say(answer::INFO, &[&info::EXPORT.to_be_bytes(), &about[..]].concat())?;
                if let Some((min, max)) = manners.blocks {
                    let words = [min, 4096, max].map(u32::to_be_bytes).concat();
                    say(answer::INFO, &[&info::BLOCK_SIZE.to_be_bytes(), &words[..]].concat())?;
                }
                say(answer::ACK, &[])?;
                return Ok(structured);
            }
            _ => say(answer::UNSUPPORTED, b"no")?,
        }
    }
}

fn while_connected(
    client: &mut UnixStream,
    manners: Manners,
    structured: bool,
    medium: &Mutex<Medium>,
) -> io::Result<()> {
    loop {
        assert_eq!(read_u32(client)?, REQUEST_MAGIC);
        let (flags, command, cookie) = (read_u16(client)?, read_u16(client)?, read_u64(client)?);
        let (offset, len) = (read_u64(client)?, read_u32(client)?);
        let mut payload = vec![0; if command == command::WRITE { len as usize } else { 0 }];
        client.read_exact(&mut payload)?;
        if command == command::DISCONNECT {
            return Ok(());
        }
        let (min, max) = manners.blocks.unwrap_or((1, u32::MAX));
        assert!(offset % u64::from(min) == 0 && len % min == 0, "{command}: {offset}+{len}");
        let mut medium = lock(medium);
        medium.log.push((command, flags, offset, len));
        let range = offset as usize..offset as usize + len as usize;
        let mut data = Vec::new();
        let mut code = 0;
        match command {
            command::READ => {
                assert!(len <= max);
                data = medium.seen[range].to_vec();
            }
            command::WRITE => {
                assert!(len <= max);
                code = medium.errors.pop_front().unwrap_or(0);
                if code == 0 {
                    medium.seen[range].copy_from_slice(&payload);
                }
            }
            command::WRITE_ZEROES => medium.seen[range].fill(0),
            command::TRIM => medium.seen[range].fill(0xdd),
            command::FLUSH => {}
            other => panic!("{other}"),
        }
        if command == command::FLUSH || flags & command::FUA != 0 {
            medium.durable = medium.seen.clone();
        }
        drop(medium);
        if structured && command == command::READ {
            // Cut in two, the second part first, and the end by itself.
            let half = data.len() / 2;
            let parts = [half..data.len(), 0..half].into_iter().filter(|part| !part.is_empty());
            for part in parts {
                let at = (offset + part.start as u64).to_be_bytes();
                say_chunk(client, 0, chunk::DATA, cookie, &[&at[..], &data[part]].concat())?;
            }
            say_chunk(client, chunk::DONE, chunk::NONE, cookie, &[])?;
        } else {
            let mut reply = SIMPLE_MAGIC.to_be_bytes().to_vec();
            reply.extend(code.to_be_bytes());
            reply.extend(cookie.to_be_bytes());
            client.write_all(&[reply, data].concat())?;
        }
    }
}

fn say_chunk(client: &mut UnixStream, flags: u16, kind: u16, cookie: u64, data: &[u8]) -> io::Result<()> {
    client.write_all(&chunk_bytes(flags, kind, cookie, data))
}

fn chunk_bytes(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = CHUNK_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn bytes(disk: &dyn Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0xee; len];
    disk.read_at(&mut data, offset).unwrap();
    data
}

/// Reads, writes, zeros and flushes everywhere; `content` is what the disk must hold.
fn exercise(disk: &dyn Disk, content: &mut [u8]) {
    assert!(bytes(disk, 0, content.len()) == content);
    let pieces = [(0, 512), (512, 1024), (3584, 8192 + 512), (1 << 20, 2 << 20), (content.len() - 512, 512)];
    for (round, (start, len)) in pieces.into_iter().enumerate() {
        let data: Vec<u8> = (0..len).map(|i| (i * 7 + round) as u8).collect();
        disk.write_at(&data, start as u64).unwrap();
        content[start..start + len].copy_from_slice(&data);
        assert!(bytes(disk, start as u64, len) == data, "{start}+{len}");
    }
    for (start, len, may_unmap) in [(8192, 4096, true), (20_480 + 512, 6144, false), (1 << 21, 1 << 20, true)]
    {
        disk.write_zeroes(start as u64, len as u64, may_unmap).unwrap();
        content[start..start + len].fill(0);
    }
    disk.discard(3 << 20, 4096).unwrap();
    content[3 << 20..(3 << 20) + 4096].copy_from_slice(&bytes(disk, 3 << 20, 4096));
    disk.flush().unwrap();
    assert!(bytes(disk, 0, content.len()) == content);
}

#[test]
fn all_kinds_of_servers_serve() {
    let kinds = [
        GOOD,
        Manners { modern: false, ..GOOD },
        Manners { flags: 1, ..GOOD },
        Manners { flags: 1 | export::FUA, ..GOOD },
        Manners { blocks: Some((1, 4096)), ..GOOD },
        Manners { blocks: Some((512, 65536)), ..GOOD },
        Manners { blocks: Some((4096, 8192)), ..GOOD },
        Manners { blocks: Some((65536, u32::MAX)), flags: 1 | export::FLUSH | export::TRIM, ..GOOD },
    ];
    for manners in kinds {
        let server = Server::start(manners);
        let disk = server.open();
        assert_eq!((disk.size(), disk.read_only()), (SIZE as u64, false));
        let mut content = lock(&server.medium).seen.clone();
        exercise(&disk, &mut content);
        let medium = lock(&server.medium);
        assert!(medium.seen == content);
        if manners.flags & (export::FLUSH | export::FUA) != 0 {
            assert!(medium.durable == content);
        }
    }
}

#[test]
fn sizes_are_whole_blocks_and_read_only_is_kept() {
    let server = Server::start(Manners { size: 1_000_000, flags: ALL | export::READ_ONLY, ..GOOD });
    assert!(server.error(OpenOptions::default()).contains("read-only: URL:ro"));
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let disk = NbdDisk::open(&server.url(), read_only).unwrap();
    assert_eq!(disk.size(), 999_936);
    for result in [disk.write_at(&[0; 512], 0), disk.discard(0, 512), disk.write_zeroes(0, 512, true)] {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    disk.flush().unwrap();
    drop(disk);
    let qcow2 = OpenOptions { format: Some(Format::Qcow2), ..read_only };
    assert!(server.error(qcow2).contains("raw disk"));
    let empty = Server::start(Manners { size: 511, ..GOOD });
    assert!(empty.error(OpenOptions::default()).contains("is empty"));
}

#[test]
fn many_requests_are_in_progress_at_once() {
    let server = Server::start(GOOD);
    let disk = server.open();
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..50 {
                    let at = (worker * 64 + round) * 4096;
                    disk.write_at(&[worker as u8; 4096], at).unwrap();
                    assert_eq!(bytes(disk, at, 4096), [worker as u8; 4096]);
                }
            });
        }
    });
}

fn away<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| Pause::of(&error) == Some(Pause::Away))
}

/// Tries again as a device does.
fn until_there<T>(mut step: impl FnMut() -> io::Result<T>) -> T {
    let start = Instant::now();
    loop {
        match step() {
            Err(error) if Pause::of(&error).is_some() && start.elapsed() < Duration::from_secs(30) => {
                thread::sleep(Duration::from_millis(20));
            }
            result => return result.unwrap(),
        }
    }
}

#[test]
fn what_a_server_lost_is_written_again() {
    let server = Server::start(GOOD);
    let disk = server.open();
    disk.write_at(&[1; 4096], 0).unwrap();
    disk.flush().unwrap();
    disk.write_at(&[2; 4096], 4096).unwrap();
    disk.write_at(&[3; 4096], 4096).unwrap();
    disk.write_zeroes(8192, 4096, true).unwrap();
    lock(&server.medium).log.clear();
    server.crash();
    assert_eq!(lock(&server.medium).seen[4096], 8, "lost");
    until_there(|| disk.flush());
    {
        let medium = lock(&server.medium);
        assert_eq!(medium.durable[0], 1);
        assert!(medium.durable[4096..8192].iter().all(|b| *b == 3), "in order");
        assert!(medium.durable[8192..12288].iter().all(|b| *b == 0));
        let commands: Vec<_> = medium.log.iter().map(|entry| (entry.0, entry.2)).collect();
        let again = [
            (command::WRITE, 4096),
            (command::WRITE, 4096),
            (command::WRITE_ZEROES, 8192),
            (command::FLUSH, 0),
        ];
        assert_eq!(commands, again, "and nothing that was durable");
    }
    lock(&server.medium).log.clear();
    server.crash();
    until_there(|| disk.flush());
    assert_eq!(lock(&server.medium).log.len(), 1, "settled");
}

#[test]
fn what_cannot_be_written_again_fails_the_flush() {
    let server = Server::start(GOOD);
    let disk = server.open();
    disk.write_at(&[2; 4096], 4096).unwrap();
    lock(&server.medium).errors.push_back(5);
    server.crash();
    until_there(|| disk.read_at(&mut [0; 512], 0));
    assert!(disk.flush().unwrap_err().to_string().contains("lost"));
    disk.flush().unwrap();
}

#[test]
fn a_server_that_is_away_or_another_makes_requests_wait() {
    let server = Server::start(GOOD);
    let disk = server.open();
    lock(&server.manners).size = 1 << 20;
    server.hang_up();
    assert!(away(disk.read_at(&mut [0; 512], 0)));
    // Not asked again at once.
    assert!(away(disk.write_at(&[7; 512], 512)));
    assert!(away(disk.flush()));
    lock(&server.manners).size = SIZE as u64;
    until_there(|| disk.write_at(&[7; 512], 512));
    assert_eq!(bytes(&disk, 512, 512), [7; 512]);
}

#[test]
fn errors_of_requests_are_told_apart() {
    let server = Server::start(GOOD);
    let disk = server.open();
    lock(&server.medium).errors.extend([5, error::NO_SPACE, error::NOT_PERMITTED, error::SHUTDOWN]);
    let fail = || disk.write_at(&[1; 512], 0).unwrap_err();
    assert!(fail().to_string().contains("error 5"));
    assert_eq!(Pause::of(&fail()), Some(Pause::Full));
    assert_eq!(fail().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(Pause::of(&fail()), Some(Pause::Away));
    // None of them is written again.
    server.crash();
    until_there(|| disk.flush());
    assert_eq!(lock(&server.medium).durable[0], 0);
}

/// A server that answers the first request after a good handshake by `said`, and says nothing more.
fn after_hello(said: Vec<u8>) -> (NbdDisk, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        greet(&mut client, GOOD).unwrap();
        // An answer before the question would be wrong whatever it says.
        client.read_exact(&mut [0; 28]).unwrap();
        client.write_all(&said).unwrap();
        // Until the client has enough.
        let _ = client.read_to_end(&mut Vec::new());
    });
    let url = format!("nbd+unix:///x?socket={}/s", folder.path().display());
    (NbdDisk::open(Path::new(&url), OpenOptions::default()).unwrap(), folder)
}

#[test]
fn replies_that_break_the_protocol_end_the_connection() {
    let data = |offset: u64, len: usize| [&offset.to_be_bytes()[..], &vec![1; len]].concat();
    let simple = |cookie: u64| [&SIMPLE_MAGIC.to_be_bytes()[..], &[0; 4], &cookie.to_be_bytes()].concat();
    let hole = [&0_u64.to_be_bytes()[..], &8192_u32.to_be_bytes()].concat();
    for said in [
        b"rubbish that is long enough to be a reply".to_vec(),
        simple(1),
        simple(77),
        chunk_bytes(0, chunk::DATA, 77, &data(0, 512)),
        chunk_bytes(0, chunk::DATA, 1, &data(1, 4096)),
        chunk_bytes(0, chunk::DATA, 1, &data(u64::MAX, 4096)),
        chunk_bytes(0, chunk::DATA, 1, &data(0, 0)),
        chunk_bytes(chunk::DONE, chunk::DATA, 1, &data(0, 2048)),
        chunk_bytes(chunk::DONE, chunk::NONE, 1, &[]),
        chunk_bytes(chunk::DONE, chunk::NONE, 1, &[0]),
        chunk_bytes(chunk::DONE, chunk::HOLE, 1, &hole),
        chunk_bytes(chunk::DONE, chunk::ERROR | 1, 1, &[0, 0, 0, 5]),
        chunk_bytes(chunk::DONE, chunk::ERROR | 1, 1, &[0, 0, 0, 5, 0, 9, b'x']),
        chunk_bytes(chunk::DONE, chunk::ERROR | 1, 1, &[0, 0, 0, 0, 0, 0]),
        chunk_bytes(chunk::DONE, 5, 1, &[0; 12]),
        [chunk_bytes(0, chunk::DATA, 1, &data(0, 4096)), chunk_bytes(1, chunk::DATA, 1, &data(0, 4096))]
            .concat(),
    ] {
        let (disk, _folder) = after_hello(said.clone());
        assert!(away(disk.read_at(&mut [0; 4096], 0)), "{said:?}");
    }
    // In words, which are kept harmless.
    let words = [&[0, 0, 0, 5, 0, 4][..], b"a\x1b[m"].concat();
    let (disk, _folder) = after_hello(chunk_bytes(chunk::DONE, chunk::ERROR | 1, 1, &words));
    let error = disk.read_at(&mut [0; 4096], 0).unwrap_err().to_string();
    assert!(error.contains("error 5 a [m"), "{error}");
}

#[test]
fn servers_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |kind: u32, option: u32, len: u32| {
        let mut bytes = [MAGIC.to_be_bytes(), OPTION_MAGIC.to_be_bytes()].concat();
        bytes.extend([0, 3]);
        bytes.extend(ANSWER_MAGIC.to_be_bytes());
        [option, kind, len].iter().for_each(|word| bytes.extend(word.to_be_bytes()));
        bytes
    };
    let wire_old = [MAGIC.to_be_bytes(), OLD_MAGIC.to_be_bytes()].concat();
    let unfixed = [&MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &[0, 0]].concat();
    let endless = [answer(answer::INFO, 8, 2), [0; 2].to_vec()].concat();
    for (said, hint) in [
        (b"HTTP/1.1 400 Bad Request".to_vec(), "no NBD server"),
        (Vec::new(), "ended the conversation"),
        (wire_old, "before 2011"),
        (unfixed, "cannot negotiate"),
        (answer(answer::ACK, 3, 0), "something else"),
        (answer(answer::ACK, 8, u32::MAX), "too long"),
        (endless, "ended the conversation"),
    ] {
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.write_all(&said).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let _ = client.read_to_end(&mut Vec::new());
        });
        let url = format!("nbd+unix:///x?socket={}", path.display());
        let error =
            NbdDisk::open(Path::new(&url), OpenOptions::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
        server.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    let error = |url: &str| {
        NbdDisk::open(Path::new(url), OpenOptions::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(error("nbd+unix:///x?socket=/nowhere/at/all").contains("No such file"));
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(error(&format!("nbd://127.0.0.1:{port}/x")).contains("refused"));
}

/// A program that serves NBD while this lives.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server and waits until `there`.
fn program(name: &str, args: &[&str], mut there: impl FnMut() -> bool) -> Option<Program> {
    let child = Command::new(name).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(io::stderr(), "skipped: no {name} here: {error}");
            return None;
        }
    };
    let program = Program(child);
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(30), "{name} does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    Some(program)
}

#[test]
fn qemu_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (file, socket) = (folder.path().join("f.img"), folder.path().join("s"));
    let mut content: Vec<u8> = (0..SIZE).map(|i| (i / 512) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let (socket, name) = (socket.to_str().unwrap(), file.to_str().unwrap());
    let args = ["-f", "raw", "-x", "a b", "-t", "--discard=unmap", "-k", socket, name];
    let serve = || program("qemu-nbd", &args, || UnixStream::connect(socket).is_ok());
    let Some(server) = serve() else { return };
    let url = format!("nbd+unix:///a%20b?socket={socket}");
    let disk = NbdDisk::open(Path::new(&url), OpenOptions::default()).unwrap();
    assert!(disk.export.structured && disk.export.can_flush());
    exercise(&disk, &mut content);
    // It is killed and comes back.
    disk.write_at(&[0x5a; 4096], 4096).unwrap();
    content[4096..8192].fill(0x5a);
    drop(server);
    std::fs::remove_file(socket).unwrap();
    assert!(away(disk.flush()));
    let _server = serve();
    until_there(|| disk.flush());
    assert!(bytes(&disk, 0, SIZE) == content);
    assert!(std::fs::read(&file).unwrap() == content);
    drop(disk);
    let url = format!("nbd+unix:///other?socket={socket}");
    let error = NbdDisk::open(Path::new(&url), OpenOptions::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("no export `other`"), "{error}");
}

/// A TCP port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn nbdkit_serves() {
    let port = free_port().to_string();
    let args = ["-f", "-i", "127.0.0.1", "-p", &port, "--filter=blocksize-policy", "memory", "4M"];
    let blocks = ["blocksize-minimum=4096", "blocksize-maximum=64K", "blocksize-error-policy=error"];
    let there = || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
    let Some(_server) = program("nbdkit", &[&args[..], &blocks].concat(), there) else { return };
    let url = format!("nbd://127.0.0.1:{port}/any");
    let disk = NbdDisk::open(Path::new(&url), OpenOptions::default()).unwrap();
    assert_eq!((disk.export.min_block, disk.export.max_block), (4096, 65536));
    exercise(&disk, &mut vec![0; SIZE]);
}

#[test]
fn nbd_server_serves() {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("f.img"), folder.path().join("c"));
    let mut content: Vec<u8> = (0..SIZE).map(|i| (i / 512) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let port = free_port();
    let text = format!(
        "[generic]\nlistenaddr = 127.0.0.1\nport = {port}\n[disk]\nexportname = {}\nflush = true\nfua = true\ntrim = true\n",
        file.display()
    );
    std::fs::write(&config, text).unwrap();
    let url = format!("nbd://localhost:{port}/disk");
    // In the foreground it serves one client, so that one is the disk.
    let mut disk = None;
    let there = || {
        disk = NbdDisk::open(Path::new(&url), OpenOptions::default()).ok();
        disk.is_some()
    };
    let Some(_server) = program("nbd-server", &["-d", "-C", config.to_str().unwrap()], there) else { return };
    let disk = disk.unwrap();
    exercise(&disk, &mut content);
    assert!(std::fs::read(&file).unwrap() == content);
}

#[test]
fn what_it_takes_to_reach_a_server() {
    let of = |path: &str| reach(Path::new(path)).unwrap();
    assert_eq!(of("/dev/null"), None);
    assert_eq!(of("nbd://127.0.0.1/x"), Some(Reach::Port(10809)));
    assert_eq!(of("nbd://[::1]:7/x"), Some(Reach::Port(7)));
    assert_eq!(of("nbd://localhost/x"), Some(Reach::Name));
    assert_eq!(of("nbd+unix:///?socket=/s"), Some(Reach::Unix));
    assert!(reach(Path::new("nbd://")).unwrap_err().to_string().contains("try: nbd://HOST"));
}

#[test]
fn any_words_of_a_server_come_to_an_end() {
    // The handshake and replies of a good server, each byte changed in turn.
    let mut said = [MAGIC.to_be_bytes(), OPTION_MAGIC.to_be_bytes()].concat();
    said.extend([0, 3]);
    let mut say = |option: u32, kind: u32, data: &[u8]| {
        said.extend(ANSWER_MAGIC.to_be_bytes());
        [option, kind, data.len() as u32].iter().for_each(|word| said.extend(word.to_be_bytes()));
        said.extend(data);
    };
    say(option::STRUCTURED_REPLY, answer::ACK, &[]);
    say(option::GO, answer::INFO, &[&[0, 0][..], &[0, 0, 0, 0, 0, 0x40, 0, 0], &ALL.to_be_bytes()].concat());
    say(option::GO, answer::ACK, &[]);
    let at = 4096_u64.to_be_bytes();
    said.extend(chunk_bytes(0, chunk::DATA, 1, &[&at[..], &[1; 4095]].concat()));
    said.extend(chunk_bytes(1, chunk::DATA, 1, &[&4097_u64.to_be_bytes()[..], &[1; 1]].concat()));
    for index in 0..200 {
        for bit in 0..8 {
            said[index] ^= 1 << bit;
            listen(&said);
            said[index] ^= 1 << bit;
        }
    }
    listen(&said);
}
