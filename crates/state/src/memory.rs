//! The guest's RAM as a sparse file. Several threads copy, each a stretch of its own: one alone waits for the host's file
//! system more than for its own hands.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use tearless_memory::{Gpa, GuestMemory};

use crate::{StateError, error::failed, files::Progress};

/// What a thread takes at a time, in bytes.
const STRETCH: u64 = 2 << 20;
/// What is written or left out as a whole: a block of common file systems.
const PAGE: usize = 4096;
/// More threads than this only wait for each other.
const MAX_THREADS: usize = 4;

/// Writes the RAM at `base` and `len` long to the empty file `file`, which is called `path`. Returns how much of it is not
/// zero, in whole pages.
pub(crate) fn write(
    memory: &GuestMemory,
    (base, len): (Gpa, u64),
    (file, path): (&File, &Path),
    progress: Progress<'_>,
) -> Result<u64, StateError> {
    file.set_len(len).map_err(failed("write", path))?;
    let written = AtomicU64::new(0);
    in_stretches(len, progress, |offset, buffer| {
        memory.read(base + offset, buffer).map_err(|e| StateError::Busy(e.to_string()))?;
        let mut runs = Runs { buffer, at: 0 };
        while let Some((start, run)) = runs.next_run() {
            file.write_all_at(run, offset + start as u64).map_err(failed("write", path))?;
            written.fetch_add(run.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(written.into_inner())
}

/// The pages of a stretch that are not zero, run by run.
struct Runs<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Runs<'a> {
    fn next_run(&mut self) -> Option<(usize, &'a [u8])> {
        let rest = self.buffer.get(self.at..)?;
        let is_zero = |page: &[u8]| page.iter().fold(0, |all, byte| all | byte) == 0;
        let zeros: usize = rest.chunks(PAGE).take_while(|page| is_zero(page)).map(<[u8]>::len).sum();
        let start = self.at + zeros;
        let data = self.buffer.get(start..)?;
        let len: usize = data.chunks(PAGE).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum();
        self.at = start + len;
        data.get(..len).filter(|run| !run.is_empty()).map(|run| (start, run))
    }
}

/// Fills the zeroed RAM at `base` and `len` long from `file`, which is called `path`.
pub(crate) fn read(
    memory: &GuestMemory,
    (base, len): (Gpa, u64),
    (file, path): (&File, &Path),
    progress: Progress<'_>,
) -> Result<(), StateError> {
    let found = file.metadata().map_err(failed("read", path))?.len();
    if found != len {
        let why = format!("it has {found} bytes, the guest's memory {len}");
        return Err(StateError::File { path: path.to_owned(), why });
    }
    // One file, one position: the threads look for data one at a time, which costs nothing beside reading it.
    let looking = Mutex::new(());
    in_stretches(len, progress, |offset, buffer| {
        let end = offset + buffer.len() as u64;
        let mut at = offset;
        while at < end {
            let Some((from, to)) = data_after(file, &looking, at, end).map_err(failed("read", path))? else {
                break;
            };
            let len = usize::try_from(to - from).unwrap_or(usize::MAX).min(buffer.len());
            let (part, _) = buffer.split_at_mut(len);
            file.read_exact_at(part, from).map_err(failed("read", path))?;
            memory.write(base + from, part).map_err(|e| StateError::Differs(e.to_string()))?;
            at = to;
        }
        Ok(())
    })
}

/// The first piece of data in `at..end` of `file`; all of that where the host's file system knows no holes.
fn data_after(file: &File, looking: &Mutex<()>, at: u64, end: u64) -> std::io::Result<Option<(u64, u64)>> {
    let _one_at_a_time = looking.lock().unwrap_or_else(PoisonError::into_inner);
    let from = match seek(file, SeekFrom::Data(at)) {
        Ok(from) => from,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Some((at, end))),
        Err(error) => return Err(error.into()),
    };
    if from >= end {
        return Ok(None);
    }
    let to = seek(file, SeekFrom::Hole(from))?;
    Ok(Some((from, to.min(end))))
}

/// Has threads do `work` on each stretch of `len` bytes, with a buffer of its length; the first error ends it.
fn in_stretches(
    len: u64,
    progress: Progress<'_>,
    work: impl Fn(u64, &mut [u8]) -> Result<(), StateError> + Sync,
) -> Result<(), StateError> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let failure = Mutex::new(None);
    let run = || {
        let mut buffer = vec![0; STRETCH.min(len) as usize];
        loop {
            let offset = next.fetch_add(STRETCH, Ordering::Relaxed);
            if offset >= len {
                return;
            }
            let here = STRETCH.min(len - offset);
            let (buffer, _) = buffer.split_at_mut(here as usize);
            if let Err(error) = work(offset, buffer) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                next.store(len, Ordering::Relaxed);
                return;
            }
            progress(done.fetch_add(here, Ordering::Relaxed) + here, len);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    thread::scope(|scope| {
        // What cannot be started is done by this one.
        let _helpers: Vec<_> = (1..threads)
            .filter_map(|n| thread::Builder::new().name(format!("memory{n}")).spawn_scoped(scope, run).ok())
            .collect();
        run();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const BASE: Gpa = Gpa(0x4000_0000);
    const LEN: u64 = 5 * STRETCH / 2;

    fn ram() -> GuestMemory {
        GuestMemory::new(&[BASE..BASE + LEN]).unwrap()
    }

    #[test]
    fn what_is_not_zero_is_kept_and_the_rest_takes_no_room() {
        let (memory, file) = (ram(), tempfile::tempfile().unwrap());
        let path = Path::new("Memory");
        let marks = [0, 5 * 4096 + 7, STRETCH - 1, STRETCH, LEN - 1];
        for at in marks {
            memory.write(BASE + at, &[at as u8 | 1]).unwrap();
        }
        let seen = AtomicU64::new(0);
        let progress = |done, all| {
            assert_eq!(all, LEN);
            seen.fetch_max(done, Ordering::Relaxed);
        };
        assert_eq!(write(&memory, (BASE, LEN), (&file, path), &progress).unwrap(), 5 * 4096);
        assert_eq!(seen.into_inner(), LEN);
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), LEN);
        assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks", metadata.blocks());

        let copy = ram();
        read(&copy, (BASE, LEN), (&file, path), &|_, _| ()).unwrap();
        let (mut a, mut b) = (vec![0; LEN as usize], vec![0; LEN as usize]);
        memory.read(BASE, &mut a).unwrap();
        copy.read(BASE, &mut b).unwrap();
        assert!(a == b && marks.iter().all(|&at| b[at as usize] == at as u8 | 1));
    }

    #[test]
    fn a_file_of_another_length_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN - 4096).unwrap();
        let error = read(&ram(), (BASE, LEN), (&file, Path::new("M")), &|_, _| ()).unwrap_err();
        assert!(matches!(error, StateError::File { .. }), "{error}");
    }
}
