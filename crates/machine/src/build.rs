//! Assembly: a list of short steps over the resolved plan.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tearless_boot::{kernel::KernelImage, place};
use tearless_bus::{CharInput, CharSink, CpuWake, IrqLine, IrqSink, MmioBus, MmioDevice, MsiSink};
use tearless_devices::{
    gic::{Gic, GicConfig},
    pl011::Pl011,
    pl031::Pl031,
    pl061::{POWER_PIN, Pl061},
};
use tearless_display::{Input, Screen};
use tearless_efi::{self as efi, Firmware, Identity, Setup, Variables};
use tearless_engine::{Region, Vm};
use tearless_memory::GuestMemory;
use tearless_pci::{PciHost, PciHostConfig};
use tearless_state::{Folder, Progress, Saved};
use tearless_storage::Disk;
use tearless_virtio::{
    VirtioDevice, VirtioPci,
    blk::{Blk, BlkOptions},
    console::{Console, ConsolePort, Port},
    rng::Rng,
};

use crate::{
    Error, Outcome, Plan, Shape, SlotKind, board, fdt,
    firmware::{self, FirmwareBoot, FirmwareDevices},
    gate::Gate,
    psci::{Entry, Power},
    state,
    vcpu_loop::{Restored, Shared, vcpu_thread},
    wake::Bells,
};

/// How a machine starts.
pub enum Boot {
    /// With a kernel in its memory.
    Linux {
        /// The kernel.
        kernel: KernelImage,
        /// The RAM disk; empty for none.
        initrd: Vec<u8>,
        /// The kernel command line.
        cmdline: String,
    },
    /// With what EFI finds on its disks.
    Efi {
        /// The variables.
        variables: Arc<Variables>,
        /// Who the machine is.
        identity: Identity,
        /// The screen, and what is typed there.
        display: Option<(Arc<Screen>, Arc<Input>)>,
        /// A kernel that it boots instead.
        kernel: Option<efi::Kernel>,
    },
    /// With firmware of another's making.
    Firmware(FirmwareBoot),
}

/// What a machine is made of.
pub struct Spec {
    /// How many vCPUs.
    pub vcpus: u32,
    /// How much RAM, in bytes.
    pub memory: u64,
    /// How it starts.
    pub boot: Boot,
    /// The disks, in the order in which the guest finds them.
    pub disks: Vec<Arc<dyn Disk>>,
    /// Further virtio devices: network, shared folders, and so on.
    pub attached: Vec<Arc<dyn VirtioDevice>>,
    /// Where the UART's output goes.
    pub uart: Box<dyn CharSink>,
    /// The virtio console.
    pub console: ConsolePort,
    /// Named streams of the guest, apart from its console; may be empty.
    pub streams: Vec<ConsolePort>,
}

impl Spec {
    /// What the plan must have room for.
    pub fn shape(&self) -> Shape {
        Shape {
            vcpus: self.vcpus,
            memory: self.memory,
            disks: self.disks.len(),
            streams: !self.streams.is_empty(),
            attached: self.attached.iter().map(|device| device.kind().id).collect(),
        }
    }
}

/// Reaches into a machine while it runs. Clones share.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) devices: Arc<Devices>,
    serial: Serial,
}

/// The devices that the host reaches into, and all that have a state.
pub(crate) struct Devices {
    pub uart: Arc<Pl011>,
    pub rtc: Arc<Pl031>,
    pub gpio: Arc<Pl061>,
    pub pci: PciHost,
    pub disks: Vec<Arc<Blk>>,
    pub memory: GuestMemory,
    pub plan: Plan,
    /// What answers the guest's calls of EFI.
    pub firmware: Option<Arc<Firmware>>,
    /// What firmware of another's making has.
    pub flashed: Option<FirmwareDevices>,
}

/// The virtio consoles.
#[derive(Clone)]
struct Serial {
    console: Arc<Console>,
    /// The console's only port.
    terminal: Arc<Port>,
    streams: Option<Arc<Console>>,
}

