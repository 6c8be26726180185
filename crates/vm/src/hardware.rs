use std::{path::PathBuf, sync::Arc};

use tearless_boot::kernel::KernelImage;
use tearless_config::{EngineChoice, SyncMode};
use tearless_machine::{Shape, Spec};
use tearless_storage::{Disk, RawDisk, RawOptions, Sync};
use tearless_virtio::{VirtioDevice, vsock};

use crate::{Error, HostSide};

/// A disk of the machine.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// The image, a raw file or a block device.
    pub path: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
    /// What a guest's flush means.
    pub sync: SyncMode,
    /// The file is a bundle's own, so whatever it looks like it is raw: a guest wrote it.
    pub known_raw: bool,
}

impl DiskSpec {
    fn open(&self) -> Result<RawDisk, Error> {
        let sync = match self.sync {
            SyncMode::Full => Sync::Full,
            SyncMode::Fsync => Sync::Fsync,
            SyncMode::None => Sync::None,
        };
        let options = RawOptions { read_only: self.read_only, sync, known_raw: self.known_raw };
        Ok(RawDisk::open(&self.path, options)?)
    }
}

/// What a machine is made of, before it is built.
#[derive(Clone)]
pub struct Hardware {
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// How many vCPUs.
    pub vcpus: u32,
    /// How much RAM, in bytes.
    pub memory: u64,
    /// The disks, in the order in which the guest finds them.
    pub disks: Vec<DiskSpec>,
    /// What connects programs of the guest and the host; the guest has a socket device if there is one.
    pub sockets: Option<Arc<vsock::Hub>>,
    /// Whether the software CPU compares its interpreter with its translator.
    pub lockstep: bool,
    /// What it boots.
    pub payload: Payload,
}

/// What is put into the machine's memory before it starts.
#[derive(Clone)]
pub struct Payload {
    /// The kernel.
    pub kernel: KernelImage,
    /// The RAM disk; empty for none.
    pub initrd: Vec<u8>,
    /// The kernel command line.
    pub cmdline: String,
}

impl Hardware {
    /// What its plan must have room for, with or without named streams.
    pub fn shape(&self, streams: bool) -> Shape {
        Shape {
            vcpus: self.vcpus,
            memory: self.memory,
            disks: self.disks.len(),
            streams,
            attached: self.sockets.iter().map(|_| vsock::Vsock::ID).collect(),
        }
    }

    /// The devices beside the disks and those that each machine has.
    fn attached(&self) -> Result<Vec<Arc<dyn VirtioDevice>>, Error> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::new();
        if let Some(hub) = &self.sockets {
            devices.push(vsock::Vsock::new(hub.clone()).map_err(|e| Error::Host("make a socket device", e))?);
        }
        Ok(devices)
    }

    /// Opens the disks and completes the specification with the host's end of the serial devices.
    ///
    /// # Errors
    /// When a disk cannot be opened.
    pub fn spec(&self, host: HostSide) -> Result<Spec, Error> {
        let disks = self.disks.iter().map(|disk| Ok(Arc::new(disk.open()?) as Arc<dyn Disk>));
        Ok(Spec {
            vcpus: self.vcpus,
            memory: self.memory,
            kernel: self.payload.kernel.clone(),
            initrd: self.payload.initrd.clone(),
            cmdline: self.payload.cmdline.clone(),
            disks: disks.collect::<Result<_, Error>>()?,
            attached: self.attached()?,
            uart: host.uart,
            console: host.console,
            streams: host.streams,
        })
    }
}
