//! Inputs from seeds: a stream that is the same for the same number.

/// A generator (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream named `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A length that is short as often as it is long.
    fn length(&mut self, limit: usize) -> usize {
        let bits = usize::BITS - limit.leading_zeros();
        let scale = 1usize << self.below(bits as usize + 1);
        self.below(scale.min(limit) + 1)
    }
}

/// No input is longer.
pub const MAX_LEN: usize = 1 << 16;

/// Values at which comparisons and additions go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

/// The next input: noise, or one of `seeds` with a few changes.
pub fn next_input(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if seeds.is_empty() || random.one_in(4) {
        let len = random.length(4096);
        return noise(random, len);
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.length(16) {
        change(random, &mut bytes, seeds);
    }
    bytes.truncate(MAX_LEN);
    bytes
}

fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    // Uniform bytes, or small ones: those choose the first alternatives more often.
    let mask = if random.one_in(3) { 0x0f0f_0f0f_0f0f_0f0f } else { u64::MAX };
    let words = std::iter::repeat_with(|| random.word() & mask);
    words.flat_map(u64::to_le_bytes).take(len).collect()
}

/// One change somewhere.
fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    if bytes.is_empty() {
        *bytes = noise(random, 64);
        return;
    }
    let at = random.below(bytes.len());
    let len = random.length(bytes.len() - at);
    match random.below(10) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.word() as u8,
        3 => {
            let edge = EDGES[random.below(EDGES.len())];
            let mut edge = if random.one_in(2) { edge.to_le_bytes() } else { edge.to_be_bytes() };
            if random.one_in(2) {
                edge.rotate_left(4);
            }
            let width = 1 << random.below(4);
            bytes.iter_mut().skip(at).zip(&edge[..width]).for_each(|(to, from)| *to = *from);
        }
        4 => drop(bytes.drain(at..at + len)),
        5 => {
            let len = random.length(64);
            bytes.splice(at..at, noise(random, len));
        }
        6 => {
            // A piece again and again: depth, and lists longer than anyone thought of.
            let piece = bytes[at..at + len].to_vec();
            let times = 1 + random.length(MAX_LEN / piece.len().max(1));
            bytes.splice(at..at, piece.repeat(times));
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            let take = random.length(other.len() - from);
            bytes.splice(at..at + len, other[from..from + take].iter().copied());
        }
        8 => {
            let number = EDGES[random.below(EDGES.len())].to_string();
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(at..at + digits, number.bytes());
        }
        _ => bytes.truncate(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_inputs() {
        let seeds = vec![b"one".to_vec(), b"number 2 and more".to_vec()];
        let take = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| next_input(&mut random, &seeds)).collect::<Vec<_>>()
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn inputs_are_bounded_and_of_all_kinds() {
        let seeds = vec![vec![b'x'; 100], Vec::new()];
        let mut random = Random::new(7);
        let inputs: Vec<_> = (0..2000).map(|_| next_input(&mut random, &seeds)).collect();
        assert!(inputs.iter().all(|input| input.len() <= MAX_LEN));
        assert!(inputs.iter().any(|input| input.len() > 1000 && input.starts_with(b"xxx")));
        assert!(inputs.iter().any(|input| input.len() < 100 && input.ends_with(b"xxx")));
        assert!(inputs.iter().any(|input| input.windows(5).any(|w| w == b"65535")));
    }
}
