//! A named network: guests of one user's VMs reach each other, and each the world through its own VM's NAT.
//!
//! ```text
//!   guest ── NAT ─┬──────── NAT ── guest        a NAT per process, as without a name:
//!                 │    ╱                        gateway, DHCP, names, ports, what is allowed
//!                 └── NAT ── guest              a stream per pair, for frames between guests
//! ```
//! Nothing is shared but a folder ([`member`]): members come and go in any order, and an end by force takes nothing from
//! the others. Each stream begins with who is at its end; then each frame comes with what is left to do for it, so
//! large frames stay large. A frame that a slow member has no room for is lost to that member, as in a switch.

mod member;
mod peer;
mod rights;

pub use member::{Membership, Place};

use std::{io, net::Ipv4Addr};

use mio::{Interest, Registry, net::UnixListener, net::UnixStream};

use super::{Addresses, port::Port, table::Table, token};
use crate::{Offload, segment};
use member::{Identity, MEMBERS, address, is_host};
use peer::{Message, Peer};
use rights::{Rights, Sender, Who};

/// Frames of one member before the others have their turn.
const TURN: usize = 32;

/// This VM's part of a named network.
pub(super) struct Mesh {
    own: Identity,
    listener: UnixListener,
    can_accept: bool,
    peers: Table<Peer>,
    rights: Rights,
    network: Ipv4Addr,
    _place: Option<Place>,
}

impl Mesh {
    /// Takes up the place in the network whose addresses are those of `addresses`. Returns the guest's own, too.
    pub(super) fn new(
        membership: Membership,
        addresses: &Addresses,
        registry: &Registry,
    ) -> io::Result<(Self, Ipv4Addr)> {
        let guest = membership.guest(addresses.guest);
        let Membership { own, listener, peers, place } = membership;
        listener.set_nonblocking(true)?;
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, token(token::MESH, 0), Interest::READABLE)?;
        let mut mesh = Self {
            own,
            listener,
            can_accept: true,
            peers: Table::default(),
            rights: Rights::default(),
            network: addresses.guest,
            _place: place,
        };
        for stream in peers {
            stream.set_nonblocking(true)?;
            mesh.add(UnixStream::from_std(stream), registry)?;
        }
        Ok((mesh, guest))
    }

    fn add(&mut self, mut stream: UnixStream, registry: &Registry) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token(token::PEER, self.peers.next_index()), interest)?;
        self.peers.insert(Peer::new(stream, &self.own));
        Ok(())
    }

    /// The address of the member `name`, which is in small letters.
    pub(super) fn find(&self, name: &str) -> Option<Ipv4Addr> {
        let peers = self.peers.iter().filter_map(|(_, peer)| peer.identity());
        let found = std::iter::once(&self.own).chain(peers).find(|who| !name.is_empty() && who.name == name);
        found.map(|who| address(self.network, who.host))
    }

    /// The poll says that somebody joins.
    pub(super) fn listener_ready(&mut self) {
        self.can_accept = true;
    }

    /// The poll says that a member's stream can be read or written.
    pub(super) fn peer_ready(&mut self, index: usize, readable: bool, writable: bool) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.ready(readable, writable);
        }
    }

    /// A frame of the guest's that is not for the gateway alone.
    pub(super) fn send(&mut self, frame: &[u8], offload: Offload, addresses: &Addresses) {
        let own = Sender { who: Who::Own, mac: self.own.mac, address: addresses.guest };
        if !self.rights.permit(frame, own, addresses) {
            return;
        }
        let for_all = frame.first().is_some_and(|first| first & 1 != 0);
        for (_, peer) in self.peers.iter_mut() {
            if peer.identity().is_some_and(|who| for_all || frame.starts_with(&who.mac)) {
                peer.push(frame, offload);
            }
        }
    }

    /// Lets in who joins, and passes frames on, as long as the guest takes them. Returns whether more is to do right away.
    pub(super) fn work(&mut self, registry: &Registry, port: &mut Port, addresses: &Addresses) -> bool {
        while self.can_accept {
            match self.listener.accept() {
                // Only programs of the same user get here; beyond the limit one of them is no VM.
                Ok((stream, _)) if self.peers.len() < MEMBERS => {
                    // One that cannot be watched is closed.
                    _ = self.add(stream, registry);
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.can_accept = false,
            }
        }
        let mut more = false;
        let indices: Vec<_> = self.peers.iter().map(|(index, _)| index).collect();
        for index in indices {
            match self.serve(index, port, addresses) {
                Ok(busy) => more |= busy,
                Err(error) => {
                    let name = self.peers.remove(index).and_then(|peer| Some(peer.identity()?.name.clone()));
                    tracing::debug!(%error, ?name, "a member has left the network");
                    self.rights.forget(Who::Peer(index));
                }
            }
        }
        more
    }

    /// Passes on what one member sent, and sends what waits for it.
    fn serve(&mut self, index: usize, port: &mut Port, addresses: &Addresses) -> io::Result<bool> {
        for _ in 0..TURN {
            let Some(peer) = self.peers.get_mut(index) else { return Ok(false) };
            peer.flush()?;
            if port.is_full() && peer.identity().is_some() {
                return Ok(false);
            }
            match peer.next()? {
                None => return Ok(false),
                Some(Message::Hello(who)) => self.greet(index, who)?,
                Some(Message::Frame(mut frame, offload)) => {
                    let Some(who) = peer.identity() else {
                        return Err(stranger("it says nothing of itself"));
                    };
                    let (mac, address) = (who.mac, address(self.network, who.host));
                    let is_for_us =
                        frame.starts_with(&self.own.mac) || frame.first().is_some_and(|b| b & 1 != 0);
                    let sender = Sender { who: Who::Peer(index), mac, address };
                    if is_for_us && self.rights.permit(&frame, sender, addresses) {
                        let offloads = port.offloads();
                        if !segment::finish(&mut frame, offload, offloads, |frame, left| {
                            port.pass(frame, left)
                        }) {
                            return Ok(false);
                        }
                    }
                }
            }
            if let Some(peer) = self.peers.get_mut(index) {
                peer.consume();
            }
        }
        Ok(true)
    }

    /// A member says who it is: somebody that nobody else is.
    fn greet(&mut self, index: usize, who: Identity) -> io::Result<()> {
        let same = |other: &Identity| other.mac == who.mac || other.host == who.host;
        let others = self.peers.iter().filter_map(|(_, peer)| peer.identity());
        let is_group = who.mac.first().is_some_and(|b| b & 1 != 0);
        let is_nobody = is_group || who.mac == super::ADDRESSES.mac || !is_host(who.host);
        if is_nobody || same(&self.own) || others.into_iter().any(same) {
            return Err(stranger("it says that it is somebody else"));
        }
        if let Some(peer) = self.peers.get_mut(index) {
            peer.introduce(who);
        }
        Ok(())
    }
}

fn stranger(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;