impl Serial {
    fn new(console: ConsolePort, streams: Vec<ConsolePort>) -> Result<Self, Error> {
        let device = |ports| Console::new(ports).map_err(|e| Error::Board(e.to_string()));
        if !console.is_console {
            return Err(Error::Board(format!("port {:?} is a stream, not a console", console.name)));
        }
        let console = device(vec![console])?;
        let terminal = console.port(0).ok_or_else(|| Error::Board("the console has no port".to_owned()))?;
        let streams = if streams.is_empty() { None } else { Some(device(streams)?) };
        Ok(Self { console, terminal, streams })
    }
}

impl Handle {
    /// Ends the machine at once, as by pulling the plug.
    pub fn kill(&self) {
        self.shared.end(Outcome::Killed);
    }

    /// Ends the machine, which was saved.
    pub(crate) fn suspend(&self) {
        self.shared.end(Outcome::Suspended);
    }

    /// Whether the machine went on from a state.
    pub fn is_restored(&self) -> bool {
        self.shared.restored.is_some()
    }

    /// Stops the vCPUs and the guest's counter; returns once none runs. `false` when the machine has ended.
    pub fn pause(&self) -> bool {
        self.shared.gate.close(|| self.shared.bells.wake_all())
    }

    /// Lets the vCPUs go on.
    pub fn resume(&self) {
        self.shared.gate.open();
    }

    /// Whether the guest has a driver for the power button, which Debian's cloud kernel for one has not.
    pub fn has_power_button(&self) -> bool {
        self.devices.gpio.listens(POWER_PIN)
    }

    /// Presses the power button: asks the guest to shut down.
    ///
    /// # Errors
    /// When the host has no thread left to let the button go again.
    pub fn press_power(&self) -> Result<(), Error> {
        self.devices.gpio.press_power().map_err(|e| Error::Host("press the power button", e))
    }

    /// What is typed into the UART.
    pub fn uart(&self) -> Arc<dyn CharInput> {
        Arc::clone(&self.devices.uart) as _
    }

    /// The host's side of the virtio console.
    pub fn console(&self) -> Arc<Port> {
        Arc::clone(&self.serial.terminal)
    }

    /// The host's side of the stream called `name`.
    pub fn stream(&self, name: &str) -> Option<Arc<Port>> {
        self.serial.streams.as_ref()?.port_named(name)
    }

    /// Tells the guest the size of its console, in characters.
    pub fn resize(&self, cols: u16, rows: u16) {
        self.serial.console.resize(cols, rows);
    }

    /// Makes disk `index` larger and tells the guest.
    ///
    /// # Errors
    /// When there is no such disk, or it cannot grow to `size` bytes.
    pub fn grow_disk(&self, index: usize, size: u64) -> Result<(), Error> {
        let disk =
            self.devices.disks.get(index).ok_or_else(|| Error::Board(format!("there is no disk {index}")))?;
        disk.grow(size).map_err(|e| Error::Host("make the disk larger", e))
    }

    /// Waits until the host has all that the guest has written to the console and the streams so far, at most for
    /// `limit`. Returns whether that came true.
    pub fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let devices = [Some(&self.serial.console), self.serial.streams.as_ref()];
        devices
            .into_iter()
            .flatten()
            .all(|device| device.drain(deadline.saturating_duration_since(Instant::now())))
    }
}

/// A built machine.
pub struct Machine<V: Vm> {
    vm: V,
    handle: Handle,
}

impl<V: Vm> Machine<V> {
    /// Builds the machine of `spec` on the engine `vm`, up to the first instruction.
    ///
    /// # Errors
    /// When the parts do not fit or the host lacks a resource.
    pub fn build(vm: V, spec: Spec) -> Result<Self, Error> {
        let plan = Plan::new(&spec.shape())?;
        let memory = GuestMemory::new(std::slice::from_ref(&plan.ram))?;
        Self::assemble(vm, spec, (plan, memory), None)
    }

