//! Which receive queue a frame goes into: that of the pair by which the guest last sent frames of its flow (automatic receive
//! steering, section 5.1.6.5.6).

/// Flows that are told apart; those that fall together go the same way.
const FLOWS: usize = 256;
const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a flow, or several, goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Flow {
    /// The pair.
    pub(super) pair: usize,
    /// How many buffers its receive queue had given back after the flow's last frame, modulo 2^16.
    pub(super) mark: u16,
}

pub(super) struct Steering {
    active: usize,
    flows: [Flow; FLOWS],
}

impl Default for Steering {
    fn default() -> Self {
        Self { active: 1, flows: [Flow::default(); FLOWS] }
    }
}

impl Steering {
    /// How many pairs are active.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Makes the first `count` pairs the active ones. Flows of others go to the first.
    pub(super) fn set_active(&mut self, count: usize) {
        self.active = count;
        self.flows.iter_mut().filter(|flow| flow.pair >= count).for_each(|flow| *flow = Flow::default());
    }

    /// The flow of a frame that begins with `bytes`. `None` when it belongs to none that goes anywhere else than to the first
    /// pair.
    pub(super) fn flow(&mut self, bytes: &[u8]) -> Option<&mut Flow> {
        if self.active == 1 {
            return None;
        }
        self.flows.get_mut(hash(bytes)?)
    }
}

/// A number below [`FLOWS`], the same for both directions of a TCP or UDP flow. Fragments belong to none, as all but the first of a
/// packet are without ports.
fn hash(frame: &[u8]) -> Option<usize> {
    let (addresses, ports) = match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => {
            let [version, _, _, _, _, _, f0, f1, _, protocol, ..] = *frame.get(ETHERNET..ETHERNET + 20)?
            else {
                return None;
            };
            let header = usize::from(version & 15) * 4;
            let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
            if header < 20 || fragment || !matches!(protocol, TCP | UDP) {
                return None;
            }
            (frame.get(ETHERNET + 12..ETHERNET + 20)?, ETHERNET + header)
        }
        [0x86, 0xdd] if matches!(frame.get(ETHERNET + 6)?, &(TCP | UDP)) => {
            (frame.get(ETHERNET + 8..ETHERNET + 40)?, ETHERNET + 40)
        }
        _ => return None,
    };
    // Exclusive or does not mind which end is the source.
    let fold = |bytes: &[u8]| {
        let (words, _) = bytes.as_chunks();
        words.iter().fold(0, |sum, word| sum ^ u32::from_be_bytes(*word))
    };
    let [a, b, c, d] = *frame.get(ports..ports + 4)? else { return None };
    let ports = u16::from_be_bytes([a, b]) ^ u16::from_be_bytes([c, d]);
    let mixed = (fold(addresses) ^ u32::from(ports) << 8).wrapping_mul(0x9e37_79b1);
    Some((mixed >> 16) as usize % FLOWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip4(ends: [(u8, u16); 2], protocol: u8, fragment: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        ends.iter().for_each(|(host, _)| frame.extend([10, 0, 2, *host]));
        ends.iter().for_each(|(_, port)| frame.extend(port.to_be_bytes()));
        frame
    }

    fn ip6(ends: [(u8, u16); 2], protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol, 64]);
        ends.iter().for_each(|(host, _)| frame.extend([&[0xfd; 15][..], &[*host]].concat()));
        ends.iter().for_each(|(_, port)| frame.extend(port.to_be_bytes()));
        frame
    }

    #[test]
    fn both_directions_are_one_flow() {
        let (ours, theirs) = ((15, 40_000), (2, 5201));
        for protocol in [TCP, UDP] {
            assert!(hash(&ip4([ours, theirs], protocol, 0)).is_some());
            assert_eq!(hash(&ip4([ours, theirs], protocol, 0)), hash(&ip4([theirs, ours], protocol, 0x4000)));
            assert!(hash(&ip6([ours, theirs], protocol)).is_some());
            assert_eq!(hash(&ip6([ours, theirs], protocol)), hash(&ip6([theirs, ours], protocol)));
        }
    }

    #[test]
    fn connections_to_one_port_are_told_apart() {
        let mut seen: Vec<_> =
            (0..64).map(|i| hash(&ip4([(15, 40_000 + 2 * i), (2, 5201)], TCP, 0)).unwrap()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 48, "{} of 64", seen.len());
    }

    #[test]
    fn what_has_no_ports_belongs_to_no_flow() {
        let ends = [(15, 1), (2, 2)];
        assert_eq!(hash(&ip4(ends, 1, 0)), None);
        assert_eq!(hash(&ip6(ends, 58)), None);
        for fragment in [0x2000, 0x2001, 1] {
            assert_eq!(hash(&ip4(ends, UDP, fragment)), None);
        }
        let mut short = ip4(ends, TCP, 0);
        short[14] = 0x44;
        assert_eq!(hash(&short), None);
        let whole = [ip4(ends, TCP, 0), ip6(ends, TCP)];
        for frame in whole {
            (0..frame.len()).for_each(|len| assert_eq!(hash(&frame[..len]), None));
        }
    }

    #[test]
    fn flows_leave_a_pair_that_is_not_active_any_more() {
        let frame = ip4([(15, 1), (2, 2)], TCP, 0);
        let mut steering = Steering::default();
        assert!(steering.flow(&frame).is_none(), "there is nowhere else to go");
        steering.set_active(3);
        steering.flow(&frame).unwrap().pair = 2;
        steering.set_active(4);
        assert_eq!(steering.flow(&frame).unwrap().pair, 2);
        steering.set_active(2);
        assert_eq!(steering.flow(&frame).unwrap().pair, 0);
    }
}
