//! Against a registry made for the tests: it wants tokens, breaks off and lies when told to. The system tests have a real
//! one.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::error::Kind;
use crate::progress::Silent;

#[derive(Default)]
struct State {
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    /// Wants `Authorization: Bearer TOKEN`, which its own token service gives.
    token: Option<String>,
    /// Ends the next answers with a blob after this many bytes.
    break_after: Vec<usize>,
    requests: Vec<String>,
}

struct Fake {
    address: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, own) = (state.clone(), address.clone());
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (shared, own) = (shared.clone(), own.clone());
                // A broken connection is the client's to complain about.
                thread::spawn(move || serve(connection, &shared, &own).ok());
            }
        });
        Self { address, state }
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap())
    }

    fn registry(&self, access: Access) -> Registry {
        Registry::new(&format!("{}/me/vm:1", self.address).parse().unwrap(), access, false)
    }

    fn count(&self, what: &str) -> usize {
        self.with(|s| s.requests.iter().filter(|request| request.starts_with(what)).count())
    }
}

fn serve(mut connection: TcpStream, state: &Mutex<State>, address: &str) -> io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    let request = Request { method, path, headers, body };
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{} {}", request.method, request.path));
    let (status, headers, mut body) = answer(&request, &mut state, address);
    write!(
        connection,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )?;
    if request.path.contains("/blobs/") && body.len() > 1000 {
        body.truncate(state.break_after.pop().unwrap_or(usize::MAX));
    }
    drop(state);
    if request.method == "HEAD" { Ok(()) } else { connection.write_all(&body) }
}

fn answer(request: &Request, state: &mut State, address: &str) -> (&'static str, String, Vec<u8>) {
    let none = String::new;
    if let (Some(token), true) = (&state.token, request.path.starts_with("/token")) {
        assert!(request.path.contains("scope=repository"), "{}", request.path);
        return ("200 OK", none(), format!(r#"{{"token": "{token}"}}"#).into());
    }
    let wanted = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && request.headers.get("authorization") != wanted.as_ref() {
        let ask = format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"fake\"\r\n");
        return ("401 Unauthorized", ask, Vec::new());
    }
    let rest = request.path.strip_prefix("/v2/me/vm/").unwrap_or_default().to_owned();
    let unknown =
        || ("404 Not Found", String::new(), br#"{"errors":[{"code":"UNKNOWN","message":"no"}]}"#.to_vec());
    if let Some(tag) = rest.strip_prefix("manifests/") {
        if request.method == "PUT" {
            state.manifests.insert(tag.into(), request.body.clone());
            return ("201 Created", none(), Vec::new());
        }
        return state.manifests.get(tag).map_or_else(unknown, |text| ("200 OK", none(), text.clone()));
    }
    if request.method == "POST" {
        return ("202 Accepted", "Location: /v2/me/vm/put?state=1\r\n".into(), Vec::new());
    }
    if let Some(digest) = rest.strip_prefix("put?state=1&digest=sha256%3A") {
        assert_eq!(Digest::of(&request.body).to_string(), digest);
        state.blobs.insert(digest.into(), request.body.clone());
        return ("201 Created", none(), Vec::new());
    }
    let digest = rest.strip_prefix("blobs/sha256:").unwrap_or_default();
    let Some(blob) = state.blobs.get(digest) else { return unknown() };
    let range = request.headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|from| from.parse::<usize>().ok()) {
        Some(from) => {
            let told = format!("Content-Range: bytes {from}-{}/{}\r\n", blob.len() - 1, blob.len());
            ("206 Partial Content", told, blob[from..].to_vec())
        }
        None => ("200 OK", none(), blob.clone()),
    }
}

/// A disk of two pieces, of which the first has little and the second nothing.
fn disk(dir: &Path) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(dir.join("disk")).unwrap();
    file.set_len(disk::PIECE + (3 << 20)).unwrap();
    file.write_all_at(b"begin", 4096).unwrap();
    // Nothing that LZ4 makes smaller.
    let noise: Vec<u8> =
        (0..200_000_u64).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7).to_le_bytes()).collect();
    file.write_all_at(&noise, 1 << 20).unwrap();
    file
}

fn push_disk(fake: &Fake, disk: &File) -> Digest {
    let parts =
        [Part::Text(TART_CONFIG, b"{}"), Part::Disk(TART_DISK, None, disk), Part::Text(TART_NVRAM, b"nvram")];
    push(&fake.registry(Access::Push), "linux", &parts, 2, &Silent).unwrap()
}

fn pull(fake: &Fake, to: &Path) -> Result<()> {
    let registry = fake.registry(Access::Pull);
    let (manifest, _) = registry.manifest()?;
    let disk = manifest.disks().unwrap().remove(0);
    pull_disks(&registry, &[(disk, to)], 2, &Silent)
}

fn same(disk: &File, path: &Path) {
    let there = File::open(path).unwrap();
    assert_eq!(there.metadata().unwrap().len(), disk.metadata().unwrap().len());
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for at in (0..disk.size()).step_by(1 << 20) {
        disk.read_exact_at(&mut a, at).unwrap();
        there.read_exact_at(&mut b, at).unwrap();
        assert!(a == b, "differs at {at:#x}");
    }
    assert!(there.metadata().unwrap().blocks() <= disk.metadata().unwrap().blocks() + 64, "holes are holes");
}