    /// Builds the machine of `spec` on the engine `vm` as `folder` has it: `saved` is what was loaded from there. Its outline
    /// was checked by whoever knows the engine's name.
    ///
    /// # Errors
    /// As [`Machine::build`]; and when the state is damaged, of another release or of another machine. Nothing has happened
    /// then.
    pub fn restore(
        vm: V,
        spec: Spec,
        folder: &Folder,
        saved: Saved,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        let plan = Plan::new(&spec.shape())?;
        let memory = GuestMemory::new(std::slice::from_ref(&plan.ram))?;
        let Saved { machine, mut parts, .. } = saved;
        let vcpus = state::take_vcpus(&mut parts, plan.vcpus)?;
        let built = Self::assemble(vm, spec, (plan, memory), Some(vcpus))?;
        let devices = &built.handle.devices;
        machine.check(&devices.outline(&machine.engine))?;
        folder.read_memory(&devices.memory, devices.ram(), progress)?;
        built.handle.restore(parts)?;
        Ok(built)
    }

    fn assemble(
        vm: V,
        spec: Spec,
        (plan, memory): (Plan, GuestMemory),
        restored: Option<(Power, Restored)>,
    ) -> Result<Self, Error> {
        vm.map(&Region { range: plan.ram.clone(), memory: memory.clone(), writable: true })?;
        let bells = Arc::new(Bells::new(plan.vcpus));
        let gic = Gic::new(
            GicConfig {
                vcpus: plan.vcpus,
                spis: board::SPIS,
                doorbell: Some(board::ITS_DOORBELL),
                memory: memory.clone(),
            },
            Arc::clone(&bells) as Arc<dyn CpuWake>,
        );
        let mut board = Board { bus: MmioBus::default(), gic: Arc::clone(&gic), memory: memory.clone() };
        board.add_gic(&plan)?;
        let (uart, rtc, gpio) = board.add_platform_devices(spec.uart)?;
        let serial = Serial::new(spec.console, spec.streams)?;
        let options =
            BlkOptions { queues: u16::try_from(plan.vcpus).unwrap_or(u16::MAX), ..BlkOptions::default() };
        let disks: Vec<_> = spec.disks.iter().map(|disk| Blk::new(Arc::clone(disk), &options)).collect();
        let pci = board.add_pcie(&plan, &serial, &disks, &spec.attached)?;

        let flashed = match &spec.boot {
            Boot::Firmware(boot) => {
                firmware::map_code(&vm, &boot.code)?;
                Some(board.add_firmware(&plan, boot)?)
            }
            _ => None,
        };
        let mut firmware = None;
        let (power, restored) = match (restored, spec.boot) {
            (Some((power, restored)), Boot::Linux { .. } | Boot::Firmware(_)) => (power, Some(restored)),
            (Some((power, restored)), Boot::Efi { variables, display, .. }) => {
                let screen = display.map(|(screen, _)| screen);
                firmware = Some(board.add_resumed_efi(&plan, Arc::clone(&uart) as _, (variables, screen))?);
                (power, Some(restored))
            }
            (None, Boot::Linux { kernel, initrd, cmdline }) => {
                let boot = load(&plan, &board.memory, &kernel, (&initrd, &cmdline))?;
                (Power::new(plan.vcpus, boot), None)
            }
            (None, Boot::Efi { variables, identity, display, kernel }) => {
                let setup = Setup {
                    memory: memory.clone(),
                    ram: plan.ram.clone(),
                    doorbell: board::EFI_DOORBELL,
                    serial: Arc::clone(&uart) as _,
                    device_tree: fdt::build(&plan, None, "")?,
                    disks: slots_of(&plan, &spec.disks),
                    variables,
                    identity,
                    display,
                    kernel,
                };
                let (efi, boot) = board.add_efi(setup)?;
                firmware = Some(efi);
                (Power::new(plan.vcpus, boot), None)
            }
            (None, Boot::Firmware(_)) => {
                (Power::new(plan.vcpus, firmware::load(&plan, &board.memory)?), None)
            }
        };
        let shared = Arc::new(Shared {
            bus: board.bus,
            gic,
            power,
            bells,
            gate: Gate::default(),
            memory: memory.clone(),
            restored,
        });
        let devices = Arc::new(Devices { uart, rtc, gpio, pci, disks, memory, plan, firmware, flashed });
        Ok(Self { vm, handle: Handle { shared, devices, serial } })
    }

