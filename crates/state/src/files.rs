//! The folder that holds a state. It is written under another name and renamed when it is whole and durable, so that a
//! folder of that name is always a whole state.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tearless_memory::{Gpa, GuestMemory};

use crate::{Parts, StateError, error::failed, memory};

const STATE_FILE: &str = "State.json";
const MEMORY_FILE: &str = "Memory";
/// The version of the folder's format: of what is in [`Saved`] besides the parts.
const FORMAT: u32 = 1;
/// The longest description: a guest with a quarter of a million files of a shared folder looked up has 40 MiB.
const MAX_STATE: u64 = 256 << 20;

/// Called with how much of the memory is done, and how much there is, in bytes; from several threads.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// The outline of a machine. Only one of the same outline can go on from its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What runs the vCPUs.
    pub engine: String,
    /// How many of them there are.
    pub vcpus: u32,
    /// How much RAM, in bytes.
    pub memory: u64,
    /// What stands in which slot.
    pub devices: Vec<(u8, String)>,
}

impl Machine {
    /// Checks that a machine of this outline, which was saved, can go on as `now`.
    ///
    /// # Errors
    /// [`StateError::Differs`], with the first difference.
    pub fn check(&self, now: &Self) -> Result<(), StateError> {
        let differs = |what: &str, saved: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
            Err(StateError::Differs(format!("it was saved with {saved} {what}, and is to have {now} now")))
        };
        if self.vcpus != now.vcpus {
            return differs("vCPUs", &self.vcpus, &now.vcpus);
        }
        if self.memory != now.memory {
            return differs("bytes of memory", &self.memory, &now.memory);
        }
        if self.engine != now.engine {
            return Err(StateError::Differs(format!(
                "engine {} saved it, and engine {} is to run it now",
                self.engine, now.engine
            )));
        }
        let lacks = |a: &Self, b: &Self| a.devices.iter().find(|device| !b.devices.contains(device)).cloned();
        if let Some((slot, device)) = lacks(self, now) {
            return Err(StateError::Differs(format!(
                "it was saved with {device} in slot {slot}, which is missing now"
            )));
        }
        if let Some((slot, device)) = lacks(now, self) {
            return Err(StateError::Differs(format!(
                "it was saved without {device} in slot {slot}, which is there now"
            )));
        }
        Ok(())
    }
}

/// Says in `folder` that the state there is that of another engine, which has it in a file of its own.
///
/// # Errors
/// What the host says.
pub fn mark_foreign(folder: &Path, engine: &str) -> io::Result<()> {
    fs::write(folder.join(STATE_FILE), format!("{{\"format\":0,\"engine\":{engine:?}}}\n"))
}

/// All but the memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    format: u32,
    /// When it was saved, in seconds since 1970.
    pub taken: u64,
    /// The machine that it is the state of.
    pub machine: Machine,
    /// The state.
    pub parts: Parts,
}

impl Saved {
    /// The state `parts` of `machine`, saved now.
    pub fn new(machine: Machine, parts: Parts) -> Self {
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { format: FORMAT, taken, machine, parts }
    }

    /// Reads what [`Saved`] is written as.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("it has version {format} of the format; this Tearless knows {FORMAT}"));
        }
        serde_json::from_slice(text).map_err(|e| e.to_string())
    }
}

/// A folder with a state.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The state in `path`, if there is one.
    pub fn find(path: &Path) -> Option<Self> {
        path.join(STATE_FILE).symlink_metadata().is_ok().then(|| Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads all but the memory.
    ///
    /// # Errors
    /// [`StateError::File`] when it is damaged or of another release, [`StateError::Io`].
    pub fn load(&self) -> Result<Saved, StateError> {
        let path = self.0.join(STATE_FILE);
        let wrong = |why| StateError::File { path: path.clone(), why };
        let mut text = Vec::new();
        let file = File::open(&path).map_err(failed("read", &path))?;
        file.take(MAX_STATE + 1).read_to_end(&mut text).map_err(failed("read", &path))?;
        if text.len() as u64 > MAX_STATE {
            return Err(wrong("it is larger than 256 MiB".to_owned()));
        }
        Saved::from_json(&text).map_err(wrong)
    }

    /// Fills the zeroed RAM at `base` and `len` bytes long.
    ///
    /// # Errors
    /// [`StateError::File`] when the file has another length, [`StateError::Io`].
    pub fn read_memory(
        &self,
        memory: &GuestMemory,
        range: (Gpa, u64),
        progress: Progress<'_>,
    ) -> Result<(), StateError> {
        let path = self.0.join(MEMORY_FILE);
        let file = File::open(&path).map_err(failed("read", &path))?;
        memory::read(memory, range, (&file, &path), progress)
    }

    /// Makes another folder `to` with the same files, which nobody writes any more; there may be one, which is replaced.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn link_to(&self, to: &Path) -> Result<(), StateError> {
        let new = beside(to, "new");
        remove(&new)?;
        create(&new)?;
        for name in [STATE_FILE, MEMORY_FILE] {
            let target = new.join(name);
            fs::hard_link(self.0.join(name), &target).map_err(failed("write", &target))?;
        }
        sync(&new)?;
        replace(&new, to)
    }

    /// Removes it: at once, as far as others can tell.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn remove(self) -> Result<(), StateError> {
        let doomed = beside(&self.0, "old");
        remove(&doomed)?;
        fs::rename(&self.0, &doomed).map_err(failed("remove", &self.0))?;
        sync_parent(&self.0)?;
        // It is gone; what is left of it is swept by the next one if this fails.
        remove(&doomed)
    }
}

