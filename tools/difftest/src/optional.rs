//! What the architecture leaves open, and what QEMU has beyond the features that Tearless advertises.

use crate::encodings::bits;

/// Whether a random word neither leaves the sandbox nor does what legitimately differs between the sides.
pub fn contained(word: u32) -> bool {
    match word >> 24 {
        // SVC is the driver's own; QEMU takes HLT for semihosting.
        0xD4 => !(bits(word, 23, 21) == 0 && bits(word, 4, 0) == 1) && bits(word, 23, 21) != 2,
        0xD5 => contained_system(word),
        0xD6 | 0xD7 => true,
        // Immediate branches, and literal loads.
        _ => bits(word, 28, 26) != 0b101 && word & 0x3B00_0000 != 0x1800_0000,
    }
}

fn contained_system(word: u32) -> bool {
    let (op0, op1, crn, crm, op2) =
        (bits(word, 20, 19), bits(word, 18, 16), bits(word, 15, 12), bits(word, 11, 8), bits(word, 7, 5));
    let read = bits(word, 21, 21) == 1;
    match (op0, op1, crn) {
        // WFET and WFIT; WFE, WFI and CHKFEAT.
        (0, 3, 1) => crm != 0,
        (0, 3, 2) => !matches!((crm, op2), (0, 2 | 3) | (5, 0)),
        // Cache maintenance at an address that is not mapped: QEMU's user mode does not look at it.
        (1, 3, 7) => false,
        // Identification registers, which Linux emulates; CTR_EL0 and DCZID_EL0; counters and timers.
        (3, 0 | 3, 0) | (3, 3, 14) => false,
        // FPCR and FPSR with reserved bits.
        (3, 3, 4) => read || crm != 4,
        _ => true,
    }
}

/// Words that are CONSTRAINED UNPREDICTABLE alone, whatever the registers hold, or that only make sense in company.
pub fn unpredictable(word: u32) -> bool {
    let (rt, rn, rt2, rs) = (bits(word, 4, 0), bits(word, 9, 5), bits(word, 14, 10), bits(word, 20, 16));
    let vector = bits(word, 26, 26) == 1;
    // SMULH and UMULH: Ra should be ones.
    if word & 0xFF60_8000 == 0x9B40_0000 {
        return rt2 != 31;
    }
    // LDAPR: Rs should be ones.
    if word & 0x3FE0_FC00 == 0x38A0_C000 {
        return rs != 31;
    }
    match (bits(word, 29, 27), bits(word, 25, 24)) {
        // Exclusives and ordered accesses. A store-exclusive without its monitor may fault or fail as it likes.
        // Fields that are not used should be ones; LDXP must have two targets.
        (0b001, 0) if !vector => {
            let (ordered, load, pair) =
                (bits(word, 23, 23) == 1, bits(word, 22, 22) == 1, bits(word, 21, 21) == 1);
            let compare_and_swap = pair && (ordered || bits(word, 31, 31) == 0);
            let exclusive_pair = pair && !compare_and_swap;
            !compare_and_swap
                && (!(ordered || load) || rs != 31 || if exclusive_pair { rt == rt2 } else { rt2 != 31 })
        }
        // Memory copies and sets.
        (0b011, 1) => bits(word, 21, 21) == 0 && bits(word, 11, 10) == 1,
        // Pairs: equal targets of a load, write-back onto a target.
        (0b101, 0 | 1) => {
            let (load, write_back) = (bits(word, 22, 22) == 1, bits(word, 23, 23) == 1);
            (load && rt == rt2) || (write_back && !vector && rn != 31 && (rn == rt || rn == rt2))
        }
        // Single registers with write-back (bit 10 set, bit 21 clear).
        (0b111, 0) => !vector && bits(word, 21, 21) == 0 && bits(word, 10, 10) == 1 && rn != 31 && rn == rt,
        _ => false,
    }
}

/// Register numbers that a load or atomic may have written before its abort: Rt, Rt2, Rs and the lists of the SIMD
/// structures.
pub fn targets(word: u32) -> Vec<usize> {
    let rt = bits(word, 4, 0);
    let mut all = vec![rt, bits(word, 14, 10), bits(word, 20, 16), bits(word, 20, 16) + 1];
    all.extend((1..4).map(|i| rt + i));
    all.into_iter().map(|r| (r & 31) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpredictable_words() {
        assert!(unpredictable(0xA940_0000)); // LDP X0, X0, [X0]
        assert!(!unpredictable(0xA940_0801)); // LDP X1, X2, [X0]
        assert!(unpredictable(0xF840_0400)); // LDR X0, [X0], #0
        assert!(!unpredictable(0xF840_0420)); // LDR X0, [X1], #0
        assert!(unpredictable(0xC800_7C20)); // STXR W0, X0, [X1]
        assert!(!unpredictable(0xC85F_7C20)); // LDXR X0, [X1]
        assert!(unpredictable(0xC841_7C20)); // LDXR with Rs not all ones
        assert!(!unpredictable(0xC8A0_7C20)); // CAS X0, X0, [X1]
        assert!(unpredictable(0x1900_0440)); // CPYFP
        assert!(!contained(0xD400_0001) && contained(0xD400_0002) && contained(0xD420_0000)); // SVC, HVC, BRK
        assert!(!contained(0xD503_205F) && contained(0xD503_201F)); // WFE, NOP
        assert!(!contained(0x5800_0000) && !contained(0x1400_0000)); // LDR literal, B
        assert!(unpredictable(0x9B42_0020) && !unpredictable(0x9B42_7C20)); // SMULH
    }
}
