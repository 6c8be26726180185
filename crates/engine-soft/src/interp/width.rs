//! The two widths of integer instructions, W and X registers, as the types `u32` and `u64`.

use crate::cpu::Cpu;

/// `u32` for W registers and `u64` for X registers.
pub(super) trait Width: Copy + Eq {
    /// Bits of a register.
    const BITS: u32;

    /// Reads a register.
    fn get(cpu: &Cpu, index: u8) -> Self;
    /// Writes a register; the upper half of it becomes zero for W.
    fn put(self, cpu: &mut Cpu, index: u8);
    /// The low bits of `value`.
    fn cut(value: u64) -> Self;
    /// Sign-extends.
    fn sign_extend(value: u32) -> Self;
    /// Zero-extends to 64 bits.
    fn wide(self) -> u64;
    /// `self + other`, wrapping.
    fn add(self, other: Self) -> Self;
    /// `self - other`, wrapping.
    fn sub(self, other: Self) -> Self;
    /// `self * other`, wrapping.
    fn mul(self, other: Self) -> Self;
    /// Unsigned quotient, 0 for division by 0.
    fn udiv(self, other: Self) -> Self;
    /// Signed quotient, 0 for division by 0, wrapping.
    fn sdiv(self, other: Self) -> Self;
    /// `self + other + carry` and its flags.
    fn add_with_carry(self, other: Self, carry: bool) -> (Self, u32);
    /// `self + other` and its flags.
    fn add_flags(self, other: Self) -> (Self, u32);
    /// `self - other` and its flags.
    fn sub_flags(self, other: Self) -> (Self, u32);
    /// N and Z for this result, C and V clear.
    fn logic_flags(self) -> u32;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
    /// Shift left by `amount` modulo the width; so the next three.
    fn lsl(self, amount: u32) -> Self;
    fn lsr(self, amount: u32) -> Self;
    fn asr(self, amount: u32) -> Self;
    fn ror(self, amount: u32) -> Self;
    fn leading_zeros(self) -> u32;
    fn reverse_bits(self) -> Self;
    fn swap_bytes(self) -> Self;
}

macro_rules! width {
    ($u:ty, $i:ty) => {
        impl Width for $u {
            const BITS: u32 = <$u>::BITS;

            #[inline(always)]
            fn get(cpu: &Cpu, index: u8) -> Self {
                cpu.r(index) as $u
            }
            #[inline(always)]
            fn put(self, cpu: &mut Cpu, index: u8) {
                cpu.w(index, u64::from(self));
            }
            #[inline(always)]
            fn cut(value: u64) -> Self {
                value as $u
            }
            #[inline(always)]
            fn sign_extend(value: u32) -> Self {
                value as i32 as $u
            }
            #[inline(always)]
            fn wide(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn udiv(self, other: Self) -> Self {
                self.checked_div(other).unwrap_or(0)
            }
            #[inline(always)]
            fn sdiv(self, other: Self) -> Self {
                if other == 0 { 0 } else { (self as $i).wrapping_div(other as $i) as $u }
            }
            #[inline(always)]
            fn add_with_carry(self, other: Self, carry: bool) -> (Self, u32) {
                let (sum, c1) = self.overflowing_add(other);
                let (sum, c2) = sum.overflowing_add(Self::from(carry));
                let overflow = ((self ^ sum) & (other ^ sum)) >> (Self::BITS - 1);
                (sum, negative_zero(sum) | u32::from(c1 | c2) << 29 | (overflow as u32) << 28)
            }
            #[inline(always)]
            fn add_flags(self, other: Self) -> (Self, u32) {
                let (sum, carry) = self.overflowing_add(other);
                let overflow = (self as $i).overflowing_add(other as $i).1;
                (sum, negative_zero(sum) | u32::from(carry) << 29 | u32::from(overflow) << 28)
            }
            #[inline(always)]
            fn sub_flags(self, other: Self) -> (Self, u32) {
                let (difference, borrow) = self.overflowing_sub(other);
                let overflow = (self as $i).overflowing_sub(other as $i).1;
                (difference, negative_zero(difference) | u32::from(!borrow) << 29 | u32::from(overflow) << 28)
            }
            #[inline(always)]
            fn logic_flags(self) -> u32 {
                negative_zero(self)
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn not(self) -> Self {
                !self
            }
            #[inline(always)]
            fn lsl(self, amount: u32) -> Self {
                self.wrapping_shl(amount)
            }
            #[inline(always)]
            fn lsr(self, amount: u32) -> Self {
                self.wrapping_shr(amount)
            }
            #[inline(always)]
            fn asr(self, amount: u32) -> Self {
                (self as $i).wrapping_shr(amount) as $u
            }
            #[inline(always)]
            fn ror(self, amount: u32) -> Self {
                self.rotate_right(amount % Self::BITS)
            }
            #[inline(always)]
            fn leading_zeros(self) -> u32 {
                <$u>::leading_zeros(self)
            }
            #[inline(always)]
            fn reverse_bits(self) -> Self {
                <$u>::reverse_bits(self)
            }
            #[inline(always)]
            fn swap_bytes(self) -> Self {
                <$u>::swap_bytes(self)
            }
        }
    };
}

width!(u32, i32);
width!(u64, i64);

/// Flags N and Z of a result.
#[inline(always)]
fn negative_zero<W: Width>(result: W) -> u32 {
    let negative = (result.lsr(W::BITS - 1).wide() as u32) << 31;
    negative | u32::from(result.wide() == 0) << 30
}
