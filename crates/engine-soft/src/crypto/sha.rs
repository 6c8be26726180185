//! SHA-1, SHA-256, SHA-512 and SHA-3. Arguments are registers in the order Vd, Vn, Vm, as far as an instruction reads
//! them.

type Words = [u32; 4];

fn words(vector: u128) -> Words {
    zerocopy::transmute!(vector)
}

fn join(words: Words) -> u128 {
    zerocopy::transmute!(words)
}

fn halves(vector: u128) -> (u64, u64) {
    (vector as u64, (vector >> 64) as u64)
}

fn pair(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

fn choose(x: u32, y: u32, z: u32) -> u32 {
    (y ^ z) & x ^ z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y | (x | y) & z
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

/// Four rounds of SHA-1: `hash` is A to D, the low word of `e` is E.
#[inline(always)]
fn sha1(hash: u128, e: u128, schedule: u128, f: impl Fn(u32, u32, u32) -> u32) -> u128 {
    let ([mut a, mut b, mut c, mut d], mut e) = (words(hash), e as u32);
    for w in words(schedule) {
        let sum = e.wrapping_add(a.rotate_left(5)).wrapping_add(f(b, c, d)).wrapping_add(w);
        (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
    }
    join([a, b, c, d])
}

/// SHA1C.
pub(crate) fn sha1c(hash: u128, e: u128, schedule: u128) -> u128 {
    sha1(hash, e, schedule, choose)
}

/// SHA1P.
pub(crate) fn sha1p(hash: u128, e: u128, schedule: u128) -> u128 {
    sha1(hash, e, schedule, parity)
}

/// SHA1M.
pub(crate) fn sha1m(hash: u128, e: u128, schedule: u128) -> u128 {
    sha1(hash, e, schedule, majority)
}

/// SHA1H.
pub(crate) fn sha1h(a: u128) -> u128 {
    (a as u32).rotate_left(30).into()
}

/// SHA1SU0.
pub(crate) fn sha1su0(d: u128, n: u128, m: u128) -> u128 {
    (d >> 64 | n << 64) ^ d ^ m
}

/// SHA1SU1.
pub(crate) fn sha1su1(d: u128, n: u128) -> u128 {
    let t = words(d ^ n >> 32);
    let mut r = t.map(|word| word.rotate_left(1));
    r[3] ^= t[0].rotate_left(2);
    join(r)
}

/// Four rounds of SHA-256: A to D and E to H.
#[inline(always)]
fn sha256(abcd: u128, efgh: u128, schedule: u128) -> (u128, u128) {
    let ([mut a, mut b, mut c, mut d], [mut e, mut f, mut g, mut h]) = (words(abcd), words(efgh));
    for w in words(schedule) {
        let sigma1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let t = h.wrapping_add(sigma1).wrapping_add(choose(e, f, g)).wrapping_add(w);
        let sigma0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let sum = t.wrapping_add(sigma0).wrapping_add(majority(a, b, c));
        (a, b, c, d, e, f, g, h) = (sum, a, b, c, d.wrapping_add(t), e, f, g);
    }
    (join([a, b, c, d]), join([e, f, g, h]))
}

/// SHA256H.
pub(crate) fn sha256h(abcd: u128, efgh: u128, schedule: u128) -> u128 {
    sha256(abcd, efgh, schedule).0
}

/// SHA256H2.
pub(crate) fn sha256h2(efgh: u128, abcd: u128, schedule: u128) -> u128 {
    sha256(abcd, efgh, schedule).1
}

/// SHA256SU0.
pub(crate) fn sha256su0(d: u128, n: u128) -> u128 {
    let (base, next) = (words(d), words(d >> 32 | n << 96));
    join(std::array::from_fn(|i| {
        let w = next[i];
        base[i].wrapping_add(w.rotate_right(7) ^ w.rotate_right(18) ^ w >> 3)
    }))
}

/// SHA256SU1.
pub(crate) fn sha256su1(d: u128, n: u128, m: u128) -> u128 {
    let (mut r, next, last) = (words(d), words(n >> 32 | m << 96), words(m));
    for i in 0..4 {
        let w = if i < 2 { last[i + 2] } else { r[i - 2] };
        let sigma = w.rotate_right(17) ^ w.rotate_right(19) ^ w >> 10;
        r[i] = r[i].wrapping_add(sigma).wrapping_add(next[i]);
    }
    join(r)
}

/// SHA512H.
pub(crate) fn sha512h(d: u128, n: u128, m: u128) -> u128 {
    let ((w0, w1), (x0, x1), (y0, y1)) = (halves(d), halves(n), halves(m));
    let sigma = |y: u64| y.rotate_right(14) ^ y.rotate_right(18) ^ y.rotate_right(41);
    let high = (y1 & x0 ^ !y1 & x1).wrapping_add(sigma(y1)).wrapping_add(w1);
    let t = high.wrapping_add(y0);
    let low = (t & y1 ^ !t & x0).wrapping_add(sigma(t)).wrapping_add(w0);
    pair(low, high)
}

/// SHA512H2.
pub(crate) fn sha512h2(d: u128, n: u128, m: u128) -> u128 {
    let ((w0, w1), (x0, _), (y0, y1)) = (halves(d), halves(n), halves(m));
    let sigma = |y: u64| y.rotate_right(28) ^ y.rotate_right(34) ^ y.rotate_right(39);
    let high = (x0 & y1 ^ x0 & y0 ^ y1 & y0).wrapping_add(sigma(y0)).wrapping_add(w1);
    let low = (high & y0 ^ high & y1 ^ y1 & y0).wrapping_add(sigma(high)).wrapping_add(w0);
    pair(low, high)
}

/// SHA512SU0.
pub(crate) fn sha512su0(d: u128, n: u128) -> u128 {
    let ((w0, w1), (x0, _)) = (halves(d), halves(n));
    let sigma = |w: u64| w.rotate_right(1) ^ w.rotate_right(8) ^ w >> 7;
    pair(w0.wrapping_add(sigma(w1)), w1.wrapping_add(sigma(x0)))
}

/// SHA512SU1.
pub(crate) fn sha512su1(d: u128, n: u128, m: u128) -> u128 {
    let ((w0, w1), (x0, x1), (y0, y1)) = (halves(d), halves(n), halves(m));
    let sigma = |x: u64| x.rotate_right(19) ^ x.rotate_right(61) ^ x >> 6;
    pair(w0.wrapping_add(sigma(x0)).wrapping_add(y0), w1.wrapping_add(sigma(x1)).wrapping_add(y1))
}

/// RAX1.
pub(crate) fn rax1(n: u128, m: u128) -> u128 {
    let (low, high) = halves(m);
    n ^ pair(low.rotate_left(1), high.rotate_left(1))
}

/// XAR.
pub(crate) fn xar(n: u128, m: u128, rotate: u32) -> u128 {
    let (low, high) = halves(n ^ m);
    pair(low.rotate_right(rotate), high.rotate_right(rotate))
}
