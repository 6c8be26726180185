//! A full Debian system on a disk image, made without root and without running any of its code on the host.
//!
//! The packages are resolved, downloaded, verified and unpacked into a [`Tree`]; dpkg's database says of each that it is
//! unpacked, or installed where nothing is left to do. What the maintainer scripts would compute and is the same on every
//! machine is put there by the host. The rest runs once in the guest: until that is done `/sbin/init` is a
//! small script that configures the packages, tells the console how far it is, and then makes room for systemd for good.
//! If it is interrupted, the next boot goes on where it was.
//!
//! The kernel is not on the disk: the VM's bundle has it, so the disk boots with any initramfs that mounts it. Its modules
//! are, under `/usr/lib/modules`. With a boot loader ([`Loader`]) kernel and all are the distribution's own.

mod accounts;
mod certificates;
mod database;
mod loader;
mod settings;
mod units;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::ext4;
use crate::fetch::Fetcher;
use crate::mirror::Mirror;
use crate::modules;
use crate::packages::{self, Index, Package};
use crate::progress::Progress;
use crate::quick::{DEVICE_MODULES, Flavour, Kernel, KernelFiles};
use crate::resolve;
use crate::tree::{Meta, Tree};

/// What makes the base system comfortable.
const COMFORT: [&str; 21] = [
    "apt",
    "bash",
    "ca-certificates",
    "dbus",
    "debian-archive-keyring",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libpam-systemd",
    "nano",
    "netbase",
    "openssh-client",
    "openssh-server",
    "procps",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "tzdata",
    "udev",
];

/// Label of the file system.
const LABEL: &str = "tearless-root";

/// What to build.
#[derive(Clone, Debug)]
pub struct DebianOptions {
    /// Debian suite.
    pub suite: String,
    /// Kernel flavour whose modules go onto the disk.
    pub flavour: Flavour,
    /// Mirror; chosen by [`Mirror::choose`] when absent. The guest's apt uses it too.
    pub mirror: Option<String>,
    /// Asks the mirror for newer packages even if the cache can serve.
    pub refresh: bool,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Name of the machine.
    pub hostname: String,
    /// Packages beside the default ones.
    pub packages: Vec<String>,
    /// Who may log in; root always can on the machine's own console, without a password.
    pub access: Access,
    /// What makes the disk one that EFI boots. None: the VM's bundle has the kernel.
    pub loader: Option<Loader>,
}

pub use loader::{Esp, Loader};

/// Who may log in over the network.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Public keys for root, and for the user if there is one: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// A user of this name with ID 1000, in the group sudo; brings the package sudo along, without a password for it.
    pub user: Option<String>,
    /// Password of root and the user in the form of crypt(3), as `openssl passwd -6` prints. None: no password works.
    pub password_hash: Option<String>,
}

impl DebianOptions {
    /// trixie with the cloud kernel on a disk of `size` bytes.
    #[must_use]
    pub fn new(size: u64, hostname: impl Into<String>) -> Self {
        Self {
            suite: "trixie".into(),
            flavour: Flavour::Cloud,
            mirror: None,
            refresh: false,
            size,
            hostname: hostname.into(),
            packages: Vec::new(),
            access: Access::default(),
            loader: None,
        }
    }
}

/// What was built beside the disk.
#[derive(Clone, Debug)]
pub struct DebianDisk {
    /// The kernel to boot it with; `modules` are those an initramfs needs to reach the disk. `image` lies in the cache.
    pub kernel: Kernel,
    /// The root file system for the kernel's command line (`root=`).
    pub root_label: String,
    /// Names and versions of all packages.
    pub packages: Vec<(String, String)>,
    /// The EFI system partition of a disk with a boot loader: empty so far.
    pub esp: Option<Esp>,
}

/// Builds the disk at `disk`, which must not exist. It appears there complete or not at all.
///
/// # Errors
/// Any kind.
pub fn build_debian(disk: &Path, options: &DebianOptions, progress: &dyn Progress) -> Result<DebianDisk> {
    build_debian_in(&Cache::open()?, disk, options, progress)
}

