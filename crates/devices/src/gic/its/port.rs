//! What the ITS does to the redistributors.

use tearless_memory::GuestMemory;

use crate::{
    access::lock,
    gic::{CpuSet, Gic, Wakes},
};

/// A batch of changes. Costly work that a later change of the same batch would only repeat is done once, at the end.
pub struct Port<'a> {
    gic: &'a Gic,
    touched: CpuSet,
    reload: CpuSet,
}

impl<'a> Port<'a> {
    /// An empty batch.
    pub fn new(gic: &'a Gic) -> Self {
        Self { gic, touched: CpuSet::default(), reload: CpuSet::default() }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a GuestMemory {
        &self.gic.memory
    }

    /// The vCPU with this processor number, if there is one.
    pub fn vcpu(&self, number: u32) -> Option<usize> {
        Some(number as usize).filter(|vcpu| *vcpu < self.gic.cpus.len())
    }

    /// Makes `lpi` pending at `vcpu`. While LPIs are disabled there it is lost.
    pub fn set(&mut self, vcpu: usize, lpi: u32) {
        if let Some(slot) = self.gic.cpus.get(vcpu) {
            let mut state = lock(&slot.state);
            if state.redistributor.lpis_enabled() {
                state.lpi.insert(lpi, &self.gic.lpi_config);
                self.touched.insert(vcpu);
            }
        }
    }

    /// Ends the pending state of `lpi` at `vcpu`; whether it was pending.
    pub fn clear(&mut self, vcpu: usize, lpi: u32) -> bool {
        self.touched.insert(vcpu);
        self.gic.cpus.get(vcpu).is_some_and(|slot| lock(&slot.state).lpi.remove(lpi))
    }

    /// Moves all that is pending at `from` to `to`.
    pub fn move_all(&mut self, from: usize, to: usize) {
        let (Some(source), Some(target)) = (self.gic.cpus.get(from), self.gic.cpus.get(to)) else { return };
        if from == to {
            return;
        }
        let pending = std::mem::take(&mut lock(&source.state).lpi);
        let mut state = lock(&target.state);
        if state.redistributor.lpis_enabled() {
            state.lpi.take_over(pending);
        }
        self.touched.insert(from);
        self.touched.insert(to);
    }

    /// Reads the configuration of `lpi` anew, from `vcpu`'s table.
    pub fn reload(&mut self, vcpu: usize, lpi: u32) {
        if let Some(slot) = self.gic.cpus.get(vcpu) {
            let mut state = lock(&slot.state);
            if state.redistributor.lpis_enabled() {
                self.gic.lpi_config.load_one(&self.gic.memory, state.redistributor.propbaser, lpi);
                state.lpi.reconfigured();
                self.touched.insert(vcpu);
            }
        }
    }

    /// Reads the configuration of all LPIs anew, from `vcpu`'s table, at the end of the batch.
    pub fn reload_all(&mut self, vcpu: usize) {
        self.reload.insert(vcpu);
    }

    /// Ends the batch: brings the outputs of the vCPUs up to date and adds those to wake to `wakes`.
    pub fn finish(mut self, wakes: &mut Wakes) {
        for vcpu in self.reload.iter() {
            let Some(slot) = self.gic.cpus.get(vcpu) else { continue };
            let mut state = lock(&slot.state);
            if state.redistributor.lpis_enabled() {
                self.gic.lpi_config.load_all(&self.gic.memory, state.redistributor.propbaser);
                state.lpi.reconfigured();
                self.touched.insert(vcpu);
            }
        }
        for vcpu in self.touched.iter() {
            self.gic.update_cpu(vcpu, wakes, |_| {});
        }
    }
}
