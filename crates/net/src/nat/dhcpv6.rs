//! DHCPv6 for the one guest (RFC 8415): the name server, and an address for a guest that wants one given instead of making its
//! own. It is always the same one, so nothing is kept.

use std::net::{IpAddr, Ipv6Addr};

use super::{Addresses, port::Port};
use crate::wire::{be16, be32, v6};

pub(super) const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
/// How long the address holds, in seconds; a day. It does not change anyway.
const LEASE: u32 = 86400;
/// The longest identifier of a client (RFC 8415, 11.1).
const LONGEST_ID: usize = 130;

mod message {
    pub(super) const SOLICIT: u8 = 1;
    pub(super) const ADVERTISE: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const RENEW: u8 = 5;
    pub(super) const REBIND: u8 = 6;
    pub(super) const REPLY: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const DECLINE: u8 = 9;
    pub(super) const INFORMATION: u8 = 11;
}

mod option {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const SERVER: u16 = 2;
    pub(super) const ADDRESSES: u16 = 3;
    pub(super) const ADDRESS: u16 = 5;
    pub(super) const STATUS: u16 = 13;
    pub(super) const RAPID: u16 = 14;
    pub(super) const DNS: u16 = 23;
}

mod status {
    pub(super) const SUCCESS: u16 = 0;
    pub(super) const NOT_ON_LINK: u16 = 4;
}

/// What a client says.
#[derive(Default)]
struct Request<'a> {
    kind: u8,
    transaction: &'a [u8],
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    /// The number of the set of addresses that it wants one for, and those that it has.
    set: Option<(u32, Vec<Ipv6Addr>)>,
    is_rapid: bool,
}

/// The options in `bytes`, as codes and values; `None` where one is cut off.
fn options(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (code, len) = (be16(bytes, 0)?, usize::from(be16(bytes, 2)?));
        found.push((code, bytes.get(4..4 + len)?));
        bytes = bytes.get(4 + len..)?;
    }
    Some(found)
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut request = Self { kind: *bytes.first()?, transaction: bytes.get(1..4)?, ..Self::default() };
        for (code, value) in options(bytes.get(4..)?)? {
            match code {
                option::CLIENT => request.client = Some(value).filter(|id| id.len() <= LONGEST_ID),
                option::SERVER => request.server = Some(value),
                // There is one address, for one set.
                option::ADDRESSES if request.set.is_none() => {
                    let has = options(value.get(12..)?)?;
                    let has = has.iter().filter(|(code, _)| *code == option::ADDRESS);
                    request.set =
                        Some((be32(value, 0)?, has.filter_map(|(_, value)| v6(value, 0)).collect()));
                }
                option::RAPID => request.is_rapid = true,
                _ => {}
            }
        }
        Some(request)
    }

    /// The answer's type; `None` when this is for another server, or nothing that is answered.
    fn answer(&self, server: &[u8]) -> Option<u8> {
        let is_for_us = match self.kind {
            message::SOLICIT | message::CONFIRM | message::REBIND => {
                self.client.is_some() && self.server.is_none()
            }
            message::REQUEST | message::RENEW | message::RELEASE | message::DECLINE => {
                self.client.is_some() && self.server == Some(server)
            }
            message::INFORMATION => self.server.is_none_or(|wanted| wanted == server),
            _ => false,
        };
        let kind =
            if self.kind == message::SOLICIT && !self.is_rapid { message::ADVERTISE } else { message::REPLY };
        is_for_us.then_some(kind)
    }
}

/// Answers a datagram of the guest's address `from` to the server's port.
pub(super) fn serve(port: &mut Port, addresses: &Addresses, from: Ipv6Addr, payload: &[u8]) {
    let server = server_id(addresses);
    let Some(request) = Request::parse(payload) else { return };
    let Some(kind) = request.answer(&server) else { return };
    let Some(reply) = reply(&request, kind, addresses, &server) else { return };
    let us = (IpAddr::from(addresses.link_local), SERVER_PORT);
    port.send_udp(us, (from.into(), CLIENT_PORT), &reply);
}

/// Who we are: our Ethernet address (RFC 8415, 11.4).
fn server_id(addresses: &Addresses) -> Vec<u8> {
    [&[0, 3, 0, 1], addresses.mac.as_slice()].concat()
}

