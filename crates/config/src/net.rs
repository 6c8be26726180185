//! The network as the user writes it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The VM's network card and what it is plugged into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// What it is plugged into.
    #[serde(default)]
    pub mode: NetMode,
    /// Its address; one is derived where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Host ports that lead to the guest; with `nat` and `isolated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<PortForward>,
    /// Whether host ports lead to whatever ports the guest listens at, as long as it does; by the guest's agent, so with any
    /// network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_forward: bool,
    /// Where the guest may go beyond what its mode lets it; with `nat` and `isolated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
}

impl NetConfig {
    /// Whether there is nothing to write down.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a network card is plugged into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetMode {
    /// The world, through sockets of the host.
    #[default]
    Nat,
    /// As `Nat`, but nothing that is not allowed by name.
    Isolated,
    /// There is no card.
    None,
    /// As `Nat`, and the guests of the user's other VMs on the network of that name.
    Named(NamedNetwork),
    /// A bridge of the host, by a tap that is made for it.
    Bridged(String),
    /// A tap of the host that is the user's.
    Tap(String),
    /// A program that listens at a UNIX socket: passt, gvproxy, vmnet-helper.
    Socket(PathBuf),
    /// A tap that this process was given open.
    Fd(i32),
}

/// A network that VMs of one user share while they run: `NAME`, or `NAME:isolated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNetwork {
    /// Its name: small letters, digits, `-` and `_`, a letter or digit first.
    pub name: String,
    /// The world is closed as with [`NetMode::Isolated`].
    pub isolated: bool,
}

impl NamedNetwork {
    /// The longest name; it becomes a part of a socket's path.
    const LONGEST: usize = 24;

    fn new(name: &str, isolated: bool) -> Option<Self> {
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let is_right = name.len() <= Self::LONGEST
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(is_inner);
        is_right.then(|| Self { name: name.to_owned(), isolated })
    }
}

impl NetMode {
    /// Whether Tearless' own NAT serves it, so that ports are forwarded and addresses allowed.
    pub fn is_nat(&self) -> bool {
        matches!(self, Self::Nat | Self::Isolated | Self::Named(_))
    }

    /// Whether nothing of the world is open that is not allowed by name.
    pub fn is_isolated(&self) -> bool {
        matches!(self, Self::Isolated | Self::Named(NamedNetwork { isolated: true, .. }))
    }
}

/// A text that says nothing about a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {advice}")]
pub struct ParseNetError {
    text: String,
    what: &'static str,
    advice: &'static str,
}

impl ParseNetError {
    fn new(text: &str, what: &'static str, advice: &'static str) -> Self {
        Self { text: text.chars().take(60).collect(), what, advice }
    }
}

impl FromStr for NetMode {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let error = || {
            let advice = "there are nat, isolated, none, bridged:BRIDGE, tap:NAME, socket:PATH, fd:NUMBER, and \
                          NAME or NAME:isolated for one that your VMs share (small letters, digits, - and _)";
            ParseNetError::new(text, "network", advice)
        };
        match text.split_once(':') {
            None => match text {
                "nat" => Ok(Self::Nat),
                "isolated" => Ok(Self::Isolated),
                "none" => Ok(Self::None),
                // These want something behind a colon.
                "bridged" | "tap" | "socket" | "fd" => Err(error()),
                name => NamedNetwork::new(name, false).map(Self::Named).ok_or_else(error),
            },
            Some((_, "")) => Err(error()),
            Some(("bridged", name)) => Ok(Self::Bridged(name.to_owned())),
            Some(("tap", name)) => Ok(Self::Tap(name.to_owned())),
            Some(("socket", path)) => Ok(Self::Socket(path.into())),
            Some(("fd", number)) => number.parse().ok().filter(|n| *n > 2).map(Self::Fd).ok_or_else(error),
            Some((name, "isolated")) => NamedNetwork::new(name, true).map(Self::Named).ok_or_else(error),
            Some(_) => Err(error()),
        }
    }
}

