//! Waits, kicks, interrupts and timers.

use std::{
    thread,
    time::{Duration, Instant},
};

use tearless_arm64::{pstate, sysreg::name as reg};

use super::{
    Outcome,
    guest::{DATA, Event, Guest, RAM, kernel_with, same},
};
use crate::{TimerLines, Vcpu, Vm};

/// The vector of IRQs from the current level with its own stack.
const IRQ: u64 = 0x280;

/// Waits for an interrupt.
const WAIT: &[u32] = &[
    0xd503_207f, // wfi
    0xf900_0380, // str x0, [x28]
];

pub(super) fn wait<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, WAIT)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.expect(Event::Wfi { deadline: None })?;
    // Masked or not, an interrupt ends the wait.
    vcpu.vcpu.set_irq(true);
    vcpu.finish().map(drop)
}

pub(super) fn wait_pending<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, WAIT)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.vcpu.set_irq(true);
    vcpu.finish().map(drop)
}

/// Sets the virtual timer to X1 ticks from now and waits until the host has seen it; waits may end early.
const WAIT_TIMER: &[u32] = &[
    0xd53b_e040, // mrs x0, cntvct_el0
    0x8b01_0000, // add x0, x0, x1
    0xd51b_e340, // msr cntv_cval_el0, x0
    0xd280_0022, // mov x2, #1
    0xd51b_e322, // msr cntv_ctl_el0, x2
    0xd503_3fdf, // isb
    // wait:
    0xd503_207f, // wfi
    0xf940_0342, // ldr x2, [x26]
    0xb4ff_ffc2, // cbz x2, wait
    0xf900_0380, // str x0, [x28]
];

pub(super) fn wait_deadline<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, WAIT_TIMER)?;
    let mut vcpu = guest.vcpu(0)?;
    // A tenth of a second at 10 MHz, and less on faster counters.
    vcpu.change(|state| state.x[1] = 1_000_000)?;
    let before = Instant::now();
    let deadline = match vcpu.next()? {
        Event::Wfi { deadline: Some(deadline) } => deadline,
        other => return Err(format!("expected a wait with a deadline, got {other:x?}")),
    };
    same("a deadline in the next seconds", deadline < before + Duration::from_secs(60), true)?;
    thread::sleep(deadline.saturating_duration_since(Instant::now()));
    loop {
        match vcpu.next()? {
            Event::Timer(lines) => {
                same("the timer lines", lines, TimerLines { virt: true, ..TimerLines::default() })?;
                vcpu.vcpu.set_irq(true);
                guest.put_u64(DATA, 1)?;
                break;
            }
            Event::Wfi { .. } => {}
            other => return Err(format!("expected the timer, got {other:x?}")),
        }
    }
    vcpu.finish().map(drop)
}

/// Waits X3 times for the virtual timer, each time for ten ticks longer than before, from X1 on.
const WAIT_TIMERS: &[u32] = &[
    // again:
    0xd53b_e040, // mrs x0, cntvct_el0
    0x8b01_0000, // add x0, x0, x1
    0xd51b_e340, // msr cntv_cval_el0, x0
    0xd280_0022, // mov x2, #1
    0xd51b_e322, // msr cntv_ctl_el0, x2
    // wait:
    0xd503_207f, // wfi
    0xd53b_e322, // mrs x2, cntv_ctl_el0
    0x3617_ffc2, // tbz w2, #2, wait
    0xd51b_e33f, // msr cntv_ctl_el0, xzr
    0x9100_2821, // add x1, x1, #10
    0xf100_0463, // subs x3, x3, #1
    0x54ff_fea1, // b.ne again
    0xf900_0380, // str x0, [x28]
];

