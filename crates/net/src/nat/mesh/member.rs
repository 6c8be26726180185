//! How a VM becomes a member of a named network.
//!
//! The network is a folder of the user's. Each member listens at a socket in it, whose name says the member's Ethernet
//! address and the last byte of its IPv4 address. Who joins, alone under a lock, connects to all that are there and then
//! listens, so each two members have one stream between them. Who has died refuses, and what it left is removed. No
//! member is special: there is nobody whose end would take the network away.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
};

use crate::{Mac, NetError};

/// Members of one network.
pub(super) const MEMBERS: usize = 64;
/// The last bytes of the addresses that members have.
const FIRST: u8 = 15;
const LAST: u8 = 239;
const LOCK: &str = "lock";

/// What a member tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) mac: Mac,
    /// The last byte of its IPv4 address.
    pub(crate) host: u8,
    /// Its name, in small letters; empty when it has none.
    pub(crate) name: String,
}

/// A place in a named network, with streams to all who were there before.
pub struct Membership {
    pub(super) own: Identity,
    pub(super) listener: UnixListener,
    pub(super) peers: Vec<UnixStream>,
    pub(super) place: Option<Place>,
}

/// The member's file. It goes with this, else with whoever joins next.
#[must_use]
pub struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever joins next removes it otherwise.
        _ = fs::remove_file(&self.0);
    }
}

impl Membership {
    /// Joins the network whose folder, a private one, is `folder`, as the machine `name` with the address `mac`.
    ///
    /// # Errors
    /// When the network is full, another member has the address, or the host refuses something.
    pub fn join(folder: &Path, name: &str, mac: Mac) -> Result<Self, NetError> {
        let failed = |e: io::Error| {
            let what = format!("cannot join the network at {}", folder.display());
            NetError::new(what, e, "--net nat, which needs nothing of other VMs")
        };
        let lock = File::create(folder.join(LOCK)).map_err(failed)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        let (peers, taken) = connect_all(folder).map_err(failed)?;
        if taken.iter().any(|(other, _)| *other == mac) {
            return Err(NetError::new(
                format!("cannot join the network at {}", folder.display()),
                "another VM on it has the same network card's address",
                "give one of them another: --mac",
            ));
        }
        let host = free_host(mac, &taken).filter(|_| peers.len() < MEMBERS);
        let Some(host) = host else {
            let what = format!("cannot join the network at {}", folder.display());
            return Err(NetError::new(what, format!("it has {MEMBERS} members"), "another network"));
        };
        let path = folder.join(file_name(mac, host));
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let place = Some(Place(path));
        let own = Identity { mac, host, name: name.to_ascii_lowercase() };
        Ok(Self { own, listener, peers, place })
    }

    /// The member's file, to be removed when its VM ends, whoever still holds its network then.
    pub fn take_place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// The guest's address.
    pub(super) fn guest(&self, network: Ipv4Addr) -> Ipv4Addr {
        address(network, self.own.host)
    }
}

/// The address in `network` whose last byte is `host`.
pub(super) fn address(network: Ipv4Addr, host: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, host)
}

/// Whether members have addresses with the last byte `host`.
pub(super) fn is_host(host: u8) -> bool {
    (FIRST..=LAST).contains(&host)
}

type Taken = Vec<(Mac, u8)>;

/// Connects to all members that live, and removes what the others left.
fn connect_all(folder: &Path) -> io::Result<(Vec<UnixStream>, Taken)> {
    let (mut peers, mut taken) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(found) = entry.file_name().to_str().and_then(parse_name) else { continue };
        match UnixStream::connect(entry.path()) {
            Ok(stream) => {
                peers.push(stream);
                taken.push(found);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(entry.path())?,
            // It has just left.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok((peers, taken))
}

/// An address that no other has; the same each time, if that is free.
fn free_host(mac: Mac, taken: &Taken) -> Option<u8> {
    let count = u32::from(LAST - FIRST) + 1;
    let wish =
        mac.iter().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte))) % count;
    let hosts = (0..count).map(|i| FIRST + ((wish + i) % count) as u8);
    hosts.into_iter().find(|host| taken.iter().all(|(_, other)| other != host))
}

fn file_name(mac: Mac, host: u8) -> String {
    let digits: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}-{host}")
}

fn parse_name(name: &str) -> Option<(Mac, u8)> {
    let (digits, host) = name.split_once('-')?;
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 12)?;
    let [_, _, mac @ ..] = number.to_be_bytes();
    Some((mac, host.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_addresses_of_their_own_and_the_dead_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mac = |i: u8| [2, 0, 0, 0, 0, i];
        let first = Membership::join(folder.path(), "A", mac(1)).unwrap();
        assert_eq!((first.own.name.as_str(), first.peers.len()), ("a", 0));
        let (host, path) = (first.own.host, first.place.as_ref().unwrap().0.clone());
        let error = Membership::join(folder.path(), "", mac(1)).err().unwrap().to_string();
        assert!(error.contains("--mac"), "{error}");
        let second = Membership::join(folder.path(), "b", mac(2)).unwrap();
        assert!(second.peers.len() == 1 && second.own.host != host);
        // Ended by force: its file stays until the next joins.
        let Membership { listener, place, .. } = first;
        drop(listener);
        std::mem::forget(place);
        assert!(path.exists());
        let third = Membership::join(folder.path(), "c", mac(3)).unwrap();
        assert!(third.peers.len() == 1 && !path.exists());
        assert_eq!(
            Membership::join(folder.path(), "a", mac(1)).unwrap().own.host,
            host,
            "the same as before"
        );
        drop((second, third));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn a_network_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let join = |i: u8| Membership::join(folder.path(), "", [2, 0, 0, 0, 0, i]);
        let members: Vec<_> = (0..MEMBERS as u8).map(|i| join(i).unwrap()).collect();
        let hosts: std::collections::HashSet<_> = members.iter().map(|member| member.own.host).collect();
        assert_eq!(hosts.len(), MEMBERS);
        assert!(join(200).err().unwrap().to_string().contains("64 members"));
    }

    #[test]
    fn names_of_files_are_read_as_written() {
        assert_eq!(parse_name(&file_name([1, 2, 3, 0xab, 5, 6], 17)), Some(([1, 2, 3, 0xab, 5, 6], 17)));
        for other in ["lock", "0123456789ab-", "0123456789ab-256", "0123-1", "0123456789abcd-1"] {
            assert_eq!(parse_name(other), None);
        }
    }
}
