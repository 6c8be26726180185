//! Known answers: the algorithms are run with the instructions as a program would.

use super::*;

fn encrypt(mut state: u128) -> u128 {
    super::encrypt(&mut state);
    state
}

fn decrypt(mut state: u128) -> u128 {
    super::decrypt(&mut state);
    state
}

fn mix_columns(mut state: u128) -> u128 {
    super::mix_columns(&mut state);
    state
}

fn inverse_mix_columns(mut state: u128) -> u128 {
    super::inverse_mix_columns(&mut state);
    state
}

fn carryless_product(a: u64, b: u64) -> u128 {
    let mut product = 0;
    super::carryless_product(&mut product, a, b);
    product
}

fn block(hex: &str) -> u128 {
    let bytes: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    u128::from_le_bytes(bytes.try_into().unwrap())
}

/// The key schedule of FIPS 197, appendix A.1.
const KEYS: [&str; 11] = [
    "2b7e151628aed2a6abf7158809cf4f3c",
    "a0fafe1788542cb123a339392a6c7605",
    "f2c295f27a96b9435935807a7359f67f",
    "3d80477d4716fe3e1e237e446d7a883b",
    "ef44a541a8525b7fb671253bdb0bad00",
    "d4d1c6f87c839d87caf2b8bc11f915bc",
    "6d88a37a110b3efddbf98641ca0093fd",
    "4e54f70e5f5fc9f384a64fb24ea6dc4f",
    "ead27321b58dbad2312bf5607f8d292f",
    "ac7766f319fadc2128d12941575c006e",
    "d014f9a8c9ee2589e13f0cc8b6630ca6",
];

#[test]
fn aes_128_matches_fips_197() {
    let (plain, cipher) =
        (block("3243f6a8885a308d313198a2e0370734"), block("3925841d02dc09fbdc118597196a0b32"));
    let mut state = plain;
    for (round, key) in KEYS[..10].iter().enumerate() {
        state = encrypt(state ^ block(key));
        if round < 9 {
            state = mix_columns(state);
        }
    }
    assert_eq!(state ^ block(KEYS[10]), cipher);
    let mut state = decrypt(cipher ^ block(KEYS[10]));
    for key in KEYS[1..10].iter().rev() {
        state = decrypt(inverse_mix_columns(state) ^ inverse_mix_columns(block(key)));
    }
    assert_eq!(state ^ block(KEYS[0]), plain);
}

#[test]
fn portable_forms_equal_those_of_the_host() {
    let mut x = 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978u128;
    for _ in 0..1000 {
        x = x.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        assert_eq!(encrypt(x), aes::soft_encrypt(x));
        assert_eq!(decrypt(x), aes::soft_decrypt(x));
        assert_eq!(mix_columns(x), aes::soft_mix(x, [2, 3, 1, 1]));
        assert_eq!(inverse_mix_columns(x), aes::soft_mix(x, [14, 11, 13, 9]));
        let (a, b) = (x as u64, (x >> 64) as u64);
        assert_eq!(carryless_product(a, b), clmul::soft_product(a, b));
    }
}

#[test]
fn carryless_products() {
    assert_eq!(carryless_product(3, 3), 5);
    assert_eq!(carryless_product(u64::MAX, 2), u128::from(u64::MAX) << 1);
    assert_eq!(carryless_product(1 << 63, 1 << 63), 1 << 126);
}

/// The padded message "abc" as big-endian words.
fn message() -> [u128; 4] {
    let words = |w: [u32; 4]| w.iter().rev().fold(0, |v, &word| v << 32 | u128::from(word));
    [words([0x6162_6380, 0, 0, 0]), 0, 0, words([0, 0, 0, 24])]
}

fn add(a: u128, b: u128) -> u128 {
    (0..4).fold(0, |sum, i| {
        let word = ((a >> (32 * i)) as u32).wrapping_add((b >> (32 * i)) as u32);
        sum | u128::from(word) << (32 * i)
    })
}

#[test]
fn sha_1_of_abc() {
    const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
    let start = (0x1032_5476_98ba_dcfe_efcd_ab89_6745_2301, 0xc3d2_e1f0u128);
    let (mut abcd, mut e) = start;
    let mut w = message();
    for group in 0..20 {
        let k = u128::from(K[group / 5]) * 0x0000_0001_0000_0001_0000_0001_0000_0001;
        let schedule = add(w[0], k);
        let next = sha1h(abcd);
        abcd = match group / 5 {
            0 => sha1c(abcd, e, schedule),
            2 => sha1m(abcd, e, schedule),
            _ => sha1p(abcd, e, schedule),
        };
        e = next;
        let new = sha1su1(sha1su0(w[0], w[1], w[2]), w[3]);
        w = [w[1], w[2], w[3], new];
    }
    assert_eq!(add(abcd, start.0), 0x7850_c26c_ba3e_2571_4706_816a_a999_3e36);
    assert_eq!((e as u32).wrapping_add(start.1 as u32), 0x9cd0_d89d);
}

