//! The CPU seam: what an execution engine gives the machine.
//!
//! An engine runs guest instructions until something happens that it does not handle itself: an access to unmapped
//! memory, a trapped system register, a hypervisor call, a wait. It hands that to the machine as an [`Exit`], and the
//! machine calls [`Vcpu::run`] again. Nothing above this seam knows which engine runs; nothing below it knows devices.
//!
//! ```text
//!            Vm::vcpu(i)              VcpuSeed::bind             Vcpu::run
//!   any thread ───────► seed ─ moved to the vCPU's thread ─► vCPU ⇄ Exit, answered in place
//!                         └─ kicker(): Kicker, any thread: makes `run` return Exit::Kicked
//! ```

pub mod conformance;
mod exit;
mod state;
mod vm;

pub use exit::{Conduit, Exit, SmcccCall, SysRegAccess, TimerLines};
pub use state::VcpuState;
pub use vm::{Error, Kick, Kicker, Region, Result, Vcpu, VcpuSeed, Vm};
