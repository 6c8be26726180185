//! Vector constants, which lie before the blocks in the memory for code.

/// Bytes in memory order as a vector.
const fn bytes(b: [u8; 16]) -> u128 {
    u128::from_le_bytes(b)
}

const fn splat8(value: u8) -> u128 {
    bytes([value; 16])
}

const fn splat16(value: u16) -> u128 {
    value as u128 * 0x0001_0001_0001_0001_0001_0001_0001_0001
}

const fn splat32(value: u32) -> u128 {
    value as u128 * 0x0000_0001_0000_0001_0000_0001_0000_0001
}

const fn splat64(value: u64) -> u128 {
    (value as u128) << 64 | value as u128
}

/// A shuffle that clears the upper half.
const fn low(b: [u8; 8]) -> u128 {
    u128::from_le_bytes([0x80; 16]) << 64 | u64::from_le_bytes(b) as u128
}

macro_rules! constants {
    ($($name:ident = $value:expr;)*) => {
        /// A constant by its place in [`TABLE`].
        #[derive(Clone, Copy)]
        #[expect(dead_code, reason = "some are found by their distance from others")]
        pub(super) enum K { $($name,)* }

        /// What generated code finds at [`Thunks::constants`](crate::jit::thunks::Thunks).
        pub(in crate::jit) const TABLE: &[u128] = &[$($value,)*];
    };
}

constants! {
    SignS = splat32(1 << 31);
    SignD = splat64(1 << 63);
    AbsS = splat32(!(1 << 31));
    AbsD = splat64(!(1 << 63));
    // 0.5 and 1.0.
    HalfS = splat32(0x3f00_0000);
    HalfD = splat64(0x3fe0 << 48);
    OneS = splat32(0x3f80_0000);
    OneD = splat64(0x3ff0 << 48);
    // The least magnitude without fraction bits: 2^23, 2^52.
    IntegralS = splat32(0x4b00_0000);
    IntegralD = splat64(0x4330 << 48);
    // 2^31 and 2^16 in single precision.
    TwoTo31S = splat32(0x4f00_0000);
    TwoTo16S = splat32(0x4780_0000);

    Sign8 = splat8(0x80);
    Sign16 = splat16(0x8000);
    Ones8 = splat8(1);
    Ones16 = splat16(1);
    LowNibbles = splat8(0x0f);
    LowBytes = splat16(0x00ff);
    HighBytes = splat16(0xff00);
    LowHalfwords = splat32(0x0000_ffff);
    LowByteOf32 = splat32(0xff);
    LowByteOf64 = splat64(0xff);
    LowWords = splat64(0xffff_ffff);
    // What PSADBW of bytes with the sign flipped gives too much: half and full vectors.
    Bias8 = 8 * 128;
    Bias16 = 16 * 128;

    // Bits set by nibble; leading zeros by low and by high nibble; bits reversed by nibble, in either half of a byte.
    Count = bytes([0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4]);
    LeadingLow = bytes([8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4]);
    LeadingHigh = bytes([8, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    ReverseLow = bytes([0, 0x80, 0x40, 0xc0, 0x20, 0xa0, 0x60, 0xe0, 0x10, 0x90, 0x50, 0xd0, 0x30, 0xb0, 0x70, 0xf0]);
    ReverseHigh = bytes([0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]);

    // Bytes with their bits reversed, as a matrix of bits for GF2P8AFFINEQB.
    Reversal = splat64(0x8040_2010_0804_0201);

    // Shuffles: elements of so many bits within containers of so many, reversed.
    Rev8In16 = bytes([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14]);
    Rev8In32 = bytes([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]);
    Rev8In64 = bytes([7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8]);
    Rev16In32 = bytes([2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13]);
    Rev16In64 = bytes([6, 7, 4, 5, 2, 3, 0, 1, 14, 15, 12, 13, 10, 11, 8, 9]);
    // The even and the odd elements, at the bottom; the upper half becomes zero.
    Even8 = low([0, 2, 4, 6, 8, 10, 12, 14]);
    Odd8 = low([1, 3, 5, 7, 9, 11, 13, 15]);
    Even16 = low([0, 1, 4, 5, 8, 9, 12, 13]);
    Odd16 = low([2, 3, 6, 7, 10, 11, 14, 15]);
    Even32 = low([0, 1, 2, 3, 8, 9, 10, 11]);
    Odd32 = low([4, 5, 6, 7, 12, 13, 14, 15]);

    // For lookups: added with saturation to an index, out of range has the top bit set.
    TableBias = splat8(0x70);
    TableStep = splat8(16);
    TableEnd1 = splat8(16);
    TableEnd2 = splat8(32);
    TableEnd3 = splat8(48);
    TableEnd4 = splat8(64);

    // The bits that a byte has left after shifts to the right by 1 to 7, and where its sign then is.
    Right1 = splat8(0x7f);
    Right2 = splat8(0x3f);
    Right3 = splat8(0x1f);
    Right4 = splat8(0x0f);
    Right5 = splat8(0x07);
    Right6 = splat8(0x03);
    Right7 = splat8(0x01);
    Right8 = 0;
    Top1 = splat8(0x40);
    Top2 = splat8(0x20);
    Top3 = splat8(0x10);
    Top4 = splat8(0x08);
    Top5 = splat8(0x04);
    Top6 = splat8(0x02);
    Top7 = splat8(0x01);
    // The bits of a byte after shifts to the left by 0 to 7.
    Left0 = splat8(0xff);
    Left1 = splat8(0xfe);
    Left2 = splat8(0xfc);
    Left3 = splat8(0xf8);
    Left4 = splat8(0xf0);
    Left5 = splat8(0xe0);
    Left6 = splat8(0xc0);
    Left7 = splat8(0x80);

    // What SHA1RNDS4 adds, by function.
    Sha1K0 = splat32(0x5a82_7999);
    Sha1K1 = splat32(0x6ed9_eba1);
    Sha1K2 = splat32(0x8f1b_bcdc);
    Sha1K3 = splat32(0xca62_c1d6);
}