#[test]
fn a_disk_comes_back_with_its_holes_through_tokens_and_broken_connections() {
    let (fake, dir) = (Fake::start(), tempfile::tempdir().unwrap());
    fake.with(|s| s.token = Some("sesame".into()));
    let disk = disk(dir.path());
    let digest = push_disk(&fake, &disk);
    let uploads = fake.count("PUT");
    assert_eq!(push_disk(&fake, &disk), digest, "the same image has the same digest");
    assert_eq!(fake.count("PUT"), uploads + 1, "only the manifest is sent again");
    fake.with(|s| s.break_after = vec![700_000, 5000]);
    let to = dir.path().join("pulled");
    pull(&fake, &to).unwrap();
    same(&disk, &to);
    assert_eq!(fake.with(|s| s.break_after.len()), 0, "it broke twice");
    // The blob of the first piece three times in parts; that of the second is known to be zeros.
    let manifest = fake.registry(Access::Pull).manifest().unwrap().0;
    let pieces = &manifest.disks().unwrap()[0].pieces;
    let counts = [0, 1].map(|n| fake.count(&format!("GET /v2/me/vm/blobs/{}", pieces[n].layer.digest)));
    assert_eq!(counts, [3, 0]);
}

#[test]
fn what_is_there_is_verified_and_kept() {
    let (fake, dir) = (Fake::start(), tempfile::tempdir().unwrap());
    let disk = disk(dir.path());
    push_disk(&fake, &disk);
    let to = dir.path().join("pulled");
    pull(&fake, &to).unwrap();
    let gets = fake.count("GET /v2/me/vm/blobs");
    pull(&fake, &to).unwrap();
    assert_eq!(fake.count("GET /v2/me/vm/blobs"), gets, "all is there");
    // An interrupted pull: a part is missing, and something is where nothing belongs.
    let there = File::options().write(true).open(&to).unwrap();
    there.write_all_at(&[0; 5], 4096).unwrap();
    there.write_all_at(b"rubbish", 6 << 20).unwrap();
    pull(&fake, &to).unwrap();
    assert_eq!(fake.count("GET /v2/me/vm/blobs"), gets + 1);
    same(&disk, &to);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let (fake, dir) = (Fake::start(), tempfile::tempdir().unwrap());
    push_disk(&fake, &disk(dir.path()));
    let manifest = fake.registry(Access::Pull).manifest().unwrap().0;
    let layer = manifest.disks().unwrap()[0].pieces[0].layer.clone();
    let digest = layer.digest.trim_start_matches("sha256:").to_owned();
    let good = fake.with(|s| s.blobs[&digest].clone());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut middle = good.clone();
    middle[good.len() / 2] ^= 1;
    let longer = [&good[..], b"bv4$"].concat();
    for (blob, to) in [flipped, middle, longer].into_iter().zip(["a", "b", "c"]) {
        fake.with(|s| s.blobs.insert(digest.clone(), blob.clone()));
        let failed = pull(&fake, &dir.path().join(to));
        if blob.len() == good.len() {
            assert_eq!(failed.unwrap_err().kind(), Kind::Integrity, "{to}");
        } else {
            // What a server sends beyond the size that the manifest says is not read.
            failed.unwrap();
        }
    }
    // A layer whose blob is right, but whose content is not what the manifest says.
    fake.with(|s| s.blobs.insert(digest, good));
    let lie = fake.with(|s| {
        let text = String::from_utf8(s.manifests["1"].clone()).unwrap();
        text.replace(&manifest.disks().unwrap()[0].pieces[0].digest.to_string(), &"0".repeat(64))
    });
    fake.with(|s| s.manifests.insert("1".into(), lie.into()));
    assert_eq!(pull(&fake, &dir.path().join("d")).unwrap_err().kind(), Kind::Integrity);
    let small = manifest.of(TART_NVRAM).next().unwrap();
    assert_eq!(fake.registry(Access::Pull).small_blob(small, 5).unwrap(), b"nvram");
    assert_eq!(fake.registry(Access::Pull).small_blob(small, 4).unwrap_err().kind(), Kind::Integrity);
}

#[test]
fn what_is_not_there_says_so() {
    let fake = Fake::start();
    let error = fake.registry(Access::Pull).manifest().unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
    assert!(error.why().contains("UNKNOWN no"), "{error}");
    let index =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    fake.with(|s| s.manifests.insert("1".into(), index.to_vec()));
    assert_eq!(fake.registry(Access::Pull).manifest().unwrap_err().kind(), Kind::Format);
    let digest: Reference = format!("{}/me/vm@sha256:{}", fake.address, "0".repeat(64)).parse().unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    fake.with(|s| s.manifests.insert(other, index.to_vec()));
    let wrong = Registry::new(&digest, Access::Pull, false).manifest().unwrap_err();
    assert_eq!(wrong.kind(), Kind::Integrity, "the content under a digest is another: {wrong}");
}
