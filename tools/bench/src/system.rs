//! The system that all sides run: a small Debian with one set of packages for arm64 on a disk image, and the same set
//! for amd64 in a folder, where it runs natively and compiles our programs for both.
//!
//! Made once, in the cache, and used until told otherwise: figures of different days stay comparable. A second disk
//! carries the programs and their data; it is made anew whenever one of them changes. Guests cannot write to either.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tearless_boot::quick::{self, Mode, Module, Network, QuickSpec};
use tearless_image::{
    Progress, QuickOptions,
    cache::Cache,
    deb::{self, Part},
    ext4,
    fetch::Fetcher,
    mirror::Mirror,
    packages, quick_boot, resolve,
    tree::{Meta, NodeId, NodeKind, Tree},
};

use crate::native::Native;

/// Changes whenever the form of what is cached does.
const FORMAT: &str = "bench/v1";
const SUITE: &str = "trixie";

/// What the workloads use, on both architectures.
const PACKAGES: [&str; 18] = [
    "base-files",
    "bash",
    "bzip2",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "gzip",
    "make",
    "mawk",
    "mount",
    "openssl",
    "perl-base",
    "python3",
    "sed",
    "sqlite3",
    "xz-utils",
    "zstd",
];
/// The compiler, which the guest runs as a native one and the host as a cross compiler: both do the same work.
const GUEST_PACKAGES: [&str; 1] = ["cpp-14-aarch64-linux-gnu"];
const NATIVE_PACKAGES: [&str; 6] =
    ["gcc", "gcc-14", "gcc-14-aarch64-linux-gnu", "libc6-dev", "libc6-dev-arm64-cross", "libstb-dev"];

const ROOT_SIZE: u64 = 3 << 30;
const WORK_SIZE: u64 = 512 << 20;

/// A guest that waits for its turn must not complain that time went by.
const CMDLINE: &str =
    "console=ttyAMA0 console=hvc0 quiet loglevel=0 panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1";
/// The guest's first process.
const INIT: &str = include_str!("../guest/init");
/// Builds what is on the second disk, in the native system.
const BUILD: &str = include_str!("../programs/build");

/// Name and content of what goes into the native system's `/source`.
const SOURCES: [(&str, &str); 16] = [
    ("build", BUILD),
    ("work.h", include_str!("../programs/work.h")),
    ("integer.c", include_str!("../programs/integer.c")),
    ("floating.c", include_str!("../programs/floating.c")),
    ("simd.c", include_str!("../programs/simd.c")),
    ("memory.c", include_str!("../programs/memory.c")),
    ("atomics.c", include_str!("../programs/atomics.c")),
    ("kernel.c", include_str!("../programs/kernel.c")),
    ("crypto.c", include_str!("../programs/crypto.c")),
    ("compile.c", include_str!("../programs/compile.c")),
    ("Makefile", include_str!("../programs/Makefile")),
    ("loop.sh", include_str!("../programs/loop.sh")),
    ("tools.sh", include_str!("../programs/tools.sh")),
    ("script.py", include_str!("../programs/script.py")),
    ("script.pl", include_str!("../programs/script.pl")),
    ("script.sql", include_str!("../programs/script.sql")),
];

/// Everything that the sides need.
pub struct System {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub cmdline: String,
    /// The disks in their order.
    pub disks: [PathBuf; 2],
    pub native: Native,
    pub versions: Versions,
}

/// What was installed: packages by name, and the fingerprint of what is on the second disk.
#[derive(Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Versions {
    pub kernel: String,
    pub arm64: BTreeMap<String, String>,
    pub amd64: BTreeMap<String, String>,
}

impl Versions {
    /// The versions of the named packages, and where those of amd64 differ.
    pub fn describe(&self) -> String {
        // Without the number of the rebuild, which each architecture has of its own ("+b1").
        let version = |of: &BTreeMap<String, String>, package: &str| {
            of.get(package).map(|v| v.split("+b").next().unwrap_or(v).to_owned())
        };
        let differing: Vec<_> =
            PACKAGES.iter().filter(|p| version(&self.arm64, p) != version(&self.amd64, p)).copied().collect();
        let listed = [
            "dash",
            "bash",
            "python3",
            "perl-base",
            "sqlite3",
            "openssl",
            "gzip",
            "xz-utils",
            "zstd",
            "bzip2",
        ];
        let versions: Vec<String> = listed
            .iter()
            .map(|p| format!("{p} {}", self.arm64.get(*p).map_or("-", String::as_str)))
            .collect();
        let note = if differing.is_empty() {
            "the same versions natively".to_owned()
        } else {
            format!("other versions natively: {}", differing.join(", "))
        };
        format!("Debian {SUITE}, kernel {}; {}; {note}", self.kernel, versions.join(", "))
    }
}

