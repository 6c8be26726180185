//! The VM's network, from its configuration.

use std::{
    hash::{BuildHasher, RandomState},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use tearless_config::{Allow, MacAddr, NetConfig, NetMode, PortProtocol};
use tearless_control::place;
pub use tearless_net::Place;
use tearless_net::{
    Endpoint, Forward, Mac, Membership, NatOptions, NetError, Policy, Transport, Uplink, nat, socket, tap,
};
use tearless_virtio::{VirtioDevice, net::Net};

/// A network card and what it is plugged into. It is opened once per VM and lives through the guest's resets.
#[derive(Clone)]
pub struct Network {
    mac: Mac,
    endpoint: Arc<dyn Endpoint>,
}

/// What a network knows of its guest. It keeps nothing open.
pub(crate) struct Seen(Weak<dyn Endpoint>);

impl Seen {
    /// The guest's address, once that was given one or has said it.
    pub(crate) fn guest(&self) -> Option<Ipv4Addr> {
        self.0.upgrade()?.guest()
    }
}

/// What a VM's network is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What the user says.
    pub config: NetConfig,
    /// The card's address, if that says nothing of it.
    pub mac: MacAddr,
    /// The VM's name, by which others on a named network find it; empty when it has none.
    pub name: String,
}

impl Wanted {
    fn mac(&self) -> Mac {
        self.config.mac.unwrap_or(self.mac).0
    }
}

/// A network of which that is open what this process may not be able to open once it is confined.
pub struct Prepared<'a> {
    wanted: &'a Wanted,
    uplink: Option<Uplink>,
    membership: Option<Membership>,
    folder: Option<PathBuf>,
}

impl<'a> Prepared<'a> {
    /// Opens what `wanted` describes, but starts no thread.
    ///
    /// # Errors
    /// When a tap or a program is not there, the rights are missing, or a named network has no place.
    pub fn new(wanted: &'a Wanted) -> Result<Self, NetError> {
        let mut prepared = Self { wanted, uplink: None, membership: None, folder: None };
        prepared.uplink = match &wanted.config.mode {
            NetMode::None | NetMode::Nat | NetMode::Isolated => None,
            NetMode::Named(network) => {
                let folder = place::network(&network.name).map_err(|e| NetError {
                    what: format!("cannot join network {}", network.name),
                    why: e.to_string(),
                    advice: "set XDG_RUNTIME_DIR to a folder of yours, or use --net nat".to_owned(),
                })?;
                prepared.membership = Some(Membership::join(&folder, &wanted.name, wanted.mac())?);
                prepared.folder = Some(folder);
                None
            }
            NetMode::Socket(path) => Some(socket::open(path)?),
            NetMode::Bridged(bridge) => Some(tap::bridged(bridge)?),
            NetMode::Tap(name) => Some(tap::named(name)?),
            NetMode::Fd(number) => Some(tap::passed(*number)?),
        };
        Ok(prepared)
    }

    /// The folder where it leaves something to remove at the end.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What is to be dropped when the VM has ended, if it leaves something then.
    pub fn take_place(&mut self) -> Option<Place> {
        self.membership.as_mut()?.take_place()
    }

    /// Starts it; `None` when there is to be no card.
    ///
    /// # Errors
    /// When a port is in use or the host refuses a resource.
    pub fn start(self) -> Result<Option<Network>, NetError> {
        let config = &self.wanted.config;
        let endpoint: Arc<dyn Endpoint> = match self.uplink {
            Some(uplink) => uplink.start()?,
            None if config.mode == NetMode::None => return Ok(None),
            None => nat::start(nat_options(config), self.membership)?,
        };
        Ok(Some(Network { mac: self.wanted.mac(), endpoint }))
    }
}

impl Network {
    /// Opens what `wanted` describes; `None` when there is to be no card.
    ///
    /// # Errors
    /// Those of [`Prepared::new`] and [`Prepared::start`].
    pub fn open(wanted: &Wanted) -> Result<Option<Self>, NetError> {
        Prepared::new(wanted)?.start()
    }

    /// What the card is plugged into.
    #[cfg(target_os = "macos")]
    pub(crate) fn endpoint(&self) -> Arc<dyn Endpoint> {
        self.endpoint.clone()
    }

    /// The card's address.
    #[cfg(target_os = "macos")]
    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen(Arc::downgrade(&self.endpoint))
    }

    /// A card for a new machine of `vcpus` vCPUs.
    pub(crate) fn device(&self, vcpus: u32) -> Arc<dyn VirtioDevice> {
        Net::new(self.mac, self.endpoint.clone(), vcpus)
    }
}

fn nat_options(config: &NetConfig) -> NatOptions {
    let mut policy = Policy { isolated: config.mode.is_isolated(), ..Policy::default() };
    for allow in &config.allow {
        match allow {
            Allow::Range(address, prefix) => policy.allow.extend(tearless_net::Cidr::new(*address, *prefix)),
            Allow::Host => policy.host = true,
            Allow::Dns => policy.dns = true,
        }
    }
    let forwards = config.forwards.iter().map(|forward| Forward {
        transport: match forward.protocol {
            PortProtocol::Tcp => Transport::Tcp,
            PortProtocol::Udp => Transport::Udp,
        },
        host: forward.host,
        guest: forward.guest,
    });
    NatOptions { policy, forwards: forwards.collect(), ..NatOptions::default() }
}

/// An address for a new card.
pub fn random_mac() -> MacAddr {
    // Keyed anew for each process by the system's random numbers.
    mac_of(RandomState::new().hash_one(std::process::id()))
}

/// The address of a card whose configuration has none: the same each time for the same `identity`.
pub fn derived_mac(identity: &[u8]) -> MacAddr {
    // FNV-1a: addresses must differ, not be hard to guess.
    let hash = identity.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mac_of(hash)
}

/// A UUID for a VM that has no number of its own, always the same for the same `identity`: its path, say.
pub fn derived_uuid(identity: &[u8]) -> [u8; 16] {
    let hash = identity.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    // Version 8 (of the maker's own), in the variant of RFC 9562; SMBIOS has the first fields in little-endian order.
    let hash = hash & !(0xf << 76) & !(3 << 62) | 8 << 76 | 2 << 62;
    let [a, b, c, d, e, f, g, h, rest @ ..] = hash.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

fn mac_of(hash: u64) -> MacAddr {
    let [a, b, c, d, e, f, ..] = hash.to_le_bytes();
    MacAddr::local([a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_are_local() {
        assert_eq!(derived_mac(b"a"), derived_mac(b"a"));
        assert_ne!(derived_mac(b"a"), derived_mac(b"b"));
        assert_ne!(random_mac(), random_mac());
        assert!(random_mac().is_usable() && random_mac().0[0] & 2 != 0);
    }

    #[test]
    fn a_port_in_use_is_told_with_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let forward = format!("{}:80", taken.local_addr().unwrap()).parse().unwrap();
        let config = NetConfig { forwards: vec![forward], ..NetConfig::default() };
        let wanted = Wanted { config, mac: random_mac(), name: String::new() };
        let error = Network::open(&wanted).err().unwrap().to_string();
        assert!(error.contains("cannot forward TCP port 127.0.0.1:"), "{error}");
        assert!(error.contains("because: Address already in use") && error.contains("try:"), "{error}");
    }
}
