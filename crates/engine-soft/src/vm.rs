//! The engine contract, implemented: [`SoftVm`], its vCPUs, their exits.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tearless_arm64::SysReg;
use tearless_engine::{
    Error, Exit, Kick, Kicker, Region, Result, SmcccCall, SysRegAccess, TimerLines, Vcpu, VcpuSeed,
    VcpuState, Vm,
};
use tearless_memory::Gpa;

use crate::{
    cpu::{
        Cpu, Stop,
        shared::{MAX_VCPUS, Mailbox, Shared, attention},
    },
    interp::run::Leave,
    jit::Jit,
};

/// What executes guest instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// The interpreter: on every host, and the oracle for the translator.
    Interpreter,
    /// Translation to the host's instructions where there is a translator for the host, else the interpreter.
    #[default]
    Jit,
}

/// How vCPUs execute instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What executes them.
    pub tier: Tier,
    /// Has translated code keep NZCV exact wherever an exception may be taken, not only where an instruction reads it
    /// before another one overwrites it. Slower; for comparisons of tiers.
    pub exact_flags: bool,
    /// Has every translated block run by the interpreter too, and compared: a difference ends the vCPU with an error. For
    /// one vCPU, and many times slower.
    pub lockstep: bool,
    /// Has a vCPU without siblings update memory as if it had some. Slower; for comparisons.
    pub locked: bool,
}

const LOCKSTEP_NEEDS_ONE: &str =
    "lockstep compares one vCPU: others would change memory while it is compared\n  try: --cpus 1";
const LOCKSTEP_NEEDS_JIT: &str = "lockstep compares the interpreter with the translator, which this host cannot run\n  because: it needs x86-64 Linux, a CPU with AVX2, and executable memory";

/// A VM whose CPUs are software.
pub struct SoftVm {
    shared: Arc<Shared>,
    options: Options,
}

impl SoftVm {
    /// A VM without memory and vCPUs.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when [`SoftVm::supported`] says no.
    pub fn new() -> Result<Self> {
        Self::with(Options::default())
    }

    /// As [`SoftVm::new`], with `options`.
    ///
    /// # Errors
    /// As [`SoftVm::new`].
    pub fn with(options: Options) -> Result<Self> {
        Self::supported().map_err(Error::Unsupported)?;
        Ok(Self { shared: Shared::new(), options })
    }

    /// Whether this host can run the engine.
    ///
    /// # Errors
    /// What is missing, as a sentence for people.
    pub fn supported() -> std::result::Result<(), String> {
        crate::cpu::supported()
    }

    /// Most vCPUs of a VM.
    pub const fn max_vcpus() -> u32 {
        MAX_VCPUS as u32
    }

    /// The identification registers that describe the CPU, with their values.
    pub fn id_registers() -> Vec<(SysReg, u64)> {
        crate::cpu::id_registers()
    }
}

impl Vm for SoftVm {
    type Seed = SoftVcpuSeed;

    fn map(&self, region: &Region) -> Result<()> {
        self.shared.change_memory(|memory| memory.with(region))
    }

    fn unmap(&self, range: Range<Gpa>) -> Result<()> {
        self.shared.change_memory(|memory| memory.without(&range))
    }

    fn vcpu(&self, index: u32) -> Result<SoftVcpuSeed> {
        if self.options.lockstep && index > 0 {
            return Err(Error::Unsupported(LOCKSTEP_NEEDS_ONE.to_owned()));
        }
        let mailbox = self
            .shared
            .add_vcpu(index)
            .ok_or_else(|| Error::Misuse(format!("vCPU {index} exists or is not below {MAX_VCPUS}")))?;
        if index > 0 {
            // One that was alone until now translates its code anew.
            self.shared.renew_memory();
        }
        Ok(SoftVcpuSeed { shared: self.shared.clone(), mailbox, index, options: self.options })
    }
}

/// A vCPU before it has a thread.
pub struct SoftVcpuSeed {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    index: u32,
    options: Options,
}