/// Takes the system from the cache, or makes it. `rebuild` makes it anew with the mirror's newest packages.
pub fn prepare(rebuild: bool, progress: &dyn Progress) -> Result<System> {
    let cache = Cache::open()?;
    let folder = cache.root().join(FORMAT);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = fs::File::create(folder.join("lock"))?;
    lock.lock().context("cannot lock the cache")?;
    let maker = Maker { cache, folder, progress };
    let versions = match maker.versions() {
        Some(versions) if !rebuild => versions,
        _ => maker.make(rebuild)?,
    };
    let native = Native::new(maker.folder.join("native"))?;
    maker.work_disk(&native)?;
    let at = |name: &str| maker.folder.join(name);
    Ok(System {
        kernel: at("kernel"),
        initrd: at("initrd"),
        cmdline: format!("{CMDLINE} {}", quick::FAST_START),
        disks: [at("root.img"), at("work.img")],
        native,
        versions,
    })
}

struct Maker<'a> {
    cache: Cache,
    folder: PathBuf,
    progress: &'a dyn Progress,
}

impl Maker<'_> {
    fn versions(&self) -> Option<Versions> {
        let versions: Versions =
            serde_json::from_slice(&fs::read(self.folder.join("versions.json")).ok()?).ok()?;
        let all = PACKAGES.iter().chain(&GUEST_PACKAGES).all(|p| versions.arm64.contains_key(*p))
            && PACKAGES.iter().chain(&NATIVE_PACKAGES).all(|p| versions.amd64.contains_key(*p));
        all.then_some(versions)
    }

    /// Makes both systems and the RAM disk. The list of versions goes last: without it the rest counts for nothing.
    fn make(&self, refresh: bool) -> Result<Versions> {
        let options = QuickOptions { suite: SUITE.into(), refresh, ..QuickOptions::default() };
        let quick = quick_boot(&options, self.progress)?;
        let modules: Vec<_> =
            quick.kernel.modules.iter().map(|m| Module { name: &m.name, bytes: &m.bytes }).collect();
        let root = Mode::Root { device: "/dev/vda".into(), fstype: "ext4".into(), options: "ro".into() };
        let spec = QuickSpec {
            busybox: &quick.busybox,
            modules: &modules,
            hostname: "bench",
            term: None,
            network: Network::Untouched,
            mode: root,
        };
        fs::write(self.folder.join("initrd"), quick::build(&spec)?)?;
        fs::copy(&quick.kernel.image, self.folder.join("kernel"))?;

        let (mut tree, arm64) = self.unpack("arm64", &GUEST_PACKAGES, refresh)?;
        tree.write("usr/sbin/init", INIT.as_bytes(), Meta::root(0o755, ext4::now()))?;
        self.format(&mut tree, "root.img", ROOT_SIZE, "bench-root")?;
        let library = tree.read("usr/lib/aarch64-linux-gnu/libcrypto.so.3")?;

        let (mut tree, amd64) = self.unpack("amd64", &NATIVE_PACKAGES, refresh)?;
        // Something real and binary to compress.
        tree.write("source/library", &library.unwrap_or_default(), Meta::root(0o644, ext4::now()))?;
        let native = self.folder.join("native");
        if native.exists() {
            fs::remove_dir_all(&native).with_context(|| format!("cannot remove {}", native.display()))?;
        }
        write_folder(&mut tree, 0, &native)?;

        let versions = Versions { kernel: quick.kernel.version, arm64, amd64 };
        fs::write(self.folder.join("versions.json"), serde_json::to_vec_pretty(&versions)?)?;
        Ok(versions)
    }

    /// A tree of the packages for one architecture. No maintainer script runs: what we use works without.
    fn unpack(
        &self,
        architecture: &str,
        more: &[&str],
        refresh: bool,
    ) -> Result<(Tree, BTreeMap<String, String>)> {
        let fetcher = Fetcher::new(Mirror::choose(None)?, self.cache.clone(), self.progress);
        let index = packages::fetch_index_of(&fetcher, SUITE, architecture, refresh)?;
        let wanted: Vec<String> = PACKAGES.iter().chain(more).map(|&name| name.to_owned()).collect();
        let chosen = resolve::resolve(&index, &wanted)?;
        let remotes: Vec<_> = chosen.iter().map(|p| &p.remote).collect();
        let files = fetcher.objects(&format!("{} packages for {architecture}", chosen.len()), &remotes)?;

        let time = ext4::now();
        let mut tree = Tree::new(&self.folder, time)?;
        for name in ["bin", "lib", "lib64", "sbin"] {
            tree.directory(&format!("usr/{name}"), Meta::root(0o755, time))?;
            tree.symlink(name, &format!("usr/{name}"), time)?;
        }
        self.progress.begin(&format!("Unpacking {} packages for {architecture}", chosen.len()), None);
        for file in &files {
            deb::read(file, &mut |part, entry, content| {
                if part == Part::Data { tree.add(entry, content) } else { Ok(()) }
            })?;
        }
        self.progress.end();
        for folder in ["work", "work-arm64", "source", "tmp", "proc", "sys", "dev", "run"] {
            tree.directory(folder, Meta::root(0o755, time))?;
        }
        if !tree.exists("usr/bin/sh") {
            tree.symlink("usr/bin/sh", "dash", time)?;
        }
        let prefix = if architecture == "arm64" { "gcc" } else { "gcc-cross" };
        let compiler = format!("/usr/libexec/{prefix}/aarch64-linux-gnu/14/cc1");
        ensure!(tree.exists(&compiler), "{compiler} is not in the packages of {SUITE}");
        tree.symlink("usr/bin/cc1", &compiler, time)?;
        Ok((tree, chosen.iter().map(|p| (p.name.clone(), p.version.clone())).collect()))
    }

    fn format(&self, tree: &mut Tree, name: &str, size: u64, label: &str) -> Result<()> {
        let uuid = ext4::uuid_from(*b"tearless-bench.1");
        let options = ext4::Options { start: 0, size, label: label.into(), uuid, time: ext4::now() };
        // A guest of another run may have the old one open.
        let partial = self.folder.join("partial");
        ext4::format(&partial, tree, &options, self.progress)?;
        Ok(fs::rename(partial, self.folder.join(name))?)
    }

    /// Compiles the programs and makes their data and the second disk, unless they are there.
    fn work_disk(&self, native: &Native) -> Result<()> {
        let root = native.root();
        let mut hash = Sha256::new();
        for (name, content) in SOURCES {
            hash.update(name);
            hash.update(content);
        }
        let fingerprint: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let stamp = root.join("source/fingerprint");
        if self.folder.join("work.img").exists() && fs::read_to_string(&stamp).is_ok_and(|f| f == fingerprint)
        {
            return Ok(());
        }
        self.progress.begin("Compiling the programs", None);
        for (name, content) in SOURCES {
            fs::write(root.join("source").join(name), content)?;
        }
        let run = native.run("sh -e /source/build")?;
        self.progress.end();
        if run.status != 0 {
            bail!("cannot build the programs\n  because: {}", run.output.trim());
        }
        let mut tree = Tree::new(&self.folder, ext4::now())?;
        add_folder(&mut tree, "", &root.join("work-arm64"))?;
        self.format(&mut tree, "work.img", WORK_SIZE, "bench-work")?;
        Ok(fs::write(stamp, fingerprint)?)
    }
}

