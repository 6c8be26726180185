//! Our sides: the driver on a bare machine with one vCPU of the software engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tearless_engine::{Exit, Region, Vcpu, VcpuSeed, VcpuState, Vm};
use tearless_engine_soft::{Options, SoftVm, Tier};
use tearless_memory::{Gpa, GuestMemory};
use zerocopy::IntoBytes as _;

use crate::driver::{self, Driver, Host};
use crate::features::Features;
use crate::kernel;
use crate::layout::{
    Batch, CODE_AREA, CODE_COPY, DEVICE, DRIVER, KERNEL, RAM_BASE, RAM_SIZE, RECORDS, Record, SCRATCH,
    SCRATCH_SIZE, TABLES, VARS, vars,
};
use crate::side::Side;
use crate::tables;

/// How long a batch may take: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the engine may take to notice that it has been kicked because of [`PATIENCE`].
const GRACE: Duration = Duration::from_secs(10);

type Clock = Arc<Mutex<Option<Instant>>>;

fn set(clock: &Clock, since: Option<Instant>) {
    *clock.lock().unwrap_or_else(PoisonError::into_inner) = since;
}

/// Ends the process if the engine does not come back although it has been kicked: nothing else can.
fn give_up_on(clock: &Clock) {
    let since = *clock.lock().unwrap_or_else(PoisonError::into_inner);
    if since.is_some_and(|since| since.elapsed() > PATIENCE + GRACE) {
        eprintln!(
            "difftest: the engine hangs: a kick does not get it out of guest code; --isolate finds the sequence"
        );
        std::process::abort();
    }
}

type SoftVcpu = <<SoftVm as Vm>::Seed as VcpuSeed>::Vcpu;

/// What the machine is like.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The driver and the sequences run at EL1.
    pub el1: bool,
    /// Records choose address spaces.
    pub spaces: bool,
    /// The machine takes an interrupt each time that so long has passed.
    pub interrupts: Option<Duration>,
    /// Translated code need not know flags at a fault that nothing reads.
    pub lazy_flags: bool,
    /// The vCPU updates memory as if it had siblings.
    pub locked: bool,
}

/// A page of a device: what is written can be read again, after a fashion. With the MMU off, sequences reach other places
/// too, where there is nothing.
struct Device([u8; 0x1000]);

impl Device {
    fn register(&mut self, gpa: Gpa, size: u8) -> Option<&mut [u8]> {
        let at = usize::try_from(gpa.0.checked_sub(DEVICE)?).ok()?;
        self.0.get_mut(at..at.checked_add(usize::from(size))?)
    }

    fn read(&mut self, gpa: Gpa, size: u8) -> u64 {
        let bytes = self.register(gpa, size).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(byte ^ size))
    }

    fn write(&mut self, gpa: Gpa, size: u8, value: u64) {
        if let Some(bytes) = self.register(gpa, size) {
            bytes.copy_from_slice(&value.to_le_bytes()[..usize::from(size)]);
        }
    }
}

/// The software CPU with the driver inside.
pub struct Soft {
    memory: GuestMemory,
    vcpu: SoftVcpu,
    device: Device,
    driver: Driver,
    features: Features,
    /// Since when the engine has been in guest code.
    clock: Clock,
    setting: Setting,
    /// Interrupts that the guest took.
    taken: u64,
    /// Keeps the VM alive.
    _vm: SoftVm,
}

