//! Who may send what on a named network: each guest as itself. Checked where a frame leaves its VM's process, and again
//! where it arrives.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    Mac, guard,
    nat::Addresses,
    wire::{self, Ip, be16, protocol, v4, v6},
};

/// IPv6 addresses of one guest: it makes them itself, and new ones from day to day. Beyond, the oldest is forgotten.
const ADDRESSES_EACH: usize = 16;

/// The ports of DHCP, versions 4 and 6: servers and clients.
const DHCP: [u16; 4] = [67, 68, 546, 547];

/// Who is who: a number of its own in the table of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Own,
    Peer(usize),
}

/// A machine as it must appear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) who: Who,
    pub(super) mac: Mac,
    pub(super) address: Ipv4Addr,
}

/// Which IPv6 addresses are whose: of whoever used them first.
#[derive(Default)]
pub(super) struct Rights {
    owners: HashMap<Ipv6Addr, (Who, u64)>,
    count: u64,
}

impl Rights {
    /// Forgets a machine that has gone.
    pub(super) fn forget(&mut self, who: Who) {
        self.owners.retain(|_, (owner, _)| *owner != who);
    }

    /// Whether `sender` may send `frame` to others.
    pub(super) fn permit(&mut self, frame: &[u8], sender: Sender, addresses: &Addresses) -> bool {
        if frame.get(6..12) != Some(&sender.mac) || !guard::may_leave(frame, sender.mac) {
            return false;
        }
        let Some((ethertype, bytes)) = be16(frame, 12).zip(frame.get(wire::ETHERNET..)) else { return false };
        match ethertype {
            wire::ARP => v4(bytes, 14).is_some_and(|a| a == sender.address || a.is_unspecified()),
            wire::IPV4 | wire::IPV6 => {
                Ip::parse(ethertype, bytes).is_some_and(|ip| self.permits_packet(&ip, sender, addresses))
            }
            _ => false,
        }
    }

    fn permits_packet(&mut self, ip: &Ip<'_>, sender: Sender, addresses: &Addresses) -> bool {
        /// Of the ICMPv6 messages (RFC 4861) that no guest sends to others: what routers say.
        const OF_ROUTERS: [u8; 2] = [134, 137];
        const SOLICITATION: u8 = 135;
        const ADVERTISEMENT: u8 = 136;
        // The gateway alone gives addresses: nobody asks others for them, or offers them to others.
        let port = be16(ip.payload, 2).filter(|_| ip.protocol == protocol::UDP);
        if port.is_some_and(|port| DHCP.contains(&port)) {
            return false;
        }
        let src = match ip.src {
            IpAddr::V4(src) => return src == sender.address,
            IpAddr::V6(src) => src,
        };
        let kind = ip.payload.first().copied().filter(|_| ip.protocol == protocol::ICMPV6);
        // What is in pieces is not looked into, and the messages about neighbours are never in pieces (RFC 6980).
        if ip.protocol == protocol::ICMPV6 && (ip.fragment.is_some() || kind.is_none()) {
            return false;
        }
        if kind.is_some_and(|kind| OF_ROUTERS.contains(&kind)) {
            return false;
        }
        if src.is_unspecified() {
            // It asks whether somebody has the address that it wants.
            return kind == Some(SOLICITATION);
        }
        let target = v6(ip.payload, 8).filter(|_| kind == Some(ADVERTISEMENT));
        let mut claimed = [Some(src), target].into_iter().flatten();
        claimed.all(|address| addresses.is_guest6(address) && self.claim(address, sender.who))
    }

