use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tearless_config::VmConfig;

use crate::{
    Bundle, Error, Lock, Result, Store,
    bundle::write_config,
    files::{failed, sync_folder},
    lock::{LOCK_FILE, StoreLock},
};

const NEW: &str = ".new-";
const DELETED: &str = ".deleted-";
/// The beginning of the folders of what takes long and goes on where it was interrupted.
const KEPT: &str = ".pull-";
/// Nobody goes on with what was left for so long.
const FORGOTTEN: Duration = Duration::from_secs(14 * 24 * 3600);

/// A VM in the making: a hidden folder that becomes the VM in one step. Dropped before that, it is removed, unless it is one
/// to go on with.
#[derive(Debug)]
pub struct NewBundle {
    store: Store,
    name: String,
    folder: PathBuf,
    /// Tells others that somebody still works on the folder.
    _lock: Lock,
    /// Whether the folder is to be there when this value has gone.
    stays: bool,
}

impl NewBundle {
    pub(crate) fn begin(store: &Store, name: &str) -> Result<Self> {
        /// Tells apart several creations of one name by one process.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = store.path();
        fs::create_dir_all(root).map_err(failed("create", root))?;
        let _names = StoreLock::take(root)?;
        clear_leftovers(root);
        refuse_existing(store, name)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{NEW}{name}-{}-{count}", std::process::id()));
        fs::create_dir(&folder).map_err(failed("create", &folder))?;
        let lock = Lock::take(&folder, name).inspect_err(|_| {
            // What matters is the first error; the next creation clears up.
            let _ = fs::remove_dir_all(&folder);
        })?;
        Ok(Self { store: store.clone(), name: name.into(), folder, _lock: lock, stays: false })
    }

    pub(crate) fn resume(store: &Store, name: &str, key: &str) -> Result<Self> {
        let root = store.path();
        fs::create_dir_all(root).map_err(failed("create", root))?;
        let _names = StoreLock::take(root)?;
        clear_leftovers(root);
        refuse_existing(store, name)?;
        let folder = root.join(format!("{KEPT}{key}"));
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let lock = Lock::take(&folder, name).map_err(|error| match error {
            Error::Running { pid, .. } => Error::InTheMaking { name: name.into(), pid },
            other => other,
        })?;
        Ok(Self { store: store.clone(), name: name.into(), folder, _lock: lock, stays: true })
    }

    /// Forgets what was to be gone on with: it is of no use.
    pub fn discard(mut self) {
        self.stays = false;
    }

    /// The VM's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder to put files in: `Disk.img`, `Kernel`, `Initrd`.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes the description and makes the VM appear.
    ///
    /// # Errors
    /// [`Error::Exists`] when another process made a VM of this name meanwhile, [`Error::Io`] when the host refuses;
    /// then nothing remains.
    pub fn finish(mut self, config: &VmConfig) -> Result<Bundle> {
        write_config(&self.folder, &self.name, config)?;
        let logs = self.folder.join("logs");
        match fs::create_dir(&logs) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", &logs)(e)),
            _ => {}
        }
        sync_folder(&self.folder)?;
        let path = self.store.folder_of(&self.name);
        {
            let _names = StoreLock::take(self.store.path())?;
            refuse_existing(&self.store, &self.name)?;
            fs::rename(&self.folder, &path).map_err(failed("create", &path))?;
            self.stays = true;
            sync_folder(self.store.path())?;
        }
        Bundle::at(path)
    }
}

impl Drop for NewBundle {
    fn drop(&mut self) {
        if !self.stays {
            // Nobody is there to tell; the next creation clears up what is left.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn refuse_existing(store: &Store, name: &str) -> Result<()> {
    match store.folder_of(name).symlink_metadata() {
        Ok(_) => Err(Error::Exists { name: name.into() }),
        Err(_) => Ok(()),
    }
}

/// Removes what crashed creations and deletions left behind. Called with the store's lock held, so that a folder
/// without a lock file is not one that is just being made. Errors do not stop a creation: it does not need the room.
fn clear_leftovers(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for folder in entries.flatten().map(|e| e.path()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let is_forgotten = || {
            let touched = fs::metadata(folder.join(LOCK_FILE)).and_then(|data| data.modified());
            touched.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > FORGOTTEN))
        };
        let is_leftover = [NEW, DELETED].iter().any(|kind| name.starts_with(kind));
        let is_old = name.starts_with(KEPT) && is_forgotten();
        if !(is_leftover || is_old) {
            continue;
        }
        // Creations and deletions hold the lock in their folder from before anybody else can look.
        let abandoned = Lock::holder(&folder).is_none();
        if abandoned {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}
