//! Our sides: the driver on a bare machine with one vCPU of the software engine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tearless_engine::{Exit, Region, Vcpu, VcpuSeed, VcpuState, Vm};
use tearless_engine_soft::SoftVm;
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
const PATIENCE: Duration = Duration::from_secs(60);

type SoftVcpu = <<SoftVm as Vm>::Seed as VcpuSeed>::Vcpu;

/// Which part of the engine runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The interpreter alone.
    Interpreter,
    /// The translator, as users have it.
    Jit,
}

impl Tier {
    fn vm(self) -> Result<SoftVm> {
        Ok(SoftVm::new()?)
    }
}

/// What the machine is like.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The driver and the sequences run at EL1.
    pub el1: bool,
    /// Records choose address spaces.
    pub spaces: bool,
    /// The machine takes an interrupt each time that so long has passed.
    pub interrupts: Option<Duration>,
}

/// A page of a device: what is written can be read again, after a fashion.
struct Device([u8; 0x1000]);

impl Device {
    fn read(&self, gpa: Gpa, size: u8) -> Option<u64> {
        let at = gpa.0.checked_sub(DEVICE)? as usize;
        let bytes = self.0.get(at..at + usize::from(size))?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(byte ^ size)))
    }

    fn write(&mut self, gpa: Gpa, size: u8, value: u64) -> Option<()> {
        let at = gpa.0.checked_sub(DEVICE)? as usize;
        let bytes = self.0.get_mut(at..at + usize::from(size))?;
        bytes.copy_from_slice(&value.to_le_bytes()[..usize::from(size)]);
        Some(())
    }
}

/// The software CPU with the driver inside.
pub struct Soft {
    memory: GuestMemory,
    vcpu: SoftVcpu,
    device: Device,
    driver: Driver,
    features: Features,
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
        let Setting { el1, spaces, interrupts } = setting;
        let driver = driver::assemble(Host::Bare { spaces });
        let range = Gpa(RAM_BASE)..Gpa(RAM_BASE + RAM_SIZE);
        let memory = GuestMemory::new(std::slice::from_ref(&range))?;
        memory.write(Gpa(KERNEL), &kernel::assemble(&driver, el1))?;
        memory.write(Gpa(TABLES), &tables::tables(el1))?;
        memory.write(Gpa(DRIVER), &driver.bytes)?;
        let vm = tier.vm()?;
        vm.map(&Region { range, memory: memory.clone(), writable: true })?;
        let seed = vm.vcpu(0)?;
        let kicker = seed.kicker();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(interrupts.unwrap_or(Duration::from_secs(1)));
                kicker.kick();
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
            ensure!(
                started.elapsed() < PATIENCE,
                "the guest does not come to the end of a batch: is it in a loop?"
            );
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
                    *value = self.device.read(gpa, size).with_context(|| format!("a read at {gpa:?}"))?;
                }
                Exit::MmioWrite { gpa, size, value } => {
                    self.device.write(gpa, size, value).with_context(|| format!("a write at {gpa:?}"))?;
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
        self.run_until_batch()?;
        records.resize(batch.records.len(), Record::zero());
        self.memory.read(Gpa(RECORDS), records.as_mut_bytes())?;
        Ok(())
    }
}
