//! Headers of Ethernet, IP, TCP, UDP: read with every length checked, and written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Mac, PartialChecksum};

pub(crate) const ETHERNET: usize = 14;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// IP protocol numbers.
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from_octets(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from_octets(*bytes.get(at..)?.first_chunk()?))
}

/// Stores `value` at `at`, where the writer knows that there is room.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// The one's complement sum of `bytes` in words of 16 bits, added to `sum`; not folded.
pub(crate) fn sum(bytes: &[u8], sum: u64) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut total = u128::from(sum);
    for chunk in &mut chunks {
        // The remainder is taken care of below; a chunk has eight bytes.
        total += chunk.first_chunk().map_or(0, |c| u128::from(u64::from_be_bytes(*c)));
    }
    let mut tail = [0; 8];
    let rest = chunks.remainder();
    tail.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    total += u128::from(u64::from_be_bytes(tail));
    // 2^64 is 1 modulo 2^16 - 1, and so is 2^16.
    let low = (total & u128::from(u64::MAX)) as u64;
    let high = (total >> 64) as u64;
    (low >> 32) + (low & 0xffff_ffff) + high
}

/// Folds to 16 bits.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The sum of the pseudo header that TCP, UDP and ICMPv6 checksums start with.
pub(crate) fn pseudo(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u64 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&src.octets(), sum(&dst.octets(), 0)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&src.octets(), sum(&dst.octets(), 0)),
        _ => 0,
    };
    addresses + u64::from(protocol) + len as u64
}

/// Computes the checksum that was left to do. Without effect where the places lie outside of the frame.
pub(crate) fn finish_checksum(frame: &mut [u8], partial: PartialChecksum) {
    let (start, at) = (usize::from(partial.start), usize::from(partial.start) + usize::from(partial.offset));
    let Some(covered) = frame.get(start..).filter(|_| at + 2 <= frame.len()) else { return };
    let value = !fold(sum(covered, 0));
    // UDP has no checksum of zero; for TCP both are the same.
    put16(frame, at, if value == 0 { 0xffff } else { value });
}

/// An IP packet whose header was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip<'a> {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// What follows the headers.
    pub(crate) payload: &'a [u8],
    /// The packet from its first byte.
    pub(crate) packet: &'a [u8],
    pub(crate) fragment: Option<Fragment>,
}

/// Where a piece of a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

impl<'a> Ip<'a> {
    /// Reads what follows an Ethernet header of type `ethertype`.
    pub(crate) fn parse(ethertype: u16, bytes: &'a [u8]) -> Option<Self> {
        match ethertype {
            IPV4 => Self::parse4(bytes),
            IPV6 => Self::parse6(bytes),
            _ => None,
        }
    }

    fn parse4(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 15) * 4;
        let total = usize::from(be16(bytes, 2)?);
        if first >> 4 != 4 || header < 20 || total < header {
            return None;
        }
        let packet = bytes.get(..total)?;
        let flags = be16(packet, 6)?;
        let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let fragment = Fragment { id: be16(packet, 4)?.into(), offset, more };
        Some(Self {
            src: v4(packet, 12)?.into(),
            dst: v4(packet, 16)?.into(),
            protocol: *packet.get(9)?,
            payload: packet.get(header..)?,
            packet,
            fragment: (more || offset > 0).then_some(fragment),
        })
    }

    fn parse6(bytes: &'a [u8]) -> Option<Self> {
        /// More extension headers than this have no honest use.
        const EXTENSIONS: usize = 8;
        let total = 40 + usize::from(be16(bytes, 4)?);
        if bytes.first()? >> 4 != 6 {
            return None;
        }
        let packet = bytes.get(..total)?;
        let (mut next, mut payload) = (*packet.get(6)?, packet.get(40..)?);
        let mut fragment = None;
        for _ in 0..EXTENSIONS {
            match next {
                // Hop-by-hop and destination options, routing headers.
                0 | 60 | 43 => {
                    let len = 8 + usize::from(*payload.get(1)?) * 8;
                    next = *payload.first()?;
                    payload = payload.get(len..)?;
                }
                44 => {
                    let place = be16(payload, 2)?;
                    let (offset, more) = (usize::from(place & !7), place & 1 != 0);
                    fragment = Some(Fragment { id: be32(payload, 4)?, offset, more });
                    next = *payload.first()?;
                    payload = payload.get(8..)?;
                    break;
                }
                _ => break,
            }
        }
        Some(Self {
            src: v6(packet, 8)?.into(),
            dst: v6(packet, 24)?.into(),
            protocol: next,
            payload,
            packet,
            fragment: fragment.filter(|f| f.more || f.offset > 0),
        })
    }

    /// Whether the checksum of a TCP, UDP or ICMPv6 payload is right.
    pub(crate) fn checksum_holds(&self) -> bool {
        fold(sum(self.payload, pseudo(self.src, self.dst, self.protocol, self.payload.len()))) == 0xffff
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp<'a> {
    pub(crate) src: u16,
    pub(crate) dst: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// TCP's flags.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
}

