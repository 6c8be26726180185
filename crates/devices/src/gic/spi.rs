//! The shared peripheral interrupts: their state and where each is routed.

use serde::{Deserialize, Serialize};
use tearless_arm64::gic::{SPI_BASE, gicd};

use super::{
    Candidate,
    bank::{Bank, Place, SavedBank},
};

/// The distributor's state.
#[derive(Clone, Debug)]
pub struct Spis {
    /// Bank n holds the INTIDs from 32 × (n + 1) on.
    banks: Vec<Bank>,
    /// `GICD_IROUTER` of each SPI.
    router: Vec<u64>,
    /// What `router` means: the vCPU, or none when it names a vCPU that does not exist.
    target: Vec<Option<u16>>,
    /// For each vCPU the groups for which it takes 1-of-N interrupts.
    takers: Vec<u8>,
    /// The groups that are forwarded, a bit each.
    pub groups: u8,
}

/// What of it a saved VM has: the rest follows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedSpis {
    banks: Vec<SavedBank>,
    router: Vec<u64>,
    groups: u8,
}

impl Spis {
    /// For a saved VM.
    pub fn save(&self) -> SavedSpis {
        SavedSpis {
            banks: self.banks.iter().map(Bank::save).collect(),
            router: self.router.clone(),
            groups: self.groups,
        }
    }

    /// Takes over what was saved, of as many interrupts as there are; `false` when it is of other ones. `takers` says for
    /// each vCPU for which groups it takes 1-of-N interrupts.
    pub fn restore(&mut self, saved: &SavedSpis, takers: Vec<u8>) -> bool {
        let fits = saved.banks.len() == self.banks.len()
            && saved.router.len() == self.router.len()
            && takers.len() == self.takers.len();
        if fits {
            self.banks.iter_mut().zip(&saved.banks).for_each(|(bank, saved)| bank.restore(saved));
            self.takers = takers;
            self.groups = saved.groups & 0b11;
            for (intid, router) in (SPI_BASE..).zip(&saved.router) {
                self.set_router(intid, *router);
            }
        }
        fits
    }

