//! Handles and their protocols (UEFI 7.3), without the guest's side: that is in [`crate::boot::protocol`].

use std::collections::BTreeMap;

use crate::abi::{ACCESS_DENIED, Guid, INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES, Status, UNSUPPORTED};

/// A loader has dozens; more are an attack on our memory.
const MAX_HANDLES: usize = 4096;
const MAX_PROTOCOLS: usize = 64;
const MAX_OPENS: usize = 1024;
/// Identifiers of handles start here: nothing else that the guest is given looks like one.
const FIRST_ID: u64 = 0xe7e1_0000_0000;

pub(crate) const BY_CHILD: u32 = 8;
pub(crate) const BY_DRIVER: u32 = 0x10;
pub(crate) const EXCLUSIVE: u32 = 0x20;

/// Somebody uses a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub agent: u64,
    pub controller: u64,
    pub attributes: u32,
    pub count: u32,
}

pub(crate) struct Protocol {
    pub guid: Guid,
    pub interface: u64,
    pub opens: Vec<Open>,
}

#[derive(Default)]
pub(crate) struct Handles {
    handles: BTreeMap<u64, Vec<Protocol>>,
    made: u64,
    /// Who wants to know of new protocols: key, GUID, event, and the handles that are news.
    watches: Vec<(u64, Guid, u64, Vec<u64>)>,
}

impl Handles {
    /// Gives `handle`, or a new one for 0, a protocol; returns the handle.
    pub fn install(&mut self, handle: u64, guid: Guid, interface: u64) -> Result<u64, Status> {
        let handle = if handle == 0 {
            if self.handles.len() >= MAX_HANDLES {
                return Err(OUT_OF_RESOURCES);
            }
            self.made += 1;
            FIRST_ID + 8 * self.made
        } else {
            self.protocols(handle)?;
            handle
        };
        let protocols = self.handles.entry(handle).or_default();
        if protocols.iter().any(|p| p.guid == guid) {
            return Err(INVALID_PARAMETER);
        }
        if protocols.len() >= MAX_PROTOCOLS {
            return Err(OUT_OF_RESOURCES);
        }
        protocols.push(Protocol { guid, interface, opens: Vec::new() });
        let watches = self
            .watches
            .iter_mut()
            .filter(|(_, watched, _, news)| *watched == guid && news.len() < MAX_HANDLES);
        watches.for_each(|(.., news)| news.push(handle));
        Ok(handle)
    }

    /// The events to signal because of a new protocol.
    pub fn watchers(&self, guid: Guid) -> Vec<u64> {
        self.watches
            .iter()
            .filter(|(_, watched, ..)| *watched == guid)
            .map(|(_, _, event, _)| *event)
            .collect()
    }

    /// Has `event` signalled when a handle gets the protocol; returns the registration's key.
    pub fn watch(&mut self, guid: Guid, event: u64) -> Result<u64, Status> {
        if self.watches.len() >= MAX_PROTOCOLS {
            return Err(OUT_OF_RESOURCES);
        }
        let key = self.watches.len() as u64 + 1;
        self.watches.push((key, guid, event, Vec::new()));
        Ok(key)
    }

    /// The next handle that is news to a registration.
    pub fn news(&mut self, key: u64) -> Result<u64, Status> {
        let (.., news) = self.watches.iter_mut().find(|(k, ..)| *k == key).ok_or(INVALID_PARAMETER)?;
        if news.is_empty() { Err(NOT_FOUND) } else { Ok(news.remove(0)) }
    }

    /// Takes a protocol away; a handle without any is gone.
    pub fn uninstall(&mut self, handle: u64, guid: Guid, interface: u64) -> Result<(), Status> {
        let protocols = self.handles.get_mut(&handle).ok_or(INVALID_PARAMETER)?;
        let at =
            protocols.iter().position(|p| p.guid == guid && p.interface == interface).ok_or(NOT_FOUND)?;
        let in_use = |p: &Protocol| p.opens.iter().any(|o| o.attributes & (BY_CHILD | BY_DRIVER) != 0);
        if protocols.get(at).is_some_and(in_use) {
            return Err(ACCESS_DENIED);
        }
        protocols.remove(at);
        if protocols.is_empty() {
            self.handles.remove(&handle);
        }
        Ok(())
    }

