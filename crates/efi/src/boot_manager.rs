//! The boot manager (UEFI 3): what to boot, in which order.
//!
//! 1. The host's own kernel, if it gives one; 2. `BootNext`, once; 3. the entries of `BootOrder`;
//! 4. `\EFI\BOOT\BOOTAA64.EFI` on any file system.

use std::collections::VecDeque;

use crate::{
    Error,
    abi::{Status, guid},
    call::{Args, Flow, Then},
    device_path::{self, HARD_DRIVE},
    efi::Efi,
    guest::{string, utf16},
    variables::{BOOT, Name, RUNTIME},
};

const REMOVABLE: &str = r"\EFI\BOOT\BOOTAA64.EFI";
/// Of a boot entry: it takes part.
const ACTIVE: u32 = 1;
const PSCI_SYSTEM_OFF: u32 = 0x8400_0008;
const PSCI_SYSTEM_RESET: u32 = 0x8400_0009;

/// Something to try.
struct Candidate {
    /// For people.
    label: String,
    number: Option<u16>,
    origin: Origin,
    options: Vec<u8>,
}

/// Where a program comes from.
enum Origin {
    /// A file system and the file on it.
    File { handle: u64, file: String },
    /// The host.
    Host(Vec<u8>),
}

impl Candidate {
    /// For people.
    fn name(&self) -> String {
        match &self.origin {
            Origin::File { file, .. } => format!("{file} on {}", self.label),
            Origin::Host(_) => self.label.clone(),
        }
    }
}

/// What is left to try.
#[derive(Default)]
pub(crate) struct Queue {
    /// The host's, until the first call.
    own: Option<Candidate>,
    candidates: VecDeque<Candidate>,
    /// The call that all this happens in: the first of all.
    frame: u64,
    running: String,
    tried: usize,
}

/// The first call, which never returns.
pub(crate) fn start(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let own = efi.queue.own.take();
    efi.queue = Queue { frame: args.frame, ..Queue::default() };
    efi.queue.candidates = efi.candidates();
    own.into_iter().for_each(|own| efi.queue.candidates.push_front(own));
    efi.boot_next(None)
}

fn global(name: &str) -> Name {
    (guid::GLOBAL_VARIABLE, name.encode_utf16().collect())
}

impl Efi {
    fn candidates(&mut self) -> VecDeque<Candidate> {
        let words = |name: &str| -> Vec<u16> {
            let (_, data) = self.variables.get(&global(name), false).unwrap_or_default();
            data.chunks_exact(2).filter_map(|c| Some(u16::from_le_bytes(*c.first_chunk()?))).collect()
        };
        let next: Vec<u16> = words("BootNext").into_iter().take(1).collect();
        let order = words("BootOrder");
        if !next.is_empty() {
            // It holds once, whether that works or not.
            let _ = self.variables.set(&global("BootNext"), 0, &[], false);
        }
        let mut candidates: VecDeque<_> =
            next.into_iter().chain(order).filter_map(|number| self.entry_candidate(number)).collect();
        for handle in self.handles.with(Some(guid::SIMPLE_FILE_SYSTEM)) {
            let label = self.path_of(handle);
            let file = REMOVABLE.to_owned();
            let origin = Origin::File { handle, file };
            candidates.push_back(Candidate { label, number: None, origin, options: Vec::new() });
        }
        candidates
    }

    /// Has the host's own kernel tried first. It finds its RAM disk by itself.
    pub fn boot_first(&mut self, kernel: Vec<u8>, options: &str) {
        let label = "the host's kernel".to_owned();
        let own = Candidate { label, number: None, origin: Origin::Host(kernel), options: utf16(options) };
        self.queue.own = Some(own);
    }

    fn path_of(&self, handle: u64) -> String {
        device_path::text(&self.path_bytes(handle))
    }

    fn path_bytes(&self, handle: u64) -> Vec<u8> {
        let at = self.handles.interface(handle, guid::DEVICE_PATH);
        at.and_then(|at| device_path::read(&self.guest, at).ok()).unwrap_or_default()
    }

    /// The candidate that entry `Boot####` describes, if its disk is there.
    fn entry_candidate(&self, number: u16) -> Option<Candidate> {
        let (_, data) = self.variables.get(&global(&format!("Boot{number:04X}")), false)?;
        let (attributes, rest) = data.split_first_chunk::<4>()?;
        let (path_len, rest) = rest.split_first_chunk::<2>()?;
        if u32::from_le_bytes(*attributes) & ACTIVE == 0 {
            return None;
        }
        let units: Vec<u16> =
            rest.chunks_exact(2).filter_map(|c| Some(u16::from_le_bytes(*c.first_chunk()?))).collect();
        let end = units.iter().position(|unit| *unit == 0)?;
        let (label, rest) = (string(units.get(..end)?), rest.get(2 * end + 2..)?);
        let (path, options) = rest.split_at_checked(usize::from(u16::from_le_bytes(*path_len)))?;
        let (handle, file) = self.resolve(path)?;
        let origin = Origin::File { handle, file };
        Some(Candidate { label, number: Some(number), origin, options: options.to_vec() })
    }