    /// Whether `address` is or becomes `who`'s.
    fn claim(&mut self, address: Ipv6Addr, who: Who) -> bool {
        self.count += 1;
        if let Some((owner, last)) = self.owners.get_mut(&address) {
            *last = self.count;
            return *owner == who;
        }
        let own = self.owners.iter().filter(|(_, (owner, _))| *owner == who);
        if own.clone().count() >= ADDRESSES_EACH
            && let Some(oldest) = own.min_by_key(|(_, (_, last))| *last).map(|(address, _)| *address)
        {
            self.owners.remove(&oldest);
        }
        self.owners.insert(address, (who, self.count));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::ADDRESSES;

    const A: Sender = Sender { who: Who::Own, mac: [2, 0, 0, 0, 0, 1], address: Ipv4Addr::new(10, 0, 2, 20) };
    const B: Sender =
        Sender { who: Who::Peer(3), mac: [2, 0, 0, 0, 0, 2], address: Ipv4Addr::new(10, 0, 2, 21) };

    fn packet(sender: Sender, src: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let src: IpAddr = src.parse().unwrap();
        let dst: IpAddr = if src.is_ipv4() { "10.0.2.99" } else { "ff02::1" }.parse().unwrap();
        let mut frame = Vec::new();
        let link = wire::Link { guest: [0xff; 6], gateway: sender.mac };
        wire::ip_header(&mut frame, link, (src, dst), protocol, payload.len());
        frame.extend(payload);
        frame
    }

    fn advertisement(target: &str) -> Vec<u8> {
        [&[136, 0, 0, 0, 0, 0, 0, 0][..], &target.parse::<Ipv6Addr>().unwrap().octets()].concat()
    }

    #[test]
    fn each_sends_as_itself() {
        let mut rights = Rights::default();
        let mut permit = |frame: &[u8], sender| rights.permit(frame, sender, &ADDRESSES);
        assert!(permit(&packet(A, "10.0.2.20", 17, &[0; 8]), A));
        assert!(!permit(&packet(A, "10.0.2.21", 17, &[0; 8]), A), "B's address");
        assert!(!permit(&packet(A, "10.0.2.2", 17, &[0; 8]), A), "the gateway's");
        assert!(!permit(&packet(B, "10.0.2.20", 17, &[0; 8]), A), "B's card");
        assert!(!permit(&packet(A, "0.0.0.0", 17, &[0; 8]), A), "DHCP is for the gateway");
        assert!(!permit(&packet(A, "10.0.2.20", 17, &[0, 67, 0, 68]), A), "no guest gives addresses");
        let mut other = packet(A, "10.0.2.20", 17, &[0; 8]);
        other[13] = 9;
        assert!(!permit(&other, A), "neither IP nor ARP");
        let arp = |ip: [u8; 4]| {
            let mut frame = [[0xff; 6], A.mac].concat();
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            frame.extend(A.mac);
            frame.extend(ip);
            frame.extend([0; 10]);
            frame
        };
        assert!(permit(&arp([10, 0, 2, 20]), A) && permit(&arp([0; 4]), A));
        assert!(!permit(&arp([10, 0, 2, 2]), A) && !permit(&arp([10, 0, 2, 21]), A));
    }

    #[test]
    fn an_ipv6_address_is_whose_it_was_first() {
        let mut rights = Rights::default();
        let mut permit = |frame: &[u8], sender| rights.permit(frame, sender, &ADDRESSES);
        assert!(permit(&packet(A, "fe80::a", 17, &[0; 8]), A));
        assert!(!permit(&packet(B, "fe80::a", 17, &[0; 8]), B));
        assert!(permit(&packet(B, "fe80::b", 58, &advertisement("fe80::b")), B));
        assert!(!permit(&packet(B, "fe80::b", 58, &advertisement("fe80::a")), B), "A's");
        assert!(!permit(&packet(B, "fe80::b", 58, &advertisement("fe80::2")), B), "the gateway's");
        assert!(
            !permit(&packet(B, "fe80::2", 17, &[0; 8]), B)
                && !permit(&packet(B, "2001:db8::1", 17, &[0; 8]), B)
        );
        assert!(!permit(&packet(B, "fe80::b", 58, &[134; 16]), B), "no guest is a router");
        assert!(permit(&packet(B, "::", 58, &[135; 24]), B) && !permit(&packet(B, "::", 17, &[0; 8]), B));
        let mut pieces = packet(B, "fe80::b", 44, &[58, 0, 0, 1, 0, 0, 0, 1, 134, 0]);
        assert!(!permit(&pieces, B), "in pieces");
        pieces[wire::ETHERNET + 6] = 0;
        pieces[wire::ETHERNET + 40] = 58;
        assert!(!permit(&pieces, B), "behind options");
        for i in 0..100 {
            assert!(permit(&packet(B, &format!("fe80::b:{i:x}"), 17, &[0; 8]), B));
        }
        assert!(rights.owners.len() <= ADDRESSES_EACH + 1);
        assert!(rights.permit(&packet(A, "fe80::a", 17, &[0; 8]), A, &ADDRESSES), "A's is still A's");
        rights.forget(A.who);
        assert!(rights.permit(&packet(B, "fe80::a", 17, &[0; 8]), B, &ADDRESSES));
    }
}
