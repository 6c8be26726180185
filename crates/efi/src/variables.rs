//! Variables (UEFI 8.2), and the file that keeps them.
//!
//! ```text
//! NVRAM ─┬─ slot 0 ─ magic, generation, length, checksum, variables
//!        └─ slot 1 ─ the same
//! ```
//! A change is written to the slot that is older, so a crash leaves the state before it or after it. The file is opened
//! once: a process that is confined can go on writing to it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tearless_state::StateError;

use crate::abi::{
    DEVICE_ERROR, Guid, INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES, Status, UNSUPPORTED, WRITE_PROTECTED,
    guid,
};

pub(crate) const NON_VOLATILE: u32 = 1;
pub(crate) const BOOT: u32 = 2;
pub(crate) const RUNTIME: u32 = 4;
const APPEND: u32 = 0x40;

/// Bytes of a slot.
const SLOT: u64 = 256 << 10;
const HEADER: usize = 24;
const MAGIC: [u8; 8] = *b"TLNVRAM1";

/// Bytes that all variables of a kind may have, with their names.
pub(crate) const MAX_STORE: usize = SLOT as usize - HEADER;
/// Bytes of the largest variable; shim keeps its keys in one of some 30 KiB.
pub(crate) const MAX_DATA: usize = 96 << 10;
/// Characters of the longest name.
pub(crate) const MAX_NAME: usize = 512;

/// The variable by which an installation without questions says that it is complete, as Linux names the variable's file.
pub const INSTALLED: &str = "TearlessInstalled-8c2d51f3-7b36-4e0e-a1c9-0d5e3f84b2a6";

/// GUID and name of a variable.
pub(crate) type Name = (Guid, Vec<u16>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    attributes: u32,
    data: Vec<u8>,
}

/// A variable in a saved VM's state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedVariable {
    pub guid: [u8; 16],
    pub name: Vec<u16>,
    pub attributes: u32,
    pub data: Vec<u8>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Name, Variable>,
    file: Option<File>,
    /// Of what is in the file; its last bit is the slot.
    generation: u64,
}

/// A machine's variables. They outlive its resets, and what is not volatile outlives the process.
#[derive(Default)]
pub struct Variables(Mutex<State>);