/// A timer that fires just when the vCPU begins to wait ends the wait, too.
pub(super) fn wait_short<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, WAIT_TIMERS)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| state.x[3] = 3000)?;
    let mut fired = false;
    loop {
        match vcpu.next()? {
            Event::Timer(lines) => {
                fired = lines.virt;
                vcpu.vcpu.set_irq(fired);
            }
            Event::Wfi { deadline: None } if !fired => {
                return Err(format!("a wait for ever, {} rounds before the end", vcpu.x(3)?));
            }
            Event::Wfi { .. } => {}
            Event::Done(_) => return Ok(()),
            other => return Err(format!("expected a wait or the timer, got {other:x?}")),
        }
    }
}

/// Nothing but the end.
const NOTHING: &[u32] = &[
    0xf900_0380, // str x0, [x28]
];

pub(super) fn kick_before<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, NOTHING)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.kicker.kick();
    vcpu.kicker.kick();
    vcpu.expect(Event::Kicked)?;
    same("pc", vcpu.state()?.pc, RAM)?;
    vcpu.finish().map(drop)
}

/// Spins for ever.
const SPIN: &[u32] = &[
    0x1400_0000, // b .
];

pub(super) fn kick_during<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, SPIN)?;
    let mut vcpu = guest.vcpu(0)?;
    for _ in 0..3 {
        let kicker = vcpu.kicker.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            kicker.kick();
        });
        vcpu.expect(Event::Kicked)?;
        same("pc", vcpu.state()?.pc, RAM)?;
        thread.join().map_err(|_| "the kicking thread panicked")?;
    }
    Ok(())
}

pub(super) fn delivery<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, NOTHING)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.set_pstate(pstate::N | kernel_with(pstate::I))?;
    vcpu.vcpu.set_irq(true);
    vcpu.expect(Event::Vector(IRQ))?;
    same("ELR_EL1", vcpu.sys(reg::ELR_EL1)?, RAM)?;
    let saved = pstate::N | kernel_with(pstate::I);
    same("SPSR_EL1", vcpu.sys(reg::SPSR_EL1)?, u64::from(saved))?;
    vcpu.vcpu.set_irq(false);
    vcpu.finish()?;
    same("pstate after the return", vcpu.state()?.pstate, saved)
}

/// Unmasks interrupts between two moves.
const UNMASK: &[u32] = &[
    0xd280_0020, // mov x0, #1
    0xd503_42ff, // msr daifclr, #2
    0xd503_3fdf, // isb
    0xd280_0040, // mov x0, #2
    0xf900_0380, // str x0, [x28]
];

pub(super) fn masking<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, UNMASK)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.vcpu.set_irq(true);
    vcpu.expect(Event::Vector(IRQ))?;
    same("x0 when the interrupt comes", vcpu.x(0)?, 1)?;
    vcpu.vcpu.set_irq(false);
    same("x0 at the end", vcpu.finish()?, 2)
}

/// Sets the virtual timer to the past, waits until the host has seen it, and turns it off.
const TIMER: &[u32] = &[
    0xd53b_e040, // mrs x0, cntvct_el0
    0xd51b_e340, // msr cntv_cval_el0, x0
    0xd280_0021, // mov x1, #1
    0xd51b_e321, // msr cntv_ctl_el0, x1
    // seen:
    0xf940_0342, // ldr x2, [x26]
    0xb4ff_ffe2, // cbz x2, seen
    0xd51b_e33f, // msr cntv_ctl_el0, xzr
    0xd503_3fdf, // isb
    0xf900_0380, // str x0, [x28]
];

pub(super) fn timer<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, TIMER)?;
    let mut vcpu = guest.vcpu(0)?;
    let fired = TimerLines { virt: true, ..TimerLines::default() };
    vcpu.expect(Event::Timer(fired))?;
    same("the timer lines", vcpu.vcpu.timer_lines(), fired)?;
    guest.put_u64(DATA, 1)?;
    vcpu.expect(Event::Timer(TimerLines::default()))?;
    same("the timer lines", vcpu.vcpu.timer_lines(), TimerLines::default())?;
    vcpu.finish().map(drop)
}
