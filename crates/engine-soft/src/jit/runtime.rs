//! The Rust functions that generated code calls.

use super::{HEAD, cache::Missing, state::slot};
use crate::cpu::{Cpu, PAGE, Stop};

/// Lends `f` the translator, which is out of `cpu` meanwhile.
fn with_jit(cpu: &mut Cpu, f: impl FnOnce(&mut Cpu, &mut super::Jit) -> u64) -> u64 {
    let Some(mut jit) = cpu.jit.take() else { return 0 };
    let code = f(cpu, &mut jit);
    cpu.jit = Some(jit);
    code
}

/// Where to go on, `cpu.pc` being the address: code, or the way out. Takes exceptions, so all registers of the guest must
/// be in `cpu`.
fn resume(cpu: &mut Cpu) -> u64 {
    with_jit(cpu, |cpu, jit| {
        // Two exceptions in a row can be had (the vector's page may be missing); beyond that, let others have a look.
        for _ in 0..4 {
            match cpu.stop {
                _ if jit.is_lockstep() => break,
                Stop::Continue if cpu.attention() => break,
                Stop::Continue => {
                    let code = cpu.find_code_again(jit);
                    if matches!(cpu.stop, Stop::Continue) {
                        return code;
                    }
                }
                Stop::Exception(exception) => {
                    cpu.stop = Stop::Continue;
                    cpu.take(exception);
                }
                _ => break,
            }
        }
        jit.thunks.leave
    })
}

/// Code for the guest address `va`.
///
/// # Safety
/// Only for generated code, which passes its `Cpu`.
pub(super) unsafe extern "sysv64" fn lookup(cpu: *mut Cpu, va: u64) -> u64 {
    // SAFETY: by the contract; generated code holds no reference.
    let cpu = unsafe { &mut *cpu };
    with_jit(cpu, |cpu, jit| cpu.go_on(jit, va))
}

/// Follows the exit at offset `at` of the code, and makes it a direct jump.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn link(cpu: *mut Cpu, at: u32) -> u64 {
    // SAFETY: as in `lookup`.
    let cpu = unsafe { &mut *cpu };
    with_jit(cpu, |cpu, jit| cpu.follow(jit, at))
}

/// Careful code for the guest address `va`.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn lookup_careful(cpu: *mut Cpu, va: u64) -> u64 {
    // SAFETY: as in `lookup`.
    let cpu = unsafe { &mut *cpu };
    with_jit(cpu, |cpu, jit| cpu.find_code_in(jit, va, true))
}

/// Looks for the translation of the page at `va`, for writing if `writes`; whether the current bank has it then.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn fill(cpu: *mut Cpu, va: u64, writes: u32) -> u32 {
    // SAFETY: as in `lookup`.
    let cpu = unsafe { &mut *cpu };
    u32::from(cpu.fill_bank(va, writes != 0))
}

/// Executes instruction `word` at `offset` of the current page; 0 when execution falls through, else where it goes on.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn interpret(cpu: *mut Cpu, word: u32, offset: u32) -> u64 {
    // SAFETY: as in `lookup`.
    let cpu = unsafe { &mut *cpu };
    let Some(jit) = &mut cpu.jit else { return 0 };
    let op = jit.op(word, offset);
    cpu.pc_page = cpu.code_page();
    // So that `pc_of` finds the address of this op.
    cpu.page_ops = op.wrapping_sub(offset as usize / 4);
    let falls_through = op.wrapping_add(1);
    loop {
        // SAFETY: the op is followed by one that hands itself back, and `go` leads nowhere while the JIT runs, so that
        // nothing else is run than this op.
        let next = unsafe { ((*op).run)(cpu, op) };
        if next == falls_through {
            return 0;
        }
        if next.is_null() {
            break;
        }
    }
    resume(cpu)
}

/// Copies `size` bytes if that is simple: whether it did.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn copy(cpu: *mut Cpu, to: u64, from: u64, size: u64) -> u64 {
    // SAFETY: as in `lookup`.
    u64::from(unsafe { &mut *cpu }.copy_known(to, from, size))
}

/// Sets `size` bytes as [`copy`] copies.
///
/// # Safety
/// As [`lookup`].
pub(super) unsafe extern "sysv64" fn set(cpu: *mut Cpu, to: u64, value: u64, size: u64) -> u64 {
    // SAFETY: as in `lookup`.
    u64::from(unsafe { &mut *cpu }.set_known(to, value as u8, size))
}

/// The block that `find` finds, at the latest when the cache has been emptied.
fn until_there_is_room(mut find: impl FnMut() -> Result<u32, Missing>) -> u32 {
    loop {
        match find() {
            Ok(entry) => return entry,
            Err(Missing::Emptied) => {}
        }
    }
}

impl Cpu {
    /// Runs generated code until something else is to be done; [`Cpu::stop`] may say what.
    pub fn run_jit(&mut self) {
        let Some(jit) = &self.jit else { return };
        let (enter, leave) = (jit.thunks.enter, jit.thunks.leave);
        self.in_jit = true;
        let code = resume(self);
        if code != leave {
            self.enter_code_at(enter, code);
        }
        self.in_jit = false;
    }

    /// Runs the generated `code` that stands for the instruction at `self.pc`, by way of the thunk `enter`.
    pub(super) fn enter_code_at(&mut self, enter: u64, code: u64) {
        // SAFETY: this is the address of the thunk of that signature.
        let enter: unsafe extern "sysv64" fn(*mut Self, u64) = unsafe { std::mem::transmute(enter) };
        // SAFETY: `code` is what the cache says stands for the instruction at `self.pc`.
        unsafe { enter(self, code) };
    }

