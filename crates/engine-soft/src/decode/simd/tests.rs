use super::*;
use crate::fp::Rounding;

#[test]
fn fields_are_taken_apart() {
    let whole = Source::whole;
    let cases = [
        // fadd d0, d1, d2
        (
            0x1e62_2820,
            SimdInsn::FpBinary { op: FpBinary::Fadd, shape: Shape::scalar(3), rd: 0, rn: 1, rm: whole(2) },
        ),
        // add v3.16b, v4.16b, v5.16b
        (
            0x4e25_8483,
            SimdInsn::Binary {
                op: Binary::Add,
                shape: Shape { size: 0, width: 4 },
                rd: 3,
                rn: 4,
                rm: whole(5),
            },
        ),
        // mla v0.4h, v1.4h, v2.h[7]
        (
            0x2f72_0820,
            SimdInsn::Binary {
                op: Binary::Mla,
                shape: Shape { size: 1, width: 3 },
                rd: 0,
                rn: 1,
                rm: Source { reg: 2, index: Some(7) },
            },
        ),
        // sshr d0, d1, #64
        (0x5f40_0420, SimdInsn::Shift { op: Shift::Sshr, shape: Shape::scalar(3), amount: 64, rd: 0, rn: 1 }),
        // fcvtms w0, s1
        (
            0x1e30_0020,
            SimdInsn::FpToGeneral {
                to: FixedPoint { signed: true, fbits: 0 },
                mode: Rounding::Down,
                size: 2,
                sf: false,
                rd: 0,
                rn: 1,
            },
        ),
        // movi v0.2d, #0xff00ff00ff00ff00
        (
            0x6f05_e540,
            SimdInsn::Immediate { op: ImmediateOp::Move, full: true, value: 0xff00_ff00_ff00_ff00, rd: 0 },
        ),
        // fmov v0.2d, #-1.0
        (0x6f07_f600, SimdInsn::Immediate { op: ImmediateOp::Move, full: true, value: 0xbff0 << 48, rd: 0 }),
        // fmov h0, #2.0
        (0x1ee0_1000, SimdInsn::Immediate { op: ImmediateOp::Move, full: false, value: 0x4000, rd: 0 }),
        // ld3 {v4.h, v5.h, v6.h}[5], [x7], x8
        (
            0x4dc8_68e4,
            SimdInsn::Single {
                how: Structure { load: true, size: 1, elements: 3, rt: 4, rn: 7, post: Post::Reg(8) },
                index: 5,
            },
        ),
    ];
    for (word, insn) in cases {
        assert_eq!(decode(word), Some(insn), "{word:08x}");
    }
}

#[test]
fn unallocated_encodings_are_refused() {
    let words = [
        0x0ee2_8420, // add v0.1d, v1.1d, v2.1d
        0x4ee2_9c20, // mul v0.2d, v1.2d, v2.2d
        0x1ea2_2820, // fadd with the reserved format
        0x9e62_2820, // fadd with bit 31
        0x1e02_7c20, // scvtf s0, w1, #33
        0x0e08_0c20, // dup v0.1d, x1
        0x4e10_0c20, // dup with no element size
        0x6f00_fc00, // fmov v0.8h of the wrong op
        0x0c00_0c00, // st4 {v0.1d-v3.1d}, [x0]
        0x0d00_e000, // st1r
        0x0e28_4800, // aese without Q
        0x0eb0_a820, // smaxv s0, v1.2s
    ];
    for word in words {
        assert_eq!(decode(word), None, "{word:08x}");
    }
}