    /// The file system and the file that a boot entry's path leads to. It may start with the partition (3.1.2).
    fn resolve(&self, path: &[u8]) -> Option<(u64, String)> {
        let (handle, rest) = match self.nearest(guid::SIMPLE_FILE_SYSTEM, path) {
            Some((handle, used)) if used > 0 => (handle, path.get(used..)?),
            _ => {
                let (kind, subtype, first) = device_path::nodes(path).next()?;
                if (kind, subtype) != (4, HARD_DRIVE) {
                    return None;
                }
                // Where it starts may have changed; its number and signature name it.
                let same =
                    |node: &[u8]| node.get(4..8) == first.get(4..8) && node.get(24..42) == first.get(24..42);
                let mut handles = self.handles.with(Some(guid::SIMPLE_FILE_SYSTEM)).into_iter();
                let handle = handles.find(|handle| {
                    let own = self.path_bytes(*handle);
                    device_path::nodes(&own).any(|(k, s, node)| (k, s) == (4, HARD_DRIVE) && same(node))
                })?;
                (handle, path.get(first.len()..)?)
            }
        };
        Some((handle, device_path::file_name(rest).unwrap_or_else(|| REMOVABLE.to_owned())))
    }

    /// Starts the next candidate that can be loaded; the one before has come back with a status.
    pub fn boot_next(&mut self, returned: Option<u64>) -> Result<Flow, Status> {
        if let Some(status) = returned {
            let text = format!("\r\n{} came back with status {status:#x}\r\n", self.queue.running);
            self.console.show(&text);
        }
        while let Some(candidate) = self.queue.candidates.pop_front() {
            let read = match &candidate.origin {
                Origin::File { handle, file } => self.read_file(*handle, file),
                Origin::Host(kernel) => Ok(kernel.clone()),
            };
            let content = match read {
                Ok(content) => content,
                Err(crate::abi::NOT_FOUND) => continue,
                Err(status) => {
                    self.console.show(&format!("cannot read {}: {status:?}\r\n", candidate.name()));
                    continue;
                }
            };
            self.queue.tried += 1;
            match self.boot(&candidate, &content) {
                Ok(flow) => return Ok(flow),
                Err(status) => {
                    self.console.show(&format!("cannot load {}: {status:?}\r\n", candidate.name()));
                }
            }
        }
        let why = if self.queue.tried == 0 {
            "no disk has an EFI boot loader (\\EFI\\BOOT\\BOOTAA64.EFI), and no boot entry leads to one"
        } else {
            "none of the boot loaders on the disks started a system"
        };
        self.fail(&format!("cannot boot: {why}"), Error::NothingToBoot(why));
        Ok(Flow::Power(PSCI_SYSTEM_OFF))
    }

    fn boot(&mut self, candidate: &Candidate, content: &[u8]) -> Result<Flow, Status> {
        let (path, parent) = match &candidate.origin {
            Origin::File { handle, file } => {
                let device = self.path_bytes(*handle);
                let device = device_path::without_end(&device);
                ([device, &device_path::file(file), &device_path::END_NODE].concat(), *handle)
            }
            Origin::Host(_) => {
                let kernel = device_path::media(guid::HOST_KERNEL);
                ([&kernel[..], &device_path::END_NODE].concat(), 0)
            }
        };
        let image = self.load(content, &path, parent)?;
        if !candidate.options.is_empty() {
            self.set_options(image, &candidate.options)?;
        }
        if let Some(number) = candidate.number {
            self.variables.set(&global("BootCurrent"), BOOT | RUNTIME, &number.to_le_bytes(), false)?;
        }
        self.events.signal_group(guid::EVENT_READY_TO_BOOT);
        self.queue.running = candidate.name();
        tracing::info!(what = self.queue.running, "EFI boots");
        let frame = self.queue.frame;
        self.start(image, frame, Then::Booted(image))
    }

    /// The watchdog has not been heard of for too long.
    pub fn bite(&mut self) -> Flow {
        self.console.show("\r\nthe boot loader's watchdog ran out: resetting\r\n");
        Flow::Power(PSCI_SYSTEM_RESET)
    }
}
