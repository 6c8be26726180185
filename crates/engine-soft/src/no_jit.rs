//! In place of the translator, on hosts that it does not generate code for: a type without values.

use crate::cpu::{Cpu, Flag};

/// No translator.
pub(crate) enum Jit {}

/// No comparison with it.
pub(crate) enum Lockstep {}

impl Lockstep {
    pub fn note_write(&mut self, _: *mut u8, _: u64) {
        match *self {}
    }

    pub fn take_difference(&mut self) -> Option<String> {
        match *self {}
    }
}

impl Jit {
    /// None.
    pub fn for_vcpu(_: crate::Options, _: usize, _: &Flag) -> Option<Self> {
        None
    }

    pub fn lockstep(&self) -> Box<Lockstep> {
        match *self {}
    }

    pub fn returns(&self) -> [u64; 2] {
        match *self {}
    }

    pub fn clear(&mut self) {
        match *self {}
    }

    pub fn has_siblings(&mut self, _: bool) {
        match *self {}
    }

    pub fn invalidate(&mut self, _: u64) {
        match *self {}
    }

    pub fn invalidate_all(&mut self) {
        match *self {}
    }
}

impl Cpu {
    pub fn run_jit(&mut self) {}

    pub fn run_lockstep(&mut self) {}
}
