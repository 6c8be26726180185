//! The payload of `tearless run`: Debian's kernel, the modules that the devices need, and the static busybox.
//!
//! The first call downloads two packages and keeps what is needed of them, unpacked, in the cache. Later calls only read
//! those few files back; they use what is there, however old, until the caller asks for a refresh.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::compression;
use crate::deb::{self, EntryKind, Part};
use crate::error::{Error, Result};
use crate::fetch::Fetcher;
use crate::mirror::Mirror;
use crate::modules::{self, Module, ModuleTree};
use crate::packages::{self, Index, Package};
use crate::progress::Progress;

/// Changes whenever the cached form does.
const PAYLOAD_FORMAT: &str = "v1";

/// The modules that the devices of the board need, as far as a kernel has them as modules.
pub const DEVICE_MODULES: [&str; 17] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_rng",
    "virtio_net",
    "virtio_balloon",
    "virtio_input",
    "vmw_vsock_virtio_transport",
    // ext4 asks for it by what it does, which names no module; the small kernel has it built in.
    "crc32c_generic",
    "ext4",
    "fuse",
    "virtiofs",
    "overlay",
    "isofs",
    "af_packet",
    "ipv6",
];

/// Which of Debian's arm64 kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// Small, for virtual machines; no graphics.
    #[default]
    Cloud,
    /// The standard kernel.
    Generic,
    /// The standard kernel with 16 KiB pages.
    #[serde(rename = "16k")]
    Pages16k,
}

impl Flavour {
    /// Its name on the command line and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
            Self::Pages16k => "16k",
        }
    }

    /// The package that depends on the current kernel of this flavour.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-arm64",
            Self::Generic => "linux-image-arm64",
            Self::Pages16k => "linux-image-arm64-16k",
        }
    }
}

impl std::str::FromStr for Flavour {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Cloud, Self::Generic, Self::Pages16k].into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let why = "there is no such flavour";
            Error::new(
                crate::error::Kind::Request,
                format!("unknown kernel flavour {text:?}"),
                why,
                "use cloud, generic or 16k",
            )
        })
    }
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct QuickOptions {
    /// Debian suite.
    pub suite: String,
    /// Kernel flavour.
    pub flavour: Flavour,
    /// Mirror; chosen by [`Mirror::choose`] when absent.
    pub mirror: Option<String>,
    /// Asks the mirror for newer packages even if the cache can serve.
    pub refresh: bool,
    /// Modules beside [`DEVICE_MODULES`].
    pub extra_modules: Vec<String>,
}

impl Default for QuickOptions {
    fn default() -> Self {
        Self {
            suite: "trixie".into(),
            flavour: Flavour::Cloud,
            mirror: None,
            refresh: false,
            extra_modules: Vec::new(),
        }
    }
}

/// A kernel with its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel image as the package has it, in the cache; do not change it.
    pub image: PathBuf,
    /// Kernel release, what `uname -r` prints.
    pub release: String,
    /// Version of the package.
    pub version: String,
    /// The device modules in load order.
    pub modules: Vec<Module>,
    /// Wanted modules that this kernel has in no form; usually harmless.
    pub unknown_modules: Vec<String>,
}

/// Everything for a first shell.
#[derive(Clone, Debug)]
pub struct QuickBoot {
    /// The kernel.
    pub kernel: Kernel,
    /// The static busybox, an arm64 ELF file.
    pub busybox: Vec<u8>,
    /// Its package version.
    pub busybox_version: String,
}

/// What is written beside the cached files.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    wanted: Vec<String>,
    release: String,
    kernel_version: String,
    kernel_size: u64,
    busybox_version: String,
    busybox_size: u64,
    modules: Vec<ManifestModule>,
    unknown_modules: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ManifestModule {
    name: String,
    path: String,
    size: u64,
}

/// The payload, from the cache when it is there, else from the mirror.
///
/// # Errors
/// Any kind. [`crate::error::Kind::Network`] only when the cache cannot serve.
pub fn quick_boot(options: &QuickOptions, progress: &dyn Progress) -> Result<QuickBoot> {
    quick_boot_in(&Cache::open()?, options, progress)
}