impl Kick for Mailbox {
    fn kick(&self) {
        self.raise(attention::KICK);
    }
}

impl VcpuSeed for SoftVcpuSeed {
    type Vcpu = SoftVcpu;

    fn kicker(&self) -> Kicker {
        Kicker::new(self.mailbox.clone())
    }

    fn bind(self) -> Result<SoftVcpu> {
        let vcpus = self.shared.vcpus();
        let mut cpu = Cpu::new(self.shared, self.mailbox, self.index);
        if let Some(jit) = Jit::for_vcpu(self.options, vcpus, &cpu.mailbox.attention) {
            cpu.lockstep = self.options.lockstep.then(|| jit.lockstep());
            cpu.use_jit(jit);
        } else if self.options.lockstep {
            return Err(Error::Unsupported(LOCKSTEP_NEEDS_JIT.to_owned()));
        }
        Ok(SoftVcpu { cpu, pending: Pending::Nothing, value: 0, handled: false })
    }
}

/// What the next `run` has to do with the answer to the last exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    Mmio,
    SysReg { rt: u8, write: bool },
}

/// A software vCPU.
pub struct SoftVcpu {
    cpu: Box<Cpu>,
    pending: Pending,
    /// Answer of a read.
    value: u64,
    /// Answer to whether a system register exists.
    handled: bool,
}

impl SoftVcpu {
    /// Carries the answer to the last exit into the guest.
    fn complete(&mut self) {
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Mmio => self.cpu.replay.answer(self.value),
            Pending::SysReg { rt, write } => self.cpu.complete_sysreg(rt, write, self.value, self.handled),
        }
    }

    fn exit(&mut self, stop: Stop) -> Exit<'_> {
        self.value = 0;
        match stop {
            Stop::MmioRead { gpa, size } => {
                self.pending = Pending::Mmio;
                Exit::MmioRead { gpa: Gpa(gpa), size, value: &mut self.value }
            }
            Stop::MmioWrite { gpa, size, value } => {
                self.pending = Pending::Mmio;
                Exit::MmioWrite { gpa: Gpa(gpa), size, value }
            }
            Stop::SysReg { reg, rt, write } => {
                self.pending = Pending::SysReg { rt, write: write.is_some() };
                self.handled = false;
                Exit::SysReg(SysRegAccess { reg, write, value: &mut self.value, handled: &mut self.handled })
            }
            Stop::Smccc(conduit) => Exit::Smccc(SmcccCall { conduit, x: self.cpu.call_registers() }),
            Stop::Wfi => Exit::Wfi { deadline: self.cpu.timers.deadline() },
            // The run loop keeps these two to itself.
            Stop::Continue | Stop::Exception(_) => Exit::Kicked,
        }
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self) -> Result<Exit<'_>> {
        self.complete();
        self.cpu.mailbox.enter();
        let leave = self.cpu.run();
        self.cpu.mailbox.leave();
        Ok(match leave {
            Leave::Stop(stop) => self.exit(stop),
            Leave::Timer(lines) => Exit::Timer(lines),
            Leave::Kicked => Exit::Kicked,
            Leave::Difference(text) => return Err(Error::Difference(text)),
        })
    }

    fn set_irq(&mut self, level: bool) {
        self.cpu.irq = level;
    }

    fn skip_time(&mut self, pause: Duration) {
        self.cpu.timers.skip(pause);
    }

    fn counted(&self) -> Duration {
        self.cpu.timers.counted()
    }

    fn set_counted(&mut self, counted: Duration, at: Instant) {
        self.cpu.timers.set_counted(counted, at);
        self.cpu.timers_changed = true;
    }

    fn timer_lines(&self) -> TimerLines {
        self.cpu.timers.reported
    }

    fn state(&self) -> Result<VcpuState> {
        Ok(self.cpu.state())
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<()> {
        self.cpu.set_state(state)?;
        self.pending = Pending::Nothing;
        Ok(())
    }
}