impl Soft {
    /// Builds the machine and runs it to the point where it wants its first batch.
    ///
    /// # Errors
    /// If the engine cannot build it, or the guest does not come up.
    pub fn start(setting: Setting, tier: Tier) -> Result<Self> {
        let Setting { el1, spaces, interrupts, lazy_flags, locked } = setting;
        let driver = driver::assemble(Host::Bare { el1, spaces });
        let range = Gpa(RAM_BASE)..Gpa(RAM_BASE + RAM_SIZE);
        let memory = GuestMemory::new(std::slice::from_ref(&range))?;
        memory.write(Gpa(KERNEL), &kernel::assemble(&driver, el1))?;
        memory.write(Gpa(TABLES), &tables::tables(el1))?;
        memory.write(Gpa(DRIVER), &driver.bytes)?;
        let vm = SoftVm::with(Options { tier, exact_flags: !lazy_flags, locked, ..Options::default() })?;
        vm.map(&Region { range, memory: memory.clone(), writable: true })?;
        let seed = vm.vcpu(0)?;
        let kicker = seed.kicker();
        let clock = Arc::new(Mutex::new(None));
        let watched = clock.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(interrupts.unwrap_or(Duration::from_secs(1)));
                kicker.kick();
                give_up_on(&watched);
            }
        });
        let mut vcpu = seed.bind()?;
        vcpu.set_state(&VcpuState::entry(kernel::ENTRY, 0))?;
        let mut soft = Self {
            memory,
            vcpu,
            device: Device([0; 0x1000]),
            driver,
            features: Features::default(),
            clock,
            setting,
            taken: 0,
            _vm: vm,
        };
        soft.run_until_batch().context("while the guest starts")?;
        Ok(soft)
    }

    /// What the CPU advertises.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Runs the vCPU until the driver asks for a batch, which is also when it is done with the one before.
    fn run_until_batch(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if started.elapsed() > PATIENCE {
                let state = self.vcpu.state()?;
                bail!(
                    "the guest does not come to the end of a batch: is it in a loop? PC {:#x}, PSTATE {:#x}",
                    state.pc,
                    state.pstate
                );
            }
            match self.vcpu.run()? {
                Exit::Smccc(call) if call.x[0] == kernel::WANT_BATCH => return Ok(()),
                Exit::Smccc(call) if call.x[0] == kernel::FEATURES => {
                    self.features = Features::from_registers(&call.x[1..]);
                }
                Exit::Smccc(call) if call.x[0] == kernel::UNEXPECTED => {
                    bail!(
                        "the guest took an exception at EL1: ESR {:#x} ELR {:#x} FAR {:#x}",
                        call.x[1],
                        call.x[2],
                        call.x[3]
                    )
                }
                Exit::Smccc(call) if call.x[0] == kernel::INTERRUPTED => {
                    self.taken += 1;
                    self.vcpu.set_irq(false);
                }
                Exit::Kicked => self.vcpu.set_irq(self.setting.interrupts.is_some()),
                Exit::MmioRead { gpa, size, value } => {
                    *value = self.device.read(gpa, size);
                }
                Exit::MmioWrite { gpa, size, value } => {
                    self.device.write(gpa, size, value);
                }
                Exit::SysReg(access) => *access.handled = false,
                Exit::Timer(_) | Exit::Wfi { .. } => {}
                other => bail!("the guest left its memory: {other:?}"),
            }
        }
    }
}

impl Side for Soft {
    fn remark(&self) -> Option<String> {
        self.setting.interrupts.map(|_| format!("{} interrupts were taken", self.taken))
    }

    fn submit(&mut self, batch: &Batch) -> Result<()> {
        let code = batch.code_bytes(self.driver.exit, false);
        let header = Gpa(VARS + u64::from(vars::HEADER));
        self.memory.write(header, &(batch.records.len() as u64).to_le_bytes())?;
        self.memory.write(Gpa(header.0 + 8), &(code.len() as u64).to_le_bytes())?;
        self.memory.write(Gpa(CODE_AREA), &code)?;
        if self.setting.spaces {
            self.memory.write(Gpa(CODE_COPY), &batch.code_bytes(self.driver.exit, true))?;
        }
        // Nothing may reach from one batch into the next, so that each can be repeated alone.
        self.device.0.fill(0);
        self.memory.write(Gpa(SCRATCH), &[0; SCRATCH_SIZE as usize])?;
        self.memory.write(Gpa(RECORDS), batch.records.as_bytes())?;
        Ok(())
    }

    fn collect(&mut self, batch: &Batch, records: &mut Vec<Record>) -> Result<()> {
        set(&self.clock, Some(Instant::now()));
        let result = self.run_until_batch();
        set(&self.clock, None);
        result?;
        records.resize(batch.records.len(), Record::zero());
        self.memory.read(Gpa(RECORDS), records.as_mut_bytes())?;
        Ok(())
    }
}
