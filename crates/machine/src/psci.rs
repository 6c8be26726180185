//! Power states of the vCPUs and the calls that change them (PSCI, DEN0022; SMCCC, DEN0028).
//!
//! ```text
//!           CPU_ON                 the vCPU's thread takes the entry
//!   Off ─────────────► OnPending ──────────────────────────────────► On
//!    ▲                                                               │
//!    └─────────────────────────── CPU_OFF ───────────────────────────┘
//! ```

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tearless_arm64::{
    psci::{self, affinity, ret},
    smccc,
};

use crate::{Outcome, board};

/// Where a vCPU starts: program counter and X0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub pc: u64,
    pub context: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CpuPower {
    Off,
    OnPending(Entry),
    On,
}

struct State {
    cpus: Vec<CpuPower>,
    outcome: Option<Outcome>,
}

/// The power state of the whole machine.
pub(crate) struct Power {
    state: Mutex<State>,
    changed: Condvar,
}

/// What a vCPU does after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Goes on with the next instruction.
    Continue,
    /// Is off: waits for its next entry.
    Off,
    /// The machine is off or resets; the vCPU stops for good.
    Ended,
}

impl Power {
    /// A machine whose vCPU 0 starts at `boot` and whose others are off.
    pub fn new(vcpus: u32, boot: Entry) -> Self {
        let mut cpus = vec![CpuPower::Off; vcpus as usize];
        if let Some(first) = cpus.first_mut() {
            *first = CpuPower::OnPending(boot);
        }
        Self { state: Mutex::new(State { cpus, outcome: None }), changed: Condvar::new() }
    }

    /// A machine that goes on with vCPUs in these states.
    pub fn restored(cpus: Vec<CpuPower>) -> Self {
        Self { state: Mutex::new(State { cpus, outcome: None }), changed: Condvar::new() }
    }

