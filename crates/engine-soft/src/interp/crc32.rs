//! CRC32 and CRC32C (Arm ARM C6.2, FEAT_CRC32): bit-reflected, without the inversions that protocols add.

use super::op::Operands;
use crate::cpu::Cpu;

/// Eight tables per polynomial: entry `[k][b]` is the CRC of byte `b` followed by `k` zero bytes.
type Tables = [[u32; 256]; 8];

static IEEE: Tables = tables(0xedb8_8320);
static CASTAGNOLI: Tables = tables(0x82f6_3b78);

const fn tables(polynomial: u32) -> Tables {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { polynomial } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// The CRC of the low `BYTES` bytes of `data`, lowest first.
#[inline(always)]
fn update<const BYTES: usize>(tables: &Tables, crc: u32, data: u64) -> u32 {
    let mixed = data ^ u64::from(crc);
    let mut result = if BYTES < 4 { crc >> (8 * BYTES) } else { 0 };
    for byte in 0..BYTES {
        result ^= tables[BYTES - 1 - byte][usize::from((mixed >> (8 * byte)) as u8)];
    }
    result
}

/// CRC32B, CRC32H, CRC32W, CRC32X and with `C` the CRC32C siblings.
pub(super) fn crc32<const C: bool, const BYTES: usize>(cpu: &mut Cpu, o: Operands) {
    let tables = if C { &CASTAGNOLI } else { &IEEE };
    let crc = update::<BYTES>(tables, cpu.r(o.n) as u32, cpu.r(o.m));
    cpu.w(o.d, u64::from(crc));
}
