//! Reading `.deb` files (deb(5)): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`, streamed.
//!
//! Every path handed out is relative, has no `.` or `..` and no empty component, so a caller that joins it to a folder
//! stays in it as long as it does not follow symbolic links.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::compression;
use crate::error::{Error, Result};

/// What one package may unpack to.
const UNPACKED_LIMIT: u64 = 16 << 30;
const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// Which of the two archives of a package an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Maintainer scripts and the control file.
    Control,
    /// The files of the package.
    Data,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its content follows.
    File,
    /// A folder.
    Directory,
    /// A symbolic link with its target, verbatim.
    Symlink(String),
    /// Another name of an earlier file of the same package, as a checked path.
    HardLink(String),
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Checked relative path, `""` for the root folder.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, including set-user-ID and its kin.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last change, seconds since 1970.
    pub mtime: u64,
    /// Bytes of content, for files.
    pub size: u64,
}

/// Receives entries in archive order; the reader yields a file's content and may be left unread.
pub type Visitor<'a> = dyn FnMut(Part, &Entry, &mut dyn Read) -> Result<()> + 'a;

/// Reads a package file and shows each entry of both archives to `visit`.
///
/// # Errors
/// The file cannot be read or is malformed, or `visit` failed.
pub fn read(path: &Path, visit: &mut Visitor) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::local("open", path, &e))?;
    read_from(&path.display().to_string(), BufReader::new(file), visit)
}

/// The same for any source; `name` is for messages.
///
/// # Errors
/// As [`read`].
pub fn read_from(name: &str, mut source: impl Read, visit: &mut Visitor) -> Result<()> {
    let bad = |why: &dyn std::fmt::Display| Error::format(format!("the package {name} is malformed"), why);
    let mut magic = [0; AR_MAGIC.len()];
    source.read_exact(&mut magic).map_err(|e| bad(&e))?;
    if magic != AR_MAGIC {
        return Err(bad(&"it does not start as an ar archive"));
    }
    let mut seen_data = false;
    while let Some((member, size)) = next_member(&mut source).map_err(|e| bad(&e))? {
        let mut content = (&mut source).take(size);
        let part = match member.split_once(".tar").map_or(member.as_str(), |(stem, _)| stem) {
            "control" => Some(Part::Control),
            "data" => Some(Part::Data),
            _ => None,
        };
        if let Some(part) = part {
            let unpacked = compression::reader(&member, &mut content, UNPACKED_LIMIT)?;
            walk(unpacked, part, &bad, visit)?;
            seen_data |= part == Part::Data;
        }
        io::copy(&mut content, &mut io::sink()).map_err(|e| bad(&e))?;
        if content.limit() > 0 {
            return Err(bad(&"it is cut short"));
        }
        if size % 2 == 1 {
            // Members are padded to even offsets; the very last one may lack its pad.
            io::copy(&mut (&mut source).take(1), &mut io::sink()).map_err(|e| bad(&e))?;
        }
    }
    if seen_data { Ok(()) } else { Err(bad(&"it has no data archive")) }
}

/// Reads an ar member header; `None` at the end of the file.
fn next_member(source: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let mut header = Vec::with_capacity(AR_HEADER);
    source.take(AR_HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "an ar member header is wrong");
    let text = str::from_utf8(&header)
        .ok()
        .filter(|t| t.len() == AR_HEADER && t.ends_with("`\n"))
        .ok_or_else(invalid)?;
    let field = |range: std::ops::Range<usize>| text.get(range).map(str::trim).ok_or_else(invalid);
    let size = field(48..58)?.parse().map_err(|_| invalid())?;
    Ok(Some((field(0..16)?.trim_end_matches('/').to_owned(), size)))
}

fn walk(
    unpacked: impl Read,
    part: Part,
    bad: &dyn Fn(&dyn std::fmt::Display) -> Error,
    visit: &mut Visitor,
) -> Result<()> {
    let mut archive = tar::Archive::new(unpacked);
    for entry in archive.entries().map_err(|e| bad(&e))? {
        let mut entry = entry.map_err(|e| bad(&e))?;
        if let Some(info) = describe(&entry).map_err(|e| bad(&e))? {
            visit(part, &info, &mut entry)?;
        }
    }
    // Read to the end, so that the checksum of the compressed stream is seen.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| bad(&e))?;
    Ok(())
}