    /// The states of the vCPUs.
    pub fn save(&self) -> Vec<CpuPower> {
        self.lock().cpus.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until vCPU `index` is to start, or returns `None` when the machine has ended.
    pub fn wait_on(&self, index: u32) -> Option<Entry> {
        let mut state = self.lock();
        loop {
            if state.outcome.is_some() {
                return None;
            }
            let cpu = state.cpus.get_mut(index as usize)?;
            if let CpuPower::OnPending(entry) = *cpu {
                *cpu = CpuPower::On;
                return Some(entry);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the machine; the first outcome stays.
    pub fn end(&self, outcome: Outcome) {
        self.lock().outcome.get_or_insert(outcome);
        self.changed.notify_all();
    }

    /// How the machine ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome
    }

    /// Whether the machine has ended.
    pub fn ended(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// Answers a call of vCPU `index`, arguments and results in `x`.
    pub fn call(&self, index: u32, x: &mut [u64; 18]) -> After {
        let mut after = After::Continue;
        let (function, args) = (x[0] as u32, [x[1], x[2], x[3]]);
        let result = match function {
            psci::VERSION => i64::from(psci::VERSION_1_1),
            psci::FEATURES => features(args[0] as u32),
            psci::CPU_OFF => {
                self.set(index, CpuPower::Off);
                after = After::Off;
                ret::SUCCESS
            }
            psci::SYSTEM_OFF => {
                self.end(Outcome::PowerOff);
                after = After::Ended;
                ret::SUCCESS
            }
            psci::SYSTEM_RESET => {
                self.end(Outcome::Reset);
                after = After::Ended;
                ret::SUCCESS
            }
            psci::MIGRATE_INFO_TYPE => psci::NO_TRUSTED_OS as i64,
            smccc::VERSION => i64::from(smccc::VERSION_1_1),
            // A standby state may wake at once, and ours always does: guests idle with WFI.
            f if psci::CPU_SUSPEND.contains(&f) => ret::SUCCESS,
            f if psci::CPU_ON.contains(&f) => self.cpu_on(args, f == psci::CPU_ON[0]),
            f if psci::AFFINITY_INFO.contains(&f) => self.affinity_info(args),
            f if psci::SYSTEM_RESET2.contains(&f) => {
                self.end(Outcome::Reset);
                after = After::Ended;
                ret::SUCCESS
            }
            _ => smccc::NOT_SUPPORTED,
        };
        x[0] = result as u64;
        after
    }

    fn set(&self, index: u32, power: CpuPower) {
        if let Some(cpu) = self.lock().cpus.get_mut(index as usize) {
            *cpu = power;
        }
    }

    fn cpu_on(&self, [target, pc, context]: [u64; 3], is_32_bit: bool) -> i64 {
        let mut state = self.lock();
        let Some(cpu) = find(&mut state.cpus, target) else { return ret::INVALID_PARAMETERS };
        match cpu {
            CpuPower::On => ret::ALREADY_ON,
            CpuPower::OnPending(_) => ret::ON_PENDING,
            CpuPower::Off if pc & 3 != 0 => ret::INVALID_ADDRESS,
            CpuPower::Off => {
                let mask = if is_32_bit { u64::from(u32::MAX) } else { u64::MAX };
                *cpu = CpuPower::OnPending(Entry { pc: pc & mask, context: context & mask });
                drop(state);
                self.changed.notify_all();
                ret::SUCCESS
            }
        }
    }

    fn affinity_info(&self, [target, lowest_level, _]: [u64; 3]) -> i64 {
        let mut state = self.lock();
        if lowest_level != 0 {
            return ret::INVALID_PARAMETERS;
        }
        match find(&mut state.cpus, target) {
            Some(CpuPower::On) => affinity::ON,
            Some(CpuPower::OnPending(_)) => affinity::ON_PENDING,
            Some(CpuPower::Off) => affinity::OFF,
            None => ret::INVALID_PARAMETERS,
        }
    }
}

fn find(cpus: &mut [CpuPower], affinity: u64) -> Option<&mut CpuPower> {
    let index = (0..cpus.len() as u32).find(|&i| board::mpidr(i) == affinity & 0xff_00ff_ffff)?;
    cpus.get_mut(index as usize)
}

/// `PSCI_FEATURES`, which SMCCC discovery also goes through.
fn features(function: u32) -> i64 {
    let known = [
        psci::VERSION,
        psci::FEATURES,
        psci::CPU_OFF,
        psci::SYSTEM_OFF,
        psci::SYSTEM_RESET,
        psci::MIGRATE_INFO_TYPE,
        smccc::VERSION,
    ];
    let known_pairs = [psci::CPU_SUSPEND, psci::CPU_ON, psci::AFFINITY_INFO, psci::SYSTEM_RESET2];
    if known.contains(&function) || known_pairs.as_flattened().contains(&function) {
        ret::SUCCESS
    } else {
        ret::NOT_SUPPORTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Entry = Entry { pc: 0x4020_0000, context: 7 };

    fn call(power: &Power, index: u32, args: [u64; 4]) -> (i64, After) {
        let mut x = [0; 18];
        x[..4].copy_from_slice(&args);
        let after = power.call(index, &mut x);
        (x[0] as i64, after)
    }

    fn cpu_on(power: &Power, target: u64, pc: u64) -> i64 {
        call(power, 0, [u64::from(psci::CPU_ON[1]), target, pc, 9]).0
    }

    #[test]
    fn a_cpu_comes_up_once_and_goes_down() {
        let power = Power::new(2, BOOT);
        assert_eq!(power.wait_on(0), Some(BOOT));
        assert_eq!(cpu_on(&power, 1, 0x4000_0000), ret::SUCCESS);
        assert_eq!(cpu_on(&power, 1, 0x4000_0000), ret::ON_PENDING);
        assert_eq!(power.wait_on(1), Some(Entry { pc: 0x4000_0000, context: 9 }));
        assert_eq!(cpu_on(&power, 1, 0x4000_0000), ret::ALREADY_ON);
        assert_eq!(call(&power, 1, [u64::from(psci::CPU_OFF), 0, 0, 0]).1, After::Off);
        assert_eq!(call(&power, 0, [u64::from(psci::AFFINITY_INFO[1]), 1, 0, 0]).0, affinity::OFF);
    }

    #[test]
    fn bad_targets_and_entries_are_refused() {
        let power = Power::new(17, BOOT);
        assert_eq!(cpu_on(&power, 0x100, 0x4000_0001), ret::INVALID_ADDRESS);
        assert_eq!(cpu_on(&power, 0x100, 0x4000_0000), ret::SUCCESS);
        for nobody in [16, 0x101, 0x1_0000, 1 << 32] {
            assert_eq!(cpu_on(&power, nobody, 0), ret::INVALID_PARAMETERS, "{nobody:#x}");
        }
        assert_eq!(call(&power, 0, [0x8400_9999, 0, 0, 0]), (-1, After::Continue));
    }

    #[test]
    fn the_first_outcome_stays_and_releases_everyone() {
        let power = Power::new(2, BOOT);
        assert_eq!(call(&power, 0, [u64::from(psci::SYSTEM_RESET), 0, 0, 0]).1, After::Ended);
        power.end(Outcome::PowerOff);
        assert_eq!(power.outcome(), Some(Outcome::Reset));
        assert_eq!(power.wait_on(1), None);
    }
}
