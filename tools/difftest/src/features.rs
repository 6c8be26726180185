//! Which optional features our CPU advertises: the ID registers decide what is generated, so that nothing is tested
//! that is not promised, and everything that is.

/// The ID registers that matter, in the order in which the kernel reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `ID_AA64ISAR0_EL1`.
    pub isar0: u64,
    /// `ID_AA64ISAR1_EL1`.
    pub isar1: u64,
    /// `ID_AA64ISAR2_EL1`.
    pub isar2: u64,
    /// `ID_AA64PFR0_EL1`.
    pub pfr0: u64,
    /// `ID_AA64PFR1_EL1`.
    pub pfr1: u64,
    /// `DCZID_EL0`.
    pub dczid: u64,
}

impl Features {
    /// What QEMU's `max` CPU has of the features that the tables know.
    pub fn everything() -> Self {
        let ones = 0x2222_2222_2222_2222;
        Self { isar0: ones, isar1: ones, isar2: ones, pfr0: 0x1_0000_0011_0000, pfr1: ones, dczid: 7 }
    }

    /// Whether the encoding called `name` is part of what is advertised.
    pub fn has(&self, name: &str) -> bool {
        let (register, shift, least) = match name {
            "aese" | "aesd" | "aesmc" | "aesimc" => (self.isar0, 4, 1),
            "pmull 64" => (self.isar0, 4, 2),
            _ if name.starts_with("sha1") => (self.isar0, 8, 1),
            _ if name.starts_with("sha256") => (self.isar0, 12, 1),
            "crc32" => (self.isar0, 16, 1),
            "ldadd..ldset" | "ldsmax..ldumin" | "swp" | "cas" | "casp" => (self.isar0, 20, 2),
            _ if name.starts_with("sqrdml") => (self.isar0, 28, 1),
            "sdot/udot" | "dot elt" => (self.isar0, 44, 1),
            _ if name.starts_with("fmlal") => (self.isar0, 48, 1),
            "rmif" | "setf" | "cfinv" => (self.isar0, 52, 1),
            "xaflag" | "axflag" => (self.isar0, 52, 2),
            "fjcvtzs" => (self.isar1, 12, 1),
            "fcmla" | "fcadd" | "fcmla elt" => (self.isar1, 16, 1),
            "ldapr" => (self.isar1, 20, 1),
            "ldapur/stlur" => (self.isar1, 20, 2),
            "frint32/64" | "frint32 v" | "frint64 v" => (self.isar1, 32, 1),
            "sb" => (self.isar1, 36, 1),
            "memory copy" => (self.isar2, 16, 1),
            _ if name.contains(" dit") => (self.pfr0, 48, 1),
            _ if name.contains(" ssbs") => (self.pfr1, 4, 2),
            _ => return true,
        };
        register >> shift & 15 >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::{TABLED, table};

    #[test]
    fn everything_has_every_encoding() {
        let all = Features::everything();
        for class in TABLED {
            assert!(table(class).iter().all(|e| all.has(e.name)));
        }
        assert!(all.has("memory copy"));
    }

    #[test]
    fn nothing_has_the_base_set_only() {
        let none = Features { isar0: 0, isar1: 0, isar2: 0, pfr0: 0, pfr1: 0, dczid: 4 };
        assert!(none.has("add/sub imm") && none.has("fadd") && none.has("ldp/stp"));
        assert!(
            !none.has("crc32") && !none.has("msr dit") && !none.has("sqrdmlah s elt") && !none.has("casp")
        );
    }
}
