use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use tearless_config::VmConfig;

use crate::{
    Bundle, Error, NewBundle, Result,
    bundle::{CONFIG_FILE, SUFFIX},
    check_name,
    files::failed,
};

/// Names the folder of the VMs, if it is set.
pub const HOME_VARIABLE: &str = "TEARLESS_HOME";

#[cfg(target_os = "macos")]
const DATA: &str = "Library/Application Support";
#[cfg(not(target_os = "macos"))]
const DATA: &str = ".local/share";

/// The folder of the VMs. It comes into being with the first VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// A VM in a listing.
#[derive(Debug)]
pub struct Listed {
    /// The bundle.
    pub bundle: Bundle,
    /// What it says it is; a VM that cannot be read is listed too.
    pub config: Result<VmConfig>,
    /// Whether it runs: `Some` with the process, if that has said who it is.
    pub running: Option<Option<u32>>,
}

impl Store {
    /// The user's: `$TEARLESS_HOME`, else `tearless/vms` in the user's data folder.
    ///
    /// # Errors
    /// [`Error::NoHome`] when the environment names no folder.
    pub fn open() -> Result<Self> {
        Self::from_environment(|name| std::env::var_os(name))
    }

    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(root) = set(HOME_VARIABLE) {
            // A relative one would be another store after the next `cd`, but it is what the user asked for.
            let root = std::path::absolute(&root).map_err(failed("open", &root))?;
            return Ok(Self { root });
        }
        // The XDG specification has relative paths ignored; macOS does not know the variable.
        let data = set("XDG_DATA_HOME").filter(|p| p.is_absolute() && !cfg!(target_os = "macos"));
        let data = data.or_else(|| Some(set("HOME")?.join(DATA))).ok_or(Error::NoHome)?;
        Ok(Self { root: data.join("tearless/vms") })
    }

    /// The store in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The VMs by name.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder exists but cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &self.root))?,
        };
        let mut list = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", &self.root))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(SUFFIX))
            else {
                continue;
            };
            if check_name(name).is_err() || !path.is_dir() {
                continue;
            }
            let bundle = match Bundle::at(&path) {
                Ok(bundle) => bundle,
                // Without a configuration: still a VM to the user, who may want to know or to delete it.
                Err(_) => Bundle::unchecked(name, &path),
            };
            let (config, running) = (bundle.config(), bundle.running());
            list.push(Listed { bundle, config, running });
        }
        list.sort_by(|a, b| a.bundle.name().cmp(b.bundle.name()));
        Ok(list)
    }

    /// The VM called `name`, or the one whose folder `name` is the path of (when it has a slash or ends in `.vm`).
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Name`] for an impossible name.
    pub fn find(&self, name: &str) -> Result<Bundle> {
        if name.contains('/') || name.ends_with(SUFFIX) {
            return Bundle::at(name);
        }
        check_name(name)?;
        let path = self.folder_of(name);
        if !path.is_dir() {
            return Err(Error::NotFound { what: format!("{name} in {}", self.root.display()) });
        }
        if path.join(CONFIG_FILE).symlink_metadata().is_err() {
            return Ok(Bundle::unchecked(name, &path));
        }
        Bundle::at(path)
    }

    /// Begins to make the VM `name`. Nothing of it shows before [`NewBundle::finish`].
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Exists`], or [`Error::Io`] when the host refuses.
    pub fn create(&self, name: &str) -> Result<NewBundle> {
        check_name(name)?;
        NewBundle::begin(self, name)
    }

    /// As [`Self::create`], for what takes long: the folder stays when this is interrupted, and whoever comes with the same
    /// `key`, which is a part of a file's name, goes on with what is in it.
    ///
    /// # Errors
    /// As [`Self::create`]; [`Error::InTheMaking`] when another process is at it.
    pub fn resume(&self, name: &str, key: &str) -> Result<NewBundle> {
        check_name(name)?;
        NewBundle::resume(self, name, key)
    }

    /// Where the VM `name` lies or would lie.
    pub(crate) fn folder_of(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}{SUFFIX}"))
    }
}
