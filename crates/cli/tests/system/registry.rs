//! Images against a real registry on this host: Debian's `docker-registry`.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::tool::{Outcome, Tool, skipped};

const PROGRAM: &str = "docker-registry";
const SIZE: u64 = 3 << 29;

struct Registry {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Registry {
    /// None where the program is not installed.
    fn start() -> Option<Self> {
        if Command::new(PROGRAM).arg("--version").output().is_err() {
            skipped(&format!("{PROGRAM} is not installed; apt-get install {PROGRAM}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            folder.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, address, folder })
    }

    fn image(&self) -> String {
        format!("{}/test/vm:1", self.address)
    }

    /// The blobs' files, the largest first.
    fn blobs(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join("data/docker/registry/v2/blobs"), &mut found);
        found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What becomes of a proxy's connections when the limit is reached.
#[derive(Clone, Copy)]
enum End {
    /// They end, and others are refused.
    Cut,
    /// They stand still.
    Stall,
}

/// Passes connections on, until so many bytes have gone one of the ways.
struct Proxy {
    address: String,
    passed: Arc<Passed>,
}

/// What has been passed on, and what may be yet.
struct Passed {
    /// From the registry.
    down: AtomicU64,
    /// To it.
    up: AtomicU64,
    most: u64,
    end: End,
}

impl Passed {
    fn is_over(&self) -> bool {
        self.down.load(Ordering::Relaxed) > self.most || self.up.load(Ordering::Relaxed) > self.most
    }

    fn copy(&self, way: &AtomicU64, mut from: TcpStream, mut into: TcpStream) {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            way.fetch_add(n as u64, Ordering::Relaxed);
            while self.is_over() && matches!(self.end, End::Stall) {
                thread::sleep(Duration::from_secs(1));
            }
            if self.is_over() || into.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        // Either side may be gone.
        let _ = into.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    }
}

impl Proxy {
    fn start(registry: &Registry, most: u64, end: End) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = Arc::new(Passed { down: AtomicU64::new(0), up: AtomicU64::new(0), most, end });
        let (to, theirs) = (registry.address.clone(), passed.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if theirs.is_over() {
                    continue;
                }
                let server = TcpStream::connect(&to).unwrap();
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (ups, downs) = (theirs.clone(), theirs.clone());
                thread::spawn(move || ups.copy(&ups.up, from, into));
                thread::spawn(move || downs.copy(&downs.down, server, client));
            }
        });
        Self { address, passed }
    }

    fn image(&self) -> String {
        format!("{}/test/vm:1", self.address)
    }

    fn down(&self) -> u64 {
        self.passed.down.load(Ordering::Relaxed)
    }

    fn up(&self) -> u64 {
        self.passed.up.load(Ordering::Relaxed)
    }

    /// Has `args` stand still in the middle, and kills it there.
    fn killed(&self, tool: &Tool, args: &[&str]) {
        let mut child = tool.command(args).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.passed.is_over() {
            assert!(Instant::now() < deadline, "{args:?} never comes that far");
            assert!(child.try_wait().unwrap().is_none(), "{args:?} ended before");
            thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

/// The VM "vm", with a disk of three pieces that has little in the first two and nothing in the third.
fn with_vm(tool: &Tool) -> PathBuf {
    let kernel = tool.file("kernel.bin", &[0x1f, 0x20, 0x03, 0xd5]);
    let made =
        tool.run(&["create", "vm", "--kernel", kernel.to_str().unwrap(), "--disk", "1536M", "--cpus", "1"]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let disk = tool.home().join("vm.vm/Disk.img");
    let file = fs::File::options().write(true).open(&disk).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    let noise: Vec<u8> =
        (0..500_000_u64).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 9).to_le_bytes()).collect();
    file.write_all_at(&noise, 64 << 20).unwrap();
    file.write_all_at(&noise, 700 << 20).unwrap();
    disk
}

fn works(outcome: &Outcome) {
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
}

fn same(a: &Path, b: &Path) {
    let status = Command::new("cmp").arg(a).arg(b).status().unwrap();
    assert!(status.success(), "{} and {} differ", a.display(), b.display());
    let [a, b] = [a, b].map(|path| path.metadata().unwrap());
    assert_eq!((a.len(), b.len()), (SIZE, SIZE));
    assert!(b.blocks() <= a.blocks() + 64, "holes are kept: {} and {} blocks", a.blocks(), b.blocks());
}

fn leftovers(tool: &Tool) -> Vec<String> {
    let names =
        fs::read_dir(tool.home()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".pull") || name.starts_with(".new")).collect()
}

#[test]
fn what_is_pushed_is_pulled_with_its_holes() {
    let Some(registry) = Registry::start() else { return };
    let tool = Tool::new();
    let disk = with_vm(&tool);
    let image = registry.image();
    let first = tool.run(&["push", "vm", &image]);
    works(&first);
    let again = tool.run(&["push", "vm", &image]);
    assert_eq!(again.stdout, first.stdout, "the same image");
    works(&tool.run(&["pull", &image, "copy"]));
    same(&disk, &tool.home().join("copy.vm/Disk.img"));
    let file = |vm: &str, name: &str| fs::read(tool.home().join(format!("{vm}.vm")).join(name)).unwrap();
    assert_eq!(file("vm", "Kernel"), file("copy", "Kernel"));
    let info = tool.run(&["info", "copy", "--json"]).stdout;
    assert!(info.contains("\"cpus\": 1") && info.contains("linux-kernel"), "{info}");
    assert!(leftovers(&tool).is_empty(), "{:?}", leftovers(&tool));
    // A clone is layers; what is pushed of it is one disk.
    works(&tool.run(&["clone", "vm", "clone"]));
    works(&tool.run(&["push", "clone", &format!("{}/test/clone", registry.address)]));
    works(&tool.run(&["pull", &format!("{}/test/clone", registry.address), "clone2"]));
    let status = Command::new("cmp").arg(&disk).arg(tool.home().join("clone2.vm/Disk.img")).status().unwrap();
    assert!(status.success());
    let taken = tool.run(&["pull", &image, "copy"]);
    assert!(taken.stderr.contains("already a VM copy"), "{}", taken.stderr);
}

/// About what one of the two pieces takes that have anything in them: that cannot be compressed much, the zeros to a 255th.
const PIECE: u64 = 6_000_000;
const NO_LIMIT: u64 = u64::MAX / 2;

#[test]
fn an_interrupted_pull_goes_on() {
    let Some(registry) = Registry::start() else { return };
    let tool = Tool::new();
    let disk = with_vm(&tool);
    works(&tool.run(&["push", "vm", &registry.image()]));
    // The connection goes for good, in the middle of the second piece.
    let proxy = Proxy::start(&registry, PIECE + PIECE / 4, End::Cut);
    let broken = tool.run(&["pull", &proxy.image(), "copy", "--jobs", "1"]);
    assert_eq!(broken.status, Some(1));
    assert!(broken.stderr.contains("resume"), "{}", broken.stderr);
    assert_eq!(leftovers(&tool).len(), 1);
    assert!(!tool.run(&["list"]).stdout.contains("copy"), "there is no VM yet");
    // The process goes, in the middle of it again.
    let proxy = Proxy::start(&registry, PIECE / 2, End::Stall);
    proxy.killed(&tool, &["pull", &proxy.image(), "copy", "--jobs", "1"]);
    assert_eq!(leftovers(&tool).len(), 1);
    assert!(!tool.home().join("copy.vm").exists());
    // What has come is not fetched again.
    let proxy = Proxy::start(&registry, NO_LIMIT, End::Cut);
    works(&tool.run(&["pull", &proxy.image(), "copy"]));
    assert!(proxy.down() < PIECE + PIECE / 2, "{} bytes", proxy.down());
    same(&disk, &tool.home().join("copy.vm/Disk.img"));
    assert!(leftovers(&tool).is_empty(), "{:?}", leftovers(&tool));
}

#[test]
fn an_interrupted_push_goes_on() {
    let Some(registry) = Registry::start() else { return };
    let tool = Tool::new();
    let disk = with_vm(&tool);
    let proxy = Proxy::start(&registry, PIECE + PIECE / 4, End::Cut);
    let broken = tool.run(&["push", "vm", &proxy.image(), "--jobs", "1"]);
    assert_eq!(broken.status, Some(1));
    assert!(broken.stderr.contains("try:"), "{}", broken.stderr);
    // No image has less than all of its pieces.
    let early = tool.run(&["pull", &registry.image(), "early"]);
    assert_eq!(early.status, Some(1), "{}", early.stderr);
    let proxy = Proxy::start(&registry, PIECE / 2, End::Stall);
    proxy.killed(&tool, &["push", "vm", &proxy.image(), "--jobs", "1"]);
    // What is there is not sent again.
    let proxy = Proxy::start(&registry, NO_LIMIT, End::Cut);
    works(&tool.run(&["push", "vm", &proxy.image()]));
    assert!(proxy.up() < PIECE + PIECE / 2, "{} bytes", proxy.up());
    works(&tool.run(&["pull", &registry.image(), "copy"]));
    same(&disk, &tool.home().join("copy.vm/Disk.img"));
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_stays() {
    let Some(registry) = Registry::start() else { return };
    let tool = Tool::new();
    with_vm(&tool);
    works(&tool.run(&["push", "vm", &registry.image()]));
    let blob = registry.blobs().remove(0);
    let file = fs::File::options().read(true).write(true).open(&blob).unwrap();
    let mut byte = [0];
    let middle = blob.metadata().unwrap().len() / 2;
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let refused = tool.run(&["pull", &registry.image(), "copy"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("refused") && refused.stderr.contains("digest"), "{}", refused.stderr);
    assert!(leftovers(&tool).is_empty(), "{:?}", leftovers(&tool));
    assert!(!tool.home().join("copy.vm").exists());
}

#[test]
fn mistakes_with_images_say_what_to_do() {
    let tool = Tool::new();
    with_vm(&tool);
    let closed = format!("{}/x:1", free_address());
    for (args, hint) in [
        (&["push", "vm", "vm"][..], "names no registry"),
        (&["pull", "example.com/Upper"], "lower-case"),
        (&["push", "none", "localhost/x"], "no VM none"),
        (&["pull", &closed], "cannot reach"),
    ] {
        let outcome = tool.run(args);
        assert_eq!(outcome.status, Some(1), "{args:?}");
        assert!(outcome.stderr.contains(hint) && outcome.stderr.contains("try:"), "{}", outcome.stderr);
    }
}
