//! IPv6's neighbours and routers (RFC 4861): the gateway says who it is and which addresses the guest may give itself.

use std::net::{IpAddr, Ipv6Addr};

use super::{Addresses, icmp, port::Port};
use crate::wire::{Ip, v6};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long a guest may take us for its router, in seconds; told anew at each third of it.
pub(super) const ROUTER_LIFETIME: u16 = 1800;

/// Takes an ICMPv6 message. Returns whether it was one of these. There is no router where it leads nowhere.
pub(super) fn serve(port: &mut Port, addresses: &Addresses, is_router: bool, ip: &Ip<'_>) -> bool {
    match ip.payload.first() {
        Some(&ROUTER_SOLICITATION) => {
            if is_router {
                advertise_router(port, addresses);
            }
            true
        }
        Some(&NEIGHBOUR_SOLICITATION) => {
            let target = v6(ip.payload, 8);
            let unspecified = ip.src.is_unspecified();
            // A guest that asks for an address before it takes it (no source) never asks for ours in vain: they are known.
            if let Some(target) = target.filter(|t| addresses.is_gateway6(*t))
                && !unspecified
            {
                advertise_neighbour(port, target, ip.src);
            }
            true
        }
        _ => false,
    }
}

fn advertise_neighbour(port: &mut Port, target: Ipv6Addr, to: IpAddr) {
    // A router; asked for; overrides.
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0xe0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(port.link.gateway);
    icmp::send(port, (target.into(), to), message);
}

/// Says that the gateway is a router, and which prefix and name server there are.
pub(super) fn advertise_router(port: &mut Port, addresses: &Addresses) {
    // DHCPv6 has more to say (the name server, for guests that do not read it here); addresses only to those that ask.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0x40];
    message.extend(ROUTER_LIFETIME.to_be_bytes());
    message.extend([0; 8]);
    // Our link-layer address.
    message.extend([1, 1]);
    message.extend(port.link.gateway);
    message.extend([5, 1, 0, 0]);
    message.extend((port.mtu as u32).to_be_bytes());
    // The prefix is on the link, and guests may make addresses of it.
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86400u32.to_be_bytes());
    message.extend(14400u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(addresses.prefix6().octets());
    // The name server (RFC 8106).
    message.extend([25, 3, 0, 0]);
    message.extend(u32::from(ROUTER_LIFETIME).to_be_bytes());
    message.extend(addresses.gateway6.octets());
    icmp::send(port, (addresses.link_local.into(), ALL_NODES.into()), message);
}
