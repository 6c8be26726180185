//! The VM's network, from its configuration.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use tearless_config::{Allow, MacAddr, NetConfig, NetMode, PortProtocol};
use tearless_net::{Endpoint, Forward, Mac, NatOptions, NetError, Policy, Transport, nat, socket};
use tearless_virtio::{VirtioDevice, net::Net};

/// A network card and what it is plugged into. It is opened once per VM and lives through the guest's resets.
#[derive(Clone)]
pub struct Network {
    mac: Mac,
    endpoint: Arc<dyn Endpoint>,
}

impl Network {
    /// Opens what `config` describes; `None` when there is to be no card. `mac` is for a configuration without one.
    ///
    /// # Errors
    /// When a port is in use or the host refuses a resource.
    pub fn open(config: &NetConfig, mac: MacAddr) -> Result<Option<Self>, NetError> {
        let endpoint: Arc<dyn Endpoint> = match &config.mode {
            NetMode::None => return Ok(None),
            NetMode::Nat | NetMode::Isolated => nat::start(nat_options(config))?,
            NetMode::Socket(path) => socket::connect(path)?,
            NetMode::Bridged(_) | NetMode::Fd(_) => {
                return Err(NetError {
                    what: format!("cannot use network {}", config.mode),
                    why: "this version of Tearless does not use taps of the host yet".to_owned(),
                    advice: "--net nat with -p for the ports that others need, or --net socket:PATH"
                        .to_owned(),
                });
            }
        };
        Ok(Some(Self { mac: config.mac.unwrap_or(mac).0, endpoint }))
    }

    /// A card for a new machine.
    pub(crate) fn device(&self) -> Arc<dyn VirtioDevice> {
        Net::new(self.mac, self.endpoint.clone())
    }
}

fn nat_options(config: &NetConfig) -> NatOptions {
    let mut policy = Policy { isolated: config.mode == NetMode::Isolated, ..Policy::default() };
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
        let error = Network::open(&config, random_mac()).err().unwrap().to_string();
        assert!(error.contains("cannot forward TCP port 127.0.0.1:"), "{error}");
        assert!(error.contains("because: Address already in use") && error.contains("try:"), "{error}");
    }
}
