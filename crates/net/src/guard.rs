//! What a guest may not send where others are on the same wire, beyond its card's check of the source address.

use std::net::Ipv4Addr;

use crate::{
    Mac,
    wire::{self, be16, v4},
};

/// VLAN tags (802.1Q, 802.1ad).
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Addresses of protocols between bridges and their neighbours: spanning trees, pause frames, port access (802.1D, 7.12.6).
const BRIDGES: [u8; 5] = [0x01, 0x80, 0xc2, 0, 0];

/// Whether the guest with the address `mac` may send `frame`. It may not speak to bridges as one of them, reach VLANs by
/// tagging frames, or say in an ARP message that somebody else's address is its own card's.
pub(crate) fn may_leave(frame: &[u8], mac: Mac) -> bool {
    let Some(ethertype) = be16(frame, 12) else { return false };
    let to_bridges = frame.starts_with(&BRIDGES) && frame.get(5).is_some_and(|last| *last < 0x10);
    let is_forged_arp = ethertype == wire::ARP && frame.get(22..28) != Some(&mac);
    !to_bridges && !TAGS.contains(&ethertype) && !is_forged_arp
}

/// The address that the sender of an ARP frame says to be its own. One that it only asks about is not.
pub(crate) fn arp_sender(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_arp = be16(frame, 12) == Some(wire::ARP);
    let sender = v4(frame, wire::ETHERNET + 14).filter(|_| is_arp)?;
    (!sender.is_unspecified() && !sender.is_link_local() && !sender.is_loopback()).then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_arp_says_its_address_unless_it_asks_about_it() {
        let arp = |sender: [u8; 4]| {
            let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC, &sender, &[0; 6], &[10, 0, 0, 1]].concat();
            frame([0xff; 6], wire::ARP, &body)
        };
        assert_eq!(arp_sender(&arp([10, 0, 0, 7])), Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(arp_sender(&arp([0; 4])), None);
        assert_eq!(arp_sender(&arp([169, 254, 1, 1])), None);
        assert_eq!(arp_sender(&frame([2; 6], wire::IPV4, &arp([10, 0, 0, 7])[14..])), None);
        assert_eq!(arp_sender(&arp([10, 0, 0, 7])[..30]), None);
    }

    const MAC: Mac = [0x52, 0x54, 0, 1, 2, 3];

    fn frame(to: Mac, ethertype: u16, rest: &[u8]) -> Vec<u8> {
        [&to, &MAC, ethertype.to_be_bytes().as_slice(), rest].concat()
    }

    #[test]
    fn honest_frames_leave_and_others_do_not() {
        let arp = |sender: Mac| [&[0, 1, 8, 0, 6, 4, 0, 2][..], &sender, &[0; 14]].concat();
        assert!(may_leave(&frame([0xff; 6], wire::ARP, &arp(MAC)), MAC));
        assert!(!may_leave(&frame([0xff; 6], wire::ARP, &arp([2; 6])), MAC));
        assert!(!may_leave(&frame([0xff; 6], wire::ARP, &[0; 8]), MAC));
        assert!(may_leave(&frame([2; 6], wire::IPV4, &[0; 20]), MAC));
        assert!(!may_leave(&frame([2; 6], 0x8100, &[0; 20]), MAC));
        assert!(!may_leave(&frame([1, 0x80, 0xc2, 0, 0, 0], 38, &[0x42; 38]), MAC));
        assert!(may_leave(&frame([1, 0x80, 0xc2, 0, 0, 0x21], 38, &[0x42; 38]), MAC));
        assert!(!may_leave(&[0; 13], MAC));
    }
}
