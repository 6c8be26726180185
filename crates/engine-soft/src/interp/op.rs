//! Pre-decoded instructions and the wrappers that make handlers of plain functions.
//!
//! The semantics of an instruction is a safe function over [`Cpu`] and [`Operands`]. The wrappers below turn such a
//! function into a [`Handler`], which also says what runs next: the following op, another op of the same page, or
//! nothing (null), upon which the run loop looks at [`Cpu::stop`]. All pointer arithmetic on ops is in this file.
//!
//! Straight-line code does not even return: an op that falls through calls its successor. The optimiser makes a jump of
//! that, and where it did not, the chain would still end with the page, after at most 1024 small frames. Taken branches
//! return, so that no loop grows the stack.

use crate::cpu::{Cpu, Stop, Trap};

/// Executes one op and returns the next one, or null to leave the inner loop.
///
/// # Safety
/// The pointer is an element of the op array of the code page that `cpu` executes, sentinel excluded.
pub(crate) type Handler = unsafe fn(&mut Cpu, *const Op) -> *const Op;

/// The operands of a pre-decoded instruction. Register fields are indices into [`Cpu::x`] (see there for SP and XZR) or
/// [`Cpu::v`]; what each field holds is between the lowering and the handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Operands {
    /// Usually the destination, Rd or Rt.
    pub d: u8,
    /// Usually the first source, Rn.
    pub n: u8,
    /// Usually the second source, Rm or Rt2.
    pub m: u8,
    /// Usually the third source, Ra or Rs; or a small number.
    pub a: u8,
    /// An immediate.
    pub imm: u32,
}

/// A pre-decoded instruction, 16 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    pub run: Handler,
    pub o: Operands,
}

/// Instructions in a code page.
pub(crate) const PAGE_OPS: usize = 1024;

const _: () = assert!(size_of::<Op>() == 16);

/// Conjures the only value of a zero-sized function item type, so that a wrapper can be monomorphised over the function
/// and still coerce to a plain function pointer.
#[inline(always)]
fn item<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "handlers are function items, not pointers or capturing closures") };
    // SAFETY: F is zero-sized, checked above, and a value of it exists: the wrapper's caller passed one.
    unsafe { std::mem::zeroed() }
}

/// Goes on with `op`, the one after an op that has completed.
///
/// # Safety
/// As [`Handler`], but `op` may be the sentinel.
#[inline(always)]
unsafe fn chain(cpu: &mut Cpu, op: *const Op) -> *const Op {
    // SAFETY: by the contract; the sentinel is a valid op of its own handler.
    unsafe { ((*op).run)(cpu, op) }
}

/// An instruction that always completes and falls through.
pub(crate) fn simple<F: Fn(&mut Cpu, Operands) + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) + Copy>(cpu: &mut Cpu, op: *const Op) -> *const Op {
        // SAFETY: the op is valid by the contract of Handler, and an op that is not the sentinel has a successor.
        let (o, next) = unsafe { ((*op).o, op.add(1)) };
        item::<F>()(cpu, o);
        // SAFETY: `next` is the successor.
        unsafe { chain(cpu, next) }
    }
    run::<F>
}

/// An instruction that may trap and otherwise falls through. It must not have changed any register when it traps, since
/// it may be run again from its start.
pub(crate) fn fallible<F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy>(_: F) -> Handler {
    run_fallible::<F>
}

/// # Safety
/// See [`Handler`].
#[inline(never)]
unsafe fn run_fallible<F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy>(
    cpu: &mut Cpu,
    op: *const Op,
) -> *const Op {
    // SAFETY: as in `simple`.
    let (o, next) = unsafe { ((*op).o, op.add(1)) };
    match item::<F>()(cpu, o) {
        // SAFETY: `next` is the successor.
        Ok(()) => unsafe { chain(cpu, next) },
        Err(Trap) => {
            cpu.pc = cpu.pc_of(op);
            std::ptr::null()
        }
    }
}

/// An instruction with a fast path: `quick` either does all of it and says so, or changes nothing, and then `whole` is run
/// as a [`fallible`] one. With the calls of slow paths out of its way, the fast path needs no stack frame.
pub(crate) fn quick<Q, F>(_: Q, _: F) -> Handler
where
    Q: Fn(&mut Cpu, Operands) -> bool + Copy,
    F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy,
{
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<Q, F>(cpu: &mut Cpu, op: *const Op) -> *const Op
    where
        Q: Fn(&mut Cpu, Operands) -> bool + Copy,
        F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy,
    {
        // SAFETY: as in `simple`.
        let (o, next) = unsafe { ((*op).o, op.add(1)) };
        if item::<Q>()(cpu, o) {
            // SAFETY: `next` is the successor.
            return unsafe { chain(cpu, next) };
        }
        // SAFETY: the contract is the same.
        unsafe { run_fallible::<F>(cpu, op) }
    }
    run::<Q, F>
}

