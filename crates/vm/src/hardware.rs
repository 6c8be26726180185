use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tearless_boot::{Source, quick};
use tearless_config::EngineChoice;
use tearless_machine::{
    Boot, Shape, Spec,
    efi::{self, Identity, Variables},
};
use tearless_sandbox::Rules;
use tearless_state::Folder;
use tearless_storage::{Disk, OpenOptions, Reach};
use tearless_virtio::{
    VirtioDevice,
    balloon::{Balloon, Gauge},
    net::Net,
    vsock,
};

use crate::{Display, Error, Firmware, HostSide, Network, SharedFolder, Sound};

/// A disk of the machine.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// The image, a block device, or the address of a server: `nbd://HOST:PORT/EXPORT`, `nbd+unix:///EXPORT?socket=PATH`.
    pub path: PathBuf,
    /// How to open it. A bundle's own files have their format told: whatever they look like, a guest wrote it.
    pub options: OpenOptions,
    /// Throw away what the guest writes: until the VM ends, it is kept in a file in this folder that has no name.
    pub changes: Option<PathBuf>,
}

impl DiskSpec {
    fn open(&self) -> Result<Arc<dyn Disk>, Error> {
        match &self.changes {
            Some(folder) if !self.options.read_only => {
                Ok(tearless_storage::open_ephemeral(&self.path, self.options, folder)?)
            }
            _ => Ok(tearless_storage::open(&self.path, self.options)?),
        }
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
    /// Steers the balloon that gives memory back to the host.
    pub balloon: Arc<Gauge>,
    /// The disks, in the order in which the guest finds them.
    pub disks: Vec<DiskSpec>,
    /// What connects programs of the guest and the host; the guest has a socket device if there is one.
    pub sockets: Option<Arc<vsock::Hub>>,
    /// The shared folders.
    pub shares: Vec<SharedFolder>,
    /// The network card; none when absent.
    pub network: Option<Network>,
    /// The screen, keyboard and pointer; none when absent.
    pub display: Option<Display>,
    /// What it plays on and hears; none when absent.
    pub sound: Option<Sound>,
    /// Whether the software CPU compares its interpreter with its translator.
    pub lockstep: bool,
    /// What it boots.
    pub payload: Payload,
    /// Firmware that does that instead of Tearless.
    pub firmware: Option<Firmware>,
    /// What it goes on from instead, the first time.
    pub saved: Option<SavedState>,
}

/// A state that a VM goes on from.
#[derive(Clone, Debug)]
pub struct SavedState {
    /// Where it is.
    pub folder: Folder,
    /// Leave it there: the disks will be what they were, for what the guest changes is thrown away.
    pub keep: bool,
}

/// What is put into the machine's memory before it starts.
#[derive(Clone)]
pub enum Payload {
    /// A kernel.
    Linux(LinuxPayload),
    /// EFI, and what that finds on the disks.
    Efi {
        /// The variables.
        variables: Arc<Variables>,
        /// Who the machine is.
        identity: Identity,
        /// What it boots instead, until an installation without questions is complete.
        kernel: Option<LinuxPayload>,
    },
}

impl From<LinuxPayload> for Payload {
    fn from(linux: LinuxPayload) -> Self {
        Self::Linux(linux)
    }
}

/// A kernel with its companions.
#[derive(Clone)]
pub struct LinuxPayload {
    /// The kernel.
    pub kernel: Source,
    /// The RAM disk; [`Source::nothing`] for none.
    pub initrd: Source,
    /// The kernel command line.
    pub cmdline: String,
}

impl LinuxPayload {
    /// It as an EFI program.
    fn read(&self) -> Result<efi::Kernel, Error> {
        Ok(efi::Kernel {
            program: self.kernel.read()?,
            initrd: self.initrd.read()?,
            cmdline: self.cmdline.clone(),
        })
    }

    /// Has a guest of ours mount `shares`.
    ///
    /// # Errors
    /// When a tag is no plain word.
    pub fn mount(&mut self, shares: &[SharedFolder]) -> Result<(), Error> {
        if !shares.is_empty() {
            let mounts: Vec<_> = shares.iter().map(SharedFolder::mount).collect();
            self.initrd.append(quick::mounts(&mounts)?);
        }
        Ok(())
    }
}

impl Hardware {
    /// Keeps nothing that the guest writes to its disks, but in files in `folder` while it runs, nor firmware's variables.
    pub fn forget_changes(&mut self, folder: &Path) {
        self.disks.iter_mut().for_each(|disk| disk.changes = Some(folder.to_owned()));
        if let Payload::Efi { variables, .. } = &self.payload {
            variables.detach();
        }
        if let Some(firmware) = &self.firmware {
            firmware.detach();
        }
    }