/// [`build_debian`] with a cache of the caller's.
///
/// # Errors
/// As [`build_debian`].
pub fn build_debian_in(
    cache: &Cache,
    disk: &Path,
    options: &DebianOptions,
    progress: &dyn Progress,
) -> Result<DebianDisk> {
    check(disk, options)?;
    let fetcher = Fetcher::new(Mirror::choose(options.mirror.as_deref())?, cache.clone(), progress);
    let archives = Archives::fetch(&fetcher, options)?;
    let packages = resolve::resolve(&archives.index, &wanted(&archives.index, options))?;
    let remotes: Vec<_> = packages.iter().map(|p| &p.remote).collect();
    let files = fetcher.objects(&format!("{} packages", packages.len()), &remotes)?;
    let kernel_files = KernelFiles::fetch(&fetcher, &archives.index, options.flavour)?;

    let folder = disk.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let time = ext4::now();
    let uuid = ext4::uuid_from(uuid_seed(disk, &packages));
    let layout = loader::Layout::new(options, uuid)?;
    let mut builder = Builder { tree: Tree::new(folder, time)?, time, options, layout };
    builder.unpack(&packages, &files, progress)?;
    builder.configure(&archives)?;
    if options.loader.is_none() {
        // Otherwise they come with the kernel's package.
        builder.kernel_modules(&kernel_files)?;
    }
    let esp = builder.write_disk(disk, progress)?;

    Ok(DebianDisk {
        kernel: keep_kernel(cache, kernel_files)?,
        root_label: LABEL.to_owned(),
        packages: packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect(),
        esp,
    })
}

/// Refuses what cannot work before anything is downloaded.
fn check(disk: &Path, options: &DebianOptions) -> Result<()> {
    let refuse = |what: String, why: &str, help: &str| Err(Error::new(Kind::Request, what, why, help));
    if disk.exists() {
        return refuse(
            format!("cannot create {}", disk.display()),
            "it exists already",
            "choose another name",
        );
    }
    let host = &options.hostname;
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if host.len() > 63 || !host.split('.').all(label) {
        return refuse(
            format!("{host:?} is no host name"),
            "it needs letters, digits and dashes",
            "choose another one",
        );
    }
    if let Some(user) = &options.access.user {
        let good = user.len() <= 32
            && user.starts_with(|c: char| c.is_ascii_lowercase())
            && user.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
        if !good {
            return refuse(
                format!("{user:?} is no user name"),
                "it needs lower-case letters and digits",
                "choose another one",
            );
        }
    }
    if options.access.password_hash.as_ref().is_some_and(|h| !h.starts_with('$') || h.contains([':', '\n'])) {
        let help = "make one with: openssl passwd -6";
        return refuse("the password cannot be used".into(), "it is not in the form of crypt(3)", help);
    }
    if options.access.ssh_keys.iter().any(|k| k.contains('\n') || k.split_whitespace().count() < 2) {
        let help = "give lines like those of ~/.ssh/id_ed25519.pub";
        return refuse("an SSH key cannot be used".into(), "it is not a line of authorized_keys", help);
    }
    Ok(())
}

fn wanted(index: &Index, options: &DebianOptions) -> Vec<String> {
    let mut wanted = resolve::base_system(index);
    // What an older or newer suite has no package for is part of another one there.
    wanted.extend(COMFORT.iter().filter(|name| index.get(name).is_some()).map(|&name| name.to_owned()));
    wanted.extend(options.access.user.iter().map(|_| "sudo".to_owned()));
    if options.loader.is_some() {
        wanted.extend(loader::PACKAGES.map(str::to_owned));
        wanted.push(options.flavour.package().to_owned());
    }
    wanted.extend(options.packages.iter().cloned());
    wanted
}

/// The suite with its updates and security fixes, as far as the mirror has them.
struct Archives {
    index: Index,
    /// Addresses and suites that the guest's apt gets too.
    sources: Vec<(Mirror, Vec<String>)>,
}

impl Archives {
    fn fetch(fetcher: &Fetcher, options: &DebianOptions) -> Result<Self> {
        let suite = options.suite.as_str();
        let mut archives = Self { index: Index::default(), sources: Vec::new() };
        archives.add(fetcher, suite, options.refresh)?;
        // Rolling suites have neither.
        if !["sid", "unstable"].contains(&suite) {
            archives.add_optional(fetcher, &format!("{suite}-updates"), options.refresh)?;
            if let Some(security) = fetcher.mirror().security_sibling() {
                archives.add_optional(
                    &fetcher.with_mirror(security),
                    &format!("{suite}-security"),
                    options.refresh,
                )?;
            }
        }
        Ok(archives)
    }

    fn add(&mut self, fetcher: &Fetcher, suite: &str, refresh: bool) -> Result<()> {
        self.index.add(&packages::fetch_packages(fetcher, suite, refresh)?, fetcher.mirror());
        match self.sources.iter_mut().find(|(mirror, _)| mirror == fetcher.mirror()) {
            Some((_, suites)) => suites.push(suite.to_owned()),
            None => self.sources.push((fetcher.mirror().clone(), vec![suite.to_owned()])),
        }
        Ok(())
    }

    /// A mirror that does not carry the archive is no error; one with a wrong signature is.
    fn add_optional(&mut self, fetcher: &Fetcher, suite: &str, refresh: bool) -> Result<()> {
        match self.add(fetcher, suite, refresh) {
            Err(e) if matches!(e.kind(), Kind::Missing | Kind::Network) => {
                fetcher
                    .progress()
                    .warn(&format!("{} has no {suite}; the disk goes without", fetcher.mirror().base()));
                Ok(())
            }
            result => result,
        }
    }
}

