//! Cryptographic instructions.

use super::lanes::{HIGH, get, put, set, whole};
use crate::crypto;
use crate::decode::simd::{Aes, Sha};
use crate::interp::op::{Handler, fallible};

pub(super) fn aes(op: Aes) -> Handler {
    match op {
        Aes::Aese => whole(|d, n, _| crypto::encrypt(d ^ n)),
        Aes::Aesd => whole(|d, n, _| crypto::decrypt(d ^ n)),
        Aes::Aesmc => whole(|_, n, _| crypto::mix_columns(n)),
        Aes::Aesimc => whole(|_, n, _| crypto::inverse_mix_columns(n)),
    }
}

pub(super) fn sha(op: Sha) -> Handler {
    match op {
        Sha::Sha1c => whole(crypto::sha1c),
        Sha::Sha1p => whole(crypto::sha1p),
        Sha::Sha1m => whole(crypto::sha1m),
        Sha::Sha1h => whole(|_, n, _| crypto::sha1h(n)),
        Sha::Sha1su0 => whole(crypto::sha1su0),
        Sha::Sha1su1 => whole(|d, n, _| crypto::sha1su1(d, n)),
        Sha::Sha256h => whole(crypto::sha256h),
        Sha::Sha256h2 => whole(crypto::sha256h2),
        Sha::Sha256su0 => whole(|d, n, _| crypto::sha256su0(d, n)),
        Sha::Sha256su1 => whole(crypto::sha256su1),
        Sha::Sha512h => whole(crypto::sha512h),
        Sha::Sha512h2 => whole(crypto::sha512h2),
        Sha::Sha512su0 => whole(|d, n, _| crypto::sha512su0(d, n)),
        Sha::Sha512su1 => whole(crypto::sha512su1),
        Sha::Rax1 => whole(|_, n, m| crypto::rax1(n, m)),
    }
}

/// PMULL and PMULL2 of doublewords.
pub(super) fn pmull() -> Handler {
    fallible(|cpu, o| {
        cpu.fp_check()?;
        let from = if o.imm & HIGH != 0 { 64 } else { 0 };
        let (n, m) = ((get(cpu, o.n) >> from) as u64, (get(cpu, o.m) >> from) as u64);
        set(cpu, o.d, crypto::carryless_product(n, m));
        Ok(())
    })
}

/// EOR3; `imm` is the third source.
pub(super) fn eor3() -> Handler {
    fallible(|cpu, o| {
        cpu.fp_check()?;
        let value = get(cpu, o.n) ^ get(cpu, o.m) ^ get(cpu, o.imm as u8);
        put(cpu, o, value);
        Ok(())
    })
}

/// BCAX; `imm` is the third source.
pub(super) fn bcax() -> Handler {
    fallible(|cpu, o| {
        cpu.fp_check()?;
        let value = get(cpu, o.n) ^ get(cpu, o.m) & !get(cpu, o.imm as u8);
        put(cpu, o, value);
        Ok(())
    })
}

/// XAR; `imm` is the rotation.
pub(super) fn xar() -> Handler {
    fallible(|cpu, o| {
        cpu.fp_check()?;
        let value = crypto::xar(get(cpu, o.n), get(cpu, o.m), o.imm);
        put(cpu, o, value);
        Ok(())
    })
}
