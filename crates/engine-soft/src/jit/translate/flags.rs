//! NZCV in the host's flags.
//!
//! A comparison leaves the host's flags, and the next instructions use them directly. They are written to memory only
//! when something is about to destroy them while they are still needed, which a look ahead over the block and a few
//! instructions beyond its exits decides.

use super::{MOST, Translator, fetch, flow};
use crate::{
    decode::Cond,
    jit::{
        asm::{Cc, RAX},
        page::WORDS,
        state::{flags_image, slot, x},
    },
};

/// What the host's carry flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polarity {
    /// C: after additions and logical operations.
    Direct,
    /// Its inverse: after subtractions.
    Inverted,
    /// Nothing that means NZCV, but the host's condition is the answer to the only question that will be asked.
    Answer(Cond, Cc),
}

/// Where NZCV is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    /// In the host's flags.
    host: Option<Polarity>,
    /// In the slot.
    saved: bool,
}

impl Flags {
    /// As at the start of a block.
    pub const fn in_memory() -> Self {
        Self { host: None, saved: true }
    }

    /// Nowhere: about to be overwritten.
    pub const fn dead() -> Self {
        Self { host: None, saved: true }
    }
}

/// What an instruction does with NZCV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    /// Overwrites all of it without a look.
    Kills,
    /// Needs it, or may.
    Reads,
}

/// The effect of `word` on NZCV; of what is not known well, the safe answer.
fn effect(word: u32) -> Effect {
    let is = |mask: u32, value: u32| word & mask == value;
    // Bits 28:25 say what kind of instruction it is.
    let (kills, reads) = match word >> 25 & 15 {
        // ADDS, SUBS, ANDS: immediate.
        0b1000 | 0b1001 => (is(0x3f00_0000, 0x3100_0000) || is(0x7f80_0000, 0x7200_0000), false),
        // ADDS, SUBS: shifted, extended; ANDS, BICS: shifted.
        0b0101 => {
            let add = is(0x3f20_0000, 0x2b00_0000) || is(0x3fe0_0000, 0x2b20_0000);
            (add || is(0x7f00_0000, 0x6a00_0000), false)
        }
        // CCMP, CCMN; CSEL and siblings; ADC, SBC, RMIF, SETF.
        0b1101 => {
            let compare = is(0x3fe0_0000, 0x3a40_0000);
            (false, compare || is(0x3fe0_0000, 0x1a80_0000) || is(0x1fe0_0000, 0x1a00_0000))
        }
        // FCMP, FCMPE; FCSEL, FCCMP.
        0b1111 => {
            let reads = is(0xff20_0c00, 0x1e20_0c00) || is(0xff20_0c00, 0x1e20_0400);
            (is(0xff20_fc07, 0x1e20_2000), reads)
        }
        // B.cond; exceptions, system instructions, not hints.
        0b1010 | 0b1011 => {
            let system = is(0xfc00_0000, 0xd400_0000) && !is(0xffff_f01f, 0xd503_201f);
            (false, is(0xff00_0010, 0x5400_0000) || system)
        }
        // Memory copy and set.
        0b1100 | 0b1110 => (false, is(0x3b20_0c00, 0x1900_0400)),
        // UDF.
        0 => (false, is(0xffff_0000, 0)),
        _ => (false, false),
    };
    match (kills, reads) {
        (true, _) => Effect::Kills,
        (_, true) => Effect::Reads,
        _ => Effect::None,
    }
}

/// Instructions to look at beyond an exit, and branches to follow there.
const HORIZON: usize = 32;
const FORKS: usize = 8;

/// What is known of NZCV at the exits of a block: their targets, and whether it may be needed there.
pub(super) type Known = Vec<(i32, bool)>;

