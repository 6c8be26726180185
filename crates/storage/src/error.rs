use std::{io, path::PathBuf};

/// Why a disk cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host says no.
    #[error("cannot open disk {path}\n  because: {error}\n  try: check the path and its permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
    /// The file is in use.
    #[error(
        "cannot open disk {0}\n  because: another virtual machine uses it\n  try: stop that one first, or open the disk read-only in both"
    )]
    InUse(PathBuf),
    /// The file was to be raw, but looks like another format, which we know.
    #[error(
        "cannot open disk {path}\n  because: it begins like a {name} image, but would be used as a raw disk\n  try: \
         {path}:format={format} if you trust it, or {path}:format=raw if it is raw indeed"
    )]
    LooksLike {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        name: &'static str,
        /// What it is called on the command line.
        format: &'static str,
    },
    /// The file is an image of a format that must be converted.
    #[error(
        "cannot open disk {path}\n  because: it is a {format} image of a kind that Tearless does not read\n  try: \
         `qemu-img convert -f {qemu} -O qcow2 {path} NEW.qcow2`"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// What `qemu-img` calls it.
        qemu: &'static str,
    },
    /// The image cannot be used: damaged, encrypted, incomplete.
    #[error("cannot open {format} image {path}\n  because: {why}\n  try: {advice}")]
    Image {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// What is wrong with it.
        why: String,
        /// What may help.
        advice: &'static str,
    },
    /// A directory, pipe or socket.
    #[error(
        "cannot open disk {0}\n  because: it is neither a file nor a block device\n  try: give the path of a disk image"
    )]
    Kind(PathBuf),
    /// Nothing in it.
    #[error(
        "cannot open disk {0}\n  because: it is empty\n  try: make it larger first, for example with `truncate -s 8G`"
    )]
    Empty(PathBuf),
    /// A server does not give the disk.
    #[error("cannot use disk {path}\n  because: {why}\n  try: {advice}")]
    Server {
        /// Its address.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What may help.
        advice: &'static str,
    },
    /// A new layer could not be written.
    #[error(
        "cannot make disk {path}\n  because: {error}\n  try: check the folder, its permissions and its free space"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
}
