//! ISO 9660 (ECMA-119) with the names of Rock Ridge (IEEE P1282), as far as reading a file by its path needs it. What is on an
//! image is not to be trusted.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

const BLOCK: u64 = 2048;
/// Volume descriptors are from here on, until one says that it is the last.
const FIRST_DESCRIPTOR: u64 = 16;
const MAX_DESCRIPTORS: u64 = 32;
/// Where the primary descriptor has the volume's label (8.4.7).
const LABEL: Range<usize> = 40..72;
const PRIMARY: u8 = 1;
const TERMINATOR: u8 = 255;
/// The largest directory that is read; installers' have a few kilobytes.
const MAX_DIRECTORY: u64 = 4 << 20;
const FLAG_DIRECTORY: u8 = 2;
const FLAG_MORE: u8 = 0x80;

/// A file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    block: u32,
    size: u32,
    flags: u8,
}

/// An image.
pub struct Iso<F> {
    file: F,
    root: Node,
    label: String,
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<F: Read + Seek> Iso<F> {
    /// The image in `file`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when it is none, else what the host says.
    pub fn open(mut file: F) -> io::Result<Self> {
        for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MAX_DESCRIPTORS {
            let mut block = [0; BLOCK as usize];
            file.seek(SeekFrom::Start(number * BLOCK))?;
            if file.read_exact(&mut block).is_err() || block.get(1..6) != Some(b"CD001") {
                break;
            }
            match block.first() {
                Some(&PRIMARY) => {
                    let record = block.get(156..190).and_then(Record::parse);
                    let root = record.map(|(record, _)| record.node);
                    let root = root.ok_or_else(|| damaged("its directory is damaged"))?;
                    let label = String::from_utf8_lossy(block.get(LABEL).unwrap_or_default());
                    return Ok(Self { file, root, label: label.trim_end().to_owned() });
                }
                Some(&TERMINATOR) => break,
                _ => {}
            }
        }
        Err(damaged("it is no ISO 9660 image"))
    }

    /// The label of the volume. It may be any text.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The file at `path`, with slashes; `None` when there is none. Capital letters are like small ones.
    ///
    /// # Errors
    /// When a directory is damaged, and what the host says.
    pub fn find(&mut self, path: &str) -> io::Result<Option<Node>> {
        let mut node = self.root;
        for name in path.split('/') {
            if node.flags & FLAG_DIRECTORY == 0 {
                return Ok(None);
            }
            let bytes = self.read(node, MAX_DIRECTORY)?;
            match records(&bytes).find(|record| record.name.eq_ignore_ascii_case(name)) {
                Some(record) => node = record.node,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The content of a file of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, or not all there; and what the host says.
    pub fn read(&mut self, node: Node, max: u64) -> io::Result<Vec<u8>> {
        if node.flags & FLAG_MORE != 0 || u64::from(node.size) > max {
            return Err(damaged("a file on it is larger than such files are"));
        }
        self.file.seek(SeekFrom::Start(u64::from(node.block) * BLOCK))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(node.size.into()).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(node.size) {
            return Err(damaged("it ends in the middle of a file"));
        }
        Ok(bytes)
    }
}

struct Record {
    name: String,
    node: Node,
}

impl Record {
    /// The record that `bytes` begin with (9.1), and its length.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let len = usize::from(*bytes.first()?);
        let record = bytes.get(..len)?;
        let word =
            |at: usize| record.get(at..at + 4).and_then(<[u8]>::first_chunk).map(|b| u32::from_le_bytes(*b));
        let node = Node { block: word(2)?, size: word(10)?, flags: *record.get(25)? };
        let name_len = usize::from(*record.get(32)?);
        let plain = record.get(33..33 + name_len)?;
        // A name of even length is padded; what follows is for extensions.
        let rest = record.get(33 + name_len + (1 - name_len % 2)..).unwrap_or_default();
        let name = rock_ridge(rest).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(plain);
            let text = text.split_once(';').map_or(&*text, |(name, _version)| name);
            text.trim_end_matches('.').to_owned()
        });
        Some((Self { name, node }, len))
    }
}

/// The records of a directory. None crosses blocks; what is left of one is zero.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record> {
    bytes.chunks(BLOCK as usize).flat_map(|block| {
        let mut rest = block;
        std::iter::from_fn(move || {
            let (record, len) = Record::parse(rest)?;
            rest = rest.get(len..)?;
            Some(record)
        })
    })
}

/// The name in the entries `NM`, if there are any.
fn rock_ridge(mut rest: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    while let [a, b, len, _, ..] = *rest {
        let Some(entry) = rest.get(..usize::from(len)).filter(|entry| entry.len() >= 4) else { break };
        if (a, b) == (b'N', b'M') {
            name.extend(entry.get(5..).unwrap_or_default());
        }
        rest = rest.get(usize::from(len)..).unwrap_or_default();
    }
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}