    /// The way to reach into the machine.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs the machine to its end, each vCPU on a thread of its own.
    ///
    /// # Errors
    /// When the engine or the host fails; the first error of any vCPU. When EFI found nothing that it could boot.
    pub fn run(self) -> Result<Outcome, Error> {
        let shared = &*self.handle.shared;
        let failure = Mutex::new(None);
        if shared.restored.is_some() {
            self.handle.devices.pci.proceed(true);
        }
        thread::scope(|scope| -> Result<(), Error> {
            let spawn_all = || {
                for index in 0..self.handle.devices.plan.vcpus {
                    let seed = self.vm.vcpu(index)?;
                    let failure = &failure;
                    thread::Builder::new()
                        .name(format!("vcpu{index}"))
                        .spawn_scoped(scope, move || {
                            if let Err(error) = vcpu_thread(index, seed, shared) {
                                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            }
                            // Normally the machine has ended already; after an error the others must not run on.
                            shared.end(Outcome::Killed);
                        })
                        .map_err(|e| Error::Host("start a vCPU thread", e))?;
                }
                Ok(())
            };
            spawn_all().inspect_err(|_| shared.end(Outcome::Killed))
        })?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => {
                let outcome = shared.power.outcome().unwrap_or(Outcome::Killed);
                let firmware = self.handle.devices.firmware.as_ref();
                match firmware.and_then(|firmware| firmware.failure()) {
                    Some(failure) if outcome == Outcome::PowerOff => Err(failure.into()),
                    _ => Ok(outcome),
                }
            }
        }
    }
}

/// The device tree that a machine of `plan` gets with this kernel, a RAM disk of `initrd_len` bytes and `cmdline`.
///
/// # Errors
/// When the parts do not fit.
pub fn device_tree(
    plan: &Plan,
    kernel: &KernelImage,
    initrd_len: u64,
    cmdline: &str,
) -> Result<Vec<u8>, Error> {
    let placement = place::place(&plan.ram, kernel, initrd_len, place::MAX_DTB)?;
    fdt::build(plan, placement.initrd, cmdline)
}

/// Puts kernel, RAM disk and device tree into guest memory; returns where it starts.
fn load(
    plan: &Plan,
    memory: &GuestMemory,
    kernel: &KernelImage,
    (initrd, cmdline): (&[u8], &str),
) -> Result<Entry, Error> {
    let placement = place::place(&plan.ram, kernel, initrd.len() as u64, place::MAX_DTB)?;
    kernel.write(memory, &placement)?;
    if let Some(range) = &placement.initrd {
        memory.write(range.start, initrd)?;
    }
    let initrd = placement.initrd.clone();
    memory.write(placement.dtb.start, &fdt::build(plan, initrd, cmdline)?)?;
    Ok(Entry { pc: placement.entry.0, context: placement.dtb.start.0 })
}

type PlatformDevices = (Arc<Pl011>, Arc<Pl031>, Arc<Pl061>);

/// The board while it is being put together.
pub(crate) struct Board {
    bus: MmioBus,
    gic: Arc<Gic>,
    pub memory: GuestMemory,
}

impl Board {
    pub(crate) fn insert(
        &mut self,
        name: &str,
        range: std::ops::Range<tearless_memory::Gpa>,
        device: Arc<dyn MmioDevice>,
    ) -> Result<(), Error> {
        self.bus.insert(name, range, device).map_err(|e| Error::Board(e.to_string()))
    }

    fn line(&self, intid: u32) -> IrqLine {
        IrqLine::new(Arc::clone(&self.gic) as Arc<dyn IrqSink>, intid)
    }

    fn add_gic(&mut self, plan: &Plan) -> Result<(), Error> {
        self.insert("GIC distributor", board::GICD, self.gic.distributor())?;
        self.insert("GIC redistributors", plan.redistributors.clone(), self.gic.redistributors())?;
        self.insert("GIC ITS", board::ITS, self.gic.its())
    }

