//! Structure loads and stores.

use super::{Post, SimdInsn, Structure, bit, bits, reg};

pub(super) fn decode(raw: u32) -> Option<SimdInsn> {
    let post = match (bit(raw, 23), reg(raw, 16)) {
        (false, 0) => Post::None,
        (false, _) => return None,
        (true, 31) => Post::Bytes,
        (true, rm) => Post::Reg(rm),
    };
    if bit(raw, 24) { single(raw, post) } else { multiple(raw, post) }
}

fn multiple(raw: u32, post: Post) -> Option<SimdInsn> {
    let (elements, registers) = match bits(raw, 15, 12) {
        0b0000 => (4, 4),
        0b0010 => (1, 4),
        0b0100 => (3, 3),
        0b0110 => (1, 3),
        0b0111 => (1, 1),
        0b1000 => (2, 2),
        0b1010 => (1, 2),
        _ => return None,
    };
    let (size, full) = (bits(raw, 11, 10) as u8, bit(raw, 30));
    // Bit 21 is R of the single structures, here zero.
    if bit(raw, 21) || (size == 3 && !full && elements != 1) {
        return None;
    }
    Some(SimdInsn::Multiple { how: structure(raw, size, elements, post), full, registers })
}

fn single(raw: u32, post: Post) -> Option<SimdInsn> {
    let (opcode, s, size, full) = (bits(raw, 15, 13), bits(raw, 12, 12), bits(raw, 11, 10), bit(raw, 30));
    let elements = ((opcode & 1) << 1 | bits(raw, 21, 21)) as u8 + 1;
    let (size, index) = match (opcode >> 1, size) {
        (0, _) => (0, s << 2 | size),
        (1, 0 | 2) => (1, s << 1 | size >> 1),
        (2, 0) => (2, s),
        (2, 1) if s == 0 => (3, 0),
        (3, _) if s == 0 && bit(raw, 22) => {
            return Some(SimdInsn::Replicate { how: structure(raw, size as u8, elements, post), full });
        }
        _ => return None,
    };
    let index = index as u8 | u8::from(full) << (3 - size);
    Some(SimdInsn::Single { how: structure(raw, size, elements, post), index })
}

fn structure(raw: u32, size: u8, elements: u8, post: Post) -> Structure {
    Structure { load: bit(raw, 22), size, elements, rt: reg(raw, 0), rn: reg(raw, 5), post }
}
