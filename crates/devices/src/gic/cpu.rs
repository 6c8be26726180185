//! One vCPU's part: its private interrupts, its redistributor's registers and its CPU interface.
//!
//! The distributor puts here the best SPI of each group that is routed to this vCPU, so that this state alone decides
//! what the vCPU sees.

use serde::{Deserialize, Serialize};
use tearless_arm64::gic::{INTID_NONE, SPI_BASE, gicr, icc};

use super::{
    Candidate, PRIORITY_BITS, PRIORITY_MASK,
    bank::{Bank, SavedBank},
    lpi::{LpiConfig, PendingLpis},
};

/// Set in [`CpuState::outputs`] for an interrupt of group 1.
pub const IRQ: u8 = 1 << 0;
/// Set in [`CpuState::outputs`] for an interrupt of group 0.
pub const FIQ: u8 = 1 << 1;

/// Lowest binary point of group 0: all five priority bits are group priority. That of group 1 is one more.
const MIN_BPR: [u8; 2] = [7 - PRIORITY_BITS as u8, 8 - PRIORITY_BITS as u8];
/// What the running priority is when nothing is active.
const IDLE: u8 = 0xff;

/// See the module.
#[derive(Clone, Debug)]
pub struct CpuState {
    /// SGIs and PPIs.
    pub private: Bank,
    /// The best deliverable SPI of each group. Written under the distributor's lock only.
    pub spi: [Option<Candidate>; 2],
    /// The LPIs pending here.
    pub lpi: PendingLpis,
    /// The groups that the distributor forwards, a bit each.
    pub forwarded: u8,
    /// The redistributor's own registers.
    pub redistributor: Redistributor,
    priority_mask: u8,
    binary_point: [u8; 2],
    /// The writable bits of `ICC_CTLR_EL1`.
    control: u64,
    /// Enabled groups, a bit each.
    enabled: u8,
    /// Active priorities of each group: bit n stands for priority 8 × n.
    active: [u32; 2],
}

/// What of it a saved VM has: the rest follows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedCpu {
    private: SavedBank,
    lpis: Vec<u32>,
    redistributor: Redistributor,
    priority_mask: u8,
    binary_point: [u8; 2],
    control: u64,
    enabled: u8,
    active: [u32; 2],
}

/// A redistributor's control registers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redistributor {
    /// `GICR_CTLR`, the writable bits.
    pub control: u32,
    /// Whether `GICR_WAKER` says that the vCPU sleeps. Interrupts come through all the same: much software that runs
    /// on emulators only never clears it.
    pub asleep: bool,
    /// `GICR_PROPBASER`.
    pub propbaser: u64,
    /// `GICR_PENDBASER`.
    pub pendbaser: u64,
}

impl Redistributor {
    const RESET: Self = Self { control: 0, asleep: true, propbaser: 0, pendbaser: 0 };

    /// Whether LPIs are enabled here.
    pub fn lpis_enabled(&self) -> bool {
        self.control & gicr::CTLR_ENABLE_LPIS != 0
    }
}

impl Default for CpuState {
    fn default() -> Self {
        Self {
            private: Bank::private(),
            spi: [None; 2],
            lpi: PendingLpis::default(),
            forwarded: 0,
            redistributor: Redistributor::RESET,
            priority_mask: 0,
            binary_point: MIN_BPR,
            control: 0,
            enabled: 0,
            active: [0; 2],
        }
    }
}

impl CpuState {
    /// For a saved VM.
    pub fn save(&self) -> SavedCpu {
        SavedCpu {
            private: self.private.save(),
            lpis: self.lpi.save(),
            redistributor: self.redistributor,
            priority_mask: self.priority_mask,
            binary_point: self.binary_point,
            control: self.control,
            enabled: self.enabled,
            active: self.active,
        }
    }