/// [`quick_boot`] with a cache of the caller's.
///
/// # Errors
/// As [`quick_boot`].
pub fn quick_boot_in(cache: &Cache, options: &QuickOptions, progress: &dyn Progress) -> Result<QuickBoot> {
    packages::check_suite(&options.suite)?;
    let folder = format!("quick/{PAYLOAD_FORMAT}/{}-{}", options.suite, options.flavour.name());
    let wanted = wanted_modules(options);
    if !options.refresh
        && let Some(payload) = load(cache, &folder, &wanted)
    {
        return Ok(payload);
    }
    let _lock = cache.lock(&format!("{folder}.lock"))?;
    // Another process may have made it while we waited for the lock.
    if !options.refresh
        && let Some(payload) = load(cache, &folder, &wanted)
    {
        return Ok(payload);
    }
    let fetcher = Fetcher::new(Mirror::choose(options.mirror.as_deref())?, cache.clone(), progress);
    let index = packages::fetch_index(&fetcher, &options.suite, options.refresh)?;
    build(&fetcher, &index, options.flavour, &folder, wanted)?;
    load(cache, &folder, &[]).ok_or_else(|| {
        let path = cache.path(&folder);
        Error::local("read back", &path, &std::io::Error::other("files vanished while they were written"))
    })
}

fn wanted_modules(options: &QuickOptions) -> Vec<String> {
    DEVICE_MODULES.iter().map(|&m| m.to_owned()).chain(options.extra_modules.iter().cloned()).collect()
}

/// Reads a cached payload. Anything odd about it means that it is made anew, so this returns no error.
fn load(cache: &Cache, folder: &str, wanted: &[String]) -> Option<QuickBoot> {
    let folder = cache.path(folder);
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join("manifest.json")).ok()?).ok()?;
    if !wanted.iter().all(|w| manifest.wanted.contains(w)) {
        return None;
    }
    let image = folder.join("vmlinuz");
    if fs::metadata(&image).ok()?.len() != manifest.kernel_size {
        return None;
    }
    let read = |name: &str, size: u64| fs::read(folder.join(name)).ok().filter(|b| b.len() as u64 == size);
    let busybox = read("busybox", manifest.busybox_size)?;
    let modules = manifest.modules.into_iter().map(|m| {
        let bytes = read(&format!("{}.ko", m.name), m.size)?;
        Some(Module { name: m.name, path: m.path, bytes })
    });
    let kernel = Kernel {
        image,
        release: manifest.release,
        version: manifest.kernel_version,
        modules: modules.collect::<Option<_>>()?,
        unknown_modules: manifest.unknown_modules,
    };
    Some(QuickBoot { kernel, busybox, busybox_version: manifest.busybox_version })
}

/// Downloads, unpacks and writes the payload. The manifest goes last: without it the rest counts for nothing.
fn build(
    fetcher: &Fetcher,
    index: &Index,
    flavour: Flavour,
    folder: &str,
    wanted: Vec<String>,
) -> Result<()> {
    let cache = fetcher.cache();
    let files = KernelFiles::fetch(fetcher, index, flavour)?;
    let selection = files.tree.select(wanted.iter().map(String::as_str))?;
    let busybox_package = index.require("busybox-static")?;
    let busybox = extract_busybox(&download(fetcher, busybox_package)?)?;
    // Only now that nothing remote can fail any more does the old payload go.
    let stale = cache.path(&format!("{folder}/manifest.json"));
    if stale.exists() {
        fs::remove_file(&stale).map_err(|e| Error::local("remove", &stale, &e))?;
    }
    cache.write(&format!("{folder}/vmlinuz"), &files.image)?;
    cache.write(&format!("{folder}/busybox"), &busybox)?;
    let mut listed = Vec::new();
    for module in selection.modules {
        cache.write(&format!("{folder}/{}.ko", module.name), &module.bytes)?;
        listed.push(ManifestModule { name: module.name, path: module.path, size: module.bytes.len() as u64 });
    }
    let manifest = Manifest {
        wanted,
        release: files.tree.release,
        kernel_version: files.version,
        kernel_size: files.image.len() as u64,
        busybox_version: busybox_package.version.clone(),
        busybox_size: busybox.len() as u64,
        modules: listed,
        unknown_modules: selection.unknown,
    };
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|e| Error::format("cannot describe the payload", e))?;
    cache.write(&format!("{folder}/manifest.json"), &text)?;
    Ok(())
}