/// A state that is being written. Dropped before it is finished it leaves nothing.
pub struct Writing {
    path: PathBuf,
    done: bool,
}

impl Writing {
    /// Begins in the folder `path`, where what an earlier one left is removed.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn begin(path: &Path) -> Result<Self, StateError> {
        remove(path)?;
        create(path)?;
        Ok(Self { path: path.to_owned(), done: false })
    }

    /// Writes the RAM at `base` and `len` bytes long, not yet durably. Returns how many bytes of it are not in zeroed pages.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn memory(
        &self,
        memory: &GuestMemory,
        range: (Gpa, u64),
        progress: Progress<'_>,
    ) -> Result<u64, StateError> {
        let path = self.path.join(MEMORY_FILE);
        let file = private(&path).map_err(failed("create", &path))?;
        memory::write(memory, range, (&file, &path), progress)
    }

    /// Writes all else and makes it durable; then it is `to`, in the same folder, which is replaced.
    ///
    /// # Errors
    /// [`StateError::Io`]; then there is no new `to`.
    pub fn finish(mut self, saved: &Saved, to: &Path) -> Result<(), StateError> {
        let path = self.path.join(STATE_FILE);
        let write = || -> io::Result<()> {
            let mut file = private(&path)?;
            let mut out = io::BufWriter::new(&mut file);
            serde_json::to_writer(&mut out, saved)?;
            out.flush()?;
            drop(out);
            file.sync_all()
        };
        write().map_err(failed("write", &path))?;
        let memory = self.path.join(MEMORY_FILE);
        File::open(&memory).and_then(|file| file.sync_all()).map_err(failed("write", &memory))?;
        sync(&self.path)?;
        replace(&self.path, to)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.done {
            // What stays is removed by the next one.
            let _ = remove(&self.path);
        }
    }
}

/// A file that only its owner reads: it has the guest's memory with all its secrets.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn create(path: &Path) -> Result<(), StateError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Puts the folder `new` in the place of `to`.
fn replace(new: &Path, to: &Path) -> Result<(), StateError> {
    if let Some(old) = Folder::find(to) {
        old.remove()?;
    }
    fs::rename(new, to).map_err(failed("write", to))?;
    sync_parent(to)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn sync(folder: &Path) -> Result<(), StateError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("write", folder))
}

fn sync_parent(path: &Path) -> Result<(), StateError> {
    sync(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoded;

    fn saved() -> Saved {
        let machine =
            Machine { engine: "soft".into(), vcpus: 1, memory: 0x2000, devices: vec![(1, "x".into())] };
        let mut parts = Parts::default();
        parts.put("clock", Encoded::new(1, &5).unwrap());
        Saved::new(machine, parts)
    }

    const RAM: (Gpa, u64) = (Gpa(0x1000), 0x2000);

    fn write(folder: &Path, memory: &GuestMemory) {
        let writing = Writing::begin(&folder.join("saving")).unwrap();
        assert_eq!(writing.memory(memory, RAM, &|_, _| ()).unwrap(), 0x1000);
        writing.finish(&saved(), &folder.join("suspended")).unwrap();
    }

    #[test]
    fn a_state_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("suspended");
        let memory = GuestMemory::new(&[RAM.0..RAM.0 + RAM.1]).unwrap();
        memory.write(Gpa(0x1fff), &[9]).unwrap();
        drop(Writing::begin(&folder.path().join("saving")).unwrap());
        assert!(Folder::find(&place).is_none() && !folder.path().join("saving").exists());

        write(folder.path(), &memory);
        // Once more: it takes the place of the first.
        write(folder.path(), &memory);
        let found = Folder::find(&place).unwrap();
        assert_eq!(found.load().unwrap().parts, saved().parts);
        found.link_to(&folder.path().join("copy")).unwrap();
        found.remove().unwrap();
        assert!(Folder::find(&place).is_none());
        let copy = Folder::find(&folder.path().join("copy")).unwrap();
        let fresh = GuestMemory::new(&[RAM.0..RAM.0 + RAM.1]).unwrap();
        copy.read_memory(&fresh, RAM, &|_, _| ()).unwrap();
        let mut byte = [0];
        fresh.read(Gpa(0x1fff), &mut byte).unwrap();
        assert_eq!(byte, [9]);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["copy"]);
    }

    #[test]
    fn damage_and_other_versions_are_told() {
        let text = serde_json::to_string(&saved()).unwrap();
        let wrong = |text: &str| Saved::from_json(text.as_bytes()).unwrap_err();
        assert!(Saved::from_json(text.as_bytes()).is_ok());
        for cut in (0..text.len()).step_by(7) {
            wrong(&text[..cut]);
        }
        let later = text.replace(r#""format":1"#, r#""format":2"#).replace("taken", "when");
        assert!(wrong(&later).contains("version 2 of the format; this Tearless knows 1"));
        wrong(&text.replace("taken", "when"));
    }

    #[test]
    fn another_machine_is_refused_with_the_difference() {
        let saved = saved().machine;
        saved.check(&saved.clone()).unwrap();
        let why = |change: &dyn Fn(&mut Machine)| {
            let mut now = saved.clone();
            change(&mut now);
            saved.check(&now).unwrap_err().to_string()
        };
        assert!(why(&|m| m.vcpus = 2).contains("1 vCPUs, and is to have 2"));
        assert!(why(&|m| m.memory = 1).contains("bytes of memory"));
        assert!(why(&|m| m.engine = "kvm".into()).contains("engine soft"));
        assert!(why(&|m| m.devices.clear()).contains("with x in slot 1, which is missing now"));
        assert!(why(&|m| m.devices.push((2, "y".into()))).contains("without y in slot 2"));
    }
}
