//! Scalar floating point (Arm ARM C4.1.96, the part that starts with `x0x1111`).

use super::{Encoding, any, bits};

/// Half, single or double precision.
fn hsd(w: u32) -> bool {
    bits(w, 23, 22) != 2
}

/// Conversion between two different precisions: opcode<1:0> names the target as `ftype` does.
fn fcvt(w: u32) -> bool {
    hsd(w) && bits(w, 16, 15) != 2 && bits(w, 16, 15) != bits(w, 23, 22)
}

fn single_double(w: u32) -> bool {
    bits(w, 23, 22) <= 1
}

/// Fixed point: the 32-bit form has at most 32 fraction bits.
fn fixed(w: u32) -> bool {
    hsd(w) && (w >> 31 == 1 || bits(w, 15, 15) == 1)
}

/// The encodings of this class.
pub fn table() -> Vec<Encoding> {
    let e = Encoding::new;
    let mut all = vec![
        e("fcvt", "00011110 ii 1 0001 ii 10000 AAAAA VVVVV", fcvt),
        e("frint32/64", "00011110 ii 1 0100 ii 10000 AAAAA VVVVV", single_double),
        e("fcmp", "00011110 ii 1 BBBBB 001000 AAAAA 00000", hsd),
        e("fcmp #0", "00011110 ii 1 00000 001000 AAAAA 01000", hsd),
        e("fcmpe", "00011110 ii 1 BBBBB 001000 AAAAA 10000", hsd),
        e("fcmpe #0", "00011110 ii 1 00000 001000 AAAAA 11000", hsd),
        e("fccmp/fccmpe", "00011110 ii 1 BBBBB iiii 01 AAAAA iiiii", hsd),
        e("fcsel", "00011110 ii 1 BBBBB iiii 11 AAAAA VVVVV", hsd),
        e("fmov imm", "00011110 ii 1 iiiiiiii 100 00000 VVVVV", hsd),
        e("fmadd", "00011111 ii 0 BBBBB 0 CCCCC AAAAA VVVVV", hsd),
        e("fmsub", "00011111 ii 0 BBBBB 1 CCCCC AAAAA VVVVV", hsd),
        e("fnmadd", "00011111 ii 1 BBBBB 0 CCCCC AAAAA VVVVV", hsd),
        e("fnmsub", "00011111 ii 1 BBBBB 1 CCCCC AAAAA VVVVV", hsd),
        e("scvtf/ucvtf fixed", "i0011110 ii 0 00 01i iiiiii nnnnn VVVVV", fixed),
        e("fcvtz fixed", "i0011110 ii 0 11 00i iiiiii AAAAA ddddd", fixed),
        e("fcvt{n,p,m,z}", "i0011110 ii 1 ii 00i 000000 AAAAA ddddd", hsd),
        e("scvtf/ucvtf", "i0011110 ii 1 00 01i 000000 nnnnn VVVVV", hsd),
        e("fcvta", "i0011110 ii 1 00 10i 000000 AAAAA ddddd", hsd),
        e("fmov w,s", "00011110 00 1 00 110 000000 AAAAA ddddd", any),
        e("fmov s,w", "00011110 00 1 00 111 000000 nnnnn VVVVV", any),
        e("fmov x,d", "10011110 01 1 00 110 000000 AAAAA ddddd", any),
        e("fmov d,x", "10011110 01 1 00 111 000000 nnnnn VVVVV", any),
        e("fmov x,v.d[1]", "10011110 10 1 01 110 000000 AAAAA ddddd", any),
        e("fmov v.d[1],x", "10011110 10 1 01 111 000000 nnnnn VVVVV", any),
        e("fmov r,h", "i0011110 11 1 00 110 000000 AAAAA ddddd", any),
        e("fmov h,r", "i0011110 11 1 00 111 000000 nnnnn VVVVV", any),
        e("fjcvtzs", "00011110 01 1 11 110 000000 AAAAA ddddd", any),
    ];
    for (name, opcode) in [
        ("fmov", "000000"),
        ("fabs", "000001"),
        ("fneg", "000010"),
        ("fsqrt", "000011"),
        ("frintn", "001000"),
        ("frintp", "001001"),
        ("frintm", "001010"),
        ("frintz", "001011"),
        ("frinta", "001100"),
        ("frintx", "001110"),
        ("frinti", "001111"),
    ] {
        all.push(e(name, &format!("00011110 ii 1 {opcode} 10000 AAAAA VVVVV"), hsd));
    }
    for (name, opcode) in [
        ("fmul", "0000"),
        ("fdiv", "0001"),
        ("fadd", "0010"),
        ("fsub", "0011"),
        ("fmax", "0100"),
        ("fmin", "0101"),
        ("fmaxnm", "0110"),
        ("fminnm", "0111"),
        ("fnmul", "1000"),
    ] {
        all.push(e(name, &format!("00011110 ii 1 BBBBB {opcode} 10 AAAAA VVVVV"), hsd));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fcvt_never_keeps_its_precision() {
        assert!(fcvt(0x1E22_C020)); // FCVT D0, S1
        assert!(!fcvt(0x1E22_4020)); // S to S
        assert!(!fcvt(0x1E23_4020)); // BFCVT's place without its ftype
        assert!(fcvt(0x1E23_C020)); // FCVT H0, S1
    }
}
