//! One member of a zip archive, in three reads at most, whatever the archive's size: its end, the directory if that is not
//! in there, the member. (APPNOTE.TXT 6.3.10.) All numbers are checked; what is read is bounded before it is read.

use std::io::Read;

use flate2::read::DeflateDecoder;

use super::malformed;
use crate::error::{Error, Result};

/// The end that is read at first. The directories of IPSWs have about 300 KiB.
const TAIL: u64 = 512 << 10;
/// The largest directory that is read.
const MAX_DIRECTORY: u64 = 64 << 20;
/// The largest member, packed or not. Manifests have a few megabytes.
const MAX_MEMBER: u64 = 64 << 20;
/// Room for a member's own header: 30 bytes, its name and its extra fields.
const HEADER: u64 = 30 + 2 * 0xffff;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const MEMBER: &[u8] = b"PK\x03\x04";

/// Bytes that can be read in parts.
pub trait Source {
    /// How many there are.
    ///
    /// # Errors
    /// That cannot be told.
    fn size(&mut self) -> Result<u64>;

    /// `len` bytes from `offset` on, all of which are there.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>>;
}

/// Why a member cannot be had.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source failed.
    Source(Error),
    /// It is no such archive.
    Format(&'static str),
}

impl Failure {
    /// The error for the archive `name`.
    pub(super) fn named(self, name: &str) -> Error {
        match self {
            Self::Source(error) => error,
            Self::Format(why) => malformed(name, why),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

/// The content of the member `name`.
pub(super) fn member(source: &mut impl Source, name: &str) -> Result<Vec<u8>, Failure> {
    let size = source.size()?;
    let tail_at = size.saturating_sub(TAIL);
    let tail = read(source, tail_at, size - tail_at)?;
    let (start, len) = directory_place(&tail, tail_at)?;
    let end = start.checked_add(len).filter(|end| *end <= size);
    if end.is_none() || len > MAX_DIRECTORY {
        return Err(Failure::Format(
            "its directory lies outside of it, as in a download that is not complete",
        ));
    }
    let directory = match usize::try_from(start.wrapping_sub(tail_at)) {
        Ok(skip) if start >= tail_at => tail[skip..].to_vec(),
        _ => read(source, start, len)?,
    };
    let entry = find(&directory, name)?;
    let room = size.saturating_sub(entry.offset).min(HEADER.saturating_add(entry.packed));
    if room == 0 || entry.packed > MAX_MEMBER {
        return Err(Failure::Format("its directory says that BuildManifest.plist lies where it cannot"));
    }
    let bytes = read(source, entry.offset, room)?;
    unpack(&bytes, &entry)
}

fn read(source: &mut impl Source, offset: u64, len: u64) -> Result<Vec<u8>, Failure> {
    let len = usize::try_from(len).map_err(|_| Failure::Format("it has parts that are too large"))?;
    Ok(source.read(offset, len)?)
}

/// Where the directory begins, and its length.
fn directory_place(tail: &[u8], tail_at: u64) -> Result<(u64, u64), Failure> {
    let at = tail.windows(END.len()).rposition(|bytes| bytes == END);
    let at = at.ok_or(Failure::Format("it is no zip archive, or not all of it"))?;
    let short = Failure::Format("its end is damaged");
    // It ends with the length of a comment.
    let (Some(len), Some(start), Some(_)) =
        (u32_at(tail, at + 12), u32_at(tail, at + 16), u16_at(tail, at + 20))
    else {
        return Err(short);
    };
    let locator = at.checked_sub(20).filter(|at| tail[*at..].starts_with(LOCATOR_64));
    let Some(locator) = locator else { return Ok((start.into(), len.into())) };
    let at_64 = u64_at(tail, locator + 8).and_then(|at| at.checked_sub(tail_at));
    let at_64 = at_64.and_then(|at| usize::try_from(at).ok()).filter(|at| {
        // The zip64 end stands right before; anything else is damage.
        tail.get(*at..).is_some_and(|bytes| bytes.starts_with(END_64))
    });
    match at_64.map(|at| (u64_at(tail, at + 48), u64_at(tail, at + 40))) {
        Some((Some(start), Some(len))) => Ok((start, len)),
        _ => Err(short),
    }
}

/// What the directory says about a member.
struct Entry {
    method: u16,
    packed: u64,
    size: u64,
    crc: u32,
    offset: u64,
}

fn find(directory: &[u8], name: &str) -> Result<Entry, Failure> {
    let damaged = || Failure::Format("its directory is damaged");
    let mut rest = directory;
    while rest.starts_with(ENTRY) {
        let len = |at| u16_at(rest, at).map(usize::from).ok_or_else(damaged);
        let (name_len, extra_len, comment_len) = (len(28)?, len(30)?, len(32)?);
        let (name_end, extra_end) = (46 + name_len, 46 + name_len + extra_len);
        if rest.get(46..name_end).ok_or_else(damaged)? == name.as_bytes() {
            let extra = rest.get(name_end..extra_end).ok_or_else(damaged)?;
            return entry(rest, extra).ok_or_else(damaged);
        }
        rest = rest.get(extra_end + comment_len..).ok_or_else(damaged)?;
    }
    Err(Failure::Format("it has no BuildManifest.plist"))
}

/// Reads an entry; fields that are all ones stand in the zip64 extra field (id 1), in this order.
fn entry(bytes: &[u8], extra: &[u8]) -> Option<Entry> {
    let mut wide = field(extra, 1).unwrap_or_default();
    let mut widen = |narrow: u32| match narrow {
        u32::MAX => {
            let value = u64_at(wide, 0)?;
            wide = wide.get(8..)?;
            Some(value)
        }
        narrow => Some(narrow.into()),
    };
    Some(Entry {
        method: u16_at(bytes, 10)?,
        crc: u32_at(bytes, 16)?,
        size: widen(u32_at(bytes, 24)?)?,
        packed: widen(u32_at(bytes, 20)?)?,
        offset: widen(u32_at(bytes, 42)?)?,
    })
}

/// The content of the extra field `id`.
fn field(mut extra: &[u8], id: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(extra, 2)?);
        let content = extra.get(4..4 + len)?;
        if u16_at(extra, 0)? == id {
            return Some(content);
        }
        extra = &extra[4 + len..];
    }
}

fn unpack(bytes: &[u8], entry: &Entry) -> Result<Vec<u8>, Failure> {
    let damaged = Failure::Format("its BuildManifest.plist is damaged");
    if entry.packed > MAX_MEMBER || entry.size > MAX_MEMBER {
        return Err(Failure::Format("its BuildManifest.plist is larger than any that Apple makes"));
    }
    if !bytes.starts_with(MEMBER) {
        return Err(damaged);
    }
    let len = |at| u16_at(bytes, at).map(usize::from);
    let (Some(name), Some(extra)) = (len(26), len(28)) else { return Err(damaged) };
    let start = 30 + name + extra;
    let packed = usize::try_from(entry.packed).ok().and_then(|len| bytes.get(start..start.checked_add(len)?));
    let Some(packed) = packed else { return Err(damaged) };
    let mut content = Vec::new();
    match entry.method {
        0 => content.extend(packed),
        8 => {
            // One byte more than it says is enough to see that it is wrong.
            if DeflateDecoder::new(packed).take(entry.size + 1).read_to_end(&mut content).is_err() {
                return Err(damaged);
            }
        }
        _ => return Err(Failure::Format("its BuildManifest.plist is packed in an unknown way")),
    }
    let mut crc = flate2::Crc::new();
    crc.update(&content);
    if content.len() as u64 != entry.size || crc.sum() != entry.crc {
        return Err(damaged);
    }
    Ok(content)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