impl<'a> Tcp<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(*bytes.get(12)? >> 4) * 4;
        if header < 20 {
            return None;
        }
        Some(Self {
            src: be16(bytes, 0)?,
            dst: be16(bytes, 2)?,
            seq: be32(bytes, 4)?,
            ack: be32(bytes, 8)?,
            flags: *bytes.get(13)?,
            window: be16(bytes, 14)?,
            options: bytes.get(20..header)?,
            payload: bytes.get(header..)?,
        })
    }

    pub(crate) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The largest segment and the window's shift that a SYN announces.
    pub(crate) fn syn_options(&self) -> (Option<u16>, Option<u8>) {
        let (mut mss, mut shift) = (None, None);
        let mut rest = self.options;
        loop {
            let len = match rest {
                [] | [0, ..] => break,
                [1, ..] => 1,
                [_, len, ..] => usize::from(*len).max(2),
                [_] => break,
            };
            let Some(option) = rest.get(..len) else { break };
            match option {
                [2, 4, high, low] => mss = Some(u16::from_be_bytes([*high, *low])),
                [3, 3, value] => shift = Some((*value).min(14)),
                _ => {}
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        (mss, shift)
    }
}

/// Both ends of the link, as an Ethernet header has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) guest: Mac,
    pub(crate) gateway: Mac,
}

/// Writes the Ethernet header of a frame to the guest.
pub(crate) fn ethernet(out: &mut Vec<u8>, link: Link, ethertype: u16) {
    out.extend(link.guest);
    out.extend(link.gateway);
    out.extend(ethertype.to_be_bytes());
}

/// Writes Ethernet and IP headers of a packet to the guest with `len` bytes of payload.
pub(crate) fn ip_header(
    out: &mut Vec<u8>,
    link: Link,
    (src, dst): (IpAddr, IpAddr),
    protocol: u8,
    len: usize,
) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ethernet(out, link, IPV4);
            ip4_header(out, (src, dst), protocol, len, (0, 0x4000));
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ethernet(out, link, IPV6);
            out.extend([0x60, 0, 0, 0]);
            out.extend((len as u16).to_be_bytes());
            out.extend([protocol, 255]);
            out.extend(src.octets());
            out.extend(dst.octets());
        }
        // The callers build replies to parsed packets, whose addresses are of one kind.
        _ => {}
    }
}

/// Writes an IPv4 header; `(id, place)` are the identification and the flags with the fragment's offset.
pub(crate) fn ip4_header(
    out: &mut Vec<u8>,
    (src, dst): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    len: usize,
    (id, place): (u16, u16),
) {
    let start = out.len();
    out.extend([0x45, 0]);
    out.extend(((20 + len) as u16).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(place.to_be_bytes());
    out.extend([64, protocol, 0, 0]);
    out.extend(src.octets());
    out.extend(dst.octets());
    let check = !fold(sum(out.get(start..).unwrap_or_default(), 0));
    put16(out, start + 10, check);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_fold_whatever_the_length() {
        let slow = |bytes: &[u8]| {
            let words = bytes.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(*c.get(1).unwrap_or(&0)));
            fold(words.sum())
        };
        let bytes: Vec<u8> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..40).chain([1499, 1500, 2999, 3000]) {
            assert_eq!(fold(sum(&bytes[..len], 0)), slow(&bytes[..len]), "{len}");
        }
        assert_eq!(fold(sum(&[0xff; 64], 0)), 0xffff);
    }

    #[test]
    fn headers_round_trip() {
        let link = Link { guest: [1; 6], gateway: [2; 6] };
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let mut frame = Vec::new();
            ip_header(&mut frame, link, (src, dst), protocol::UDP, 4);
            frame.extend([1, 2, 3, 4, 9, 9]);
            let ethertype = be16(&frame, 12).unwrap();
            let ip = Ip::parse(ethertype, &frame[ETHERNET..]).unwrap();
            assert_eq!((ip.src, ip.dst, ip.protocol), (src, dst, protocol::UDP));
            assert_eq!(ip.payload, [1, 2, 3, 4], "padding is not part of the packet");
            for len in 0..ip.packet.len() {
                assert!(Ip::parse(ethertype, &ip.packet[..len]).is_none(), "{len}");
            }
        }
    }

    #[test]
    fn options_of_a_syn_are_found_and_nonsense_is_not() {
        let mut segment = vec![0; 20];
        segment[12] = 8 << 4;
        segment.extend([1, 2, 4, 5, 0xb4, 3, 3, 20, 8, 0, 77, 2]);
        let tcp = Tcp::parse(&segment).unwrap();
        assert_eq!(tcp.syn_options(), (Some(1460), Some(14)));
        segment[12] = 15 << 4;
        assert!(Tcp::parse(&segment).is_none());
        segment[12] = 4 << 4;
        assert!(Tcp::parse(&segment).is_none());
    }
}
