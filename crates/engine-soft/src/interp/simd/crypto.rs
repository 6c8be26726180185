//! Cryptographic instructions.

use super::lanes::{HIGH, get, lane, lanes, put, set_lanes, whole};
use crate::crypto;
use crate::decode::simd::{Aes, Sha};
use crate::interp::op::{Handler, fallible};

pub(super) fn aes(op: Aes) -> Handler {
    /// A function in place; the state is `d ^ n` for rounds, else `n`.
    fn handler<const ROUND: bool, F: Fn(&mut u128) + Copy + 'static>(f: F) -> Handler {
        fallible(move |cpu, o| {
            cpu.fp_check()?;
            // As lanes, which stay in vector registers of the host.
            let ([n0, n1], [d0, d1]) = (lanes::<u64>(cpu, o.n), lanes::<u64>(cpu, o.d));
            set_lanes::<u64>(cpu, o.d, if ROUND { [n0 ^ d0, n1 ^ d1] } else { [n0, n1] });
            f(&mut cpu.v[usize::from(o.d & 31)]);
            Ok(())
        })
    }
    match op {
        Aes::Aese => handler::<true, _>(crypto::encrypt),
        Aes::Aesd => handler::<true, _>(crypto::decrypt),
        Aes::Aesmc => handler::<false, _>(crypto::mix_columns),
        Aes::Aesimc => handler::<false, _>(crypto::inverse_mix_columns),
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
        let half = usize::from(o.imm & HIGH != 0);
        let (a, b) = (lane(cpu, o.n, half), lane(cpu, o.m, half));
        crypto::carryless_product(&mut cpu.v[usize::from(o.d & 31)], a, b);
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