    /// What the process that runs it opens once it has been confined: its disks, and what is
    /// in shared folders. That its guest speaks to a network is for the caller to add.
    ///
    /// # Errors
    /// When a disk builds on files that cannot be found.
    pub fn needs(&self) -> Result<Rules, Error> {
        let mut rules = Rules::default();
        for disk in &self.disks {
            if let Some(reach) = tearless_storage::reach(&disk.path)? {
                match reach {
                    Reach::Port(port) => rules.connect.push(port),
                    Reach::Name => rules.network = true,
                    Reach::Unix => rules.unix_sockets = true,
                }
                continue;
            }
            rules.read.extend(tearless_storage::backing_files(&disk.path, disk.options)?);
            // What a guest changes goes elsewhere then.
            rules.write.extend(disk.changes.iter().cloned());
            let unchanged = disk.options.read_only || disk.changes.is_some();
            let list = if unchanged { &mut rules.read } else { &mut rules.write };
            list.push(disk.path.clone());
        }
        for (path, writable) in self.shares.iter().map(SharedFolder::access) {
            let list = if writable { &mut rules.write } else { &mut rules.read };
            list.push(path.to_owned());
        }
        Ok(rules)
    }

    /// What its plan must have room for, with or without named streams.
    pub fn shape(&self, streams: bool) -> Shape {
        Shape {
            vcpus: self.vcpus,
            memory: self.memory,
            disks: self.disks.len(),
            streams: streams || self.display.as_ref().is_some_and(Display::has_agent),
            attached: self.attached_types(),
        }
    }

    /// The types of [`Self::attached`], in the same order.
    fn attached_types(&self) -> Vec<u16> {
        let sockets = self.sockets.iter().map(|_| vsock::Vsock::ID);
        let shares = self.shares.iter().map(|_| SharedFolder::DEVICE_TYPE);
        let network = self.network.iter().map(|_| Net::ID);
        let display = self.display.iter().flat_map(|_| Display::DEVICE_TYPES);
        let sound = self.sound.iter().map(|_| Sound::DEVICE_TYPE);
        sockets.chain(shares).chain(network).chain([Balloon::ID]).chain(display).chain(sound).collect()
    }

    /// The devices beside the disks and those that each machine has.
    fn attached(&self) -> Result<Vec<Arc<dyn VirtioDevice>>, Error> {
        let mut devices: Vec<Arc<dyn VirtioDevice>> = Vec::new();
        if let Some(hub) = &self.sockets {
            devices.push(vsock::Vsock::new(hub.clone()).map_err(|e| Error::Host("make a socket device", e))?);
        }
        for share in &self.shares {
            devices.push(share.device(self)?);
        }
        devices.extend(self.network.iter().map(|network| network.device(self.vcpus)));
        devices.push(Balloon::new(self.balloon.clone()));
        devices.extend(self.display.iter().flat_map(Display::devices));
        devices.extend(self.sound.iter().map(Sound::device));
        Ok(devices)
    }

    /// Opens the disks. They stay open while the VM lives, whatever its guest's resets.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open_disks(&self) -> Result<Vec<Arc<dyn Disk>>, Error> {
        self.disks.iter().map(DiskSpec::open).collect()
    }

    /// The specification of a machine with these disks and the host's end of the serial devices.
    ///
    /// # Errors
    /// When another device cannot be made.
    pub fn spec(&self, disks: &[Arc<dyn Disk>], host: HostSide) -> Result<Spec, Error> {
        Ok(Spec {
            vcpus: self.vcpus,
            memory: self.memory,
            boot: match (&self.firmware, &self.payload) {
                (Some(firmware), payload) => Boot::Firmware(firmware.boot(payload)?),
                (None, Payload::Linux(LinuxPayload { kernel, initrd, cmdline })) => Boot::Linux {
                    kernel: kernel.kernel_image()?,
                    initrd: initrd.read()?,
                    cmdline: cmdline.clone(),
                },
                (None, Payload::Efi { variables, identity, kernel }) => {
                    let kernel = kernel.as_ref().filter(|_| !variables.is_installed());
                    Boot::Efi {
                        variables: Arc::clone(variables),
                        identity: identity.clone(),
                        display: self.display.as_ref().map(|d| (Arc::clone(&d.screen), Arc::clone(&d.input))),
                        kernel: kernel.map(LinuxPayload::read).transpose()?,
                    }
                }
            },
            disks: disks.to_vec(),
            attached: self.attached()?,
            uart: host.uart,
            console: host.console,
            streams: host
                .streams
                .into_iter()
                .chain(self.display.as_ref().and_then(Display::agent_port))
                .collect(),
        })
    }
}