impl Variables {
    /// The variables that the file at `path` keeps; a new file has none.
    ///
    /// # Errors
    /// When the file cannot be used, or is none of ours.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        let slots: Vec<_> = (0..2).filter_map(|slot| read_slot(&file, slot)).collect();
        let newest = slots.into_iter().max_by_key(|(generation, _)| *generation);
        if newest.is_none() && len > 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its content is damaged, or not Tearless's",
            ));
        }
        let (generation, entries) = newest.unwrap_or_default();
        Ok(Self(Mutex::new(State { entries, file: Some(file), generation })))
    }

    /// Keeps what is written from now on in memory only.
    pub fn detach(&self) {
        self.lock().file = None;
    }

    /// Whether an installer has said, by the variable [`INSTALLED`], that the system on the disk is complete.
    pub fn is_installed(&self) -> bool {
        let name = INSTALLED.split_once('-').map_or(INSTALLED, |(name, _)| name).encode_utf16().collect();
        self.get(&(guid::TEARLESS, name), false).is_some()
    }

    /// Whether a system has left a boot entry of its own.
    pub fn has_boot_order(&self) -> bool {
        let name = "BootOrder".encode_utf16().collect();
        self.get(&(guid::GLOBAL_VARIABLE, name), false).is_some_and(|(_, order)| order.len() >= 2)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine starts anew: what is volatile is gone.
    pub(crate) fn begin_boot(&self) {
        self.lock().entries.retain(|_, variable| variable.attributes & NON_VOLATILE != 0);
    }

    /// Attributes and content.
    pub(crate) fn get(&self, name: &Name, runtime: bool) -> Option<(u32, Vec<u8>)> {
        let state = self.lock();
        let variable = state.entries.get(name)?;
        (!runtime || variable.attributes & RUNTIME != 0).then(|| (variable.attributes, variable.data.clone()))
    }

    /// The variable behind `name`, or the first for no name.
    pub(crate) fn next(&self, name: &Name, runtime: bool) -> Result<Name, Status> {
        let state = self.lock();
        let visible = |v: &Variable| !runtime || v.attributes & RUNTIME != 0;
        let mut all = state.entries.iter().filter(|(_, variable)| visible(variable)).map(|(name, _)| name);
        if name.1.is_empty() {
            return all.next().cloned().ok_or(NOT_FOUND);
        }
        if !state.entries.contains_key(name) {
            return Err(INVALID_PARAMETER);
        }
        all.find(|other| *other > name).cloned().ok_or(NOT_FOUND)
    }

    /// Sets, appends to, or deletes a variable.
    pub(crate) fn set(&self, name: &Name, attributes: u32, data: &[u8], runtime: bool) -> Result<(), Status> {
        if attributes & !(NON_VOLATILE | BOOT | RUNTIME | APPEND) != 0 {
            // Those that are signed are for Secure Boot, which is not here.
            return Err(UNSUPPORTED);
        }
        if name.1.is_empty()
            || name.1.len() > MAX_NAME
            || (attributes & RUNTIME != 0 && attributes & BOOT == 0)
        {
            return Err(INVALID_PARAMETER);
        }
        let append = attributes & APPEND != 0;
        let attributes = attributes & !APPEND;
        let mut state = self.lock();
        let old = state.entries.get(name).cloned();
        if runtime && old.as_ref().is_some_and(|v| v.attributes & RUNTIME == 0) {
            return Err(WRITE_PROTECTED);
        }
        let delete = attributes & (BOOT | RUNTIME) == 0 || (data.is_empty() && !append);
        let new = match &old {
            None if delete => return Err(NOT_FOUND),
            _ if delete => None,
            // Once the OS has taken over, volatile variables are as they are.
            _ if runtime && attributes & (NON_VOLATILE | RUNTIME) != NON_VOLATILE | RUNTIME => {
                return Err(if old.is_some() { WRITE_PROTECTED } else { INVALID_PARAMETER });
            }
            Some(old) if old.attributes != attributes => return Err(INVALID_PARAMETER),
            Some(old) if append => Some([&old.data, data].concat()),
            _ => Some(data.to_vec()),
        };
        let lasting = old.as_ref().map_or(attributes, |v| v.attributes) & NON_VOLATILE != 0;
        match new {
            None => drop(state.entries.remove(name)),
            Some(data) if data.len() > MAX_DATA => return Err(OUT_OF_RESOURCES),
            Some(data) => drop(state.entries.insert(name.clone(), Variable { attributes, data })),
        }
        let too_much = state.size(lasting) > MAX_STORE;
        let result = match () {
            () if too_much => Err(OUT_OF_RESOURCES),
            () if lasting => state.save().map_err(|error| {
                tracing::warn!(%error, "cannot keep an EFI variable");
                DEVICE_ERROR
            }),
            () => Ok(()),
        };
        if result.is_err() {
            match old {
                Some(old) => drop(state.entries.insert(name.clone(), old)),
                None => drop(state.entries.remove(name)),
            }
        }
        result
    }

    /// The variables that do not last, for a VM that is saved.
    pub(crate) fn volatile(&self) -> Vec<SavedVariable> {
        let state = self.lock();
        let volatile = state.entries.iter().filter(|(_, v)| v.attributes & NON_VOLATILE == 0);
        volatile
            .map(|((guid, name), v)| SavedVariable {
                guid: guid.0,
                name: name.clone(),
                attributes: v.attributes,
                data: v.data.clone(),
            })
            .collect()
    }

    /// Puts back what [`Variables::volatile`] said.
    pub(crate) fn put_volatile(&self, saved: Vec<SavedVariable>) -> Result<(), StateError> {
        let fits = |v: &SavedVariable| {
            v.attributes & !(BOOT | RUNTIME) == 0 && v.name.len() <= MAX_NAME && v.data.len() <= MAX_DATA
        };
        let size: usize = saved.iter().map(|v| RECORD + 2 * v.name.len() + v.data.len()).sum();
        if !saved.iter().all(fits) || size > MAX_STORE {
            return Err(StateError::malformed("a variable is none that it could have had"));
        }
        self.begin_boot();
        let entry = |SavedVariable { guid, name, attributes, data }| {
            ((Guid(guid), name), Variable { attributes, data })
        };
        self.lock().entries.extend(saved.into_iter().map(entry));
        Ok(())
    }

    /// Bytes that variables of a kind have, with their names.
    pub(crate) fn used(&self, attributes: u32) -> usize {
        self.lock().size(attributes & NON_VOLATILE != 0)
    }
}