impl Translator<'_> {
    /// Whether NZCV may be needed at `target`, in bytes from the start of the page.
    pub(super) fn live_at(&mut self, target: i32) -> bool {
        if let Some(&(_, live)) = self.known_live.iter().find(|known| known.0 == target) {
            return live;
        }
        let live = self.may_be_read(target);
        self.known_live.push((target, live));
        live
    }

    /// As [`Translator::live_at`]: follows all ways from `target` on until each has written NZCV, within the page and within
    /// reason.
    fn may_be_read(&mut self, target: i32) -> bool {
        let first = self.seen.len();
        let mut been = [0_u64; WORDS / 64];
        let (mut forks, mut count) = ([target; FORKS], 1);
        while count > 0 {
            count -= 1;
            let mut at = forks[count];
            loop {
                let Some(index) = usize::try_from(at / 4).ok().filter(|&i| i < WORDS) else { return true };
                let bit = 1 << (index % 64);
                if been[index / 64] & bit != 0 {
                    break;
                }
                been[index / 64] |= bit;
                if self.seen.len() - first == HORIZON {
                    return true;
                }
                let word = fetch(self.source.host, index);
                self.seen.push((index as u16, word));
                match effect(word) {
                    Effect::Kills => break,
                    Effect::Reads => return true,
                    Effect::None if self.options.exact_flags && flow::may_fault(word) => return true,
                    Effect::None => {}
                }
                if let Some(there) = flow::side_exit(word, at) {
                    if count == FORKS {
                        return true;
                    }
                    forks[count] = there;
                    count += 1;
                }
                at = match flow::direct_jump(word, at) {
                    Some(there) => there,
                    None if flow::ends_block(word) => return true,
                    None => at + 4,
                };
            }
        }
        false
    }

    /// Finds where in the block NZCV is needed.
    pub(super) fn find_live_flags(&mut self) {
        let count = self.words.len();
        let first = self.source.word;
        let at = |index: usize| ((first + index) * 4) as i32;
        let last = self.words[count - 1];
        let mut live = match flow::direct_jump(last, at(count - 1)) {
            Some(target) => self.live_at(target),
            None if flow::ends_block(last) => true,
            None => self.live_at(at(count)),
        };
        let mut set = u128::from(live) << count;
        for index in (0..count).rev() {
            let word = self.words[index];
            if let Some(target) = flow::side_exit(word, at(index)) {
                live |= self.live_at(target);
            }
            match effect(word) {
                Effect::Kills => live = false,
                Effect::Reads => live = true,
                Effect::None if self.options.exact_flags && flow::may_fault(word) => live = true,
                Effect::None => {}
            }
            set |= u128::from(live) << index;
        }
        self.live = set;
        const { assert!(MOST < 128) };
    }

    /// Whether NZCV is needed behind the current instruction.
    pub(super) fn flags_live_after(&self) -> bool {
        self.live >> (self.index + 1) & 1 != 0
    }

    /// Before an instruction that destroys the host's flags: saves NZCV if it is needed later. Uses RAX, so it comes
    /// first.
    pub(super) fn clobber_flags(&mut self) {
        // Exact flags are live where the instruction itself may fault, too.
        let live = self.flags_live_after() || self.options.exact_flags && self.live >> self.index & 1 != 0;
        if self.flags.host.is_some() && !self.flags.saved && live {
            self.save_image();
        }
        self.flags.host = None;
    }

    /// As [`Translator::clobber_flags`], for a branch: NZCV may be needed at its target.
    pub(super) fn branch_clobbers_flags(&mut self) {
        self.save_flags();
        self.forget_host_flags();
    }

    /// Makes sure that the slot holds NZCV, if the current instruction or a later one needs it. Uses RAX.
    pub(super) fn save_flags(&mut self) {
        if self.live >> self.index & 1 != 0 || self.flags_live_after() {
            self.save_flags_now();
        }
    }

    /// Makes sure that the slot holds NZCV. Uses RAX.
    pub(super) fn save_flags_now(&mut self) {
        if self.must_save() {
            self.save_image();
        }
    }

    /// Whether the host's flags alone hold NZCV.
    pub(super) fn must_save(&self) -> bool {
        self.flags.host.is_some() && !self.flags.saved
    }

    fn save_image(&mut self) {
        if self.flags.host == Some(Polarity::Direct) {
            self.asm.cmc();
            self.flags.host = Some(Polarity::Inverted);
        }
        self.asm.lahf();
        self.asm.setcc(Cc::O, RAX);
        self.asm.store(1, x(slot::FLAGS), RAX);
        self.flags.saved = true;
    }

    /// The host's flags are nothing of the guest's any more.
    pub(super) fn forget_host_flags(&mut self) {
        self.flags.host = None;
    }

    /// The host's flags are NZCV now.
    pub(super) fn set_flags(&mut self, polarity: Polarity) {
        self.flags = Flags { host: Some(polarity), saved: false };
    }

    /// The host's flags answer `cond` with `cc`; [`Translator::only_question`] says that nobody asks anything else.
    pub(super) fn set_answer(&mut self, cond: Cond, cc: Cc) {
        self.flags = Flags { host: Some(Polarity::Answer(cond, cc)), saved: true };
    }

    /// The condition that the next instruction asks for, if nothing else needs the flags that this one sets.
    pub(super) fn only_question(&mut self) -> Option<Cond> {
        let next = self.index + 1;
        let word = *self.words.get(next)?;
        let is = |mask: u32, value: u32| word & mask == value;
        let cond = if is(0xff00_0010, 0x5400_0000) {
            word & 15
        } else if is(0x3fe0_0000, 0x1a80_0000) || is(0xff20_0c00, 0x1e20_0c00) {
            word >> 12 & 15
        } else {
            return None;
        };
        let at = self.offset_of(next) as i32;
        let elsewhere = flow::side_exit(word, at).is_some_and(|target| self.live_at(target));
        (cond < 14 && self.live >> (next + 1) & 1 == 0 && !elsewhere).then_some(cond as Cond)
    }

    /// The low 16 bits of RAX become NZCV, in the layout of [`slot::FLAGS`].
    pub(super) fn set_flags_image(&mut self) {
        self.asm.store(1, x(slot::FLAGS), RAX);
        self.flags = Flags::in_memory();
    }

    /// Has the host's flags hold NZCV. Uses RAX, unless they do already.
    fn restore_flags(&mut self) -> Polarity {
        if let Some(polarity) = self.flags.host {
            return polarity;
        }
        self.asm.movzx(1, RAX, x(slot::FLAGS));
        // Overflows if AL was 1; SAHF sets the others.
        self.asm.raw(&[0x04, 0x7f]);
        self.asm.sahf();
        self.flags.host = Some(Polarity::Inverted);
        Polarity::Inverted
    }

    /// Has the host's carry flag be C with this polarity, and the others NZV. Uses RAX.
    pub(super) fn restore_carry(&mut self, wanted: Polarity) {
        if self.restore_flags() != wanted {
            self.asm.cmc();
            self.flags.host = Some(wanted);
        }
    }

    /// The host's condition for `cond` (not AL), with the host's flags in place. Uses RAX.
    pub(super) fn condition(&mut self, cond: Cond) -> Cc {
        let mut polarity = self.restore_flags();
        if let Polarity::Answer(question, cc) = polarity {
            debug_assert_eq!(question >> 1, cond >> 1, "flags that answer something else");
            return if question == cond { cc } else { cc.not() };
        }
        if matches!(cond >> 1, 4) && polarity == Polarity::Direct {
            self.restore_carry(Polarity::Inverted);
            polarity = Polarity::Inverted;
        }
        let cc = match cond >> 1 {
            0 => Cc::E,
            1 if polarity == Polarity::Direct => Cc::B,
            1 => Cc::Ae,
            2 => Cc::S,
            3 => Cc::O,
            4 => Cc::A,
            5 => Cc::Ge,
            _ => Cc::G,
        };
        if cond & 1 != 0 { cc.not() } else { cc }
    }

    /// Loads the constant `nzcv` (4 bits) into the host's flags, with this polarity. Uses RAX.
    pub(super) fn load_constant_flags(&mut self, nzcv: u8, polarity: Polarity) {
        // C is inverted in an image.
        let nzcv = if polarity == Polarity::Inverted { nzcv } else { nzcv ^ 2 };
        self.asm.mov_imm(RAX, u64::from(flags_image(nzcv)));
        // 0x7f + 1 overflows.
        self.asm.raw(&[0x04, 0x7f]);
        self.asm.sahf();
    }
}
