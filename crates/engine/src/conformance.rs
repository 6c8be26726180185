//! The conformance kit: guest snippets that every engine must run alike.
//!
//! A [`Case`] is a small guest program and what must come out of it: the exits in their order, the answers' way into
//! registers, the state at the end. An engine's test suite calls [`run_all`] with a way to make a VM. The programs run
//! at EL1 with the MMU off unless they say otherwise, and end by a store to an address of the kit's own:
//!
//! ```text
//!   0x0000_0000  a page of read-only memory      0x0a00_0000  DONE: a store here ends a program; the default
//!   0x0900_0000  DEVICE: where MMIO goes                      exception vectors report to DONE + 8
//!   0x4000_0000  RAM: code, vectors, tables, data             0x5000_0000  EXTRA: a page to unmap
//! ```
//!
//! X24 to X28 hold EXTRA, 0, DATA (a page of RAM), DEVICE and DONE.

mod calls;
mod guest;
mod interrupts;
mod memory;
mod mmio;
mod smp;

use crate::Vm;

/// What a case ends with: what differed from the expectation.
pub type Outcome = Result<(), String>;

/// One thing that every engine must do alike.
pub struct Case<V> {
    /// What it is called, and what [`run_all`] skips it by.
    pub name: &'static str,
    /// Runs it on a new VM.
    pub run: fn(V) -> Outcome,
}

/// Every case of the kit.
pub fn cases<V: Vm>() -> Vec<Case<V>> {
    let mut all = vec![
        Case { name: "mmio-reads", run: mmio::reads },
        Case { name: "mmio-writes", run: mmio::writes },
        Case { name: "mmio-complex", run: mmio::complex },
        Case { name: "read-only", run: mmio::read_only },
        Case { name: "unmap", run: mmio::unmap },
    ];
    all.extend([
        Case { name: "smccc", run: calls::smccc as fn(V) -> Outcome },
        Case { name: "sysreg-handled", run: calls::sysreg_handled },
        Case { name: "sysreg-unhandled", run: calls::sysreg_unhandled },
        Case { name: "exceptions", run: calls::exceptions },
        Case { name: "undefined", run: calls::undefined },
        Case { name: "user", run: calls::user },
        Case { name: "state", run: calls::state },
        Case { name: "affinity", run: calls::affinity },
        Case { name: "returns", run: calls::returns },
    ]);
    all.extend([
        Case { name: "wfi", run: interrupts::wait as fn(V) -> Outcome },
        Case { name: "wfi-pending", run: interrupts::wait_pending },
        Case { name: "wfi-deadline", run: interrupts::wait_deadline },
        Case { name: "wfi-short-deadline", run: interrupts::wait_short },
        Case { name: "kick-before", run: interrupts::kick_before },
        Case { name: "kick-during", run: interrupts::kick_during },
        Case { name: "irq", run: interrupts::delivery },
        Case { name: "irq-masked", run: interrupts::masking },
        Case { name: "timer", run: interrupts::timer },
    ]);
    all.extend([
        Case { name: "alignment", run: memory::alignment as fn(V) -> Outcome },
        Case { name: "self-modifying", run: memory::self_modifying },
        Case { name: "discard", run: memory::discard },
        Case { name: "translation", run: memory::translation },
        Case { name: "translation-fault", run: memory::translation_fault },
        Case { name: "pair-fault", run: memory::pair_fault },
    ]);
    all.extend([
        Case { name: "smp-counters", run: smp::counters as fn(V) -> Outcome },
        Case { name: "smp-pairs", run: smp::pairs },
        Case { name: "smp-messages", run: smp::messages },
        Case { name: "smp-store-buffer", run: smp::store_buffer },
        Case { name: "smp-tlb-broadcast", run: smp::tlb_broadcast },
    ]);
    all
}

/// Runs every case whose name is not in `except`, each on a VM that `make` makes.
///
/// # Errors
/// Lists the cases that failed, and why.
pub fn run_all<V: Vm>(make: impl Fn() -> V, except: &[&str]) -> Outcome {
    let mut failures = Vec::new();
    for case in cases::<V>() {
        if except.contains(&case.name) {
            continue;
        }
        if let Err(why) = (case.run)(make()) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}
