//! A snapshot of a VM that runs.
//!
//! ```text
//!   begin: new layers ──► the VM stands still ──► commit: the configuration names the layers ──► the VM goes on with them
//!                                                                                                     │
//!                                                  finish: the memory and the snapshot's file ◄───────┘
//! ```
//! Where files share blocks the VM keeps its files, and the snapshot gets copies; elsewhere it gets the files, and the VM goes
//! on in layers above them. A crash before the commit leaves files that nobody names, one after it a VM whose
//! configuration names layers that hold nothing yet, or what the VM wrote since.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use tearless_config::{DiskFormat, VmConfig};
use tearless_storage::{Format, overlay_of, share_blocks};

use crate::{
    Bundle, Error, Result,
    files::{failed, sync_folder},
    layers::{self, FOLDER},
    snapshot::{self, Changing},
};

/// A disk that a running VM has open.
#[derive(Clone, Debug)]
pub struct RunningDisk {
    /// Its file, absolute.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its guest cannot change it.
    pub read_only: bool,
}

/// A layer's files from the top down, open, with their names, which are absolute.
pub type OpenLayer = Vec<(PathBuf, File)>;

/// What happens to a disk.
enum Way {
    /// The VM goes on in the new file, which builds on the old one.
    Above(PathBuf),
    /// The snapshot gets a copy of this name.
    Copy(PathBuf),
}

/// A snapshot that is being taken. Dropped before it is committed it leaves nothing.
pub struct LiveSnapshot<'a> {
    bundle: &'a Bundle,
    changing: Changing<'a>,
    name: String,
    /// The VM as it is.
    was: VmConfig,
    ways: Vec<(usize, Way)>,
    committed: bool,
}

impl Bundle {
    /// Begins to take the snapshot `name` of this VM, which runs and has `disks` open.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`], [`Error::Foreign`] for a writable disk outside of the bundle, or what the host says; then
    /// nothing has changed.
    pub fn begin_snapshot(&self, name: &str, disks: &[RunningDisk]) -> Result<LiveSnapshot<'_>> {
        let changing = Changing::begin(self)?;
        self.check_new(name)?;
        let was = self.as_running(disks)?;
        snapshot::sweep(self, Some(&was))?;
        let folder = self.path().join(FOLDER);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let mut live = LiveSnapshot {
            bundle: self,
            changing,
            name: name.into(),
            was,
            ways: Vec::new(),
            committed: false,
        };
        for (index, running) in disks.iter().enumerate() {
            if let Some(disk) = live.was.disks.get(index).filter(|disk| layers::is_own(disk)) {
                let way = self.prepare(&disk.path.clone(), layers::format_of(disk), running.size)?;
                live.ways.push((index, way));
            }
        }
        sync_folder(&folder)?;
        sync_folder(self.path())?;
        Ok(live)
    }

    /// The configuration with what the VM has open: a snapshot that was interrupted may have left layers in it that the VM
    /// does not use.
    fn as_running(&self, disks: &[RunningDisk]) -> Result<VmConfig> {
        let mut config = self.config()?;
        for (index, running) in disks.iter().enumerate().filter(|(_, disk)| !disk.read_only) {
            let foreign = || Error::Foreign { path: running.path.clone() };
            let own = running.path.strip_prefix(self.path()).map_err(|_| foreign())?;
            let disk = config.disks.get_mut(index).filter(|disk| layers::is_own(disk)).ok_or_else(foreign)?;
            if disk.path != own {
                // Some other file than one that it builds on: the configuration was changed since the VM was started.
                let chain = layers::chain(self.path(), &disk.path, layers::format_of(disk))?;
                if !chain.iter().any(|file| file == own) {
                    return Err(foreign());
                }
                disk.path = own.to_owned();
                disk.format = format(Format::of_name(own).unwrap_or(Format::Raw));
            }
        }
        match config.disks.get(disks.len()..).and_then(|rest| rest.iter().find(|disk| layers::is_own(disk))) {
            Some(disk) => Err(Error::Foreign { path: disk.path.clone() }),
            None => Ok(config),
        }
    }

    fn prepare(&self, disk: &Path, format: Format, size: u64) -> Result<Way> {
        let (base, stem) = (self.path().join(disk), Path::new(FOLDER).join(layers::new_id()?));
        let copy = stem.with_extension(if format == Format::Raw { "img" } else { format.name() });
        // A qcow2 file that is copied into another folder would look for its own base there.
        let movable = format == Format::Raw || base.parent() == Some(&self.path().join(FOLDER));
        if movable && format != Format::Vmdk && share_blocks(&base, &self.path().join(&copy))? {
            // So it can be done. The copy that counts is made when the VM stands still, and replaces this one.
            let probe = self.path().join(&copy);
            fs::remove_file(&probe).map_err(failed("delete", &probe))?;
            return Ok(Way::Copy(copy));
        }
        let reference = layers::reference(disk).ok_or_else(|| Error::Foreign { path: disk.to_owned() })?;
        let layer = stem.with_extension(Format::Qcow2.name());
        overlay_of(size, format, &self.path().join(&layer), &reference)?;
        Ok(Way::Above(layer))
    }
}

