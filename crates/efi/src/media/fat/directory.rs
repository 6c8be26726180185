//! Directories: names long and short, entries found, made and removed.

use std::io;

use super::{Fat, MAX_DIRECTORY, Node, Root, damaged, le, table};

/// The file may not be changed.
pub const READ_ONLY: u8 = 1;
const LABEL: u8 = 8;
/// It is a directory.
pub const DIRECTORY: u8 = 0x10;
/// It was changed since somebody made a copy.
pub const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0f;

const ENTRY: usize = 32;
const FREE: u8 = 0xe5;
/// Stands for a first byte of 0xe5.
const KANJI: u8 = 5;
/// Characters of a long name in one entry, and where they are.
const PER_ENTRY: usize = 13;
const PLACES: [usize; PER_ENTRY] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const MAX_NAME: usize = 255;

impl Fat {
    /// The content of a directory.
    fn content(&mut self, directory: &Node) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        match self.root {
            Root::Fixed(start, len) if directory.first == 0 => {
                content.resize(len.min(MAX_DIRECTORY) as usize, 0);
                self.volume.read(start, &mut content)?;
            }
            _ => {
                let mut next = Some(self.table.nth(&self.volume, directory.first, 0)?);
                while let Some(cluster) = next.filter(|_| (content.len() as u64) < MAX_DIRECTORY) {
                    let from = content.len();
                    content.resize(from + self.cluster as usize, 0);
                    let at = self.data + u64::from(cluster - table::FIRST) * self.cluster;
                    self.volume.read(at, content.get_mut(from..).unwrap_or_default())?;
                    next = self.table.next(&self.volume, cluster)?;
                }
            }
        }
        Ok(content)
    }

    /// What a directory has from byte `from` on: the first entry, and where the one behind it starts.
    ///
    /// # Errors
    /// What the host says, or that the file system is damaged.
    pub fn list(&mut self, directory: &Node, from: u64) -> io::Result<Option<(Node, u64)>> {
        let content = self.content(directory)?;
        Ok(Entries { content: &content, at: from as usize, directory: directory.first }.next())
    }

    /// The file called `name`, in any case, in a directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], what the host says, or that the file system is damaged.
    pub fn find(&mut self, directory: &Node, name: &str) -> io::Result<Node> {
        if !directory.is_directory() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let content = self.content(directory)?;
        let mut entries = Entries { content: &content, at: 0, directory: directory.first };
        let found = entries.find(|(node, _)| same_name(&node.name, name));
        let mut node = found.map(|(node, _)| node).ok_or(io::ErrorKind::NotFound)?;
        if node.is_directory() && node.first == 0 {
            // The root is cluster 0 to its children.
            node = self.root();
        }
        Ok(node)
    }

    pub(super) fn find_label(&mut self) -> String {
        let root = self.root();
        let content = self.content(&root).unwrap_or_default();
        let entries = content.chunks_exact(ENTRY).take_while(|e| e.first() != Some(&0));
        let mut labels =
            entries.filter(|e| le::<1>(e, 11) as u8 & LONG_NAME == LABEL && e.first() != Some(&FREE));
        let name = labels.next().and_then(|e| e.get(..11)).unwrap_or_default();
        String::from_utf8_lossy(name).trim_end().to_owned()
    }

    fn write_directory(&mut self, directory: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.root {
            Root::Fixed(start, len) if directory == 0 => {
                let end = offset + data.len() as u64;
                if end > len {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.volume.write(start + offset, data)
            }
            _ => self.write_chain(directory, offset, data),
        }
    }

    /// Writes what is in memory of a file's entry: length, first cluster, attributes, time.
    pub(super) fn update(&mut self, node: &Node) -> io::Result<()> {
        let Some((directory, _, at)) = node.home else { return Ok(()) };
        let at = u64::from(at);
        self.write_directory(directory, at + 11, &[node.attributes])?;
        let [high, low] = [(node.first >> 16) as u16, node.first as u16].map(u16::to_le_bytes);
        let [time, date] = [node.modified.1, node.modified.0].map(u16::to_le_bytes);
        self.write_directory(directory, at + 20, &high)?;
        let size = node.size.to_le_bytes();
        let tail: Vec<u8> = [time, date, low].concat().into_iter().chain(size).collect();
        self.write_directory(directory, at + 22, &tail)
    }

    /// Changes a file's attributes.
    ///
    /// # Errors
    /// What the host says.
    pub fn set_attributes(&mut self, node: &mut Node, attributes: u8) -> io::Result<()> {
        node.attributes = node.attributes & DIRECTORY | attributes & !(DIRECTORY | LABEL);
        self.update(node)
    }

    /// Makes a file or directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a name that cannot be, [`io::ErrorKind::StorageFull`], what the host says, or
    /// that the file system is damaged.
    pub fn create(
        &mut self,
        directory: &Node,
        name: &str,
        is_directory: bool,
        now: (u16, u16),
    ) -> io::Result<Node> {
        let attributes = if is_directory { DIRECTORY } else { ARCHIVE };
        let mut node =
            Node { name: name.to_owned(), attributes, size: 0, modified: now, first: 0, home: None };
        if is_directory {
            node.first = self.table.allocate(&self.volume, 1)?;
            self.zero(node.first, 0, self.cluster)?;
            let parent = if directory.home.is_none() { 0 } else { directory.first };
            for (offset, name, first) in [(0, b".          ", node.first), (32, b"..         ", parent)] {
                let entry = short_entry(name, &Node { first, ..node.clone() });
                self.write_chain(node.first, offset, &entry)?;
            }
        }
        self.insert(directory, node)
    }

    /// Gives a file another name in its directory.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn rename(&mut self, directory: &Node, node: &Node, name: &str) -> io::Result<Node> {
        let renamed = self.insert(directory, Node { name: name.to_owned(), ..node.clone() })?;
        self.forget(node)?;
        Ok(renamed)
    }

    /// Removes a file, or a directory, which the caller has found empty.
    ///
    /// # Errors
    /// What the host says, or that the file system is damaged.
    pub fn remove(&mut self, node: &Node) -> io::Result<()> {
        self.forget(node)?;
        self.table.cut(&self.volume, node.first, 0)
    }

    fn forget(&mut self, node: &Node) -> io::Result<()> {
        let Some((directory, first, last)) = node.home else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        (first..=last).step_by(ENTRY).try_for_each(|at| self.write_directory(directory, at.into(), &[FREE]))
    }

    /// Puts entries for `node` into a directory.
    fn insert(&mut self, directory: &Node, mut node: Node) -> io::Result<Node> {
        let name: Vec<u16> = node.name.encode_utf16().collect();
        let odd = |c: char| c < ' ' || "\"*/:<>?\\|".contains(c);
        if name.is_empty()
            || name.len() > MAX_NAME
            || node.name.contains(odd)
            || node.name.ends_with(['.', ' '])
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let content = self.content(directory)?;
        let short = free_short_name(&content, &node.name).ok_or(io::ErrorKind::StorageFull)?;
        let mut entries = long_entries(&name, &short);
        entries.extend(short_entry(&short, &node));
        let count = entries.len() / ENTRY;
        let at = match free_run(&content, count) {
            Some(at) => at,
            None => {
                self.extend_directory(directory, content.len() as u64, entries.len() as u64)?;
                // With what was free at its end already.
                free_run(&self.content(directory)?, count)
                    .ok_or_else(|| damaged("a directory cannot grow"))?
            }
        };
        self.write_directory(directory.first, at as u64, &entries)?;
        let last = at + (count - 1) * ENTRY;
        node.home = Some((directory.first, at as u32, last as u32));
        Ok(node)
    }

    /// Makes a directory of `len` bytes longer.
    fn extend_directory(&mut self, directory: &Node, len: u64, more: u64) -> io::Result<()> {
        if directory.first == 0 || len + more > MAX_DIRECTORY {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = more.div_ceil(self.cluster) as u32;
        let new = self.table.allocate(&self.volume, count)?;
        self.zero(new, 0, u64::from(count) * self.cluster)?;
        let last = (len / self.cluster).checked_sub(1).ok_or_else(|| damaged("a directory is empty"))?;
        let last = self.table.nth(&self.volume, directory.first, last as u32)?;
        self.table.link(&self.volume, last, new)
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

/// Walks entries.
struct Entries<'a> {
    content: &'a [u8],
    at: usize,
    directory: u32,
}

impl Iterator for Entries<'_> {
    type Item = (Node, u64);

    fn next(&mut self) -> Option<(Node, u64)> {
        let mut long = LongName::default();
        loop {
            let at = self.at;
            let entry = self.content.get(at..)?.first_chunk::<ENTRY>()?;
            let (mark, attributes) = (le::<1>(entry, 0) as u8, le::<1>(entry, 11) as u8);
            if mark == 0 {
                return None;
            }
            self.at = at + ENTRY;
            if mark == FREE {
                long = LongName::default();
            } else if attributes & 0x3f == LONG_NAME {
                long.add(entry, at);
            } else if attributes & LABEL != 0 {
                long = LongName::default();
            } else {
                let (name, first_at) = long.finish(entry).unwrap_or_else(|| (short_name(entry), at));
                let first = (le::<2>(entry, 20) << 16 | le::<2>(entry, 26)) as u32;
                let node = Node {
                    name,
                    attributes,
                    size: if attributes & DIRECTORY != 0 { 0 } else { le::<4>(entry, 28) as u32 },
                    modified: (le::<2>(entry, 24) as u16, le::<2>(entry, 22) as u16),
                    first,
                    home: Some((self.directory, first_at as u32, at as u32)),
                };
                return Some((node, self.at as u64));
            }
        }
    }
}