/// Puts the content of a folder of the host into the tree, below `prefix`.
fn add_folder(tree: &mut Tree, prefix: &str, from: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.metadata()?;
        if kind.is_dir() {
            add_folder(tree, &format!("{path}/"), &entry.path())?;
        } else {
            let mode = (kind.permissions().mode() & 0o777) as u16;
            tree.write(&path, &fs::read(entry.path())?, Meta::root(mode, ext4::now()))?;
        }
    }
    Ok(())
}

/// Writes a folder of the tree to the host. Owners and devices are left out: what runs there needs neither.
fn write_folder(tree: &mut Tree, id: NodeId, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let NodeKind::Directory(names) = &tree.nodes()[id].kind else { return Ok(()) };
    let names: Vec<(String, NodeId)> = names.iter().map(|(name, id)| (name.clone(), *id)).collect();
    for (name, id) in names {
        let path = to.join(name);
        let node = tree.nodes()[id].clone();
        match node.kind {
            NodeKind::Directory(_) => write_folder(tree, id, &path)?,
            NodeKind::Symlink(target) => std::os::unix::fs::symlink(target, &path)?,
            NodeKind::File { offset, len } => {
                let mut file = fs::File::create(&path)?;
                std::io::copy(&mut tree.content(offset, len)?, &mut file)?;
                file.set_permissions(fs::Permissions::from_mode(u32::from(node.meta.mode & 0o777 | 0o600)))?;
            }
            _ => {}
        }
    }
    Ok(())
}