/// A direct branch within the page: taken when the function says so, by `imm` (signed) ops. Backward branches poll for
/// attention, so no loop runs unbounded.
pub(crate) fn branch_near<F: Fn(&mut Cpu, Operands) -> bool + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) -> bool + Copy>(cpu: &mut Cpu, op: *const Op) -> *const Op {
        // SAFETY: as in `simple`.
        let o = unsafe { (*op).o };
        if !item::<F>()(cpu, o) {
            // SAFETY: as in `simple`.
            return unsafe { chain(cpu, op.add(1)) };
        }
        let delta = o.imm as i32 as isize;
        // SAFETY: the lowering makes near branches only for targets within the page's array.
        let target = unsafe { op.offset(delta) };
        if delta <= 0 && cpu.attention() {
            cpu.pc = cpu.pc_of(target);
            return std::ptr::null();
        }
        target
    }
    run::<F>
}

/// A branch to anywhere: the function returns the target when it is taken.
pub(crate) fn branch<F: Fn(&mut Cpu, Operands) -> Option<u64> + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) -> Option<u64> + Copy>(
        cpu: &mut Cpu,
        op: *const Op,
    ) -> *const Op {
        // SAFETY: as in `simple`.
        let (o, next) = unsafe { ((*op).o, op.add(1)) };
        match item::<F>()(cpu, o) {
            Some(target) => cpu.go(target),
            // SAFETY: `next` is the successor.
            None => unsafe { chain(cpu, next) },
        }
    }
    run::<F>
}

/// An instruction that does its work in parts: run again, after a look at what wants attention, until the function says
/// that it is done.
pub(crate) fn repeating<F: Fn(&mut Cpu, Operands) -> Result<bool, Trap> + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) -> Result<bool, Trap> + Copy>(
        cpu: &mut Cpu,
        op: *const Op,
    ) -> *const Op {
        // SAFETY: as in `simple`.
        let (o, next) = unsafe { ((*op).o, op.add(1)) };
        match item::<F>()(cpu, o) {
            Ok(true) => next,
            Ok(false) if !cpu.attention() => op,
            Ok(false) | Err(Trap) => {
                cpu.pc = cpu.pc_of(op);
                std::ptr::null()
            }
        }
    }
    run::<F>
}

/// An instruction after which nothing that was known before holds: system register writes, barriers, waits. The next
/// instruction is looked up anew, and attention polled. The function may set [`Cpu::stop`] to leave the inner loop;
/// `cpu.pc` is the address of the *next* instruction when it runs, and of this one again when it traps.
pub(crate) fn serialising<F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) -> Result<(), Trap> + Copy>(
        cpu: &mut Cpu,
        op: *const Op,
    ) -> *const Op {
        let pc = cpu.pc_of(op);
        cpu.pc = pc.wrapping_add(4);
        // SAFETY: as in `simple`.
        let o = unsafe { (*op).o };
        match item::<F>()(cpu, o) {
            Ok(()) if matches!(cpu.stop, Stop::Continue) => cpu.go(cpu.pc),
            Ok(()) => std::ptr::null(),
            Err(Trap) => {
                cpu.pc = pc;
                std::ptr::null()
            }
        }
    }
    run::<F>
}

/// An instruction that moves to another context and goes on there: exception calls and returns. It is run like a
/// [`serialising`] one, and returns the address to go on at.
pub(crate) fn jump<F: Fn(&mut Cpu, Operands) -> Result<u64, Trap> + Copy>(_: F) -> Handler {
    /// # Safety
    /// See [`Handler`].
    unsafe fn run<F: Fn(&mut Cpu, Operands) -> Result<u64, Trap> + Copy>(
        cpu: &mut Cpu,
        op: *const Op,
    ) -> *const Op {
        let pc = cpu.pc_of(op);
        cpu.pc = pc.wrapping_add(4);
        // SAFETY: as in `simple`.
        let o = unsafe { (*op).o };
        match item::<F>()(cpu, o) {
            Ok(target) => cpu.go(target),
            Err(Trap) => {
                cpu.pc = pc;
                std::ptr::null()
            }
        }
    }
    run::<F>
}
