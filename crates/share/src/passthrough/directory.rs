//! Listing folders.

use std::mem::MaybeUninit;

use rustix::fs::{self, RawDir, SeekFrom};

use super::{
    Passthrough, Result,
    handles::{Cursor, File, Pending},
    nodes::lock,
    owner::DIRECTORY,
};
use crate::{DirEntry, DirSink, Errno, Handle, Kind};

/// What is read from the host at once: some two hundred entries.
const BUFFER: usize = 8 << 10;

impl Passthrough {
    pub(super) fn list(&self, handle: Handle, offset: u64, plus: bool, sink: &mut dyn DirSink) -> Result<()> {
        let file = self.handles.get(handle)?;
        if file.node().kind() != DIRECTORY {
            return Err(Errno::NOTDIR);
        }
        let mut cursor = lock(&file.cursor);
        if cursor.at != offset {
            fs::seek(file.fd(), SeekFrom::Start(offset))?;
            *cursor = Cursor { at: offset, ..Cursor::default() };
        }
        let mut any = false;
        loop {
            if cursor.pending.is_empty()
                && !refill(&file, &mut cursor).or_else(|e| if any { Ok(false) } else { Err(e) })?
            {
                return Ok(());
            }
            let Some(next) = cursor.pending.front() else { return Ok(()) };
            if !sink.fits(next.name.len()) {
                // Not even one: the guest's buffer is too small to get anywhere.
                return if any { Ok(()) } else { Err(Errno::INVAL) };
            }
            let Some(next) = cursor.pending.pop_front() else { return Ok(()) };
            cursor.at = next.next;
            any = true;
            let special = &*next.name == b"." || &*next.name == b"..";
            // A file that vanished meanwhile, or that there is no room to remember, is listed by name only.
            let found =
                (plus && !special).then(|| self.find_in(file.node(), file.fd(), &next.name).ok()).flatten();
            // The guest's own devices are known by their attributes only.
            let kind = found.map_or(next.kind, |found| Kind((found.attr.mode >> 12) as u8));
            let entry = DirEntry { inode: next.inode, next: next.next, kind, name: &next.name };
            sink.add(&entry, found.as_ref());
        }
    }
}

/// Reads some more entries; `false` at the end.
fn refill(file: &File, cursor: &mut Cursor) -> Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(file.fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        cursor.pending.push_back(Pending {
            inode: entry.ino(),
            next: entry.next_entry_cookie(),
            kind: Kind((entry.file_type().as_raw_mode() >> 12) as u8),
            name: entry.file_name().to_bytes().into(),
        });
        if entries.is_buffer_empty() {
            break;
        }
    }
    Ok(!cursor.pending.is_empty())
}
