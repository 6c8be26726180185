//! Floating point, Advanced SIMD and cryptography: lowering and handlers.
//!
//! Most instructions are a function of lanes: the lowering gives it to one of the combinators of [`lanes`], which make
//! a handler of it per element type. What does not fit that has a handler of its own.

/// Evaluates `$body` with `$t` as the element type of `$size`: of the list given, the last one stands for all larger
/// sizes. With two lists, `$w` is the type of twice the size.
macro_rules! by_size {
    (@ $size:expr, [$($n:literal $ty:ty),*; $last:ty], $t:ident => $body:expr) => {
        match $size {
            $($n => { type $t = $ty; $body })*
            _ => { type $t = $last; $body }
        }
    };
    (@@ $size:expr, [$($n:literal $ty:ty, $wy:ty),*; $last:ty, $wlast:ty], $t:ident, $w:ident => $body:expr) => {
        match $size {
            $($n => { type $t = $ty; type $w = $wy; $body })*
            _ => { type $t = $last; type $w = $wlast; $body }
        }
    };
    ($size:expr, unsigned $t:ident => $body:expr) => {
        by_size!(@ $size, [0 u8, 1 u16, 2 u32; u64], $t => $body)
    };
    ($size:expr, signed $t:ident => $body:expr) => {
        by_size!(@ $size, [0 i8, 1 i16, 2 i32; i64], $t => $body)
    };
    ($size:expr, unsigned $t:ident, $w:ident => $body:expr) => {
        by_size!(@@ $size, [0 u8, u16, 1 u16, u32; u32, u64], $t, $w => $body)
    };
    ($size:expr, signed $t:ident, $w:ident => $body:expr) => {
        by_size!(@@ $size, [0 i8, i16, 1 i16, i32; i32, i64], $t, $w => $body)
    };
    ($size:expr, float $t:ident => $body:expr) => {
        by_size!(@ $size, [1 u16, 2 u32; u64], $t => $body)
    };
}

mod crypto;
mod float;
mod integer;
mod lanes;
pub(super) mod lower;
mod memory;
mod permute;
mod shift;
#[cfg(test)]
mod tests;
mod transfer;
