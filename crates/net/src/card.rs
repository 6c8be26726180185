//! The contract between a network card and what it is plugged into.

use std::{net::Ipv4Addr, sync::Arc};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The longest frame: an IP packet of 65535 bytes and its Ethernet header.
pub const MAX_FRAME: usize = 65535 + 14;

/// A checksum that whoever puts the frame on a wire has to compute: over everything from byte `start` on, stored at
/// `start + offset`, where the sum of the pseudo header stands already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Where the sum starts, in bytes from the start of the frame.
    pub start: u16,
    /// Where it is stored, in bytes from `start`.
    pub offset: u16,
}

/// Which protocol a large frame is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
}

/// The frame is larger than the network's MTU and stands for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// What it is cut into.
    pub kind: GsoKind,
    /// Bytes of payload per piece; not zero.
    pub size: u16,
    /// Bytes of all headers.
    pub headers: u16,
}

/// What is left to do for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Its checksum.
    pub checksum: Option<PartialChecksum>,
    /// Cutting it up.
    pub gso: Option<Gso>,
}

/// What one side can be given unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Frames with a [`PartialChecksum`].
    pub checksum: bool,
    /// Large frames of TCP over IPv4; only with `checksum`.
    pub tcp4: bool,
    /// Large frames of TCP over IPv6; only with `checksum`.
    pub tcp6: bool,
}

impl Offloads {
    /// All of them.
    pub const ALL: Self = Self { checksum: true, tcp4: true, tcp6: true };

    /// Whether whoever takes these can be given a frame with `offload` left to do.
    pub fn cover(self, offload: Offload) -> bool {
        let large = match offload.gso {
            None => true,
            Some(Gso { kind: GsoKind::Tcp4, .. }) => self.tcp4,
            Some(Gso { kind: GsoKind::Tcp6, .. }) => self.tcp6,
        };
        large && (self.checksum || offload.checksum.is_none())
    }
}

/// A frame on its way to the guest, in pieces that need not be copied together first.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What is left to do.
    pub offload: Offload,
    /// The bytes, one piece after the other.
    pub parts: [&'a [u8]; 3],
}

impl<'a> Frame<'a> {
    /// A frame in one piece.
    pub fn whole(bytes: &'a [u8], offload: Offload) -> Self {
        Self { offload, parts: [bytes, &[], &[]] }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The guest's network card, from its driver's start to the reset. Only its endpoint's thread uses it.
pub trait Card: Send + Sync {
    /// Its address.
    fn mac(&self) -> Mac;

    /// What the guest's driver can be given unfinished.
    fn offloads(&self) -> Offloads;

    /// Copies the next frame that the guest sends into `into`, whose old content goes. When there is none the result is
    /// `None`, and the guest rings for the next.
    fn take(&self, into: &mut Vec<u8>) -> Option<Offload>;

    /// Gives the guest a frame. When it has no room the result is `false`; it rings when it has some again. A frame that
    /// can never fit is dropped, and counts as given.
    fn give(&self, frame: &Frame<'_>) -> bool;

    /// Tells the guest of all that was taken and given since the last time.
    fn flush(&self);
}

/// What a card is plugged into. It outlives the machine: a reset of the guest makes a new card.
pub trait Endpoint: Send + Sync {
    /// What the guest may leave unfinished.
    fn accepts(&self) -> Offloads;

    /// The largest packet of the network, in bytes without the Ethernet header, where that is known before the guest asks.
    fn mtu(&self) -> Option<u16>;

    /// The guest's driver is up. A card that was plugged in before is gone.
    fn attach(&self, card: Arc<dyn Card>);

    /// The guest's driver is gone.
    fn detach(&self);

    /// The guest has frames to send or room for more. Called by vCPUs; returns at once.
    fn kick(&self);

    /// The guest's IPv4 address: the one that it was given, or last said to be its own, by ARP. None before that.
    fn guest(&self) -> Option<Ipv4Addr> {
        None
    }
}