/// The first 64 bits of the fractional parts of the cube roots of the first primes (FIPS 180-4, 4.2).
fn cube_root_fraction(prime: u128) -> u64 {
    // The integer cube root of prime * 2^192, bit by bit.
    let below = |root: u128| {
        // root < 2^68; root^3 <= prime * 2^192 ?
        let (hi, lo) = wide_mul(root, root);
        let (top, mid) = wide_mul(lo, root);
        let upper = hi * root + top;
        upper < prime << 64 || (upper == prime << 64 && mid == 0)
    };
    let mut root = 0u128;
    for bit in (0..68).rev() {
        if below(root | 1 << bit) {
            root |= 1 << bit;
        }
    }
    root as u64
}

fn wide_mul(a: u128, b: u128) -> (u128, u128) {
    let mask = u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, a & mask, b >> 64, b & mask);
    let (low, cross1, cross2, high) = (a0 * b0, a1 * b0, a0 * b1, a1 * b1);
    let middle = (low >> 64) + (cross1 & mask) + (cross2 & mask);
    (high + (cross1 >> 64) + (cross2 >> 64) + (middle >> 64), middle << 64 | low & mask)
}

fn constants(count: usize) -> Vec<u64> {
    let prime = |n: &u128| !(2..*n).any(|d| n.is_multiple_of(d));
    (2u128..).filter(prime).take(count).map(cube_root_fraction).collect()
}

#[test]
fn sha_256_of_abc() {
    let k = constants(64);
    let start = (0xa54f_f53a_3c6e_f372_bb67_ae85_6a09_e667, 0x5be0_cd19_1f83_d9ab_9b05_688c_510e_527f);
    let (mut abcd, mut efgh) = start;
    let mut w = message();
    for group in 0..16 {
        let k = (0..4).fold(0, |v, i| v | u128::from(k[4 * group + i] >> 32) << (32 * i));
        let schedule = add(w[0], k);
        (abcd, efgh) = (sha256h(abcd, efgh, schedule), sha256h2(efgh, abcd, schedule));
        let new = sha256su1(sha256su0(w[0], w[1]), w[2], w[3]);
        w = [w[1], w[2], w[3], new];
    }
    assert_eq!(add(abcd, start.0), 0x5dae_2223_4141_40de_8f01_cfea_ba78_16bf);
    assert_eq!(add(efgh, start.1), 0xf200_15ad_b410_ff61_9617_7a9c_b003_61a3);
}

fn add_pairs(a: u128, b: u128) -> u128 {
    let low = (a as u64).wrapping_add(b as u64);
    let high = ((a >> 64) as u64).wrapping_add((b >> 64) as u64);
    u128::from(high) << 64 | u128::from(low)
}

#[test]
fn sha_512_of_abc() {
    let pair = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
    let k = constants(80);
    let start = [
        pair(0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b),
        pair(0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1),
        pair(0x510e_527f_ade6_82d1, 0x9b05_688c_2b3e_6c1f),
        pair(0x1f83_d9ab_fb41_bd6b, 0x5be0_cd19_137e_2179),
    ];
    let [mut ab, mut cd, mut ef, mut gh] = start;
    let mut w = [0u128; 8];
    w[0] = pair(0x6162_6380_0000_0000, 0);
    w[7] = pair(0, 24);
    let ext = |a: u128, b: u128| a >> 64 | b << 64;
    for group in 0..40 {
        // As compilers and libraries use the instructions: the sum of schedule and constant, halves swapped, plus GH.
        let sum = add_pairs(w[0], pair(k[2 * group], k[2 * group + 1]));
        let sum = add_pairs(ext(sum, sum), gh);
        let t = sha512h(sum, ext(ef, gh), ext(cd, ef));
        let new_ef = add_pairs(cd, t);
        let new_ab = sha512h2(t, cd, ab);
        (ab, cd, ef, gh) = (new_ab, ab, new_ef, ef);
        let next = sha512su1(sha512su0(w[0], w[1]), w[7], ext(w[4], w[5]));
        w.rotate_left(1);
        w[7] = next;
    }
    assert_eq!(add_pairs(ab, start[0]), pair(0xddaf_35a1_9361_7aba, 0xcc41_7349_ae20_4131));
    assert_eq!(add_pairs(cd, start[1]), pair(0x12e6_fa4e_89a9_7ea2, 0x0a9e_eee6_4b55_d39a));
    assert_eq!(add_pairs(ef, start[2]), pair(0x2192_992a_274f_c1a8, 0x36ba_3c23_a3fe_ebbd));
    assert_eq!(add_pairs(gh, start[3]), pair(0x454d_4423_643c_e80e, 0x2a9a_c94f_a54c_a49f));
}

#[test]
fn sha_3_helpers() {
    assert_eq!(rax1(0, 1 << 127 | 1 << 63), 1 << 64 | 1);
    assert_eq!(xar(3, 1, 1), 1);
    assert_eq!(xar(1, 0, 1), 1 << 63);
}