    fn add_platform_devices(&mut self, sink: Box<dyn CharSink>) -> Result<PlatformDevices, Error> {
        let uart = Pl011::new(sink, self.line(board::UART_INTID));
        self.insert("UART", board::UART, Arc::clone(&uart) as _)?;
        let rtc = Arc::new(Pl031::new(self.line(board::RTC_INTID)));
        self.insert("RTC", board::RTC, Arc::clone(&rtc) as _)?;
        let gpio = Pl061::new(self.line(board::GPIO_INTID));
        self.insert("GPIO", board::GPIO, Arc::clone(&gpio) as _)?;
        Ok((uart, rtc, gpio))
    }

    /// Adds EFI in the VMM; returns where it starts.
    fn add_efi(&mut self, setup: Setup) -> Result<(Arc<Firmware>, Entry), Error> {
        let (firmware, entry) = Firmware::new(setup)?;
        self.insert("EFI", board::EFI_DOORBELL, Arc::clone(&firmware) as _)?;
        Ok((firmware, Entry { pc: entry.0, context: 0 }))
    }

    /// EFI of a machine that goes on from a saved state.
    fn add_resumed_efi(
        &mut self,
        plan: &Plan,
        serial: Arc<dyn MmioDevice>,
        (variables, screen): (Arc<Variables>, Option<Arc<Screen>>),
    ) -> Result<Arc<Firmware>, Error> {
        let at = board::EFI_DOORBELL;
        let host = (serial, variables, screen);
        let firmware = Firmware::resumed(self.memory.clone(), plan.ram.clone(), at.clone(), host);
        self.insert("EFI", at, Arc::clone(&firmware) as _)?;
        Ok(firmware)
    }

    fn add_pcie(
        &mut self,
        plan: &Plan,
        serial: &Serial,
        disks: &[Arc<Blk>],
        attached: &[Arc<dyn VirtioDevice>],
    ) -> Result<PciHost, Error> {
        let host = PciHost::new(PciHostConfig {
            mem32: board::PCIE_MEM32,
            mem64: board::PCIE_MEM64,
            buses: 256,
            intx: board::PCIE_INTX.map(|intid| self.line(intid)),
            msi: Arc::clone(&self.gic) as Arc<dyn MsiSink>,
        });
        for slot in &plan.slots {
            let device: Arc<dyn VirtioDevice> = match slot.kind {
                SlotKind::Console => Arc::clone(&serial.console) as _,
                SlotKind::Streams => match &serial.streams {
                    Some(streams) => Arc::clone(streams) as _,
                    None => return Err(Error::Board("no streams".to_owned())),
                },
                SlotKind::Rng => Rng::new(),
                SlotKind::Block(index) => {
                    let disk = disks.get(index).ok_or_else(|| Error::Board(format!("no disk {index}")))?;
                    Arc::clone(disk) as _
                }
                SlotKind::Attached(index) => {
                    let device = attached.get(index);
                    Arc::clone(device.ok_or_else(|| Error::Board(format!("no device {index}")))?)
                }
            };
            let function =
                VirtioPci::new(device, self.memory.clone()).map_err(|e| Error::Board(e.to_string()))?;
            host.add(slot.number, function).map_err(|e| Error::Board(e.to_string()))?;
        }
        self.insert("PCIe 32-bit window", board::PCIE_MEM32, host.window32())?;
        self.insert("PCIe configuration space", board::PCIE_ECAM, host.ecam())?;
        self.insert("PCIe 64-bit window", board::PCIE_MEM64, host.window64())?;
        Ok(host)
    }
}

/// The disks, each with its slot.
fn slots_of(plan: &Plan, disks: &[Arc<dyn Disk>]) -> Vec<(Arc<dyn Disk>, u8)> {
    let slots = plan.slots.iter().filter_map(|slot| match slot.kind {
        SlotKind::Block(index) => Some((Arc::clone(disks.get(index)?), slot.number)),
        _ => None,
    });
    slots.collect()
}
