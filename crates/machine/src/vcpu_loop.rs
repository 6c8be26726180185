//! The vCPU loop: every exit of every engine is answered here, once.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tearless_bus::MmioBus;
use tearless_devices::gic::Gic;
use tearless_engine::{Exit, SysRegAccess, TimerLines, Vcpu, VcpuSeed, VcpuState};
use tearless_memory::GuestMemory;

use crate::{
    Error, Outcome,
    gate::{Gate, Stopped},
    psci::{After, Power},
    wake::Bells,
};
use tearless_arm64::gic::{INTID_HYP_PTIMER, INTID_PTIMER, INTID_VTIMER};

/// What the vCPUs share.
pub(crate) struct Shared {
    pub bus: MmioBus,
    pub gic: Arc<Gic>,
    pub power: Power,
    pub bells: Arc<Bells>,
    pub gate: Gate,
    pub memory: GuestMemory,
    /// What the vCPUs go on from, where the machine was saved.
    pub restored: Option<Restored>,
}

/// The vCPUs of a saved machine.
pub(crate) struct Restored {
    /// Those that are on, until their threads take them.
    pub vcpus: Mutex<Vec<Option<VcpuState>>>,
    /// For how long the counter had counted.
    pub counted: Duration,
    /// When the machine goes on.
    pub at: OnceLock<Instant>,
}

impl Restored {
    fn take(&self, index: u32) -> Option<VcpuState> {
        self.vcpus.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index as usize)?.take()
    }
}

impl Shared {
    /// Ends the machine: every vCPU thread returns soon.
    pub fn end(&self, outcome: Outcome) {
        self.power.end(outcome);
        self.gate.end();
        self.bells.wake_all();
    }
}

/// How long a guest runs before its memory is worth huge pages: a boot touches much memory once, and zeroing all around
/// what it touches would take a seventh of its time.
const SETTLED: Duration = Duration::from_secs(1);

/// What the loop does after an exit.
enum Next {
    Run,
    /// An answer is still to be carried into the guest: the vCPU is in the middle of an instruction.
    Answered,
    Sleep(Option<Instant>),
    After(After),
}

/// The whole life of a vCPU's thread: from bind to the end of the machine.
///
/// # Errors
/// When the engine fails.
pub(crate) fn vcpu_thread<S: VcpuSeed>(index: u32, seed: S, shared: &Shared) -> Result<(), Error> {
    let kicker = seed.kicker();
    let mut vcpu = seed.bind()?;
    shared.bells.adopt(index, kicker);
    let mut clock = Clock::default();
    let mut started = (index == 0).then(Instant::now);
    let mut saved = shared.restored.as_ref().and_then(|restored| {
        vcpu.set_counted(restored.counted, *restored.at.get_or_init(Instant::now));
        // What the timers' outputs are now, not what they were; they are told when they differ from that.
        timer(index, vcpu.timer_lines(), &shared.gic);
        restored.take(index)
    });
    while let Some(state) = saved.take().or_else(|| entry(index, shared)) {
        vcpu.set_state(&state)?;
        let lost = shared.gate.enter(index, &|lost| stopped(&vcpu, &clock, lost));
        clock.catch_up(&mut vcpu, lost);
        let result = run_until_off(index, &mut vcpu, (&mut clock, &mut started), shared);
        shared.gate.leave();
        result?;
    }
    Ok(())
}

/// Waits until the vCPU is to start.
fn entry(index: u32, shared: &Shared) -> Option<VcpuState> {
    shared.power.wait_on(index).map(|entry| VcpuState::entry(entry.pc, entry.context))
}

/// What a vCPU at the gate tells of itself when the machine has stood still for `lost`, all in all.
fn stopped(vcpu: &impl Vcpu, clock: &Clock, lost: Duration) -> Result<Stopped, String> {
    let state = vcpu.state().map_err(|e| e.to_string())?;
    Ok(Stopped { state, counted: vcpu.counted().saturating_sub(lost.saturating_sub(clock.0)) })
}

/// How much of the time that the machine stood still a vCPU knows about.
#[derive(Default)]
struct Clock(Duration);

impl Clock {
    fn catch_up(&mut self, vcpu: &mut impl Vcpu, lost: Duration) {
        let news = lost.saturating_sub(self.0);
        if !news.is_zero() {
            vcpu.skip_time(news);
            self.0 = lost;
        }
    }
}

fn run_until_off<V: Vcpu>(
    index: u32,
    vcpu: &mut V,
    (clock, started): (&mut Clock, &mut Option<Instant>),
    shared: &Shared,
) -> Result<(), Error> {
    let mut in_instruction = false;
    while !shared.power.ended() {
        if started.take_if(|started| started.elapsed() > SETTLED).is_some() {
            shared.memory.prefer_huge_pages();
        }
        // In the middle of an instruction there is no state to be told.
        if !in_instruction && let Some(lost) = shared.gate.pass(index, &|lost| stopped(vcpu, clock, lost)) {
            clock.catch_up(vcpu, lost);
        }
        vcpu.set_irq(shared.gic.irq_pending(index));
        let next = answer(index, vcpu.run()?, shared);
        in_instruction = matches!(next, Next::Answered);
        match next {
            Next::Answered | Next::Run | Next::After(After::Continue) => {}
            Next::Sleep(deadline) => shared.bells.sleep(index, deadline),
            Next::After(After::Off) => break,
            Next::After(After::Ended) => shared.bells.wake_all(),
        }
    }
    Ok(())
}

fn answer(index: u32, exit: Exit<'_>, shared: &Shared) -> Next {
    match exit {
        Exit::MmioRead { gpa, size, value } => {
            let mut bytes = [0; 8];
            if let Some(data) = bytes.get_mut(..usize::from(size)) {
                shared.bus.read(gpa, data);
            }
            *value = u64::from_le_bytes(bytes);
            return Next::Answered;
        }
        Exit::MmioWrite { gpa, size, value } => {
            if let Some(data) = value.to_le_bytes().get(..usize::from(size)) {
                shared.bus.write(gpa, data);
            }
            return Next::Answered;
        }
        Exit::SysReg(access) => {
            system_register(index, access, &shared.gic);
            return Next::Answered;
        }
        Exit::Smccc(call) => return Next::After(shared.power.call(index, call.x)),
        Exit::Wfi { deadline } if !shared.gic.irq_pending(index) => return Next::Sleep(deadline),
        Exit::Timer(lines) => timer(index, lines, &shared.gic),
        Exit::Wfi { .. } | Exit::Kicked => {}
    }
    Next::Run
}

fn system_register(index: u32, access: SysRegAccess<'_>, gic: &Gic) {
    *access.handled = match access.write {
        Some(value) => gic.icc_write(index, access.reg, value),
        None => gic.icc_read(index, access.reg).map(|value| *access.value = value).is_some(),
    };
    if !*access.handled {
        tracing::debug!(vcpu = index, reg = %access.reg, write = ?access.write, "unknown system register");
    }
}

fn timer(index: u32, lines: TimerLines, gic: &Gic) {
    gic.set_ppi(index, INTID_VTIMER, lines.virt);
    gic.set_ppi(index, INTID_PTIMER, lines.phys);
    gic.set_ppi(index, INTID_HYP_PTIMER, lines.hyp);
}
