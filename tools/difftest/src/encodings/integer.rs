//! Data processing on general registers (Arm ARM C4.1.86 and C4.1.95).

use super::{Encoding, any, bits};

fn is64(w: u32) -> bool {
    w >> 31 == 1
}

/// Logical immediates: N:immr:imms must describe an element that is not all ones.
fn bitmask(w: u32) -> bool {
    let (n, imms) = (bits(w, 22, 22), bits(w, 15, 10));
    if n == 1 && !is64(w) {
        return false;
    }
    let combined = n << 6 | (!imms & 0x3F);
    if combined < 2 {
        return false;
    }
    let length = 31 - combined.leading_zeros();
    let levels = (1 << length) - 1;
    imms & levels != levels
}

/// N equals sf, and 32-bit forms have no field above 31.
fn bitfield(w: u32) -> bool {
    bits(w, 22, 22) == w >> 31 && (is64(w) || (bits(w, 21, 21) == 0 && bits(w, 15, 15) == 0))
}

fn extract(w: u32) -> bool {
    bits(w, 22, 22) == w >> 31 && (is64(w) || bits(w, 15, 15) == 0)
}

fn wide(w: u32) -> bool {
    is64(w) || bits(w, 22, 22) == 0
}

fn shifted(w: u32) -> bool {
    is64(w) || bits(w, 15, 15) == 0
}

fn shifted_arithmetic(w: u32) -> bool {
    shifted(w) && bits(w, 23, 22) != 3
}

fn extended(w: u32) -> bool {
    bits(w, 12, 10) <= 4
}

/// CRC32X takes the 64-bit form, all others the 32-bit form.
fn crc(w: u32) -> bool {
    is64(w) == (bits(w, 11, 10) == 3)
}

/// The encodings of this class.
pub fn table() -> Vec<Encoding> {
    let e = Encoding::new;
    vec![
        e("add/sub imm", "ii0 100010 i iiiiiiiiiiii NNNNN DDDDD", any),
        e("adds/subs imm", "ii1 100010 i iiiiiiiiiiii NNNNN ddddd", any),
        e("and imm", "i00 100100 i iiiiiiiiiiii nnnnn DDDDD", bitmask),
        e("orr imm", "i01 100100 i iiiiiiiiiiii nnnnn DDDDD", bitmask),
        e("eor imm", "i10 100100 i iiiiiiiiiiii nnnnn DDDDD", bitmask),
        e("ands imm", "i11 100100 i iiiiiiiiiiii nnnnn ddddd", bitmask),
        e("movn", "i00 100101 ii iiiiiiiiiiiiiiii ddddd", wide),
        e("movz", "i10 100101 ii iiiiiiiiiiiiiiii ddddd", wide),
        e("movk", "i11 100101 ii iiiiiiiiiiiiiiii ddddd", wide),
        e("sbfm", "i00 100110 i iiiiii iiiiii nnnnn ddddd", bitfield),
        e("bfm", "i01 100110 i iiiiii iiiiii nnnnn ddddd", bitfield),
        e("ubfm", "i10 100110 i iiiiii iiiiii nnnnn ddddd", bitfield),
        e("extr", "i00 100111 i 0 mmmmm iiiiii nnnnn ddddd", extract),
        e("adr", "0ii 10000 iiiiiiiiiiiiiiiiiii ddddd", any),
        e("adrp", "1ii 10000 iiiiiiiiiiiiiiiiiii ddddd", any),
        e("logical shifted", "iii 01010 ii i mmmmm iiiiii nnnnn ddddd", shifted),
        e("add/sub shifted", "iii 01011 ii 0 mmmmm iiiiii nnnnn ddddd", shifted_arithmetic),
        e("add/sub extended", "ii0 01011 00 1 mmmmm iii iii NNNNN DDDDD", extended),
        e("adds/subs extended", "ii1 01011 00 1 mmmmm iii iii NNNNN ddddd", extended),
        e("adc/sbc", "iii 11010000 mmmmm 000000 nnnnn ddddd", any),
        e("rmif", "101 11010000 iiiiii 00001 nnnnn 0iiii", any),
        e("setf", "001 11010000 000000 i 0010 nnnnn 01101", any),
        e("ccmn/ccmp reg", "ii1 11010010 mmmmm iiii 00 nnnnn 0iiii", any),
        e("ccmn/ccmp imm", "ii1 11010010 iiiii iiii 10 nnnnn 0iiii", any),
        e("csel", "ii0 11010100 mmmmm iiii 0i nnnnn ddddd", any),
        e("udiv", "i00 11010110 mmmmm 000010 nnnnn ddddd", any),
        e("sdiv", "i00 11010110 mmmmm 000011 nnnnn ddddd", any),
        e("shift reg", "i00 11010110 mmmmm 0010ii nnnnn ddddd", any),
        e("crc32", "i00 11010110 mmmmm 010iii nnnnn ddddd", crc),
        e("rbit", "i10 11010110 00000 000000 nnnnn ddddd", any),
        e("rev16", "i10 11010110 00000 000001 nnnnn ddddd", any),
        e("rev32", "i10 11010110 00000 000010 nnnnn ddddd", any),
        e("rev64", "110 11010110 00000 000011 nnnnn ddddd", any),
        e("clz", "i10 11010110 00000 000100 nnnnn ddddd", any),
        e("cls", "i10 11010110 00000 000101 nnnnn ddddd", any),
        e("madd/msub", "i00 11011000 mmmmm i aaaaa nnnnn ddddd", any),
        e("smaddl/smsubl", "100 11011001 mmmmm i aaaaa nnnnn ddddd", any),
        e("umaddl/umsubl", "100 11011101 mmmmm i aaaaa nnnnn ddddd", any),
        e("smulh", "100 11011010 mmmmm 0 11111 nnnnn ddddd", any),
        e("umulh", "100 11011110 mmmmm 0 11111 nnnnn ddddd", any),
        e("cfinv", "1101 0101 0000 0000 0100 0000 0001 1111", any),
        e("xaflag", "1101 0101 0000 0000 0100 0000 0011 1111", any),
        e("axflag", "1101 0101 0000 0000 0100 0000 0101 1111", any),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_immediates_follow_decode_bit_masks() {
        assert!(bitmask(0x9200_0000)); // AND X0, X0, #0x0000000100000001
        assert!(!bitmask(0x9200_7C00)); // all ones in a 32-bit element
        assert!(!bitmask(0x1240_0000)); // N = 1 in a 32-bit form
        assert!(!bitmask(0x9200_FC00)); // no element size
        assert!(bitmask(0x9240_F800)); // 63 ones
    }

    #[test]
    fn crc32x_is_the_only_64_bit_form() {
        assert!(crc(0x9AC2_4C20) && !crc(0x9AC2_4820) && crc(0x1AC2_4820) && !crc(0x1AC2_4C20));
    }
}
