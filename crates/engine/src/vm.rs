use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use tearless_memory::{Gpa, GuestMemory};

use crate::{Exit, TimerLines, VcpuState};

/// What an engine can fail with. Nothing that a guest does leads here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine cannot do what was asked on this host.
    #[error("{0}")]
    Unsupported(String),
    /// The host refused a resource.
    #[error("cannot {action}: {source}")]
    Host {
        /// What was tried.
        action: &'static str,
        /// What the host said.
        source: std::io::Error,
    },
    /// The caller broke the contract.
    #[error("engine misuse: {0}")]
    Misuse(String),
    /// Two ways to execute the same instructions had different results, in a mode that compares them.
    #[error("{0}")]
    Difference(String),
}

/// Results of an engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Guest physical memory that the guest accesses without an exit.
#[derive(Clone, Debug)]
pub struct Region {
    /// Where; both ends are multiples of 4 KiB.
    pub range: Range<Gpa>,
    /// The memory that backs it, at the same guest physical addresses.
    pub memory: GuestMemory,
    /// Whether the guest may write. Writes to a read-only region come as [`Exit::MmioWrite`].
    pub writable: bool,
}

/// A virtual machine as the engine sees it: memory and vCPUs.
pub trait Vm: Send + Sync {
    /// What [`Vm::vcpu`] returns.
    type Seed: VcpuSeed;

    /// Maps memory. Everything unmapped is MMIO.
    ///
    /// # Errors
    /// For a range that is unaligned, not backed, or mapped already.
    fn map(&self, region: &Region) -> Result<()>;

    /// Unmaps memory. When it returns no vCPU can reach the range any more.
    ///
    /// # Errors
    /// For a range that is not mapped.
    fn unmap(&self, range: Range<Gpa>) -> Result<()>;

    /// Makes vCPU `index`, whose `MPIDR_EL1` affinity is [`tearless_arm64`]'s linear numbering: Aff0 = index % 16,
    /// Aff1 = index / 16 (QEMU's `virt` with GICv3).
    ///
    /// # Errors
    /// For an index that is in use or above the engine's limit.
    fn vcpu(&self, index: u32) -> Result<Self::Seed>;
}

/// A vCPU before it has a thread.
pub trait VcpuSeed: Send {
    /// What [`VcpuSeed::bind`] returns.
    type Vcpu: Vcpu;

    /// The way to interrupt this vCPU.
    fn kicker(&self) -> Kicker;

    /// Makes the vCPU, on the thread that will run it.
    ///
    /// # Errors
    /// When the host refuses.
    fn bind(self) -> Result<Self::Vcpu>;
}

/// A vCPU, on its own thread.
pub trait Vcpu {
    /// Runs guest instructions until there is something to do for the caller.
    ///
    /// # Errors
    /// Only for failures of the host; whatever the guest does is an [`Exit`] or an exception in the guest.
    fn run(&mut self) -> Result<Exit<'_>>;

    /// Sets the level of the IRQ input, from the interrupt controller. It takes effect in the next `run`.
    fn set_irq(&mut self, level: bool);

    /// The VM stood still for `pause`: the guest's counter goes on from where it was. Every vCPU of a VM is told the same.
    fn skip_time(&mut self, pause: Duration);

    /// How long the guest's counter has counted.
    fn counted(&self) -> Duration;

    /// The guest's counter has counted for `counted` at the time `at`. Every vCPU of a VM is told the same.
    fn set_counted(&mut self, counted: Duration, at: Instant);

    /// The timer outputs as last reported by [`Exit::Timer`].
    fn timer_lines(&self) -> TimerLines;

    /// Reads the whole state, but for the counter. Called after an exit that has no answer to be carried into the guest;
    /// after [`Exit::Kicked`](crate::Exit::Kicked) there is none, for a kick waits for the end of an instruction.
    ///
    /// # Errors
    /// When the host refuses.
    fn state(&self) -> Result<VcpuState>;

    /// Replaces the whole state; with [`VcpuState::entry`] this is a CPU reset.
    ///
    /// # Errors
    /// For values that the engine cannot represent.
    fn set_state(&mut self, state: &VcpuState) -> Result<()>;
}

/// What a [`Kicker`] does.
pub trait Kick: Send + Sync {
    /// Makes the vCPU's current or next `run` return [`Exit::Kicked`](crate::Exit::Kicked). Several kicks may come as one.
    fn kick(&self);
}

/// Interrupts a vCPU from any thread.
#[derive(Clone)]
pub struct Kicker(Arc<dyn Kick>);

impl Kicker {
    /// Wraps an engine's way to kick.
    pub fn new(kick: Arc<dyn Kick>) -> Self {
        Self(kick)
    }

    /// See [`Kick::kick`].
    pub fn kick(&self) {
        self.0.kick();
    }
}

impl fmt::Debug for Kicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kicker")
    }
}