    /// `count` SPIs towards `vcpus` vCPUs.
    pub fn new(count: u32, vcpus: u32) -> Self {
        let banks = (0..count.div_ceil(32)).map(|n| Bank::shared((count - 32 * n).min(32))).collect();
        Self {
            banks,
            router: vec![0; count as usize],
            target: vec![Some(0); count as usize],
            takers: vec![0; vcpus as usize],
            groups: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.router.len() as u32
    }

    /// `GICD_TYPER.ITLinesNumber`: banks, the private one included, minus one.
    pub fn lines_number(&self) -> u32 {
        self.banks.len() as u32
    }

    fn index(&self, intid: u32) -> Option<usize> {
        let index = intid.checked_sub(SPI_BASE)? as usize;
        (index < self.router.len()).then_some(index)
    }

    fn bank(&mut self, intid: u32) -> Option<(&mut Bank, u32)> {
        let index = self.index(intid)?;
        self.banks.get_mut(index / 32).map(|bank| (bank, intid % 32))
    }

    /// The vCPU that `intid` is routed to.
    pub fn target(&self, intid: u32) -> Option<usize> {
        self.target.get(self.index(intid)?).copied().flatten().map(usize::from)
    }

    /// Drives an input; whether that changed anything.
    pub fn set_level(&mut self, intid: u32, level: bool) -> bool {
        self.bank(intid).is_some_and(|(bank, n)| bank.set_level(n, level))
    }

    /// A message that raises or withdraws an SPI.
    pub fn message(&mut self, intid: u32, raise: bool) {
        if let Some((bank, n)) = self.bank(intid) {
            bank.message(n, raise);
        }
    }

    /// Takes an SPI from pending to active.
    pub fn activate(&mut self, intid: u32) {
        if let Some((bank, n)) = self.bank(intid) {
            bank.activate(n);
        }
    }

    /// Ends the active state of an SPI; whether it was active.
    pub fn deactivate(&mut self, intid: u32) -> bool {
        self.bank(intid).is_some_and(|(bank, n)| bank.deactivate(n))
    }

    /// The best deliverable SPI of each group for `vcpu`.
    pub fn best(&self, vcpu: usize) -> [Option<Candidate>; 2] {
        let mut best = [None; 2];
        for ((bank, base), targets) in
            self.banks.iter().zip((SPI_BASE..).step_by(32)).zip(self.target.chunks(32))
        {
            let mut deliverable = bank.deliverable(self.groups);
            while deliverable != 0 {
                let n = deliverable.trailing_zeros();
                deliverable &= deliverable - 1;
                if targets.get(n as usize).copied().flatten().is_none_or(|target| usize::from(target) != vcpu)
                {
                    continue;
                }
                let candidate = bank.candidate(n, base);
                if let Some(best) = best.get_mut(usize::from(candidate.group))
                    && best.is_none_or(|best| candidate < best)
                {
                    *best = Some(candidate);
                }
            }
        }
        best
    }

    /// Reads a register of the banks. Those of the private interrupts are in the redistributors and zero here.
    pub fn read(&self, place: Place, data: &mut [u8]) {
        match place.bank.checked_sub(1).and_then(|bank| self.banks.get(bank)) {
            Some(bank) => bank.read(place, data),
            None => data.fill(0),
        }
    }

    /// Writes a register of the banks; returns the INTIDs that this may have changed: a base and a mask.
    pub fn write(&mut self, place: Place, data: &[u8]) -> (u32, u32) {
        let bank = place.bank.checked_sub(1).and_then(|bank| self.banks.get_mut(bank));
        (place.bank as u32 * 32, bank.map_or(0, |bank| bank.write(place, data)))
    }

    /// `GICD_IROUTER` of `intid`.
    pub fn router(&self, intid: u32) -> u64 {
        self.index(intid).and_then(|index| self.router.get(index)).copied().unwrap_or(0)
    }

    /// Writes `GICD_IROUTER`. Affinity level 3 is reserved.
    pub fn set_router(&mut self, intid: u32, value: u64) {
        if let Some(slot) = self.index(intid).and_then(|index| self.router.get_mut(index)) {
            *slot = value & (gicd::IROUTER_IRM | 0xff_ffff);
            self.resolve(intid);
        }
    }

    fn resolve(&mut self, intid: u32) {
        let Some(index) = self.index(intid) else { return };
        let Some(router) = self.router.get(index).copied() else { return };
        let vcpu = if router & gicd::IROUTER_IRM != 0 {
            // Any that takes part will do; starting at different ones spreads the load.
            let group = self.banks.get(index / 32).map_or(0, |bank| bank.group(intid % 32));
            let count = self.takers.len();
            (0..count)
                .map(|n| (index + n) % count)
                .find(|vcpu| self.takers.get(*vcpu).is_some_and(|groups| groups >> group & 1 == 1))
        } else {
            super::vcpu_at(router).filter(|vcpu| *vcpu < self.takers.len())
        };
        if let Some(target) = self.target.get_mut(index) {
            *target = vcpu.and_then(|vcpu| u16::try_from(vcpu).ok());
        }
    }

    /// Sets for which groups `vcpu` takes 1-of-N interrupts; whether that routed any anew.
    pub fn set_taker(&mut self, vcpu: usize, groups: u8) -> bool {
        match self.takers.get_mut(vcpu) {
            Some(taker) if *taker != groups => *taker = groups,
            _ => return false,
        }
        self.reroute(0, u32::MAX)
    }

    /// Routes 1-of-N interrupts anew among `count` INTIDs from `first` on, because a group changed; whether there are
    /// any.
    pub fn reroute(&mut self, first: u32, count: u32) -> bool {
        let range = first.max(SPI_BASE)..first.saturating_add(count).min(SPI_BASE + self.count());
        let mut any = false;
        for intid in range {
            if self.router(intid) & gicd::IROUTER_IRM != 0 {
                self.resolve(intid);
                any = true;
            }
        }
        any
    }
}
