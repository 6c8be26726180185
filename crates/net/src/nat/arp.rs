//! Who has which address (RFC 826): the gateway answers for itself and the name server.

use super::{Addresses, port::Port};
use crate::wire::{self, be16, v4};

/// Ethernet and IPv4.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u16 = 1;

/// Answers what follows the Ethernet header of an ARP frame.
pub(super) fn serve(port: &mut Port, addresses: &Addresses, bytes: &[u8]) {
    let (Some(sender), Some(target)) = (v4(bytes, 14), v4(bytes, 24)) else { return };
    let is_request = bytes.starts_with(&PREFIX) && be16(bytes, 6) == Some(REQUEST);
    let is_ours = [addresses.gateway, addresses.dns].contains(&target);
    // A probe, before the guest takes its address, has no sender's.
    let is_from_guest = sender == addresses.guest || sender.is_unspecified();
    if !is_request || !is_ours || !is_from_guest {
        return;
    }
    let mut frame = Vec::with_capacity(42);
    wire::ethernet(&mut frame, port.link, wire::ARP);
    frame.extend(PREFIX);
    frame.extend([0, 2]);
    frame.extend(port.link.gateway);
    frame.extend(target.octets());
    frame.extend(port.link.guest);
    frame.extend(sender.octets());
    port.send(frame);
}
