//! The guest's side of the NAT: its card, and what could not be given to it yet.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use crate::{
    Card, Frame, Gso, GsoKind, Offload, Offloads, PartialChecksum,
    wire::{self, Link, flag, protocol},
};

/// Frames other than those of TCP connections that wait for room in the guest. A driver that takes nothing for so long
/// has lost more than them.
const BACKLOG: usize = 256;
const BACKLOG_BYTES: usize = 1 << 20;

pub(super) struct Port {
    card: Option<Arc<dyn Card>>,
    offloads: Offloads,
    backlog: VecDeque<(Vec<u8>, Offload)>,
    backlog_bytes: usize,
    full: bool,
    pub(super) link: Link,
    pub(super) mtu: usize,
    scratch: Vec<u8>,
    packet_id: u16,
}

/// A TCP segment to the guest.
pub(super) struct Segment<'a> {
    pub(super) src: (IpAddr, u16),
    pub(super) dst: (IpAddr, u16),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: &'a [u8],
    pub(super) payload: [&'a [u8]; 2],
    pub(super) mss: usize,
}

impl Port {
    pub(super) fn new(link: Link, mtu: usize) -> Self {
        Self {
            card: None,
            offloads: Offloads::default(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            full: false,
            link,
            mtu,
            scratch: Vec::new(),
            packet_id: 0,
        }
    }

    pub(super) fn plug(&mut self, card: Option<Arc<dyn Card>>) {
        self.offloads = card.as_ref().map(|card| card.offloads()).unwrap_or_default();
        if let Some(card) = &card {
            self.link.guest = card.mac();
        }
        self.card = card;
        self.backlog.clear();
        self.backlog_bytes = 0;
        self.full = false;
    }

    pub(super) fn take(&mut self, into: &mut Vec<u8>) -> Option<Offload> {
        self.card.as_ref()?.take(into)
    }

    pub(super) fn flush(&self) {
        if let Some(card) = &self.card {
            card.flush();
        }
    }

    /// The guest rang: it may have room again. Gives it what waits.
    pub(super) fn retry(&mut self) {
        self.full = false;
        while let Some((frame, offload)) = self.backlog.pop_front() {
            let len = frame.len();
            if !self.give(&Frame::whole(&frame, offload)) {
                self.backlog.push_front((frame, offload));
                return;
            }
            self.backlog_bytes -= len;
        }
    }

    /// What the guest can be given unfinished.
    pub(super) fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Gives the guest a frame of another guest's; `false`: not now. Without a guest it is lost.
    pub(super) fn pass(&mut self, frame: &[u8], offload: Offload) -> bool {
        if self.is_full() {
            return false;
        }
        self.give(&Frame::whole(frame, offload))
    }

    /// Whether there is a guest that takes no frames now.
    pub(super) fn is_full(&self) -> bool {
        self.card.is_some() && (self.full || !self.backlog.is_empty())
    }

    /// Whether there is a guest that takes frames now.
    pub(super) fn is_open(&self) -> bool {
        self.card.is_some() && !self.full
    }

    /// The most payload of one TCP segment.
    pub(super) fn segment_limit(&self, is_v4: bool, mss: usize) -> usize {
        /// An IP packet's 65535 bytes without its headers.
        const LARGEST: usize = 65535 - 60;
        let large = self.offloads.checksum && if is_v4 { self.offloads.tcp4 } else { self.offloads.tcp6 };
        if large { (LARGEST / mss * mss).max(mss) } else { mss }
    }

    fn give(&mut self, frame: &Frame<'_>) -> bool {
        let Some(card) = &self.card else { return true };
        self.full = !card.give(frame);
        !self.full
    }

    /// Sends a frame now or later. Beyond the backlog's bounds it is dropped.
    pub(super) fn send(&mut self, frame: Vec<u8>) {
        if self.card.is_none() {
            return;
        }
        if self.backlog.is_empty() && !self.full && self.give(&Frame::whole(&frame, Offload::default())) {
            return;
        }
        if self.backlog.len() < BACKLOG && self.backlog_bytes + frame.len() <= BACKLOG_BYTES {
            self.backlog_bytes += frame.len();
            self.backlog.push_back((frame, Offload::default()));
        }
    }

    /// Sends an IP packet whose payload has its checksum already, in fragments if it is larger than the network's MTU.
    pub(super) fn send_ip(&mut self, addresses: (IpAddr, IpAddr), protocol: u8, payload: &[u8]) {
        let header = if addresses.0.is_ipv4() { 20 } else { 40 };
        let mut frame = Vec::with_capacity(wire::ETHERNET + header + payload.len());
        if header + payload.len() <= self.mtu {
            wire::ip_header(&mut frame, self.link, addresses, protocol, payload.len());
            frame.extend(payload);
            return self.send(frame);
        }
        self.packet_id = self.packet_id.wrapping_add(1);
        let piece = (self.mtu - header - 8) & !7;
        let count = payload.len().div_ceil(piece);
        for (i, part) in payload.chunks(piece).enumerate() {
            let more = i + 1 < count;
            let fragment = self.fragment(addresses, protocol, part, (i * piece, more));
            self.send(fragment);
        }
    }

    fn fragment(
        &self,
        addresses: (IpAddr, IpAddr),
        protocol: u8,
        part: &[u8],
        (offset, more): (usize, bool),
    ) -> Vec<u8> {
        /// The IPv6 extension header of a fragment.
        const FRAGMENT: u8 = 44;
        let mut frame = Vec::with_capacity(self.mtu + wire::ETHERNET);
        if let (IpAddr::V4(src), IpAddr::V4(dst)) = addresses {
            let place = (offset / 8) as u16 | u16::from(more) << 13;
            wire::ethernet(&mut frame, self.link, wire::IPV4);
            wire::ip4_header(&mut frame, (src, dst), protocol, part.len(), (self.packet_id, place));
        } else {
            wire::ip_header(&mut frame, self.link, addresses, FRAGMENT, 8 + part.len());
            frame.extend([protocol, 0]);
            frame.extend((offset as u16 | u16::from(more)).to_be_bytes());
            frame.extend(u32::from(self.packet_id).to_be_bytes());
        }
        frame.extend(part);
        frame
    }

    /// Sends a UDP datagram.
    pub(super) fn send_udp(&mut self, src: (IpAddr, u16), dst: (IpAddr, u16), payload: &[u8]) {
        let mut packet = Vec::with_capacity(8 + payload.len());
        packet.extend(src.1.to_be_bytes());
        packet.extend(dst.1.to_be_bytes());
        packet.extend(((8 + payload.len()) as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        let sum = wire::sum(&packet, wire::pseudo(src.0, dst.0, protocol::UDP, packet.len()));
        let check = !wire::fold(sum);
        wire::put16(&mut packet, 6, if check == 0 { 0xffff } else { check });
        self.send_ip((src.0, dst.0), protocol::UDP, &packet);
    }

    /// Gives the guest a TCP segment. `false`: not now.
    pub(super) fn send_tcp(&mut self, segment: &Segment<'_>) -> bool {
        if self.card.is_none() || self.full || !self.backlog.is_empty() {
            return false;
        }
        let mut header = std::mem::take(&mut self.scratch);
        header.clear();
        let payload: usize = segment.payload.iter().map(|part| part.len()).sum();
        let tcp_len = 20 + segment.options.len() + payload;
        let addresses = (segment.src.0, segment.dst.0);
        wire::ip_header(&mut header, self.link, addresses, protocol::TCP, tcp_len);
        let start = header.len();
        push_tcp(&mut header, segment);
        let pseudo = wire::pseudo(addresses.0, addresses.1, protocol::TCP, tcp_len);
        wire::put16(&mut header, start + 16, wire::fold(pseudo));
        let partial = PartialChecksum { start: start as u16, offset: 16 };
        let given = if self.offloads.checksum {
            let kind = if addresses.0.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
            let gso = (payload > segment.mss).then_some(Gso {
                kind,
                size: segment.mss as u16,
                headers: header.len() as u16,
            });
            let [first, second] = segment.payload;
            let offload = Offload { checksum: Some(partial), gso };
            self.give(&Frame { offload, parts: [&header, first, second] })
        } else {
            segment.payload.iter().for_each(|part| header.extend(*part));
            wire::finish_checksum(&mut header, partial);
            self.give(&Frame::whole(&header, Offload::default()))
        };
        self.scratch = header;
        given
    }
}

fn push_tcp(out: &mut Vec<u8>, segment: &Segment<'_>) {
    out.extend(segment.src.1.to_be_bytes());
    out.extend(segment.dst.1.to_be_bytes());
    out.extend(segment.seq.to_be_bytes());
    out.extend(segment.ack.to_be_bytes());
    let words = (20 + segment.options.len()) / 4;
    out.extend([(words as u8) << 4, segment.flags]);
    out.extend(segment.window.to_be_bytes());
    out.extend([0, 0, 0, 0]);
    out.extend(segment.options);
}

/// The answer to a segment that belongs to no connection (RFC 9293, 3.10.7.1).
pub(super) fn reset_for(src: IpAddr, dst: IpAddr, tcp: &wire::Tcp<'_>) -> Option<Segment<'static>> {
    if tcp.has(flag::RST) {
        return None;
    }
    let (seq, ack, flags) = if tcp.has(flag::ACK) {
        (tcp.ack, 0, flag::RST)
    } else {
        let len = tcp.payload.len() as u32 + u32::from(tcp.has(flag::SYN)) + u32::from(tcp.has(flag::FIN));
        (0, tcp.seq.wrapping_add(len), flag::RST | flag::ACK)
    };
    Some(Segment {
        src: (dst, tcp.dst),
        dst: (src, tcp.src),
        seq,
        ack,
        flags,
        window: 0,
        options: &[],
        payload: [&[], &[]],
        mss: 536,
    })
}