    /// Takes over what was saved, each register as if it were written. Whether there are LPIs is for `lpis` to say.
    pub fn restore(&mut self, saved: &SavedCpu, lpis: bool) {
        self.private.restore(&saved.private);
        let from = saved.redistributor;
        let enable = if lpis { gicr::CTLR_ENABLE_LPIS } else { 0 };
        self.redistributor = Redistributor {
            control: from.control & (enable | gicr::CTLR_DPG0 | gicr::CTLR_DPG1),
            asleep: from.asleep,
            propbaser: if lpis { from.propbaser & gicr::PROPBASER_MASK } else { 0 },
            pendbaser: if lpis {
                from.pendbaser & (gicr::PENDBASER_MASK | gicr::PENDBASER_ADDRESS | gicr::PENDBASER_PTZ)
            } else {
                0
            },
        };
        let pending = if self.redistributor.lpis_enabled() { saved.lpis.as_slice() } else { &[] };
        self.lpi = PendingLpis::restored(pending);
        self.set_priority_mask(saved.priority_mask.into());
        // Binary points first, for the control register decides whether one of them can be written.
        self.control = 0;
        self.set_bpr0(saved.binary_point[0].into());
        self.set_bpr1(saved.binary_point[1].into());
        self.set_control(saved.control);
        self.enabled = saved.enabled & 0b11;
        self.active = saved.active;
    }

    /// The groups for which this vCPU takes 1-of-N interrupts.
    pub fn takes_any(&self) -> u8 {
        let control = self.redistributor.control;
        let refused =
            u8::from(control & gicr::CTLR_DPG0 != 0) | u8::from(control & gicr::CTLR_DPG1 != 0) << 1;
        self.enabled & !refused
    }

    /// The pending interrupt of highest priority, of the groups that are enabled here and in the distributor.
    fn highest_pending(&self) -> Option<Candidate> {
        let open = self.forwarded & self.enabled;
        let mut best: Option<Candidate> = None;
        let mut consider = |candidate: Candidate| {
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        };
        let mut private = self.private.deliverable(open);
        while private != 0 {
            consider(self.private.candidate(private.trailing_zeros(), 0));
            private &= private - 1;
        }
        let lpi = if self.redistributor.lpis_enabled() { self.lpi.best() } else { None };
        for candidate in self.spi.into_iter().chain([lpi]).flatten() {
            if open >> candidate.group & 1 == 1 {
                consider(candidate);
            }
        }
        best
    }

    /// The interrupt that is signalled to the vCPU: the pending one of highest priority if it passes the mask and
    /// preempts what runs (IHI 0069, 4.8).
    pub fn signalled(&self) -> Option<Candidate> {
        self.highest_pending().filter(|candidate| {
            let mask = self.group_priority_mask(candidate.group);
            let running = self.running_priority();
            candidate.priority < self.priority_mask
                && (running == IDLE || candidate.priority & mask < running & mask)
        })
    }

    /// The vCPU's interrupt inputs: [`IRQ`], [`FIQ`] or none.
    pub fn outputs(&mut self, config: &LpiConfig) -> u8 {
        self.lpi.settle(config);
        match self.signalled() {
            Some(Candidate { group: 0, .. }) => FIQ,
            Some(_) => IRQ,
            None => 0,
        }
    }

    /// Takes the signalled interrupt `candidate`, which may be an SPI (whose own state is the distributor's).
    pub fn acknowledge(&mut self, candidate: Candidate) {
        let group_priority = candidate.priority & self.group_priority_mask(candidate.group);
        if let Some(active) = self.active.get_mut(usize::from(candidate.group)) {
            *active |= 1 << (group_priority >> (8 - PRIORITY_BITS));
        }
        match candidate.intid {
            0..SPI_BASE => self.private.activate(candidate.intid),
            SPI_BASE..=INTID_NONE => {}
            lpi => _ = self.lpi.remove(lpi),
        }
    }

    /// Ends the highest active priority if it belongs to `group`; whether it did.
    pub fn drop_priority(&mut self, group: usize) -> bool {
        let running = self.running_priority();
        let Some(active) = self.active.get_mut(group) else { return false };
        let own = running != IDLE && *active >> (running >> (8 - PRIORITY_BITS)) & 1 == 1;
        if own {
            *active &= *active - 1;
        }
        own
    }