    /// The virtual address of the page that generated code executes.
    fn code_page(&self) -> u64 {
        (self.x[usize::from(slot::HERE)] ^ self.x[usize::from(slot::KEY)]) & !(PAGE - 1)
    }

    /// Code for the guest address `va`, which becomes the current one; the way out if that takes an exception.
    pub(super) fn find_code(&mut self, jit: &mut super::Jit, va: u64) -> u64 {
        self.find_code_in(jit, va, false)
    }

    /// As [`Cpu::find_code`] for the end of a block, where lockstep gets to see what it has done.
    fn go_on(&mut self, jit: &mut super::Jit, va: u64) -> u64 {
        if jit.is_lockstep() {
            self.pc = va;
            return jit.thunks.leave;
        }
        self.find_code(jit, va)
    }

    fn find_code_in(&mut self, jit: &mut super::Jit, va: u64, careful: bool) -> u64 {
        self.try_find_code(jit, va, careful).unwrap_or(jit.thunks.leave)
    }

    /// As [`Cpu::find_code`] for `self.pc`, which is most often where code is known; what is not current any more finds that
    /// out itself.
    fn find_code_again(&mut self, jit: &mut super::Jit) -> u64 {
        let key = self.current_key(jit);
        if let Some(code) = jit.known_jump(self.pc, key) {
            self.enter_page(self.pc, key);
            return code;
        }
        self.find_code(jit, self.pc)
    }

    /// The key of the current context; drops code first that is not to be run any more.
    fn current_key(&mut self, jit: &mut super::Jit) -> u64 {
        let (key, void) = self.code_key();
        if void {
            jit.clear();
        }
        key
    }

    fn try_find_code(&mut self, jit: &mut super::Jit, va: u64, careful: bool) -> Option<u64> {
        self.pc = va;
        let key = self.current_key(jit);
        let place = match self.code_place(va, key) {
            Some(place) if va.is_multiple_of(4) => place,
            _ => {
                let (place, origin) = self.fetch().ok()?;
                self.note_code_place(self.pc, key, origin, place);
                place
            }
        };
        let va = self.pc;
        let offset = (va & (PAGE - 1)) as u32;
        let mode = self.code_mode();
        let entry = if careful {
            until_there_is_room(|| {
                let page = jit.page(place.pa, place.host, mode)?;
                let page = jit.careful(page)?;
                jit.block(page, offset)
            })
        } else {
            let entry = jit.known_block(place.pa, mode, offset).unwrap_or_else(|| {
                until_there_is_room(|| {
                    let page = jit.page(place.pa, place.host, mode)?;
                    jit.block(page, offset)
                })
            });
            jit.note_block(place.pa, mode, offset, entry);
            jit.note_jump(va, key, jit.address(entry - HEAD));
            entry
        };
        self.enter_page(va, key);
        Some(jit.address(entry - HEAD))
    }

    /// The code at `va` of the context with `key` is what generated code executes next.
    fn enter_page(&mut self, va: u64, key: u64) {
        self.returns.switch(key);
        self.x[usize::from(slot::KEY)] = key;
        self.x[usize::from(slot::HERE)] = (va & !(PAGE - 1)) ^ key;
    }

    fn follow(&mut self, jit: &mut super::Jit, at: u32) -> u64 {
        let exit = jit.exit(at);
        let page = self.code_page();
        let target = page.wrapping_add(exit.target() as i64 as u64);
        if jit.is_lockstep() {
            if !exit.is_careful() {
                return self.go_on(jit, target);
            }
            // Behind the head, which would look for attention.
            let code = self.find_code_in(jit, target, true);
            return if code == jit.thunks.leave { code } else { code + u64::from(HEAD) };
        }
        if exit.cell != 0 {
            return self.follow_far(jit, at, target);
        }
        let page = if exit.is_careful() { jit.careful(exit.page) } else { Ok(exit.page) };
        match page.and_then(|page| jit.block(page, target as u32 & (PAGE as u32 - 1))) {
            Ok(entry) => jit.link(&exit, entry),
            Err(Missing::Emptied) => self.find_code(jit, target),
        }
    }

    /// Follows the exit at offset `at` to `target`, in another page. Most often it has been linked already, for another
    /// address space, and would be linked to the same block.
    fn follow_far(&mut self, jit: &mut super::Jit, at: u32, target: u64) -> u64 {
        let (exit, here, times_emptied) =
            (jit.exit(at), self.x[usize::from(slot::HERE)], jit.times_emptied());
        let distance = (target & !(PAGE - 1)).wrapping_sub(self.code_page());
        self.pc = target;
        let key = self.current_key(jit);
        let linked =
            self.code_place(target, key).and_then(|place| jit.linked(&exit, place.pa, self.code_mode()));
        let code = match linked {
            Some(code) => {
                self.enter_page(target, key);
                code
            }
            None => self.find_code_again(jit),
        };
        // Only what was found as it was looked for is linked: no exception taken, nothing emptied, and the distance of the
        // pages does not disturb the key.
        let there = self.x[usize::from(slot::HERE)];
        let found = self.pc == target && code != jit.thunks.leave && there == here.wrapping_add(distance);
        if !found || jit.times_emptied() != times_emptied {
            return code;
        }
        if linked.is_none() {
            let Some(place) = self.code_place(target, key) else { return code };
            jit.link_far(at, jit.offset_of(code) + HEAD, place.pa, self.code_mode());
        }
        jit.allow(&exit, here);
        code
    }
}