impl State {
    fn size(&self, lasting: bool) -> usize {
        let of_kind = self.entries.iter().filter(|(_, v)| (v.attributes & NON_VOLATILE != 0) == lasting);
        of_kind.map(|((_, name), v)| RECORD + 2 * name.len() + v.data.len()).sum()
    }

    fn save(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let lasting = self.entries.iter().filter(|(_, v)| v.attributes & NON_VOLATILE != 0);
        let content: Vec<u8> = lasting.flat_map(|(name, variable)| record(name, variable)).collect();
        let generation = self.generation + 1;
        let sealed =
            [&generation.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), &content].concat();
        let crc = crc32fast::hash(&sealed);
        let (head, body) = sealed.split_at(12);
        let slot = [&MAGIC[..], head, &crc.to_le_bytes(), body].concat();
        file.write_all_at(&slot, generation % 2 * SLOT)?;
        file.sync_data()?;
        self.generation = generation;
        Ok(())
    }
}

/// Bytes of a record without name and data: GUID, attributes, their lengths.
const RECORD: usize = 16 + 4 + 2 + 4;

fn record((guid, name): &Name, variable: &Variable) -> Vec<u8> {
    let name_len = (name.len() as u16).to_le_bytes();
    let data_len = (variable.data.len() as u32).to_le_bytes();
    let name: Vec<u8> = name.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    [&guid.0[..], &variable.attributes.to_le_bytes(), &name_len, &data_len, &name, &variable.data].concat()
}

fn read_slot(file: &File, slot: u64) -> Option<(u64, BTreeMap<Name, Variable>)> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, slot * SLOT).ok()?;
    let (magic, rest) = header.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (len, crc) = rest.split_first_chunk::<4>()?;
    let size = u32::from_le_bytes(*len) as usize;
    if *magic != MAGIC || size > MAX_STORE {
        return None;
    }
    let mut content = vec![0; size];
    file.read_exact_at(&mut content, slot * SLOT + HEADER as u64).ok()?;
    let sealed = [&generation[..], len, &content].concat();
    if crc32fast::hash(&sealed).to_le_bytes() != *crc {
        return None;
    }
    Some((u64::from_le_bytes(*generation), records(&content)?))
}

