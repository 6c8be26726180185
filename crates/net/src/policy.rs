//! Where a guest may go.

use std::{fmt, net::IpAddr, str::FromStr};

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of addresses: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub struct ParseCidrError(String);

impl Cidr {
    /// The addresses whose first `prefix` bits are those of `address`; `None` when it has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl Cidr {
    /// Whether none of them is anything but link-local.
    fn is_link_local(&self) -> bool {
        let shortest = if self.address.is_ipv4() { 16 } else { 10 };
        self.prefix >= shortest && is_link_local(self.address)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let error = || ParseCidrError(text.chars().take(60).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| error())?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, prefix).ok_or_else(error)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What the guest may reach. The gateway's own services (addresses, name server, echo) are no part of it.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Nothing but what [`Policy::allow`] says.
    pub isolated: bool,
    /// Addresses that it may reach, beyond those that every guest may.
    pub allow: Vec<Cidr>,
    /// It may reach the services of the host's loopback interface, at the gateway's address.
    pub host: bool,
    /// It may look names up although it is isolated.
    pub dns: bool,
}

impl Policy {
    /// Whether the guest may send to `address` of the world.
    ///
    /// Link-local addresses are closed unless a range of such addresses is allowed: services listen there that trust whoever
    /// reaches them, such as those that hand a cloud machine its credentials. The host's loopback addresses are closed
    /// whatever is allowed: [`Policy::host`] opens them at the gateway's address. `0.0.0.0/0` means the world, not these.
    pub fn permits(&self, address: IpAddr) -> bool {
        if !is_unicast(address) || is_loopback(address) {
            return false;
        }
        let local = is_link_local(address);
        let covers = |range: &Cidr| range.contains(address) && (!local || range.is_link_local());
        self.allow.iter().any(covers) || (!self.isolated && !local)
    }

    /// Whether the guest may have names looked up.
    pub fn permits_dns(&self) -> bool {
        !self.isolated || self.dns
    }
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified()),
    }
}

/// Whether it leads to the host itself: also as an IPv4 address that is written as one of IPv6.
fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4().is_some(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_contain() {
        for (range, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert!(range.contains(ip(inside)) && !range.contains(ip(outside)), "{range}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_world_is_open_and_the_host_is_not() {
        let nat = Policy::default();
        for open in ["203.0.113.80", "10.1.2.3", "2001:db8::1", "fd00::1"] {
            assert!(nat.permits(ip(open)), "{open}");
        }
        for closed in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
        ] {
            assert!(!nat.permits(ip(closed)), "{closed}");
        }
        let open = |range: &str| Policy { allow: vec![range.parse().unwrap()], ..Policy::default() };
        assert!(open("169.254.0.0/16").permits(ip("169.254.169.254")));
        assert!(open("169.254.169.254").permits(ip("169.254.169.254")));
        assert!(!open("169.254.169.254").permits(ip("169.254.169.253")));
        assert!(open("fe80::/10").permits(ip("fe80::1")));
        for (range, closed) in [
            ("0.0.0.0/0", "127.0.0.1"),
            ("0.0.0.0/0", "169.254.169.254"),
            ("169.0.0.0/8", "169.254.169.254"),
            ("127.0.0.1", "127.0.0.1"),
            ("::/0", "::1"),
            ("::/0", "fe80::1"),
            ("::/0", "::ffff:127.0.0.1"),
            ("::/0", "::ffff:169.254.169.254"),
            ("::ffff:0:0/96", "::ffff:192.0.2.1"),
        ] {
            assert!(!open(range).permits(ip(closed)), "{range} {closed}");
        }
    }

    #[test]
    fn an_isolated_guest_reaches_only_what_is_named() {
        let policy =
            Policy { isolated: true, allow: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() };
        assert!(policy.permits(ip("192.0.2.1")) && !policy.permits(ip("192.0.3.1")));
        assert!(!policy.permits_dns());
        assert!(Policy { dns: true, ..policy }.permits_dns());
    }
}
