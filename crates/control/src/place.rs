//! Where sockets are.
//!
//! A socket's path has 108 bytes at most (104 on macOS), so it cannot lie in the VM's folder. It lies in a private
//! folder for things that last as long as the user's session, under a name made of the device and inode numbers of the
//! VM's folder: moving or renaming the VM does not lose it. Each socket has a folder of its own, because a VM's process may
//! change that folder only.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::Error;

/// Room for a socket's path with its terminator, on the host with the least (macOS).
const MAX_PATH: usize = 104;
/// What is in a folder: a VM's own socket, or that of the process that attends to its page.
const VM: &str = "vm";
const PAGE: &str = "page";
/// What a socket is called in its folder.
const SOCKET: &str = "control";
/// Longest name of a folder and the socket in it: `page-`, two numbers of 16 digits, and what is between and after them; or
/// `net-`, a name of 24 bytes, and one of 16.
const MAX_NAME: usize = 48;

/// Where the VM in `bundle` makes its socket. The folder is made if need be.
///
/// # Errors
/// [`Error::Socket`] when no folder for it is private.
pub fn for_new(bundle: &Path) -> Result<PathBuf, Error> {
    Ok(private(&name(VM, bundle)?)?.join(SOCKET))
}

/// Where the attendant to the page of the VM in `bundle` makes its socket ([`crate::page`]). The folder is made if need be.
///
/// # Errors
/// As [`for_new`].
pub fn for_page(bundle: &Path) -> Result<PathBuf, Error> {
    Ok(private(&name(PAGE, bundle)?)?.join(SOCKET))
}

/// The sockets that attendants to the page of the VM in `bundle` may have, as [`existing`] says it.
pub fn pages(bundle: &Path) -> Vec<PathBuf> {
    sockets(PAGE, bundle)
}

/// A private folder called `name`.
fn private(name: &str) -> Result<PathBuf, Error> {
    let mut last = None;
    for folder in candidates() {
        let own = folder.join(name);
        match make_private(&folder).and_then(|()| make_private(&own)) {
            Ok(()) => return Ok(own),
            Err(e) => last = Some((folder, e)),
        }
    }
    let (path, source) = last.unwrap_or_else(|| (PathBuf::from("/tmp"), io::ErrorKind::NotFound.into()));
    Err(Error::Socket {
        doing: "make a private folder for control sockets at",
        path: path.display().to_string(),
        source,
    })
}

/// Where the members of the named network `name` meet: a private folder, made if need be. The name has 24 bytes at most.
///
/// # Errors
/// [`Error::Socket`] when no folder for it is private.
pub fn network(name: &str) -> Result<PathBuf, Error> {
    private(&format!("net-{name}"))
}

/// The sockets that the VM in `bundle` may have: several, for it may have been started with another environment.
pub fn existing(bundle: &Path) -> Vec<PathBuf> {
    sockets(VM, bundle)
}

fn sockets(kind: &str, bundle: &Path) -> Vec<PathBuf> {
    let Ok(name) = name(kind, bundle) else { return Vec::new() };
    let private = candidates().into_iter().filter(|folder| check_private(folder).is_ok());
    private
        .map(|folder| folder.join(&name).join(SOCKET))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

/// Whether there is anything for [`remove_stale`] to remove.
pub fn is_stale(bundle: &Path) -> bool {
    own_folders(bundle).next().is_some()
}

/// Removes the sockets and folders that the VM in `bundle` left. The caller holds the VM's lock, so nobody uses them.
pub fn remove_stale(bundle: &Path) {
    for folder in own_folders(bundle) {
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(path = %folder.display(), %error, "cannot remove what a VM left");
        }
    }
}

/// The folders that were made for the sockets of the VM in `bundle`.
fn own_folders(bundle: &Path) -> impl Iterator<Item = PathBuf> {
    let private = candidates().into_iter().filter(|folder| check_private(folder).is_ok());
    let name = name(VM, bundle).ok();
    private
        .filter_map(move |folder| Some(folder.join(name.as_ref()?)))
        .filter(|own| check_private(own).is_ok())
}

fn name(kind: &str, bundle: &Path) -> Result<String, Error> {
    let failed = |source| Error::Socket { doing: "look at", path: bundle.display().to_string(), source };
    let folder = fs::metadata(bundle).map_err(failed)?;
    Ok(format!("{kind}-{:x}-{:x}", folder.dev(), folder.ino()))
}

/// The folders, the preferred one first.
fn candidates() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let mut folders = Vec::new();
    if cfg!(target_os = "macos") {
        folders.extend(set("TMPDIR").map(|base| base.join("tearless")));
    } else {
        folders.extend(set("XDG_RUNTIME_DIR").map(|base| base.join("tearless")));
        let usual = PathBuf::from(format!("/run/user/{user}"));
        folders.extend(usual.is_dir().then(|| usual.join("tearless")));
    }
    folders.push(PathBuf::from(format!("/tmp/tearless-{user}")));
    folders.retain(|folder| folder.as_os_str().len() + 1 + MAX_NAME < MAX_PATH);
    folders.dedup();
    folders
}

fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_private(folder),
        Err(e) => Err(e),
    }
}

/// Whether `folder` is ours and nobody else can change it: in `/tmp` another user may have been first.
fn check_private(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if ours && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write to it, or it is somebody else's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn folders_that_others_can_enter_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let mine = base.path().join("mine");
        make_private(&mine).unwrap();
        make_private(&mine).unwrap();
        assert_eq!(fs::metadata(&mine).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&mine, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_private(&mine).is_err());
        fs::set_permissions(&mine, fs::Permissions::from_mode(0o700)).unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        assert!(make_private(&link).is_err());
    }

    #[test]
    fn a_moved_vm_keeps_its_socket() {
        let base = tempfile::tempdir().unwrap();
        let (old, new) = (base.path().join("a.vm"), base.path().join("b.vm"));
        fs::create_dir(&old).unwrap();
        let before = for_new(&old).unwrap();
        fs::rename(&old, &new).unwrap();
        assert_eq!(for_new(&new).unwrap(), before);
        let page = for_page(&new).unwrap();
        assert_ne!(page, before);
        fs::remove_dir(page.parent().unwrap()).unwrap();
        assert!(before.as_os_str().len() < MAX_PATH);
        assert!(for_new(&old).is_err());
        remove_stale(&new);
        assert!(!is_stale(&new));
    }
}
