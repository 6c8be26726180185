//! The controller of a saved VM.
//!
//! What is kept is what software wrote, what is pending and active, and the levels of the inputs. What follows from these
//! (routes, best candidates, outputs) is worked out anew; the LPIs' configuration is read from the guest's tables.

use serde::{Deserialize, Serialize};
use tearless_state::{Encoded, StateError};

use super::{
    Gic, Wakes,
    cpu::{CpuState, SavedCpu},
    its::{Its, SavedIts},
    spi::SavedSpis,
};
use crate::access::lock;

/// The version of the format.
const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedGic {
    distributor: SavedSpis,
    cpus: Vec<SavedCpu>,
    its: Option<SavedIts>,
}

impl Gic {
    /// The state. Called while no vCPU runs and no device works.
    ///
    /// # Errors
    /// None in practice.
    pub fn save(&self) -> Result<Encoded, StateError> {
        let state = SavedGic {
            distributor: lock(&self.distributor).save(),
            cpus: self.cpus.iter().map(|slot| lock(&slot.state).save()).collect(),
            its: self.its.as_ref().map(|translation| lock(&translation.its).save()),
        };
        Encoded::new(STATE_VERSION, &state)
    }

    /// Takes a state over, with the guest's memory in place already. Called before any vCPU runs, and before the devices
    /// drive their lines.
    ///
    /// # Errors
    /// When it is none of a controller like this; the controller is in no sensible state then.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        let saved: SavedGic = state.decode(STATE_VERSION)?;
        let other = || StateError::malformed("it is of an interrupt controller of another size");
        if saved.cpus.len() != self.cpus.len() || saved.its.is_some() != self.its.is_some() {
            return Err(other());
        }
        if let (Some(translation), Some(saved)) = (&self.its, &saved.its) {
            *lock(&translation.its) = Its::restored(saved, self.cpus.len())?;
        }
        for (slot, saved) in self.cpus.iter().zip(&saved.cpus) {
            lock(&slot.state).restore(saved, self.its.is_some());
        }
        let takers = self.cpus.iter().map(|slot| lock(&slot.state).takes_any()).collect();
        let mut spis = lock(&self.distributor);
        if !spis.restore(&saved.distributor, takers) {
            return Err(other());
        }
        self.load_lpi_config();
        let mut wakes = Wakes::default();
        for cpu in 0..self.cpus.len() {
            let best = spis.best(cpu);
            self.update_cpu(cpu, &mut wakes, |state| {
                state.forwarded = spis.groups;
                state.spi = best;
            });
        }
        drop(spis);
        self.wake_all(&wakes);
        Ok(())
    }

    /// All redistributors have the same table (`GICR_TYPER.CommonLPIAff`).
    fn load_lpi_config(&self) {
        let propbaser = |state: &CpuState| {
            let registers = state.redistributor;
            registers.lpis_enabled().then_some(registers.propbaser)
        };
        if let Some(propbaser) = self.cpus.iter().find_map(|slot| propbaser(&lock(&slot.state))) {
            self.lpi_config.load_all(&self.memory, propbaser);
        }
    }
}