fn records(mut content: &[u8]) -> Option<BTreeMap<Name, Variable>> {
    let mut entries = BTreeMap::new();
    while !content.is_empty() {
        let (guid, rest) = content.split_first_chunk::<16>()?;
        let (attributes, rest) = rest.split_first_chunk::<4>()?;
        let (name_len, rest) = rest.split_first_chunk::<2>()?;
        let (data_len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(2 * usize::from(u16::from_le_bytes(*name_len)))?;
        let (data, rest) = rest.split_at_checked(u32::from_le_bytes(*data_len) as usize)?;
        let name = name.chunks_exact(2).filter_map(|c| Some(u16::from_le_bytes(*c.first_chunk()?))).collect();
        let variable = Variable { attributes: u32::from_le_bytes(*attributes), data: data.to_vec() };
        entries.insert((Guid(*guid), name), variable);
        content = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTING: u32 = NON_VOLATILE | BOOT | RUNTIME;

    fn name(text: &str) -> Name {
        (Guid([1; 16]), text.encode_utf16().collect())
    }

    #[test]
    fn what_lasts_is_there_again_and_the_rest_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let variables = Variables::open(file.path()).unwrap();
        variables.set(&name("a"), LASTING, b"one", false).unwrap();
        variables.set(&name("b"), BOOT | RUNTIME, b"gone", false).unwrap();
        variables.set(&name("a"), LASTING | APPEND, b" two", true).unwrap();
        variables.set(&name("c"), LASTING, b"x", false).unwrap();
        variables.set(&name("c"), 0, b"", true).unwrap();
        let again = Variables::open(file.path()).unwrap();
        assert_eq!(again.get(&name("a"), true), Some((LASTING, b"one two".to_vec())));
        assert_eq!((again.get(&name("b"), false), again.get(&name("c"), false)), (None, None));
        variables.begin_boot();
        assert_eq!(variables.get(&name("b"), false), None);
        again.detach();
        again.set(&name("a"), LASTING, b"three", false).unwrap();
        let third = Variables::open(file.path()).unwrap();
        let values = [&again, &third].map(|v| v.get(&name("a"), true).unwrap().1);
        assert_eq!(values, [b"three".to_vec(), b"one two".to_vec()]);
    }

    #[test]
    fn a_torn_write_leaves_the_state_before_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let variables = Variables::open(file.path()).unwrap();
        variables.set(&name("a"), LASTING, b"old", false).unwrap();
        variables.set(&name("a"), LASTING, b"new", false).unwrap();
        // The second change went to slot 0.
        file.as_file().write_all_at(b"torn", 30).unwrap();
        let again = Variables::open(file.path()).unwrap();
        assert_eq!(again.get(&name("a"), false), Some((LASTING, b"old".to_vec())));
        file.as_file().write_all_at(b"torn", SLOT + 30).unwrap();
        assert!(Variables::open(file.path()).is_err(), "better no boot than a boot without its entries");
    }

    #[test]
    fn names_are_walked_in_order() {
        let variables = Variables::default();
        for (text, attributes) in [("b", LASTING), ("a", BOOT), ("c", LASTING)] {
            variables.set(&name(text), attributes, b"x", false).unwrap();
        }
        let walk = |runtime| {
            let mut names = vec![];
            let mut at: Name = (Guid([0; 16]), vec![]);
            while let Ok(next) = variables.next(&at, runtime) {
                names.push(String::from_utf16(&next.1).unwrap());
                at = next;
            }
            names.concat()
        };
        assert_eq!((walk(false), walk(true)), ("abc".to_owned(), "bc".to_owned()));
        assert_eq!(variables.next(&name("nothing"), false), Err(INVALID_PARAMETER));
    }

    #[test]
    fn rules_hold() {
        let variables = Variables::default();
        let set = |text: &str, attributes, data: &[u8], runtime| {
            variables.set(&name(text), attributes, data, runtime)
        };
        assert_eq!(set("a", RUNTIME, b"x", false), Err(INVALID_PARAMETER));
        assert_eq!(set("a", LASTING | 0x20, b"x", false), Err(UNSUPPORTED));
        assert_eq!(set("a", LASTING, b"", false), Err(NOT_FOUND));
        set("a", BOOT, b"x", false).unwrap();
        assert_eq!(set("a", LASTING, b"x", false), Err(INVALID_PARAMETER));
        assert_eq!(set("a", BOOT, b"y", true), Err(WRITE_PROTECTED));
        assert_eq!(set("n", BOOT | RUNTIME, b"y", true), Err(INVALID_PARAMETER));
        assert_eq!(set("big", LASTING, &vec![0; MAX_DATA + 1], false), Err(OUT_OF_RESOURCES));
        for i in 0.. {
            let name = name(&i.to_string());
            if let Err(status) = variables.set(&name, LASTING, &vec![0; MAX_DATA], false) {
                assert_eq!(status, OUT_OF_RESOURCES);
                assert_eq!(variables.get(&name, false), None);
                break;
            }
        }
        assert!(variables.used(LASTING) <= MAX_STORE);
    }
}