impl fmt::Display for NetMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nat => f.write_str("nat"),
            Self::Isolated => f.write_str("isolated"),
            Self::None => f.write_str("none"),
            Self::Named(NamedNetwork { name, isolated: false }) => f.write_str(name),
            Self::Named(NamedNetwork { name, isolated: true }) => write!(f, "{name}:isolated"),
            Self::Bridged(name) => write!(f, "bridged:{name}"),
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Socket(path) => write!(f, "socket:{}", path.display()),
            Self::Fd(number) => write!(f, "fd:{number}"),
        }
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// An address that nobody's hardware has (locally administered), made of `seed`.
    pub fn local(seed: [u8; 6]) -> Self {
        let [first, rest @ ..] = seed;
        let [a, b, c, d, e] = rest;
        Self([first & 0xfc | 2, a, b, c, d, e])
    }

    /// Whether one machine can have it, rather than a group.
    pub fn is_usable(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let error = || ParseNetError::new(text, "Ethernet address", "write one like 52:54:00:12:34:56");
        let bytes: Result<Vec<u8>, _> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2).ok_or(()))
            .collect();
        let bytes = bytes.map_err(|()| error())?.try_into().map_err(|_| error())?;
        Ok(Self(bytes)).and_then(|mac| if mac.is_usable() { Ok(mac) } else { Err(error()) })
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to one of the guest: `[ADDR:]HOST:GUEST[/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// Where the host listens; its loopback address unless said otherwise.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest: u16,
    /// The protocol.
    pub protocol: PortProtocol,
}

impl FromStr for PortForward {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let error = || {
            let advice = "write HOSTPORT:GUESTPORT, with ADDRESS: before it or /udp behind it if need be";
            ParseNetError::new(text, "port forward", advice)
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, PortProtocol::Tcp),
            Some((ports, "tcp")) => (ports, PortProtocol::Tcp),
            Some((ports, "udp")) => (ports, PortProtocol::Udp),
            Some(_) => return Err(error()),
        };
        let (host, guest) = ports.rsplit_once(':').ok_or_else(error)?;
        let (address, port) = match host.rsplit_once(':') {
            None => (IpAddr::from(Ipv4Addr::LOCALHOST), host),
            Some((address, port)) => {
                let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                (plain.unwrap_or(address).parse().map_err(|_| error())?, port)
            }
        };
        let number = |text: &str| text.parse().ok().filter(|p: &u16| *p != 0).ok_or_else(error);
        Ok(Self { host: SocketAddr::new(address, number(port)?), guest: number(guest)?, protocol })
    }
}

impl fmt::Display for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.guest)?;
        match self.protocol {
            PortProtocol::Tcp => Ok(()),
            PortProtocol::Udp => f.write_str("/udp"),
        }
    }
}

/// Something that a guest may reach although its mode does not let it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Addresses with a common prefix of so many bits.
    Range(IpAddr, u8),
    /// The services of the host's loopback interface, at the gateway's address.
    Host,
    /// The host's name servers; `nat` has them anyway.
    Dns,
}

impl FromStr for Allow {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let error = || {
            let advice = "write a range such as 192.0.2.0/24 or 2001:db8::/32, or one of dns and host";
            ParseNetError::new(text, "thing to allow", advice)
        };
        match text {
            "host" => return Ok(Self::Host),
            "dns" => return Ok(Self::Dns),
            _ => {}
        }
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |p| p.parse().map_err(|_| error()))?;
        if prefix <= longest { Ok(Self::Range(address, prefix)) } else { Err(error()) }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Host => f.write_str("host"),
            Self::Dns => f.write_str("dns"),
        }
    }
}

/// In `config.json` these stand as they are typed.
macro_rules! as_text {
    ($($name:ty),*) => { $(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}

as_text!(NetMode, MacAddr, PortForward, Allow);

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses and prints again.
    fn round<T: FromStr + fmt::Display>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|value| value.to_string())
    }

    #[test]
    fn networks_are_named() {
        for good in [
            "nat",
            "isolated",
            "none",
            "bridged:br0",
            "tap:t0",
            "socket:/run/a:b",
            "fd:3",
            "lab",
            "lab-2:isolated",
        ] {
            assert_eq!(round::<NetMode>(good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "NAT",
            "nat:",
            "bridged",
            "bridged:",
            "tap:",
            "socket:",
            "fd:x",
            "fd:1",
            "vde:x",
            "lab:x",
            "-lab",
            "a b",
            "a/b",
            ":isolated",
        ] {
            assert_eq!(round::<NetMode>(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_of_cards_are_read() {
        assert_eq!(round::<MacAddr>("52:54:00:AB:cd:01").as_deref(), Some("52:54:00:ab:cd:01"));
        for bad in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:54:0:12:34:56", "01:00:00:00:00:00"] {
            assert_eq!(round::<MacAddr>(bad), None, "{bad}");
        }
        let own = MacAddr::local([0xff; 6]);
        assert!(own.is_usable() && own.0[0] & 2 != 0);
    }

    #[test]
    fn forwards_are_read() {
        for (typed, meant) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("8080:80/tcp", "127.0.0.1:8080:80"),
            ("0.0.0.0:53:5353/udp", "0.0.0.0:53:5353/udp"),
            ("[::1]:1:2", "[::1]:1:2"),
        ] {
            assert_eq!(round::<PortForward>(typed).as_deref(), Some(meant));
            assert_eq!(round::<PortForward>(meant).as_deref(), Some(meant));
        }
        for bad in ["", "80", "0:80", "80:0", "80:65536", "a:80:80", "80:80/sctp", ":80:80", "1:2:3:4"] {
            assert_eq!(round::<PortForward>(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_allowed_is_read() {
        for (typed, meant) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("host", "host"),
            ("dns", "dns"),
        ] {
            assert_eq!(round::<Allow>(typed).as_deref(), Some(meant));
        }
        for bad in ["", "192.0.2.0/33", "example.org", "::/129", "192.0.2.0/"] {
            assert_eq!(round::<Allow>(bad), None, "{bad}");
        }
    }
}
