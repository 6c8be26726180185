use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use tearless_config::{ConfigError, VmConfig};
use tearless_state::Folder;

use crate::{
    Error, Result, check_name,
    files::{failed, remove_unfinished, sync_folder, write_atomically},
    lock::{Lock, StoreLock},
};

/// What a bundle's folder is called after its name.
pub(crate) const SUFFIX: &str = ".vm";
pub(crate) const CONFIG_FILE: &str = "config.json";
/// The first disk, as it is made.
pub(crate) const DISK_FILE: &str = "Disk.img";
/// EFI's variables, as they are made.
pub(crate) const VARIABLES_FILE: &str = "NVRAM";
/// A configuration is a few hundred bytes; this is room for any number of disks.
const MAX_CONFIG: u64 = 1 << 20;

/// A VM's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    name: String,
    path: PathBuf,
}

impl Bundle {
    /// The bundle in `path`, wherever that is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no folder with a configuration, [`Error::Io`] when that cannot be told.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match fs::metadata(path.join(CONFIG_FILE)) {
            Ok(_) => {}
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(Error::NotFound { what: format!("at {}", path.display()) });
            }
            Err(e) => return Err(failed("read", &path.join(CONFIG_FILE))(e)),
        }
        let whole = fs::canonicalize(&path).map_err(failed("open", &path))?;
        let folder = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = folder.strip_suffix(SUFFIX).unwrap_or(&folder).to_owned();
        Ok(Self { name, path: whole })
    }

    /// A bundle that may lack its configuration.
    pub(crate) fn unchecked(name: &str, path: &Path) -> Self {
        Self { name: name.into(), path: path.into() }
    }

    /// The VM's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the first disk (raw) of a new VM is made. Later its configuration says where its disks are.
    pub fn disk(&self) -> PathBuf {
        self.path.join(DISK_FILE)
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.path.join("Kernel")
    }

    /// The RAM disk.
    pub fn initrd(&self) -> PathBuf {
        self.path.join("Initrd")
    }

    /// The folder for logs; it may not exist yet.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The folder for the state of a suspended VM; it may not exist yet.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where the state is while it is written.
    pub fn saving(&self) -> PathBuf {
        self.state().join("saving")
    }

    /// Where the state is then.
    pub fn saved(&self) -> PathBuf {
        self.state().join("suspended")
    }

    /// Where the memory of a snapshot is while it is written.
    pub fn taking(&self) -> PathBuf {
        self.state().join("taking")
    }

    /// Where the memory of a snapshot is until the snapshot has its name.
    pub fn taken(&self) -> PathBuf {
        self.state().join("taken")
    }

    /// The state that the VM goes on from, if it is suspended.
    pub fn suspended(&self) -> Option<Folder> {
        let resumed = self.config().ok().and_then(|config| config.resume);
        let place = resumed.map_or_else(|| self.saved(), |name| self.snapshot_state(&name));
        Folder::find(&place)
    }

    /// Ends what was begun and interrupted: puts the state in its place that a snapshot was to bring back, and removes what
    /// nobody came back for. `lock` is this bundle's. To be called by whoever runs or changes the VM.
    ///
    /// # Errors
    /// What the host says; then it is as before.
    pub fn settle(&self, _lock: &Lock) -> Result<()> {
        for left in [self.taking(), self.taken()] {
            match fs::remove_dir_all(&left) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &left)(e)),
                _ => {}
            }
        }
        remove_unfinished(&self.path);
        let Ok(mut config) = self.config() else { return Ok(()) };
        let Some(name) = config.resume.take() else { return Ok(()) };
        if let Some(state) = Folder::find(&self.snapshot_state(&name)) {
            fs::create_dir_all(self.state()).map_err(failed("create", &self.state()))?;
            state.link_to(&self.saved())?;
        }
        self.save_config(&config)
    }

    /// Refuses if the VM is suspended, where `doing` would make another machine of it.
    ///
    /// # Errors
    /// [`Error::Suspended`].
    pub fn refuse_suspended(&self, doing: &'static str) -> Result<()> {
        match self.suspended() {
            None => Ok(()),
            Some(_) => Err(Error::Suspended { name: self.name.clone(), doing }),
        }
    }

    /// The file that describes the VM.
    pub fn config_file(&self) -> PathBuf {
        self.path.join(CONFIG_FILE)
    }

    /// Reads the VM's description. It is not validated: that needs the limits of the host.
    ///
    /// # Errors
    /// [`Error::Config`] when it is damaged or newer than this program, [`Error::Io`] when it cannot be read.
    pub fn config(&self) -> Result<VmConfig> {
        let path = self.config_file();
        let config_error = |source| Error::Config { name: self.name.clone(), path: path.clone(), source };
        let mut data = Vec::new();
        let file = fs::File::open(&path).map_err(failed("read", &path))?;
        file.take(MAX_CONFIG + 1).read_to_end(&mut data).map_err(failed("read", &path))?;
        if data.len() as u64 > MAX_CONFIG {
            return Err(config_error(ConfigError::Malformed("it is larger than 1 MiB".into())));
        }
        let text = String::from_utf8(data)
            .map_err(|e| config_error(ConfigError::Malformed(format!("it is not UTF-8: {e}"))))?;
        VmConfig::from_json(&text).map_err(config_error)
    }

    /// Replaces the VM's description; after a crash or on a full disk the old one is still there.
    ///
    /// # Errors
    /// [`Error::Config`] when it cannot be written as JSON, [`Error::Io`] when the host refuses.
    pub fn save_config(&self, config: &VmConfig) -> Result<()> {
        write_config(&self.path, &self.name, config)
    }

    /// Takes the VM for this process, until the lock is dropped.
    ///
    /// # Errors
    /// [`Error::Running`] when another process, or another part of this one, holds it.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(&self.path, &self.name)
    }

    /// Whether somebody runs the VM: `Some` with the process, if that has said who it is.
    pub fn running(&self) -> Option<Option<u32>> {
        Lock::holder(&self.path)
    }

    /// Deletes the VM. It is gone at once; then its files go.
    ///
    /// # Errors
    /// [`Error::Running`] when somebody runs it, [`Error::Io`] when the host refuses. Files that could not be removed
    /// are tried again when a VM is created.
    pub fn delete(self) -> Result<()> {
        let lock = self.lock()?;
        let folder = self.folder();
        let doomed = {
            let _names = StoreLock::take(folder)?;
            let doomed = folder.join(format!(".deleted-{}-{}", self.name, std::process::id()));
            fs::rename(&self.path, &doomed).map_err(failed("delete", &self.path))?;
            doomed
        };
        let result = match fs::remove_dir_all(&doomed) {
            // A creation clears up too, once the lock file is gone.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("delete", &doomed)(e)),
            _ => Ok(()),
        };
        drop(lock);
        result
    }

    /// Gives the VM another name in the same folder.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Exists`], [`Error::Running`], or [`Error::Io`] when the host refuses.
    pub fn rename(self, name: &str) -> Result<Self> {
        check_name(name)?;
        let _lock = self.lock()?;
        let folder = self.folder();
        let _names = StoreLock::take(folder)?;
        let path = folder.join(format!("{name}{SUFFIX}"));
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists { name: name.into() });
        }
        fs::rename(&self.path, &path).map_err(failed("rename", &self.path))?;
        sync_folder(folder)?;
        Ok(Self { name: name.into(), path })
    }

    /// Where the bundle lies.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

pub(crate) fn write_config(folder: &Path, name: &str, config: &VmConfig) -> Result<()> {
    let path = folder.join(CONFIG_FILE);
    let text =
        config.to_json().map_err(|source| Error::Config { name: name.into(), path: path.clone(), source })?;
    write_atomically(&path, text.as_bytes())
}
