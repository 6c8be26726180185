//! Shared folders: from the configuration to devices and mounts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tearless_boot::quick::Mount;
use tearless_config::ShareConfig;
use tearless_share::{Limits, Passthrough, Share, ShareOptions};
use tearless_virtio::{
    VirtioDevice,
    fs::{DEVICE_ID, Fs, FsOptions},
};

use crate::{Error, Hardware};

/// A guest spends at least this much of its memory on each file that it knows, so an honest one knows no more of them.
const GUEST_BYTES_PER_NODE: u64 = 1 << 10;

/// A folder of the host that a machine shares. It stays open while the guest resets.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    share: Arc<Share>,
    path: PathBuf,
    tag: String,
    read_only: bool,
    limits: Limits,
}

/// Opens the folders of `configs`.
///
/// # Errors
/// When one is missing, no folder or not accessible.
pub fn open_shares(configs: &[ShareConfig]) -> Result<Vec<SharedFolder>, Error> {
    let limits = limits(configs.len());
    let open = |config: &ShareConfig| {
        let options = ShareOptions { read_only: config.read_only, guest_owner: config.owner };
        let share = Share::open(&config.path, options)?;
        Ok(SharedFolder {
            share,
            path: config.path.clone(),
            tag: config.tag.clone(),
            read_only: config.read_only,
            limits,
        })
    };
    configs.iter().map(open).collect()
}

impl SharedFolder {
    pub(crate) const DEVICE_TYPE: u16 = DEVICE_ID;

    /// How our guests mount it.
    pub fn mount(&self) -> Mount {
        Mount { tag: self.tag.clone(), read_only: self.read_only }
    }

    /// The folder, and whether it may be changed.
    pub(crate) fn access(&self) -> (&Path, bool) {
        (&self.path, !self.read_only)
    }

    pub(crate) fn device(&self, hardware: &Hardware) -> Result<Arc<dyn VirtioDevice>, Error> {
        let nodes = usize::try_from(hardware.memory / GUEST_BYTES_PER_NODE).unwrap_or(usize::MAX);
        let files = Passthrough::new(self.share.clone(), Limits { nodes, ..self.limits })
            .map_err(|e| Error::Host("look at a shared folder", e))?;
        let queues = u16::try_from(hardware.vcpus).unwrap_or(u16::MAX);
        Ok(Fs::new(files, &FsOptions { tag: self.tag.clone(), queues }))
    }
}

/// What each of `shares` folders may use. Raises this process' limit on open files as far as it goes, for a guest that
/// unpacks a source tree knows a hundred thousand of them.
#[cfg(target_os = "linux")]
fn limits(shares: usize) -> Limits {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// For all else that a virtual machine has open.
    const OTHERS: u64 = 128;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that fails, the limit is what it was.
    _ = setrlimit(Resource::Nofile, limit);
    let now = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let each = now.saturating_sub(OTHERS).max(64) / shares.max(1) as u64;
    let each = usize::try_from(each).unwrap_or(usize::MAX).min(1 << 20);
    Limits { descriptors: each / 2, handles: each / 3, ..Limits::default() }
}

#[cfg(not(target_os = "linux"))]
fn limits(_: usize) -> Limits {
    Limits::default()
}