/// A kernel's files out of its packages.
pub(crate) struct KernelFiles {
    pub(crate) image: Vec<u8>,
    pub(crate) version: String,
    pub(crate) tree: ModuleTree,
}

/// No kernel image is near this.
const IMAGE_LIMIT: u64 = 512 << 20;

impl KernelFiles {
    /// Downloads the current kernel of a flavour and takes it apart.
    pub(crate) fn fetch(fetcher: &Fetcher, index: &Index, flavour: Flavour) -> Result<Self> {
        let packages = kernel_packages(index, flavour)?;
        let version = packages.first().map(|p| p.version.clone()).unwrap_or_default();
        let mut files = Self { image: Vec::new(), version, tree: ModuleTree::default() };
        for package in &packages {
            let path = download(fetcher, package)?;
            fetcher.progress().begin(&format!("Unpacking {}", package.name), Some(package.installed_size));
            let result = files.unpack(&path, fetcher.progress());
            fetcher.progress().end();
            result?;
        }
        if files.image.is_empty() || files.tree.release.is_empty() {
            let why = "its packages contain no kernel image or no modules";
            return Err(Error::format(format!("cannot use the kernel {}", flavour.package()), why));
        }
        Ok(files)
    }

    fn unpack(&mut self, path: &Path, progress: &dyn Progress) -> Result<()> {
        deb::read(path, &mut |part, entry, content| {
            if part == Part::Control || entry.kind != EntryKind::File {
                return Ok(());
            }
            progress.advance(entry.size);
            let is_image = entry.path.starts_with("boot/vmlinuz-")
                || modules::split_path(&entry.path).is_some_and(|(_, inner)| inner == "vmlinuz");
            if !is_image {
                return self.tree.take(&entry.path, content).map(drop);
            }
            self.image = compression::read_all(&entry.path, content, IMAGE_LIMIT)?;
            Ok(())
        })
    }
}

/// The packages of a flavour's kernel: the meta-package leads to the image package, which in newer releases leads on to
/// one for the image, one for the modules and one for the rest.
fn kernel_packages(index: &Index, flavour: Flavour) -> Result<Vec<&Package>> {
    let mut found: Vec<&Package> = vec![index.require(flavour.package())?];
    let mut at = 0;
    while let Some(package) = found.get(at) {
        let parts = package.depends.iter().flatten().filter(|d| {
            ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|prefix| d.name.starts_with(prefix))
        });
        let parts: Vec<_> = parts.map(|d| index.require(&d.name)).collect::<Result<_>>()?;
        for part in parts {
            if !found.iter().any(|f| f.name == part.name) {
                found.push(part);
            }
        }
        at += 1;
    }
    // The meta-package itself has no files.
    found.remove(0);
    Ok(found)
}

/// Downloads a package.
pub(crate) fn download(fetcher: &Fetcher, package: &Package) -> Result<PathBuf> {
    fetcher.object(&format!("{} {}", package.name, package.version), &package.remote)
}

fn extract_busybox(path: &Path) -> Result<Vec<u8>> {
    let mut busybox = None;
    deb::read(path, &mut |part, entry, content| {
        if part == Part::Data && entry.kind == EntryKind::File && entry.path.ends_with("bin/busybox") {
            busybox = Some(compression::read_all(&entry.path, content, IMAGE_LIMIT)?);
        }
        Ok(())
    })?;
    busybox
        .ok_or_else(|| Error::format("cannot use the package busybox-static", "it contains no bin/busybox"))
}

#[cfg(test)]
mod tests;
