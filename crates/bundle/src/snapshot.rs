//! Snapshots: a named tree of states that a VM can go back to.
//!
//! A snapshot is one file, `snapshots/NAME.json`: the configuration as it was, naming disks that nobody writes any more.
//! Whatever is interrupted leaves files that nobody names; the next change sweeps them. See docs/decisions/012.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tearless_config::VmConfig;

use crate::{
    Bundle, Error, Lock, Result, check_name,
    files::{failed, sync_folder, write_atomically},
    layers,
};

const FOLDER: &str = "snapshots";
const EXTENSION: &str = "json";
/// The version of the file's format.
const VERSION: u32 = 1;

/// A state that the VM can go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The format's version.
    pub version: u32,
    /// When it was taken, in seconds since 1970.
    pub taken: u64,
    /// The snapshot that the VM had started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The VM as it was.
    pub config: VmConfig,
}

/// The snapshots of a VM that does not run, for one who holds its lock.
pub struct Snapshots<'a> {
    bundle: &'a Bundle,
    _lock: &'a Lock,
}

impl Bundle {
    /// The snapshots by name, oldest first; may be called while the VM runs.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list_snapshots(&self) -> Result<Vec<(String, Snapshot)>> {
        let folder = self.path().join(FOLDER);
        let mut list = Vec::new();
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.map_err(failed("read", &folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
            let known = path.extension().is_some_and(|extension| extension == EXTENSION);
            if let Some(name) = name.filter(|name| known && check_name(name).is_ok()) {
                list.push((name.clone(), self.snapshot(&name)?));
            }
        }
        list.sort_by(|a, b| (a.1.taken, &a.0).cmp(&(b.1.taken, &b.0)));
        Ok(list)
    }

    /// The snapshot `name`.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or what is wrong with it.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot> {
        check_name(name)?;
        let path = self.snapshot_file(name);
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoSnapshot { vm: self.name().into(), name: name.into() });
            }
            other => other.map_err(failed("read", &path))?,
        };
        let wrong = |why: String| Error::Snapshot { name: name.into(), path: path.clone(), why };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if version != VERSION {
            return Err(wrong(format!(
                "it has version {version} of the format; this Tearless knows {VERSION}"
            )));
        }
        serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
    }

    fn snapshot_file(&self, name: &str) -> PathBuf {
        self.path().join(FOLDER).join(format!("{name}.{EXTENSION}"))
    }

    /// What changes the snapshots. `lock` is this bundle's.
    pub fn snapshots<'a>(&'a self, lock: &'a Lock) -> Snapshots<'a> {
        Snapshots { bundle: self, _lock: lock }
    }
}

impl Snapshots<'_> {
    /// Keeps the VM's state as `name`.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::Foreign`] for a writable disk outside of the bundle, or what the host says; then
    /// all is as before.
    pub fn take(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let file = self.bundle.snapshot_file(name);
        if file.symlink_metadata().is_ok() {
            return Err(Error::SnapshotExists { name: name.into() });
        }
        self.sweep()?;
        let config = self.bundle.config()?;
        let mut new = layers::derive_all(self.bundle.path(), &config)?;
        new.snapshot = Some(name.into());
        // From here on the VM writes to the new layers, and the old ones are what they were. A crash now leaves layers
        // that hold nothing, and no snapshot.
        self.bundle.save_config(&new)?;
        layers::freeze(self.bundle.path(), &config)?;
        let parent = config.snapshot.clone().filter(|parent| self.bundle.snapshot_file(parent).exists());
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.write(name, &Snapshot { version: VERSION, taken, parent, config })
    }

    /// Puts the VM back into the state `name`. What it was since is lost unless a snapshot has it.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or what the host says; then all is as before.
    pub fn restore(&self, name: &str) -> Result<()> {
        let snapshot = self.bundle.snapshot(name)?;
        // Before anything changes: with one that cannot be read nothing could be swept afterwards.
        self.bundle.list_snapshots()?;
        let mut new = layers::derive_all(self.bundle.path(), &snapshot.config)?;
        new.snapshot = Some(name.into());
        self.bundle.save_config(&new)?;
        self.sweep()
    }

    /// Forgets the state `name`; the room that only it took is free then. Its children become its parent's.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or what the host says.
    pub fn delete(&self, name: &str) -> Result<()> {
        let doomed = self.bundle.snapshot(name)?;
        for (child, mut snapshot) in self.bundle.list_snapshots()? {
            if snapshot.parent.as_deref() == Some(name) {
                snapshot.parent.clone_from(&doomed.parent);
                self.write(&child, &snapshot)?;
            }
        }
        let mut config = self.bundle.config()?;
        if config.snapshot.as_deref() == Some(name) {
            config.snapshot = doomed.parent;
            self.bundle.save_config(&config)?;
        }
        let path = self.bundle.snapshot_file(name);
        fs::remove_file(&path).map_err(failed("delete", &path))?;
        sync_folder(&self.bundle.path().join(FOLDER))?;
        self.sweep()
    }

    fn write(&self, name: &str, snapshot: &Snapshot) -> Result<()> {
        let folder = self.bundle.path().join(FOLDER);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let path = self.bundle.snapshot_file(name);
        let wrong = |e: serde_json::Error| Error::Snapshot {
            name: name.into(),
            path: path.clone(),
            why: e.to_string(),
        };
        let text = serde_json::to_string_pretty(snapshot).map_err(wrong)?;
        write_atomically(&path, text.as_bytes())
    }

    /// Removes the layers that nothing needs. What cannot be read keeps everything: better room lost than data.
    fn sweep(&self) -> Result<()> {
        sweep(self.bundle)
    }
}

fn sweep(bundle: &Bundle) -> Result<()> {
    let snapshots = bundle.list_snapshots()?;
    let config = bundle.config()?;
    let configs = snapshots.iter().map(|(_, snapshot)| &snapshot.config).chain([&config]);
    layers::sweep(bundle.path(), &layers::reachable(bundle.path(), configs)?)
}

/// Whether `path` is a folder of a bundle that holds snapshots; for those who count room.
pub(crate) fn folders(bundle: &Path) -> [PathBuf; 2] {
    [bundle.join(FOLDER), bundle.join(layers::FOLDER)]
}