/// Turns a tar entry into ours; `None` for entries that carry no file (pax global headers).
fn describe<R: Read>(entry: &tar::Entry<R>) -> io::Result<Option<Entry>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let header = entry.header();
    let path = clean_path(&entry.path_bytes()).map_err(invalid)?;
    let link = || entry.link_name_bytes().ok_or_else(|| invalid(format!("the link {path:?} has no target")));
    let device = || -> io::Result<(u32, u32)> {
        Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
    };
    let kind = match header.entry_type() {
        // Not GNUSparse: dpkg does not take it either, and its holes could be any size whatever the limit on the stream.
        tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File,
        tar::EntryType::Directory => EntryKind::Directory,
        tar::EntryType::Symlink => EntryKind::Symlink(
            String::from_utf8(link()?.into_owned())
                .map_err(|_| invalid(format!("the target of {path:?} is no UTF-8")))?,
        ),
        tar::EntryType::Link => EntryKind::HardLink(clean_path(&link()?).map_err(invalid)?),
        tar::EntryType::Char => device().map(|(a, b)| EntryKind::CharDevice(a, b))?,
        tar::EntryType::Block => device().map(|(a, b)| EntryKind::BlockDevice(a, b))?,
        tar::EntryType::Fifo => EntryKind::Fifo,
        tar::EntryType::XGlobalHeader => return Ok(None),
        other => return Err(invalid(format!("{path:?} is of the unknown type {other:?}"))),
    };
    let id =
        |value: u64| u32::try_from(value).map_err(|_| invalid(format!("{path:?} has an impossible owner")));
    Ok(Some(Entry {
        mode: (header.mode()? & 0o7777) as u16,
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        mtime: header.mtime()?,
        size: entry.size(),
        path,
        kind,
    }))
}

/// Drops a leading `/` or `./`, and refuses what would leave the folder.
fn clean_path(raw: &[u8]) -> Result<String, String> {
    let text = str::from_utf8(raw)
        .map_err(|_| format!("the path {:?} is no UTF-8", String::from_utf8_lossy(raw)))?;
    let mut clean = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." || part.contains('\0') {
            return Err(format!("the path {text:?} leaves the package"));
        }
        if !clean.is_empty() {
            clean.push('/');
        }
        clean.push_str(part);
    }
    Ok(clean)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Builds a package from entries of its data archive and a control file.
    pub(crate) fn build(control: &str, fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        build_with(&[("./control", control)], fill)
    }

    /// Builds a package with several files in its control archive.
    pub(crate) fn build_with(
        control: &[(&str, &str)],
        fill: impl FnOnce(&mut tar::Builder<Vec<u8>>),
    ) -> Vec<u8> {
        let mut control_tar = tar::Builder::new(Vec::new());
        for (name, text) in control {
            append(&mut control_tar, name, text.as_bytes());
        }
        let mut data_tar = tar::Builder::new(Vec::new());
        fill(&mut data_tar);
        let mut deb = AR_MAGIC.to_vec();
        member(&mut deb, "debian-binary", b"2.0\n");
        member(&mut deb, "control.tar", &control_tar.into_inner().unwrap());
        member(&mut deb, "data.tar.gz", &gzip(&data_tar.into_inner().unwrap()));
        deb
    }

    pub(crate) fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Written raw: the builder refuses some of the paths that the tests need.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    fn member(deb: &mut Vec<u8>, name: &str, content: &[u8]) {
        deb.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes(),
        );
        deb.extend(content);
        if content.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn list(deb: &[u8]) -> Result<Vec<(Part, String, Vec<u8>)>> {
        let mut out = Vec::new();
        read_from("test", deb, &mut |part, entry, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            out.push((part, entry.path.clone(), bytes));
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn shows_both_archives() {
        let deb = build("Package: x\n", |tar| {
            append(tar, "./usr/bin/x", b"odd");
            append(tar, "/abs//./y", b"");
        });
        let found = list(&deb).unwrap();
        assert_eq!(found[0], (Part::Control, "control".into(), b"Package: x\n".to_vec()));
        assert_eq!(found[1], (Part::Data, "usr/bin/x".into(), b"odd".to_vec()));
        assert_eq!(found[2].1, "abs/y");
    }

    #[test]
    fn refuses_paths_that_escape() {
        for path in ["../x", "a/../../x", "/.."] {
            let deb = build("", |tar| append(tar, path, b"x"));
            assert!(list(&deb).unwrap_err().why().contains("leaves the package"), "{path}");
        }
    }

    #[test]
    fn refuses_files_with_holes() {
        let deb = build("", |tar| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::GNUSparse);
            header.set_path("holes").unwrap();
            header.set_size(0);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(1 << 60);
            gnu.sparse[0].set_offset(1 << 60);
            gnu.sparse[0].set_length(0);
            header.set_cksum();
            tar.append(&header, &b""[..]).unwrap();
        });
        assert!(list(&deb).unwrap_err().why().contains("unknown type"));
    }

    #[test]
    fn refuses_damage() {
        let deb = build("", |tar| append(tar, "x", &[1; 3000]));
        assert!(list(&deb[..deb.len() - 5]).is_err());
        assert!(list(b"!<arch>\nnonsense").is_err());
        assert!(list(b"PK").is_err());
        assert!(list(AR_MAGIC).unwrap_err().why().contains("no data archive"));
        let mut wrong_size = deb.clone();
        wrong_size[8 + 48] = b'x';
        assert!(list(&wrong_size).is_err());
    }
}