/// A long name on its way: its entries come last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    /// The number that the next entry must have.
    next: u8,
    sum: u8,
    at: usize,
}

impl LongName {
    fn add(&mut self, entry: &[u8; ENTRY], at: usize) {
        const LAST: u8 = 0x40;
        let (order, sum) = (le::<1>(entry, 0) as u8, le::<1>(entry, 13) as u8);
        let number = order & !LAST;
        if order & LAST != 0 {
            *self = Self { units: Vec::new(), next: number, sum, at };
        }
        if number == 0 || number > 20 || number != self.next || sum != self.sum {
            *self = Self::default();
            return;
        }
        let part = PLACES.iter().map(|place| le::<2>(entry, *place) as u16);
        self.units.splice(0..0, part);
        self.next = number - 1;
    }

    /// The whole name and where its first entry is, if it belongs to this short entry.
    fn finish(&self, entry: &[u8; ENTRY]) -> Option<(String, usize)> {
        let complete = !self.units.is_empty() && self.next == 0 && self.sum == checksum(entry.first_chunk()?);
        let units: Vec<u16> = self.units.iter().copied().take_while(|unit| *unit != 0).collect();
        complete.then(|| (String::from_utf16_lossy(&units), self.at))
    }
}

fn short_name(entry: &[u8; ENTRY]) -> String {
    let flags = le::<1>(entry, 12);
    let text = |bytes: &[u8], lower: bool| {
        let text: String = bytes.iter().map(|b| char::from(*b)).collect();
        let text = text.trim_end_matches(' ').to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let mut bytes = *entry;
    if bytes.first() == Some(&KANJI)
        && let Some(first) = bytes.first_mut()
    {
        *first = FREE;
    }
    let (base, rest) = bytes.split_at(8);
    let (base, extension) = (text(base, flags & 8 != 0), text(rest.split_at(3).0, flags & 0x10 != 0));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// A short name in the likeness of `name` that no entry of a directory has.
fn free_short_name(content: &[u8], name: &str) -> Option<[u8; 11]> {
    let plain = |text: &str| -> Vec<u8> {
        text.bytes()
            .filter(|b| b.is_ascii_alphanumeric() || b"-_".contains(b))
            .map(|b| b.to_ascii_uppercase())
            .collect()
    };
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let (base, extension) = (plain(base), plain(extension));
    (1..=99_999u32).find_map(|number| {
        let tail = format!("~{number}");
        let mut short = [b' '; 11];
        let head = base.iter().copied().take(8 - tail.len()).chain(tail.bytes());
        let (to, rest) = short.split_at_mut(8);
        to.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        rest.iter_mut().zip(&extension).for_each(|(to, from)| *to = *from);
        let taken = content.chunks_exact(ENTRY).any(|entry| entry.starts_with(&short));
        (!taken).then_some(short)
    })
}

fn long_entries(name: &[u16], short: &[u8; 11]) -> Vec<u8> {
    let parts: Vec<_> = name.chunks(PER_ENTRY).collect();
    let mut entries = Vec::new();
    for (index, part) in parts.iter().enumerate().rev() {
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        let mut entry = [0; ENTRY];
        let units = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (place, unit) in PLACES.into_iter().zip(units) {
            let slot = entry.get_mut(place..).and_then(|e| e.first_chunk_mut::<2>());
            if let Some(slot) = slot {
                *slot = unit.to_le_bytes();
            }
        }
        for (at, byte) in [(0, index as u8 + 1 | last), (11, LONG_NAME), (13, checksum(short))] {
            if let Some(slot) = entry.get_mut(at) {
                *slot = byte;
            }
        }
        entries.extend(entry);
    }
    entries
}

fn short_entry(short: &[u8; 11], node: &Node) -> [u8; ENTRY] {
    let [date, time] = [node.modified.0, node.modified.1].map(u16::to_le_bytes);
    let [high, low] = [(node.first >> 16) as u16, node.first as u16].map(u16::to_le_bytes);
    let parts: [&[u8]; 11] = [
        short,
        &[node.attributes, 0, 0],
        &time,
        &date,
        &date,
        &high,
        &time,
        &date,
        &low,
        &node.size.to_le_bytes(),
        &[],
    ];
    let mut entry = [0; ENTRY];
    entry.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
    entry
}

/// Where `count` free entries follow one another.
fn free_run(content: &[u8], count: usize) -> Option<usize> {
    let mut run = 0;
    let mut ended = false;
    for (index, entry) in content.chunks_exact(ENTRY).enumerate() {
        let mark = entry.first().copied().unwrap_or(0);
        ended |= mark == 0;
        run = if ended || mark == FREE { run + 1 } else { 0 };
        if run == count {
            return Some((index + 1 - count) * ENTRY);
        }
    }
    None
}
