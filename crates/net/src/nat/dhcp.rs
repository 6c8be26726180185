//! DHCP for the one guest (RFC 2131): it is always given the same address.

use std::net::Ipv4Addr;

use super::{Addresses, port::Port};
use crate::{
    Mac,
    wire::{self, v4},
};

pub(super) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// A day; the address does not change anyway.
const LEASE: u32 = 86400;

mod message {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const INFORM: u8 = 8;
}

mod option {
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const DOMAIN: u8 = 15;
    pub(super) const MTU: u8 = 26;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const END: u8 = 255;
}

/// The fixed part of a message, up to the options.
const FIXED: usize = 236;

struct Request<'a> {
    bytes: &'a [u8],
    kind: u8,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8], mac: Mac) -> Option<Self> {
        let is_request = bytes.first() == Some(&1) && bytes.get(FIXED..FIXED + 4)? == COOKIE;
        if !is_request || bytes.get(28..34)? != mac {
            return None;
        }
        let mut request = Self { bytes, kind: 0, requested: None, server: None };
        let mut rest = bytes.get(FIXED + 4..)?;
        loop {
            match rest {
                [] | [option::END, ..] => break,
                [0, later @ ..] => rest = later,
                [code, len, later @ ..] => {
                    let value = later.get(..usize::from(*len))?;
                    match *code {
                        option::TYPE => request.kind = *value.first()?,
                        option::REQUESTED => request.requested = v4(value, 0),
                        option::SERVER => request.server = v4(value, 0),
                        _ => {}
                    }
                    rest = later.get(usize::from(*len)..)?;
                }
                [_] => return None,
            }
        }
        (request.kind != 0).then_some(request)
    }

    fn current(&self) -> Option<Ipv4Addr> {
        v4(self.bytes, 12).filter(|address| !address.is_unspecified())
    }
}

/// What names of a named network end in.
const DOMAIN: &[u8] = b"tearless.internal";

/// Answers a datagram to the server's port; on a named network also with what names there end in. Returns whether the guest has
/// its address now.
pub(super) fn serve(port: &mut Port, addresses: &Addresses, is_named: bool, payload: &[u8]) -> bool {
    let Some(request) = Request::parse(payload, port.link.guest) else { return false };
    if request.server.is_some_and(|server| server != addresses.gateway) {
        return false;
    }
    let kind = match request.kind {
        message::DISCOVER => message::OFFER,
        message::INFORM => message::ACK,
        message::REQUEST => {
            let wanted = request.requested.or(request.current());
            if wanted == Some(addresses.guest) { message::ACK } else { message::NAK }
        }
        // A release or a refusal changes nothing: nobody else wants the address.
        _ => return false,
    };
    let reply = reply(&request, kind, addresses, (port.mtu, is_named));
    let to_all = kind == message::NAK
        || request.current().is_none() && request.bytes.get(10).is_some_and(|flags| flags & 0x80 != 0);
    let to = if to_all { Ipv4Addr::BROADCAST } else { addresses.guest };
    port.send_udp((addresses.gateway.into(), SERVER_PORT), (to.into(), CLIENT_PORT), &reply);
    // Who merely asks for information has an address of its own.
    kind == message::ACK && request.kind == message::REQUEST
}

fn reply(request: &Request<'_>, kind: u8, addresses: &Addresses, (mtu, is_named): (usize, bool)) -> Vec<u8> {
    /// What the shortest message must have, for relays of old (RFC 1542, 2.1).
    const SHORTEST: usize = 300;
    let mut out = request.bytes.get(..FIXED).unwrap_or_default().to_vec();
    out.resize(FIXED, 0);
    if let Some(first) = out.first_mut() {
        *first = 2;
    }
    // "secs" is nothing of a server's; the server's name and the boot file are not used.
    wire::put16(&mut out, 8, 0);
    if let Some(rest) = out.get_mut(44..) {
        rest.fill(0);
    }
    let yours = matches!(request.kind, message::DISCOVER | message::REQUEST) && kind != message::NAK;
    let yours = if yours { addresses.guest } else { Ipv4Addr::UNSPECIFIED };
    if let Some(place) = out.get_mut(16..20) {
        place.copy_from_slice(&yours.octets());
    }
    out.extend(COOKIE);
    let mut add = |code: u8, value: &[u8]| {
        out.extend([code, value.len() as u8]);
        out.extend(value);
    };
    add(option::TYPE, &[kind]);
    add(option::SERVER, &addresses.gateway.octets());
    if kind != message::NAK {
        if request.kind != message::INFORM {
            add(option::LEASE, &LEASE.to_be_bytes());
        }
        add(option::MASK, &addresses.mask().octets());
        add(option::ROUTER, &addresses.gateway.octets());
        add(option::DNS, &addresses.dns.octets());
        add(option::MTU, &(mtu as u16).to_be_bytes());
        if is_named {
            add(option::DOMAIN, DOMAIN);
        }
    }
    out.push(option::END);
    out.resize(out.len().max(SHORTEST), 0);
    out
}
