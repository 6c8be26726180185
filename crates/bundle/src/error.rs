use std::{io, path::PathBuf};

use tearless_config::ConfigError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something cannot be done with a VM's folder. Each message says what failed, why, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be used.
    #[error("`{name}` is not a usable VM name\n  because: {why}\n  try: letters, digits, `-`, `_` and dots")]
    Name {
        /// The name, control characters escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no such VM.
    #[error("there is no VM {what}\n  try: `tearless list` shows the VMs, `tearless create` makes one")]
    NotFound {
        /// The name and where it was looked for, or the path.
        what: String,
    },
    /// The name is taken.
    #[error("there is already a VM {name}\n  try: another name, or delete it first: tearless delete {name}")]
    Exists {
        /// The name.
        name: String,
    },
    /// Somebody holds the VM's lock.
    #[error("VM {name} is running{}\n  try: tearless stop {name}, or tearless console {name} to see it", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Running {
        /// The name.
        name: String,
        /// The process that runs it, if it has said so already.
        pid: Option<u32>,
    },
    /// Another process makes the same.
    #[error(
        "cannot make VM {name}\n  because: another process{} makes a VM of the same\n  try: wait for it, then clone that VM",
        pid.map(|p| format!(" (pid {p})")).unwrap_or_default()
    )]
    InTheMaking {
        /// The name.
        name: String,
        /// The process, if it has said so already.
        pid: Option<u32>,
    },
    /// Its state is that of the machine that it was.
    #[error(
        "cannot {doing} VM {name}\n  because: it is suspended, and goes on only as the machine that it was\n  try: let it go on and stop it: tearless resume {name}; or throw its state away: tearless start --discard-state {name}"
    )]
    Suspended {
        /// The name.
        name: String,
        /// What was wanted, "clone".
        doing: &'static str,
    },
    /// The saved state cannot be used.
    #[error("{0}\n  try: check the folder and its disk")]
    State(#[from] tearless_state::StateError),
    /// The configuration cannot be used.
    #[error("VM {name} cannot be used\n  because: {}: {source}\n  try: repair the file, or delete the VM", path.display())]
    Config {
        /// The name.
        name: String,
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// There is no such snapshot.
    #[error("VM {vm} has no snapshot {name}\n  try: `tearless snapshot list {vm}` shows them")]
    NoSnapshot {
        /// The VM.
        vm: String,
        /// The snapshot.
        name: String,
    },
    /// The snapshot's name is taken.
    #[error("there is already a snapshot {name}\n  try: another name, or delete it first")]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// The snapshot cannot be used.
    #[error("cannot use snapshot {name}\n  because: {}: {why}\n  try: the Tearless that took it, if that is a newer one; else repair the file, or move it away to lose the snapshot", path.display())]
    Snapshot {
        /// The name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A disk that changes lies elsewhere.
    #[error(
        "cannot keep the state of disk {}\n  because: it is not a file of the VM's own folder\n  try: make it read-only in the VM's configuration, or move it into the VM's folder",
        path.display()
    )]
    Foreign {
        /// The disk.
        path: PathBuf,
    },
    /// A file cannot be shared by two VMs.
    #[error(
        "cannot clone {}\n  because: {source}\n  try: keep both VMs in one file system: the clone would be {}",
        from.display(), to.display()
    )]
    Link {
        /// The file.
        from: PathBuf,
        /// Its second name.
        to: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The disk would lose its end.
    #[error(
        "cannot make disk {} smaller\n  because: it has {} MiB, and what lies at its end would be lost\n  try: a larger size",
        path.display(), has >> 20
    )]
    Shrink {
        /// The disk.
        path: PathBuf,
        /// Its size in bytes.
        has: u64,
    },
    /// There is no disk to change.
    #[error(
        "VM {name} has no disk {} of its own that can be written\n  try: `tearless info {name}` shows its disks", index + 1
    )]
    NoDisk {
        /// The VM.
        name: String,
        /// Which disk, counted from 0.
        index: usize,
    },
    /// A disk cannot be opened or made.
    #[error(transparent)]
    Disk(#[from] tearless_storage::DiskError),
    /// A file of a virtual Mac cannot be used.
    #[error("cannot use {}\n  because: {why}\n  try: {advice}", path.display())]
    Platform {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// The same virtual Mac runs already, as another VM.
    #[error(
        "cannot start {name}\n  because: it is the same virtual Mac as {other}, and a Mac exists once\n  try: stop that VM first; \
         they can take turns"
    )]
    SameMac {
        /// The VM.
        name: String,
        /// The one that runs.
        other: String,
    },
    /// Two macOS guests run already.
    #[error(
        "cannot start {name}\n  because: {holders} run macOS already, and Apple allows two guests at a time on a Mac\n  try: stop \
         one of them; Linux guests are not counted"
    )]
    MacLimit {
        /// The VM.
        name: String,
        /// Those that run.
        holders: String,
    },
    /// What is to be imported cannot be.
    #[error(
        "cannot import {}\n  because: {why}\n  try: the folder of a stopped VM of one of the programs in docs/import.md",
        path.display()
    )]
    Foreigner {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The format of another program has no such VMs.
    #[error("cannot export {name}\n  because: {why}\n  try: another format; tearless push keeps all of it")]
    Export {
        /// The VM.
        name: String,
        /// What speaks against it.
        why: String,
    },
    /// No folder for VMs can be told.
    #[error(
        "cannot tell where VMs are kept\n  because: neither HOME nor TEARLESS_HOME is set\n  try: set TEARLESS_HOME to a folder"
    )]
    NoHome,
    /// The host refused.
    #[error("cannot {doing} {}\n  because: {source}\n  try: {}", path.display(), advice(source))]
    Io {
        /// What was tried, "write".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some room, or set TEARLESS_HOME to a folder on a larger disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make it accessible to you, or set TEARLESS_HOME to a folder that is"
        }
        _ => "check the folder and its disk",
    }
}