fn add(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

fn reply(request: &Request<'_>, kind: u8, addresses: &Addresses, server: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![kind];
    out.extend(request.transaction);
    if let Some(client) = request.client {
        add(&mut out, option::CLIENT, client);
    }
    add(&mut out, option::SERVER, server);
    match request.kind {
        message::CONFIRM => {
            let (_, has) = request.set.as_ref().filter(|(_, has)| !has.is_empty())?;
            let fits = has.iter().all(|address| addresses.is_guest6(*address));
            let code = if fits { status::SUCCESS } else { status::NOT_ON_LINK };
            add(&mut out, option::STATUS, &code.to_be_bytes());
        }
        message::RELEASE | message::DECLINE => add(&mut out, option::STATUS, &status::SUCCESS.to_be_bytes()),
        message::INFORMATION => {}
        _ => {
            if request.kind == message::SOLICIT && request.is_rapid {
                add(&mut out, option::RAPID, &[]);
            }
            if let Some((id, has)) = &request.set {
                add(&mut out, option::ADDRESSES, &lease(*id, has, addresses.guest6()));
            }
        }
    }
    add(&mut out, option::DNS, &addresses.gateway6.octets());
    Some(out)
}

/// The set of addresses `id`: the guest's, and those that it `has` and cannot keep.
fn lease(id: u32, has: &[Ipv6Addr], own: Ipv6Addr) -> Vec<u8> {
    /// More an honest client does not have.
    const MOST: usize = 8;
    let mut set = id.to_be_bytes().to_vec();
    set.extend((LEASE / 2).to_be_bytes());
    set.extend((LEASE / 5 * 4).to_be_bytes());
    let others = has.iter().filter(|address| **address != own).take(MOST);
    for (address, lifetime) in std::iter::once((&own, LEASE)).chain(others.map(|address| (address, 0))) {
        let mut value = address.octets().to_vec();
        value.extend(lifetime.to_be_bytes());
        value.extend(lifetime.to_be_bytes());
        add(&mut set, option::ADDRESS, &value);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::ADDRESSES;

    const CLIENT: [u8; 6] = [0, 2, 9, 9, 9, 9];

    fn ask(kind: u8, parts: &[(u16, &[u8])]) -> Option<Vec<u8>> {
        let mut bytes = vec![kind, 1, 2, 3];
        parts.iter().for_each(|(code, value)| add(&mut bytes, *code, value));
        for len in 0..bytes.len() {
            // Nothing that is cut off is more than ignored.
            Request::parse(&bytes[..len]);
        }
        let (server, request) = (server_id(&ADDRESSES), Request::parse(&bytes)?);
        reply(&request, request.answer(&server)?, &ADDRESSES, &server)
    }

    fn find(reply: &[u8], code: u16) -> Option<Vec<u8>> {
        options(&reply[4..])
            .unwrap()
            .into_iter()
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value.to_vec())
    }

    fn set(addresses: &[&str]) -> Vec<u8> {
        let mut set = [&7u32.to_be_bytes()[..], &[0; 8]].concat();
        for address in addresses {
            let value = [&address.parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 8]].concat();
            add(&mut set, option::ADDRESS, &value);
        }
        set
    }

    #[test]
    fn an_address_is_offered_given_and_kept() {
        let own = "fd74:6561:726c::f".parse::<Ipv6Addr>().unwrap();
        let server = server_id(&ADDRESSES);
        let client = (option::CLIENT, &CLIENT[..]);
        let (id, wanted) = ((option::SERVER, server.as_slice()), set(&[]));
        let wanted = (option::ADDRESSES, wanted.as_slice());
        let offer = ask(message::SOLICIT, &[client, wanted]).unwrap();
        assert_eq!(offer[..4], [message::ADVERTISE, 1, 2, 3]);
        assert_eq!(find(&offer, option::CLIENT).unwrap(), CLIENT);
        let given = ask(message::REQUEST, &[client, id, wanted]).unwrap();
        assert_eq!(given[0], message::REPLY);
        let set_given = find(&given, option::ADDRESSES).unwrap();
        assert_eq!((be32(&set_given, 0), v6(&set_given, 16)), (Some(7), Some(own)));
        assert_eq!(find(&given, option::DNS).unwrap(), ADDRESSES.gateway6.octets());
        let rapid = ask(message::SOLICIT, &[client, wanted, (option::RAPID, &[])]).unwrap();
        assert!(rapid[0] == message::REPLY && find(&rapid, option::RAPID).is_some());
        // One that it cannot keep is told to be over.
        let other = set(&["2001:db8::1"]);
        let renewed = ask(message::RENEW, &[client, id, (option::ADDRESSES, &other)]).unwrap();
        let renewed = find(&renewed, option::ADDRESSES).unwrap();
        assert_eq!(
            (v6(&renewed, 16), v6(&renewed, 44), be32(&renewed, 64)),
            (Some(own), other[16..32].first_chunk().map(|c| Ipv6Addr::from(*c)), Some(0))
        );
        for (address, code) in [("fd74:6561:726c::f", 0), ("2001:db8::1", 4)] {
            let confirmed = ask(message::CONFIRM, &[client, (option::ADDRESSES, &set(&[address]))]).unwrap();
            assert_eq!(find(&confirmed, option::STATUS).unwrap(), [0, code]);
        }
    }

    #[test]
    fn information_is_for_all_and_what_is_for_others_is_not_answered() {
        let told = ask(message::INFORMATION, &[]).unwrap();
        assert_eq!(find(&told, option::DNS).unwrap(), ADDRESSES.gateway6.octets());
        assert!(find(&told, option::ADDRESSES).is_none());
        let client = (option::CLIENT, &CLIENT[..]);
        assert!(ask(message::REQUEST, &[client, (option::SERVER, &[1; 10])]).is_none());
        assert!(ask(message::REQUEST, &[client]).is_none());
        assert!(ask(message::SOLICIT, &[]).is_none());
        assert!(ask(message::SOLICIT, &[(option::CLIENT, &[0; 131])]).is_none());
        assert!(ask(message::REPLY, &[client]).is_none() && ask(99, &[client]).is_none());
        assert!(Request::parse(&[1, 2, 3, 4, 0, 3, 0, 4, 0, 0, 0, 7]).is_none(), "a set without its times");
    }
}