    pub fn reinstall(&mut self, handle: u64, guid: Guid, old: u64, new: u64) -> Result<(), Status> {
        let protocol = self.protocol(handle, guid)?;
        if protocol.interface != old {
            return Err(NOT_FOUND);
        }
        protocol.interface = new;
        Ok(())
    }

    pub fn protocols(&self, handle: u64) -> Result<&[Protocol], Status> {
        self.handles.get(&handle).map(Vec::as_slice).ok_or(INVALID_PARAMETER)
    }

    pub fn protocol(&mut self, handle: u64, guid: Guid) -> Result<&mut Protocol, Status> {
        let protocols = self.handles.get_mut(&handle).ok_or(INVALID_PARAMETER)?;
        protocols.iter_mut().find(|p| p.guid == guid).ok_or(UNSUPPORTED)
    }

    /// The interface of a handle's protocol.
    pub fn interface(&self, handle: u64, guid: Guid) -> Option<u64> {
        self.handles.get(&handle)?.iter().find(|p| p.guid == guid).map(|p| p.interface)
    }

    /// The handles that have a protocol, or all of them, the oldest first.
    pub fn with(&self, guid: Option<Guid>) -> Vec<u64> {
        let has =
            |protocols: &Vec<Protocol>| guid.is_none_or(|guid| protocols.iter().any(|p| p.guid == guid));
        self.handles.iter().filter(|(_, protocols)| has(protocols)).map(|(handle, _)| *handle).collect()
    }
}

impl Protocol {
    /// Notes that somebody uses the protocol.
    pub fn open(&mut self, agent: u64, controller: u64, attributes: u32) -> Result<(), Status> {
        let same =
            |o: &&mut Open| o.agent == agent && o.controller == controller && o.attributes == attributes;
        if let Some(open) = self.opens.iter_mut().find(same) {
            open.count = open.count.saturating_add(1);
            return Ok(());
        }
        if self.opens.len() >= MAX_OPENS {
            return Err(OUT_OF_RESOURCES);
        }
        self.opens.push(Open { agent, controller, attributes, count: 1 });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::guid::{BLOCK_IO, RNG};

    #[test]
    fn handles_live_as_long_as_their_protocols() {
        let mut handles = Handles::default();
        let key = handles.watch(RNG, 7).unwrap();
        let a = handles.install(0, BLOCK_IO, 1).unwrap();
        let b = handles.install(0, RNG, 2).unwrap();
        assert_eq!(handles.install(a, BLOCK_IO, 3), Err(INVALID_PARAMETER), "twice");
        handles.install(a, RNG, 3).unwrap();
        assert_eq!((handles.with(Some(RNG)), handles.with(Some(BLOCK_IO))), (vec![a, b], vec![a]));
        assert_eq!([handles.news(key), handles.news(key), handles.news(key)], [Ok(b), Ok(a), Err(NOT_FOUND)]);
        assert_eq!(handles.watchers(RNG), [7]);
        assert_eq!(handles.uninstall(b, RNG, 9), Err(NOT_FOUND), "another interface");
        handles.protocol(b, RNG).unwrap().open(a, b, BY_DRIVER).unwrap();
        assert_eq!(handles.uninstall(b, RNG, 2), Err(ACCESS_DENIED));
        handles.protocol(b, RNG).unwrap().opens.clear();
        handles.uninstall(b, RNG, 2).unwrap();
        assert_eq!(handles.install(b, RNG, 2), Err(INVALID_PARAMETER), "it is gone");
        assert_eq!(handles.interface(a, RNG), Some(3));
    }

    #[test]
    fn there_is_an_end() {
        let mut handles = Handles::default();
        while handles.install(0, RNG, 0).is_ok() {}
        assert_eq!(handles.with(None).len(), MAX_HANDLES);
    }
}