impl LiveSnapshot<'_> {
    /// The new layers that the VM is to go on with: the disk, and the layer's files from the top down, open, with their names.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn layers(&self) -> Result<Vec<(usize, OpenLayer)>> {
        let mut list = Vec::new();
        for (index, way) in &self.ways {
            let Way::Above(layer) = way else { continue };
            let mut files = Vec::new();
            for (depth, file) in
                layers::chain(self.bundle.path(), layer, Format::Qcow2)?.into_iter().enumerate()
            {
                let path = self.bundle.path().join(file);
                let opened = OpenOptions::new().read(true).write(depth == 0).open(&path);
                files.push((path.clone(), opened.map_err(failed("open", &path))?));
            }
            list.push((*index, files));
        }
        Ok(list)
    }

    /// Makes the layers what the configuration names. The VM stands still, and all it wrote is in its files.
    ///
    /// # Errors
    /// What the host says; then the configuration is as before.
    pub fn commit(&mut self) -> Result<()> {
        let bundle = self.bundle;
        let mut new = VmConfig { snapshot: Some(self.name.clone()), ..self.was.clone() };
        for (index, way) in &self.ways {
            match way {
                Way::Above(layer) => set(&mut new, *index, layer, Some(DiskFormat::Qcow2)),
                Way::Copy(copy) => {
                    let Some(disk) = self.was.disks.get(*index).cloned() else { continue };
                    let (from, to) = (bundle.path().join(&disk.path), bundle.path().join(copy));
                    if !share_blocks(&from, &to)? {
                        let source = std::io::Error::other("the file system shares no blocks any more");
                        return Err(failed("copy", &from)(source));
                    }
                    set(&mut self.was, *index, copy, disk.format);
                }
            }
        }
        layers::copy_firmware(bundle.path(), &mut self.was)?;
        sync_folder(&bundle.path().join(FOLDER))?;
        bundle.save_config(&new)?;
        self.committed = true;
        Ok(())
    }

    /// Gives the snapshot its name. The VM has gone on; its memory, if it is to be kept, is in [`Bundle::taken`].
    ///
    /// # Errors
    /// What the host says; then there is no snapshot.
    pub fn finish(self, memory: bool) -> Result<()> {
        let bundle = self.bundle;
        layers::freeze(bundle.path(), &self.was)?;
        if memory {
            let place = bundle.snapshot_state(&self.name);
            fs::rename(bundle.taken(), &place).map_err(failed("write", &place))?;
            sync_folder(&bundle.path().join(snapshot::FOLDER))?;
        }
        self.changing.write_new(&self.name, self.was.clone(), memory)
    }
}

impl Drop for LiveSnapshot<'_> {
    fn drop(&mut self) {
        if !self.committed {
            for (_, Way::Above(file) | Way::Copy(file)) in &self.ways {
                // What stays is swept by the next one.
                let _ = fs::remove_file(self.bundle.path().join(file));
            }
        }
    }
}

fn set(config: &mut VmConfig, index: usize, path: &Path, format: Option<DiskFormat>) {
    if let Some(disk) = config.disks.get_mut(index) {
        disk.path = path.to_owned();
        disk.format = format;
    }
}

fn format(format: Format) -> Option<DiskFormat> {
    match format {
        Format::Raw => None,
        Format::Qcow2 => Some(DiskFormat::Qcow2),
        Format::Vmdk => Some(DiskFormat::Vmdk),
    }
}
