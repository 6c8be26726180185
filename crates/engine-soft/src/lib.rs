//! An AArch64 CPU in software, for hosts that have no ARM hypervisor.
//!
//! Three layers, each usable without the ones above it:
//!
//! ```text
//!   decode   u32 -> Insn                        pure; one decoder for every tier
//!   cpu      registers, MMU and TLBs, system registers, exceptions, timers   one semantics for every tier
//!   interp   Insn -> Op (handler + operands), run from a cache of pre-decoded code pages
//!   jit      Insn -> x86-64 code, with the interpreter for whatever is out of the ordinary; on x86-64 Linux
//! ```
//!
//! The interpreter is direct-threaded: an [`op::Op`] holds a handler and its operands, a code page of 4 KiB becomes an
//! array of 1024 of them, decoded at first execution and found by physical address, so that all address spaces share
//! them. The translator takes over `decode` and `cpu` unchanged; with [`Options::lockstep`] every block is compared with what
//! the interpreter makes of it.

// What only the translator uses is there on hosts without one too.
#![cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code, unused_imports))]

mod cpu;
mod crypto;
mod decode;
mod fp;
mod interp;
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), path = "no_jit.rs")]
mod jit;
mod vm;

pub use vm::{Options, SoftVcpu, SoftVcpuSeed, SoftVm, Tier};
