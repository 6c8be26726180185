//! Our side: the driver at EL0 of a bare machine with one vCPU of the software engine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tearless_engine::{Exit, Region, Vcpu, VcpuSeed, VcpuState, Vm};
use tearless_engine_soft::SoftVm;
use tearless_memory::{Gpa, GuestMemory};

use crate::driver::{self, Driver, Host};
use crate::features::Features;
use crate::kernel;
use crate::layout::{
    Batch, CODE, DRIVER, KERNEL, RAM_BASE, RAM_SIZE, RECORDS, Record, TABLES, VARS, rec, vars,
};
use crate::side::Side;

/// How long a batch may take: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

type SoftVcpu = <<SoftVm as Vm>::Seed as VcpuSeed>::Vcpu;

/// The software CPU with the driver inside.
pub struct Soft {
    memory: GuestMemory,
    vcpu: SoftVcpu,
    driver: Driver,
    features: Features,
    /// Whether a kick becomes an interrupt.
    interrupts: bool,
    /// Interrupts that the guest took.
    taken: u64,
    /// Keeps the VM alive.
    _vm: SoftVm,
}

impl Soft {
    /// Builds the machine and runs it to the point where it wants its first batch. With `interrupts`, it takes an
    /// interrupt each time that so long has passed.
    ///
    /// # Errors
    /// If the engine cannot build it, or the guest does not come up.
    pub fn start(interrupts: Option<Duration>) -> Result<Self> {
        let driver = driver::assemble(Host::Bare);
        let range = Gpa(RAM_BASE)..Gpa(RAM_BASE + RAM_SIZE);
        let memory = GuestMemory::new(std::slice::from_ref(&range))?;
        memory.write(Gpa(KERNEL), &kernel::assemble(&driver))?;
        memory.write(Gpa(TABLES), &kernel::tables())?;
        memory.write(Gpa(DRIVER), &driver.bytes)?;
        let vm = SoftVm::new()?;
        vm.map(&Region { range, memory: memory.clone(), writable: true })?;
        let seed = vm.vcpu(0)?;
        let kicker = seed.kicker();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(interrupts.unwrap_or(PATIENCE / 60));
                kicker.kick();
            }
        });
        let mut vcpu = seed.bind()?;
        vcpu.set_state(&VcpuState::entry(kernel::ENTRY, 0))?;
        let mut soft = Self {
            memory,
            vcpu,
            driver,
            features: Features::default(),
            interrupts: interrupts.is_some(),
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
                Exit::Kicked => self.vcpu.set_irq(self.interrupts),
                Exit::SysReg(access) => *access.handled = false,
                Exit::Timer(_) | Exit::Wfi { .. } => {}
                other => bail!("the guest left its memory: {other:?}"),
            }
        }
    }
}

impl Side for Soft {
    fn remark(&self) -> Option<String> {
        self.interrupts.then(|| format!("{} interrupts were taken", self.taken))
    }

    fn submit(&mut self, batch: &Batch) -> Result<()> {
        let count = (batch.records.len() as u64).to_le_bytes();
        self.memory.write(Gpa(VARS + u64::from(vars::HEADER)), &count)?;
        self.memory.write(Gpa(CODE), &batch.code_bytes(self.driver.exit))?;
        self.memory.write(Gpa(RECORDS), &batch.record_bytes())?;
        Ok(())
    }

    fn collect(&mut self, batch: &Batch) -> Result<Vec<Record>> {
        self.run_until_batch()?;
        let mut bytes = vec![0; batch.records.len() * rec::SIZE as usize];
        self.memory.read(Gpa(RECORDS), &mut bytes)?;
        let records: Vec<Record> = bytes
            .chunks_exact(rec::SIZE as usize)
            .map(|bytes| {
                let mut record = Record::read_from(bytes);
                record.status = crate::compare::signal_of(record.status);
                record
            })
            .collect();
        ensure!(records.len() == batch.records.len(), "the guest lost records");
        Ok(records)
    }
}
