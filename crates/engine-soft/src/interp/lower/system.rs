//! Lowering of system instructions and of those that generate exceptions.

use super::{sink, source};
use crate::{
    decode::{Barrier, Call, Insn},
    interp::{
        op::{Op, Operands, fallible, jump, serialising, simple},
        system,
    },
};

/// System instructions, calls, and whatever is undefined.
pub(super) fn lower(insn: &Insn) -> Op {
    let none = Operands::default();
    let (run, o) = match *insn {
        Insn::Call { kind, imm } => {
            let run = match kind {
                Call::Svc => jump(system::svc),
                Call::Hvc => serialising(system::hvc),
                Call::Smc => serialising(system::smc),
                Call::Brk => fallible(system::brk),
            };
            (run, Operands { imm: u32::from(imm), ..none })
        }
        Insn::Eret => (jump(system::eret), none),
        Insn::Yield => (simple(system::yield_), none),
        Insn::Wfi => (serialising(system::wfi), none),
        Insn::Wfe => (serialising(system::wfe), none),
        Insn::Sev { .. } => (simple(system::sev), none),
        Insn::Clrex => (simple(system::clrex), none),
        Insn::Barrier { kind: Barrier::Memory, crm } => {
            (simple(system::dmb), Operands { imm: u32::from(crm), ..none })
        }
        Insn::Barrier { kind: Barrier::Synchronisation, crm } => {
            (serialising(system::dsb), Operands { imm: u32::from(crm), ..none })
        }
        Insn::Isb => (serialising(system::isb), none),
        Insn::MsrImm { field, imm } => {
            (serialising(system::msr_imm), Operands { a: field as u8, imm: u32::from(imm), ..none })
        }
        Insn::Msr { reg, rt } => {
            (system::msr(reg), Operands { n: source(rt), imm: u32::from(reg.0), ..none })
        }
        Insn::Mrs { reg, rt } => (system::mrs(reg), Operands { d: sink(rt), imm: u32::from(reg.0), ..none }),
        Insn::Sys { reg, rt } => {
            (system::sys(reg), Operands { n: source(rt), imm: u32::from(reg.0), ..none })
        }
        Insn::Sysl { reg, rt } => {
            (fallible(system::sysl), Operands { d: sink(rt), imm: u32::from(reg.0), ..none })
        }
        _ => (fallible(system::undefined), none),
    };
    Op { run, o }
}