struct Builder<'a> {
    tree: Tree,
    time: u64,
    options: &'a DebianOptions,
    layout: loader::Layout,
}

impl Builder<'_> {
    fn unpack(&mut self, packages: &[&Package], files: &[PathBuf], progress: &dyn Progress) -> Result<()> {
        self.merged_usr()?;
        progress.begin(
            &format!("Unpacking {} packages", packages.len()),
            Some(packages.iter().map(|p| p.remote.size).sum()),
        );
        let mut database = database::Database::default();
        let result = packages.iter().zip(files).try_for_each(|(package, file)| {
            database.unpack(&mut self.tree, file)?;
            progress.advance(package.remote.size);
            Ok(())
        });
        progress.end();
        result?;
        units::write(&mut self.tree, &database.enabled_units(), self.time)?;
        let mut wanted: Vec<&str> =
            COMFORT.iter().copied().chain(self.options.packages.iter().map(String::as_str)).collect();
        if self.options.loader.is_some() {
            wanted.extend(loader::PACKAGES);
            wanted.push(self.options.flavour.package());
        }
        database.write(&mut self.tree, &wanted, self.time)
    }

    /// `/bin` and its kin are links into `/usr` before the first package comes, whether a package brings them or not.
    fn merged_usr(&mut self) -> Result<()> {
        for name in ["bin", "lib", "sbin"] {
            self.tree.directory(&format!("usr/{name}"), Meta::root(0o755, self.time))?;
            self.tree.symlink(name, &format!("usr/{name}"), self.time)?;
        }
        Ok(())
    }

    fn configure(&mut self, archives: &Archives) -> Result<()> {
        accounts::write(&mut self.tree, &self.options.access, self.time)?;
        certificates::write(&mut self.tree, self.time)?;
        settings::write(&mut self.tree, self.options, &archives.sources, self.time)?;
        match &self.options.loader {
            Some(loader) => loader::write(&mut self.tree, loader, &self.layout, self.time),
            None => Ok(()),
        }
    }

    fn kernel_modules(&mut self, files: &KernelFiles) -> Result<()> {
        let folder = format!("usr/lib/modules/{}", files.tree.release);
        let meta = Meta::root(0o644, self.time);
        for (path, bytes) in files.tree.files() {
            self.tree.write(&format!("{folder}/{path}"), bytes, meta)?;
        }
        let builtin: String = files.tree.builtin.iter().map(|name| format!("kernel/{name}.ko\n")).collect();
        self.tree.write(&format!("{folder}/modules.builtin"), builtin.as_bytes(), meta)?;
        for (name, bytes) in modules::index::build(&files.tree)? {
            self.tree.write(&format!("{folder}/{name}"), &bytes, meta)?;
        }
        Ok(())
    }

    fn write_disk(&mut self, disk: &Path, progress: &dyn Progress) -> Result<Option<Esp>> {
        let esp =
            self.options.loader.as_ref().map(|_| loader::esp(&mut self.tree, &self.layout)).transpose()?;
        let options = self.layout.root(LABEL, self.time);
        let mut partial = disk.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let local = |e: std::io::Error| Error::local("write", disk, &e);
        let result = ext4::format(&partial, &mut self.tree, &options, progress)
            .and_then(|()| self.layout.write(&partial).map_err(local))
            .and_then(|()| std::fs::rename(&partial, disk).map_err(local));
        if let Err(error) = result {
            // The first error is the one to tell; a leftover is only in the way.
            drop(std::fs::remove_file(&partial));
            return Err(error);
        }
        Ok(esp)
    }
}

/// Differs between any two disks: of other content, at other places, or made at other times.
fn uuid_seed(disk: &Path, packages: &[&Package]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(disk.as_os_str().as_encoded_bytes());
    hash.update(std::process::id().to_le_bytes());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    hash.update(now.as_nanos().to_le_bytes());
    for package in packages {
        hash.update(package.remote.digest.to_string());
    }
    let mut seed = [0; 16];
    seed.copy_from_slice(&hash.finalize()[..16]);
    seed
}

/// Puts the kernel image where the caller can take it from.
fn keep_kernel(cache: &Cache, files: KernelFiles) -> Result<Kernel> {
    let selection = files.tree.select(DEVICE_MODULES)?;
    let image = cache.write(
        &format!("kernels/{}-{}", files.tree.release, files.version.replace('/', "_")),
        &files.image,
    )?;
    Ok(Kernel {
        image,
        release: files.tree.release,
        version: files.version,
        modules: selection.modules,
        unknown_modules: selection.unknown,
    })
}

#[cfg(test)]
mod tests;