    /// Whether an end of interrupt leaves the interrupt active until `ICC_DIR_EL1` is written.
    pub fn split_eoi(&self) -> bool {
        self.control & icc::CTLR_EOIMODE != 0
    }

    /// `ICC_HPPIR0_EL1` and `ICC_HPPIR1_EL1`.
    pub fn hppir(&self, group: u8) -> u32 {
        self.highest_pending()
            .filter(|candidate| candidate.group == group)
            .map_or(INTID_NONE, |best| best.intid)
    }

    /// `ICC_RPR_EL1`.
    pub fn running_priority(&self) -> u8 {
        match self.active[0] | self.active[1] {
            0 => IDLE,
            active => (active.trailing_zeros() as u8) << (8 - PRIORITY_BITS),
        }
    }

    /// The bits of a priority that decide about preemption.
    fn group_priority_mask(&self, group: u8) -> u8 {
        let point = if group == 0 || self.control & icc::CTLR_CBPR != 0 {
            u32::from(self.binary_point[0]) + 1
        } else {
            u32::from(self.binary_point[1])
        };
        (0xff_u32 << point) as u8
    }

    /// `ICC_PMR_EL1`.
    pub fn priority_mask(&self) -> u8 {
        self.priority_mask
    }

    /// Writes `ICC_PMR_EL1`.
    pub fn set_priority_mask(&mut self, value: u64) {
        self.priority_mask = value as u8 & PRIORITY_MASK;
    }

    /// `ICC_BPR0_EL1`.
    pub fn bpr0(&self) -> u8 {
        self.binary_point[0]
    }

    /// `ICC_BPR1_EL1`.
    pub fn bpr1(&self) -> u8 {
        if self.control & icc::CTLR_CBPR != 0 {
            (self.binary_point[0] + 1).min(7)
        } else {
            self.binary_point[1]
        }
    }

    /// Writes `ICC_BPR0_EL1`.
    pub fn set_bpr0(&mut self, value: u64) {
        self.binary_point[0] = (value as u8 & 7).max(MIN_BPR[0]);
    }

    /// Writes `ICC_BPR1_EL1`, which is ignored while BPR0 serves both groups.
    pub fn set_bpr1(&mut self, value: u64) {
        if self.control & icc::CTLR_CBPR == 0 {
            self.binary_point[1] = (value as u8 & 7).max(MIN_BPR[1]);
        }
    }

    /// `ICC_CTLR_EL1`: five bits of priority, INTIDs of 16 bits, no affinity level 3, no range selector.
    pub fn control(&self) -> u64 {
        self.control | u64::from(PRIORITY_BITS - 1) << icc::CTLR_PRIBITS_SHIFT
    }

    /// Writes `ICC_CTLR_EL1`.
    pub fn set_control(&mut self, value: u64) {
        self.control = value & (icc::CTLR_CBPR | icc::CTLR_EOIMODE);
    }

    /// `ICC_IGRPEN0_EL1` and `ICC_IGRPEN1_EL1`.
    pub fn group_enabled(&self, group: u8) -> bool {
        self.enabled >> group & 1 == 1
    }

    /// Writes `ICC_IGRPEN0_EL1` or `ICC_IGRPEN1_EL1`.
    pub fn enable_group(&mut self, group: u8, value: u64) {
        self.enabled = self.enabled & !(1 << group) | (value as u8 & 1) << group;
    }

    /// `ICC_AP0R0_EL1` and `ICC_AP1R0_EL1`.
    pub fn active_priorities(&self) -> [u32; 2] {
        self.active
    }

    /// Writes `ICC_AP0R0_EL1` or `ICC_AP1R0_EL1`.
    pub fn set_active_priorities(&mut self, group: usize, value: u64) {
        if let Some(active) = self.active.get_mut(group) {
            *active = value as u32;
        }
    }
}
