//! Packets that the guest sends in pieces.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::wire::{Fragment, Ip};

/// Packets under way. Each may take 64 KiB.
const PACKETS: usize = 16;
/// Pieces of a packet; 65535 bytes in packets of an MTU of 1280 are 54.
const PIECES: usize = 128;
const LIFETIME: Duration = Duration::from_secs(15);
const LARGEST: usize = 65535;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

struct Partial {
    key: Key,
    since: Instant,
    data: Vec<u8>,
    /// What is there, as ranges in no order.
    pieces: Vec<(usize, usize)>,
    total: Option<usize>,
}

/// Packets of which parts are missing.
#[derive(Default)]
pub(super) struct Reassembly {
    packets: Vec<Partial>,
}

impl Reassembly {
    /// Adds a piece; returns the payload of the packet when it is complete.
    pub(super) fn add(&mut self, ip: &Ip<'_>, fragment: Fragment, now: Instant) -> Option<Vec<u8>> {
        let end = fragment.offset + ip.payload.len();
        let aligned = !fragment.more || ip.payload.len().is_multiple_of(8);
        if end > LARGEST || ip.payload.is_empty() || !aligned {
            return None;
        }
        self.packets.retain(|packet| now.duration_since(packet.since) < LIFETIME);
        let key = Key { src: ip.src, dst: ip.dst, protocol: ip.protocol, id: fragment.id };
        let index = self.packets.iter().position(|packet| packet.key == key).unwrap_or_else(|| {
            if self.packets.len() == PACKETS {
                self.packets.remove(0);
            }
            self.packets.push(Partial { key, since: now, data: Vec::new(), pieces: Vec::new(), total: None });
            self.packets.len() - 1
        });
        let packet = self.packets.get_mut(index)?;
        let overlaps = packet.pieces.iter().any(|(from, to)| fragment.offset < *to && *from < end);
        let beyond = packet.total.is_some_and(|total| end > total);
        if overlaps || beyond || packet.pieces.len() == PIECES {
            // No honest sender overlaps pieces (RFC 5722).
            self.packets.remove(index);
            return None;
        }
        if packet.data.len() < end {
            packet.data.resize(end, 0);
        }
        packet.data.get_mut(fragment.offset..end)?.copy_from_slice(ip.payload);
        packet.pieces.push((fragment.offset, end));
        if !fragment.more {
            packet.total = Some(end);
        }
        let have: usize = packet.pieces.iter().map(|(from, to)| to - from).sum();
        let complete = packet.total == Some(have) && packet.data.len() == have;
        complete.then(|| self.packets.remove(index).data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32, offset: usize, more: bool) -> Fragment {
        Fragment { id, offset, more }
    }

    fn ip(payload: &[u8]) -> Ip<'_> {
        let address = IpAddr::from([192, 0, 2, 1]);
        Ip { src: address, dst: address, protocol: 17, payload, packet: payload, fragment: None }
    }

    #[test]
    fn pieces_come_in_any_order() {
        let now = Instant::now();
        let mut all = Reassembly::default();
        assert_eq!(all.add(&ip(&[3; 5]), piece(1, 16, false), now), None);
        assert_eq!(all.add(&ip(&[1; 8]), piece(1, 0, true), now), None);
        assert_eq!(all.add(&ip(&[9; 8]), piece(2, 0, true), now), None);
        let whole = all.add(&ip(&[2; 8]), piece(1, 8, true), now).unwrap();
        assert_eq!(whole, [[1; 8].as_slice(), &[2; 8], &[3; 5]].concat());
        assert_eq!(all.packets.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_dropped_and_all_is_bounded() {
        let now = Instant::now();
        let mut all = Reassembly::default();
        assert_eq!(all.add(&ip(&[1; 16]), piece(1, 0, true), now), None);
        assert_eq!(all.add(&ip(&[1; 16]), piece(1, 8, false), now), None);
        assert!(all.packets.is_empty(), "pieces overlap");
        assert_eq!(all.add(&ip(&[1; 16]), piece(1, 65528, true), now), None);
        assert!(all.packets.is_empty(), "too long");
        for id in 0..100 {
            assert_eq!(all.add(&ip(&[1; 8]), piece(id, 0, true), now), None);
        }
        assert_eq!(all.packets.len(), PACKETS);
        assert_eq!(all.add(&ip(&[1; 8]), piece(100, 0, true), now + LIFETIME), None);
        assert_eq!(all.packets.len(), 1);
    }
}
