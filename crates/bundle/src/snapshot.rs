//! Snapshots: a named tree of states that a VM can go back to.
//!
//! A snapshot is one file, `snapshots/NAME.json`: the configuration as it was, naming disks that nobody writes any more. One
//! with the memory of a VM has it in `snapshots/NAME.state`, which is there before the file is and goes after it.
//! Whatever is interrupted leaves files that nobody names; the next change sweeps them. See docs/decisions/012.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tearless_config::VmConfig;
use tearless_state::Folder;

use crate::{
    Bundle, Error, Lock, Result, check_name,
    files::{failed, remove_unfinished, sync_folder, write_atomically},
    layers,
    lock::StoreLock,
};

pub(crate) const FOLDER: &str = "snapshots";
const EXTENSION: &str = "json";
/// What the folder with the memory is called after the snapshot's name.
const STATE: &str = "state";
/// The versions of the file's format: without memory, and with. Releases that know no memory refuse the second.
const VERSION: u32 = 1;
const VERSION_MEMORY: u32 = 2;

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
    /// Whether the VM goes on where it was, with its memory, when it is put back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// The VM as it was.
    pub config: VmConfig,
}

/// Snapshots and their names.
pub type Named = Vec<(String, Snapshot)>;

/// The snapshots of a VM that does not run, for one who holds its lock.
pub struct Snapshots<'a> {
    bundle: &'a Bundle,
    lock: &'a Lock,
}

impl Bundle {
    /// The snapshots by name, oldest first; may be called while the VM runs.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list_snapshots(&self) -> Result<Named> {
        let (list, unreadable) = self.readable_snapshots()?;
        unreadable.into_iter().next().map_or(Ok(list), Err)
    }

    /// As [`Bundle::list_snapshots`], those that can be read; and what is wrong with each of the others.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub fn readable_snapshots(&self) -> Result<(Named, Vec<Error>)> {
        let folder = self.path().join(FOLDER);
        let (mut list, mut unreadable) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.map_err(failed("read", &folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
            let known = path.extension().is_some_and(|extension| extension == EXTENSION);
            if let Some(name) = name.filter(|name| known && check_name(name).is_ok()) {
                match self.snapshot(&name) {
                    Ok(snapshot) => list.push((name, snapshot)),
                    Err(error) => unreadable.push(error),
                }
            }
        }
        list.sort_by(|a, b| (a.1.taken, &a.0).cmp(&(b.1.taken, &b.0)));
        Ok((list, unreadable))
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
        if !(VERSION..=VERSION_MEMORY).contains(&version) {
            return Err(wrong(format!(
                "it has version {version} of the format; this Tearless knows {VERSION} to {VERSION_MEMORY}"
            )));
        }
        let read: Snapshot = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(Snapshot { config: read.config.updated(), ..read })
    }

    /// Whether a snapshot may be called `name`.
    pub(crate) fn check_new(&self, name: &str) -> Result<()> {
        check_name(name)?;
        match self.snapshot_file(name).symlink_metadata() {
            Ok(_) => Err(Error::SnapshotExists { name: name.into() }),
            Err(_) => Ok(()),
        }
    }

    fn snapshot_file(&self, name: &str) -> PathBuf {
        self.path().join(FOLDER).join(format!("{name}.{EXTENSION}"))
    }

    /// Where the memory of the snapshot `name` is.
    pub(crate) fn snapshot_state(&self, name: &str) -> PathBuf {
        self.path().join(FOLDER).join(format!("{name}.{STATE}"))
    }

    /// What changes the snapshots. `lock` is this bundle's.
    pub fn snapshots<'a>(&'a self, lock: &'a Lock) -> Snapshots<'a> {
        Snapshots { bundle: self, lock }
    }
}

