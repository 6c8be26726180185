//! Clones: a VM with the content of another, at once and without taking room.
//!
//! The files of the disks are linked into the new bundle, not referred to: what one bundle deletes is still there for the
//! other, and what neither has is gone. See docs/decisions/012.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tearless_config::{BootConfig, VmConfig};

use crate::{
    Bundle, Error, Result, Store,
    files::{failed, sync_folder},
    layers,
    mac::{self, MachineIdentifier},
};

impl Bundle {
    /// Makes the VM `name` in `store` with this one's content. `adapt` changes the configuration of the clone, for example
    /// to give it an identity of its own; a virtual Mac becomes the one that `identifier` says, if it says one. Snapshots
    /// are not cloned.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Exists`], [`Error::Foreign`] for a writable disk outside of the bundle, or what the
    /// host says; then there is no clone.
    pub fn clone_to(
        &self,
        store: &Store,
        name: &str,
        identifier: Option<&MachineIdentifier>,
        adapt: impl FnOnce(&mut VmConfig),
    ) -> Result<Self> {
        let lock = self.lock()?;
        self.settle(&lock)?;
        self.refuse_suspended("clone")?;
        let config = self.config()?;
        let new = store.create(name)?;
        for path in boot_files(&config) {
            copy(&self.path().join(path), &new.path().join(path))?;
        }
        let mut lent = BTreeSet::new();
        for file in layers::firmware(&config) {
            link(&self.path().join(file), &new.path().join(file))?;
            lent.insert(file.to_owned());
        }
        for disk in config.disks.iter().filter(|disk| layers::is_inside(disk)) {
            for file in layers::chain(self.path(), &disk.path, layers::format_of(disk))? {
                link(&self.path().join(&file), &new.path().join(&file))?;
                lent.insert(file);
            }
        }
        let mut cloned = VmConfig { snapshot: None, ..config.clone() };
        adapt(&mut cloned);
        let cloned = layers::derive_all(new.path(), &cloned)?;
        if let Some(identifier) = identifier.filter(|_| cloned.boot.is_mac()) {
            mac::write_identifier(new.path(), identifier)?;
        }
        let needed = layers::reachable(new.path(), [&cloned].into_iter())?;
        for file in lent.difference(&needed) {
            let path = new.path().join(file);
            fs::remove_file(&path).map_err(failed("delete", &path))?;
        }
        if !lent.is_disjoint(&needed) {
            // The clone reads what this VM writes to. So this one goes on in a layer of its own, before there is a clone.
            let own = layers::derive_all(self.path(), &config)?;
            self.save_config(&own)?;
            layers::freeze(self.path(), &config)?;
        }
        sync_folder(new.path())?;
        new.finish(&cloned)
    }

    /// Makes disk `index` of a VM that does not run `size` bytes long.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Shrink`], [`Error::NoDisk`], or what the disk's file says.
    pub fn grow_disk(&self, index: usize, size: u64) -> Result<()> {
        let lock = self.lock()?;
        self.settle(&lock)?;
        self.refuse_suspended("enlarge a disk of")?;
        let (path, format) = self.own_disk(index)?;
        let options = tearless_storage::OpenOptions {
            format: Some(format),
            ..tearless_storage::OpenOptions::default()
        };
        let opened = tearless_storage::open(&path, options)?;
        if size < opened.size() {
            return Err(Error::Shrink { path, has: opened.size() });
        }
        opened.grow(size).map_err(failed("enlarge", &path))
    }

    /// The image of disk `index`, which is the VM's own and writable.
    ///
    /// # Errors
    /// [`Error::NoDisk`] when there is none.
    pub fn disk_file(&self, index: usize) -> Result<PathBuf> {
        self.own_disk(index).map(|(path, _)| path)
    }

    fn own_disk(&self, index: usize) -> Result<(PathBuf, tearless_storage::Format)> {
        let config = self.config()?;
        let disk = config.disks.get(index).filter(|disk| layers::is_own(disk));
        let disk = disk.ok_or_else(|| Error::NoDisk { name: self.name().into(), index })?;
        Ok((self.path().join(&disk.path), layers::format_of(disk)))
    }

    /// Room that the bundle's files take on the host, holes not counted and files that clones share counted here too.
    pub fn used_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let folders = crate::snapshot::folders(self.path());
        let saved = self.saved();
        let memories = crate::snapshot::memories(self.path());
        let folders = [folders.as_slice(), &[saved], &memories].concat();
        let files =
            folders.iter().map(|f| f.as_path()).chain([self.path()]).filter_map(|f| fs::read_dir(f).ok());
        let sizes = files.flatten().flatten().filter_map(|file| file.metadata().ok());
        sizes.filter(fs::Metadata::is_file).map(|m| m.blocks() * 512).sum()
    }
}

/// What the VM boots, or what makes it the machine that it is, as far as it lies in the bundle and does not change.
fn boot_files(config: &VmConfig) -> impl Iterator<Item = &Path> {
    let files: Vec<&Path> = match &config.boot {
        BootConfig::LinuxKernel { kernel, initrd, .. } => {
            [Some(kernel), initrd.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect()
        }
        BootConfig::LinuxDebian { kernel, initrd, .. } => vec![kernel, initrd],
        BootConfig::MacOs { .. } => [mac::MODEL_FILE, mac::IDENTIFIER_FILE].map(Path::new).into(),
        BootConfig::Efi { installer, .. } => {
            let unattended = installer.iter().filter_map(|installer| installer.unattended.as_ref());
            let own = unattended.flat_map(|u| [&u.kernel, &u.initrd]);
            own.map(PathBuf::as_path).collect()
        }
    };
    let firmware = config.firmware.iter().map(|firmware| firmware.code.as_path());
    files.into_iter().chain(firmware).filter(|path| path.is_relative())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(failed("copy", from))?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed("write", to))
}

/// Gives a file another name in another bundle. Where that is not possible it is copied.
fn link(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    match fs::hard_link(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::Link { from: from.into(), to: to.into(), source: e }),
        Ok(()) => Ok(()),
    }
}
