//! Does for a guest what its driver does not do itself: computes checksums, cuts large frames up.

use crate::{
    Gso, Offload, Offloads, PartialChecksum,
    wire::{self, Ip, Tcp, be16, be32, flag, protocol},
};

/// Smaller pieces have no honest use, and would make one frame into many.
const SMALLEST: u16 = 256;

/// Calls `give` with what `frame` is once `offloads` covers what is left to do, in order, until that returns `false`. A frame
/// that makes no sense is no frame at all. Returns `false` if `give` did.
pub(crate) fn finish(
    frame: &mut [u8],
    offload: Offload,
    offloads: Offloads,
    mut give: impl FnMut(&[u8], Offload) -> bool,
) -> bool {
    if offloads.cover(offload) {
        return give(frame, offload);
    }
    match (offload.gso, offload.checksum) {
        (Some(gso), _) => cut(frame, gso).into_iter().flatten().all(|piece| give(&piece, Offload::default())),
        (None, Some(partial)) => {
            wire::finish_checksum(frame, partial);
            give(frame, Offload::default())
        }
        (None, None) => give(frame, offload),
    }
}

/// The pieces of a large TCP segment, each finished.
fn cut(frame: &[u8], gso: Gso) -> Option<Vec<Vec<u8>>> {
    let ethertype = be16(frame, 12)?;
    let ip = Ip::parse(ethertype, frame.get(wire::ETHERNET..)?)?;
    if ip.protocol != protocol::TCP || ip.fragment.is_some() || gso.size < SMALLEST {
        return None;
    }
    let tcp = Tcp::parse(ip.payload)?;
    let start = wire::ETHERNET + ip.packet.len() - ip.payload.len();
    let headers = start + ip.payload.len() - tcp.payload.len();
    let head = frame.get(..headers)?;
    let id = be16(frame, wire::ETHERNET + 4)?;
    let (sequence, flags) = (be32(frame, start + 4)?, tcp.flags);
    let size = usize::from(gso.size);
    let count = tcp.payload.len().div_ceil(size);
    let piece = |(i, part): (usize, &[u8])| {
        let mut piece = [head, part].concat();
        let len = piece.len() - wire::ETHERNET;
        if ip.src.is_ipv4() {
            wire::put16(&mut piece, wire::ETHERNET + 2, len as u16);
            wire::put16(&mut piece, wire::ETHERNET + 4, id.wrapping_add(i as u16));
            wire::put16(&mut piece, wire::ETHERNET + 10, 0);
            let check = !wire::fold(wire::sum(piece.get(wire::ETHERNET..start).unwrap_or_default(), 0));
            wire::put16(&mut piece, wire::ETHERNET + 10, check);
        } else {
            wire::put16(&mut piece, wire::ETHERNET + 4, (len - 40) as u16);
        }
        let sequence = sequence.wrapping_add((i * size) as u32);
        wire::put16(&mut piece, start + 4, (sequence >> 16) as u16);
        wire::put16(&mut piece, start + 6, sequence as u16);
        if i + 1 < count
            && let Some(flags_at) = piece.get_mut(start + 13)
        {
            *flags_at = flags & !(flag::FIN | flag::PSH);
        }
        let pseudo = wire::pseudo(ip.src, ip.dst, protocol::TCP, piece.len() - start);
        wire::put16(&mut piece, start + 16, wire::fold(pseudo));
        wire::finish_checksum(&mut piece, PartialChecksum { start: start as u16, offset: 16 });
        piece
    };
    Some(tcp.payload.chunks(size).enumerate().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{GsoKind, wire::Link};

    fn segment(src: &str, dst: &str, payload: &[u8]) -> (Vec<u8>, Offload) {
        let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut frame = Vec::new();
        let link = Link { guest: [2; 6], gateway: [4; 6] };
        wire::ip_header(&mut frame, link, (src, dst), protocol::TCP, 32 + payload.len());
        let start = frame.len();
        frame.extend([0, 1, 0, 2, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9]);
        frame.extend([8 << 4, flag::ACK | flag::PSH, 1, 0, 0, 0, 0, 0]);
        frame.extend([1; 12]);
        let headers = frame.len() as u16;
        frame.extend(payload);
        let pseudo = wire::fold(wire::pseudo(src, dst, protocol::TCP, 32 + payload.len()));
        wire::put16(&mut frame, start + 16, pseudo);
        let kind = if src.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        let gso = Some(Gso { kind, size: 1000, headers });
        let checksum = Some(PartialChecksum { start: start as u16, offset: 16 });
        (frame, Offload { checksum, gso })
    }

    #[test]
    fn a_large_segment_becomes_several_right_ones() {
        let payload: Vec<u8> = (0..4321u32).map(|i| (i * 7) as u8).collect();
        for (src, dst) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (mut frame, offload) = segment(src, dst, &payload);
            let ethertype = be16(&frame, 12).unwrap();
            let (mut all, mut count) = (Vec::<u8>::new(), 0);
            let none = Offloads::default();
            let done = finish(&mut frame, offload, none, |piece, left| {
                assert_eq!(left, Offload::default());
                let ip = Ip::parse(ethertype, &piece[wire::ETHERNET..]).unwrap();
                assert!(ip.checksum_holds());
                assert_eq!(ip.packet.len(), piece.len() - wire::ETHERNET);
                let tcp = Tcp::parse(ip.payload).unwrap();
                assert_eq!(tcp.seq, 0xffff_fff0u32.wrapping_add(all.len() as u32));
                all.extend(tcp.payload);
                count += 1;
                assert_eq!(tcp.has(flag::PSH), count == 5);
                true
            });
            assert!(done && count == 5 && all == payload);
            let whole = frame.clone();
            assert!(
                finish(&mut frame, offload, Offloads::ALL, |piece, left| piece == whole && left == offload)
            );
        }
    }

    #[test]
    fn what_makes_no_sense_becomes_nothing() {
        let (frame, offload) = segment("192.0.2.1", "192.0.2.2", &[0; 3000]);
        let tiny = Offload { gso: offload.gso.map(|gso| Gso { size: 1, ..gso }), ..offload };
        for (mut frame, offload) in
            [(frame.clone(), tiny), (frame[..60].to_vec(), offload), (vec![0; 20], offload)]
        {
            assert!(finish(&mut frame, offload, Offloads::default(), |_, _| panic!("no frame")));
        }
    }
}