impl Snapshots<'_> {
    /// Keeps the VM's state as `name`; with its memory, if it is suspended and `memory` says so.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::Foreign`] for a writable disk outside of the bundle, or what the host says; then
    /// all is as before.
    pub fn take(&self, name: &str, memory: bool) -> Result<()> {
        let bundle = self.bundle;
        let changing = Changing::begin(bundle)?;
        bundle.settle(self.lock)?;
        bundle.check_new(name)?;
        sweep(bundle, None)?;
        let config = bundle.config()?;
        let state = bundle.suspended().filter(|_| memory);
        let mut new = layers::derive_all(bundle.path(), &config)?;
        new.snapshot = Some(name.into());
        // From here on the VM writes to the new layers, and the old ones are what they were. A crash now leaves layers
        // that hold nothing, and no snapshot.
        bundle.save_config(&new)?;
        layers::freeze(bundle.path(), &config)?;
        if let Some(state) = &state {
            state.link_to(&bundle.snapshot_state(name))?;
        }
        changing.write_new(name, config, state.is_some())
    }

    /// Puts the VM back into the state `name`; with memory it is suspended then. What it was since is lost unless a snapshot
    /// has it.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or what the host says; then all is as before.
    pub fn restore(&self, name: &str) -> Result<Snapshot> {
        let bundle = self.bundle;
        let _changing = Changing::begin(bundle)?;
        bundle.settle(self.lock)?;
        let snapshot = bundle.snapshot(name)?;
        // Before anything changes: with one that cannot be read nothing could be swept afterwards, and a memory that is of
        // another release could not go on.
        bundle.list_snapshots()?;
        if snapshot.memory {
            let missing = || Error::Snapshot {
                name: name.into(),
                path: bundle.snapshot_state(name),
                why: "the memory is missing".into(),
            };
            Folder::find(&bundle.snapshot_state(name)).ok_or_else(missing)?.load()?;
        }
        let mut new = layers::derive_all(bundle.path(), &snapshot.config)?;
        new.snapshot = Some(name.into());
        new.resume = snapshot.memory.then(|| name.into());
        if let Some(state) = bundle.suspended() {
            // It belongs to the disks that it has now. A crash from here on is a power failure.
            state.remove()?;
        }
        bundle.save_config(&new)?;
        bundle.settle(self.lock)?;
        sweep(bundle, None)?;
        Ok(snapshot)
    }

    /// Forgets the state `name`; the room that only it took is free then. Its children become its parent's.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or what the host says.
    pub fn delete(&self, name: &str) -> Result<()> {
        let bundle = self.bundle;
        let changing = Changing::begin(bundle)?;
        bundle.settle(self.lock)?;
        let doomed = bundle.snapshot(name)?;
        for (child, mut snapshot) in bundle.list_snapshots()? {
            if snapshot.parent.as_deref() == Some(name) {
                snapshot.parent.clone_from(&doomed.parent);
                changing.write(&child, &snapshot)?;
            }
        }
        let mut config = bundle.config()?;
        if config.snapshot.as_deref() == Some(name) {
            config.snapshot = doomed.parent;
            bundle.save_config(&config)?;
        }
        let path = bundle.snapshot_file(name);
        fs::remove_file(&path).map_err(failed("delete", &path))?;
        sync_folder(&bundle.path().join(FOLDER))?;
        sweep(bundle, None)
    }
}

/// The right to change the snapshots of a VM, whether it runs or not.
pub(crate) struct Changing<'a> {
    bundle: &'a Bundle,
    _lock: StoreLock,
}

impl<'a> Changing<'a> {
    pub fn begin(bundle: &'a Bundle) -> Result<Self> {
        let folder = bundle.path().join(FOLDER);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        Ok(Self { bundle, _lock: StoreLock::take(&folder)? })
    }

    /// Writes the new snapshot `name` of `config`, whose memory is in its place.
    pub fn write_new(&self, name: &str, config: VmConfig, memory: bool) -> Result<()> {
        let known = |parent: &String| self.bundle.snapshot_file(parent).exists();
        let parent = config.snapshot.clone().filter(known);
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let version = if memory { VERSION_MEMORY } else { VERSION };
        self.write(name, &Snapshot { version, taken, parent, memory, config })
    }

    fn write(&self, name: &str, snapshot: &Snapshot) -> Result<()> {
        let path = self.bundle.snapshot_file(name);
        let wrong = |e: serde_json::Error| Error::Snapshot {
            name: name.into(),
            path: path.clone(),
            why: e.to_string(),
        };
        let text = serde_json::to_string_pretty(snapshot).map_err(wrong)?;
        write_atomically(&path, text.as_bytes())
    }
}

/// Removes the layers and memories that nothing needs: no snapshot, not the configuration, not `running`, which is what a VM
/// has open. What cannot be read keeps everything: better room lost than data.
pub(crate) fn sweep(bundle: &Bundle, running: Option<&VmConfig>) -> Result<()> {
    remove_unfinished(bundle.path());
    remove_unfinished(&bundle.path().join(FOLDER));
    let snapshots = bundle.list_snapshots()?;
    let config = bundle.config()?;
    let configs = snapshots.iter().map(|(_, snapshot)| &snapshot.config).chain([&config]).chain(running);
    layers::sweep(bundle.path(), &layers::reachable(bundle.path(), configs)?)?;
    for memory in memories(bundle.path()) {
        let name = memory.file_stem().and_then(|name| name.to_str());
        let needed = |name| snapshots.iter().any(|(known, snapshot)| known == name && snapshot.memory);
        if !name.is_some_and(needed) {
            fs::remove_dir_all(&memory).map_err(failed("delete", &memory))?;
        }
    }
    Ok(())
}

/// The folders of a bundle that hold snapshots; for those who count room.
pub(crate) fn folders(bundle: &Path) -> [PathBuf; 2] {
    [bundle.join(FOLDER), bundle.join(layers::FOLDER)]
}

/// The folders with the memory of snapshots, also of those that were never finished.
pub(crate) fn memories(bundle: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(bundle.join(FOLDER)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
