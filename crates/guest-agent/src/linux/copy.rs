//! Files to and from the host.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use tearless_guest_proto::{
    FailureKind, Put, Reply,
    frame::{self, DataReader},
    tree::{self, Stage, Unpack},
};

use super::{
    failure::{Explain, Outcome, failure},
    server::{Gone, Host},
};

/// Of a file that is written for the first time.
const NEW_MODE: u32 = 0o644;

fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Takes a file or folder.
pub fn put(host: &Host, put: &Put) -> Result<Reply, Gone> {
    let target = target(put)?;
    host.send(&Reply::Ready)?;
    // New files belong to whoever owns the folder that they go to, as if its owner had made them.
    let owner =
        target.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let owner = owner.and_then(|parent| fs::metadata(parent).ok()).map(|m| (m.uid(), m.gid()));
    let mut data = DataReader::new(host.reader());
    let made = |path: &Path| {
        if let Some((uid, gid)) = owner {
            // Where owners do not exist, as on a FAT file system, there is nothing to do.
            drop(std::os::unix::fs::lchown(path, Some(uid), Some(gid)));
        }
    };
    let cannot = || format!("cannot write {}", target.display());
    let unpacked = Unpack { special_bits: true }.unpack(&mut data, &target, made).explain(cannot)?;
    let (_, message) = data.finish()?;
    given_up(message)?;
    unpacked.place().explain(cannot)?;
    Ok(Reply::Done)
}

/// The host sends a message instead of the end when it cannot go on.
fn given_up(message: Option<Vec<u8>>) -> Outcome<()> {
    message.map_or(Ok(()), |_| {
        Err(failure(FailureKind::Request, "cannot copy all", "the host could not read its files"))
    })
}

/// Where it goes: into a folder that exists, or to that very path.
fn target(put: &Put) -> Outcome<PathBuf> {
    let path = path_of(put.path.clone());
    let cannot = || format!("cannot write {}", path.display());
    let refuse = |kind, why: &str| Err(failure(kind, cannot(), why));
    if path.as_os_str().is_empty() {
        return refuse(FailureKind::Request, "no path was given");
    }
    if path.is_dir() {
        let name = path_of(put.name.clone());
        let plain = name.file_name().is_some_and(|plain| plain == name);
        let inside = if plain { path.join(&name) } else { path.clone() };
        return match inside.symlink_metadata() {
            Ok(old) if !put.folder && old.is_dir() => {
                refuse(FailureKind::Request, &format!("{} is a folder", inside.display()))
            }
            Ok(old) if put.folder && !old.is_dir() => {
                refuse(FailureKind::Request, &format!("{} is no folder", inside.display()))
            }
            _ => Ok(inside),
        };
    }
    if put.path.ends_with(b"/") && !put.folder {
        return refuse(FailureKind::NotFound, "there is no such folder");
    }
    if put.folder && path.exists() {
        return refuse(FailureKind::Request, "it is no folder");
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            refuse(FailureKind::NotFound, &format!("there is no folder {}", parent.display()))
        }
        // A link leads to what is to be replaced.
        _ => Ok(fs::canonicalize(&path).unwrap_or(path)),
    }
}

/// Gives a file or folder.
pub fn get(host: &Host, path: Vec<u8>) -> Result<(), Gone> {
    let path = path_of(path);
    let cannot = || format!("cannot read {}", path.display());
    fs::metadata(&path).explain(cannot)?;
    host.send(&Reply::Size { bytes: tree::size(&path) })?;
    let mut data = host.data();
    // After an error the host gets a message instead of the end of the data.
    let skipped = tree::pack(&path, &mut data).explain(cannot)?;
    data.finish()?;
    Ok(host.send(&Reply::Copied { skipped: skipped.count, why: skipped.why })?)
}

/// Gives a file's content, whatever kind of file it is.
pub fn read(host: &Host, path: Vec<u8>) -> Result<(), Gone> {
    let path = path_of(path);
    let cannot = || format!("cannot read {}", path.display());
    let mut file = File::open(&path).explain(cannot)?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(failure(FailureKind::Request, cannot(), "it is a folder").into());
    }
    host.send(&Reply::Ready)?;
    let mut buffer = vec![0; frame::MAX];
    loop {
        let len = file.read(&mut buffer).explain(cannot)?;
        host.write(frame::Kind::Data, buffer.get(..len).unwrap_or_default())?;
        if len == 0 {
            return Ok(host.send(&Reply::Copied { skipped: 0, why: None })?);
        }
    }
}

/// Writes a file's content.
pub fn write(host: &Host, path: Vec<u8>) -> Result<Reply, Gone> {
    let path = path_of(path);
    let cannot = || format!("cannot write {}", path.display());
    let mut place = Place::of(&path).explain(cannot)?;
    host.send(&Reply::Ready)?;
    let mut data = DataReader::new(host.reader());
    let mut buffer = vec![0; frame::MAX];
    loop {
        let len = data.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        place.file().write_all(buffer.get(..len).unwrap_or_default()).explain(cannot)?;
    }
    let (_, message) = data.finish()?;
    given_up(message)?;
    place.take().explain(cannot)?;
    Ok(Reply::Done)
}

/// Where content goes.
enum Place {
    /// To the file itself: a device, a pipe.
    There(File),
    /// Beside the file, and in its place when it is whole.
    Beside(Stage, PathBuf),
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        // A link leads to what is to be replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let old = match fs::metadata(&path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut stage = stage_beside(&path)?;
                stage.handle().set_permissions(Permissions::from_mode(NEW_MODE))?;
                return Ok(Self::Beside(stage, path));
            }
            Err(error) => return Err(error),
        };
        if old.is_file() {
            match stage_beside(&path) {
                Ok(mut stage) => {
                    // Of the open file: by its name, somebody who may write to the folder would get another one's. The owner first:
                    // another owner takes the set-user-ID bit away.
                    fchown(stage.handle(), Some(old.uid()), Some(old.gid()))?;
                    stage.handle().set_permissions(old.permissions())?;
                    return Ok(Self::Beside(stage, path));
                }
                Err(error) if is_full(&error) => return Err(error),
                // procfs and the like have no new files, and theirs are no common ones.
                Err(_) => {}
            }
        }
        Ok(Self::There(OpenOptions::new().write(true).truncate(true).open(&path)?))
    }

    fn file(&mut self) -> &mut File {
        match self {
            Self::There(file) => file,
            Self::Beside(stage, _) => stage.handle(),
        }
    }

    fn take(self) -> io::Result<()> {
        match self {
            Self::There(_) => Ok(()),
            Self::Beside(stage, path) => stage.place(&path),
        }
    }
}

fn stage_beside(path: &Path) -> io::Result<Stage> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Stage::file(parent.unwrap_or(Path::new(".")))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
