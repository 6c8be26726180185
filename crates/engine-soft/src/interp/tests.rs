//! The integer side of the interpreter, run through the decoder and the lowering.

mod integer;
mod memory;
mod mops;

use crate::cpu::testing::TestCpu;

/// The values of registers `x[..N]`.
fn registers<const N: usize>(test: &TestCpu) -> [u64; N] {
    std::array::from_fn(|i| test.cpu.x[i])
}

/// A CPU about to run `code` with these registers.
fn with_registers(code: &[u32], x: &[u64]) -> TestCpu {
    let mut test = TestCpu::new(code);
    test.cpu.x[..x.len()].copy_from_slice(x);
    test
}
