//! File systems that stand still while a snapshot is taken.
//!
//! A frozen file system thaws when the host says so by ending the connection, and at the latest after a minute: a host
//! that hangs must not hang the guest.

use std::{
    fs::{self, File},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    ioctl::{NoArg, ioctl, opcode},
};
use tearless_guest_proto::Reply;

use super::{
    failure::{Explain, Outcome},
    server::{Gone, Host},
};

/// `FIFREEZE` and `FITHAW` of linux/fs.h; they take no notice of their argument.
const FREEZE: rustix::ioctl::Opcode = opcode::read_write::<std::ffi::c_int>(b'X', 119);
const THAW: rustix::ioctl::Opcode = opcode::read_write::<std::ffi::c_int>(b'X', 120);
const LIMIT: Duration = Duration::from_secs(60);

/// File systems on disks that can be frozen.
const KINDS: [&str; 5] = ["ext3", "ext4", "xfs", "btrfs", "f2fs"];

struct Frozen(Vec<File>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for mount in self.0.iter().rev() {
            if let Err(error) = thaw(mount) {
                eprintln!("tearless-agent: cannot thaw a file system: {error}");
            }
        }
    }
}

pub fn freeze(host: &Host) -> Result<(), Gone> {
    rustix::fs::sync();
    let mut frozen = Frozen(Vec::new());
    for path in
        mounts(&fs::read_to_string("/proc/self/mounts").explain(|| "cannot list the mounts".to_owned())?)
    {
        freeze_one(&mut frozen, &path)?;
    }
    host.send(&Reply::Done)?;
    let mut fds = [PollFd::new(host.reader(), PollFlags::IN)];
    // An error ends it as the host's end of the connection does.
    _ = poll(&mut fds, Timespec::try_from(LIMIT).ok().as_ref());
    drop(frozen);
    Ok(())
}

fn freeze_one(frozen: &mut Frozen, path: &str) -> Outcome<()> {
    let what = || format!("cannot freeze the file system at {path}");
    let mount = File::open(path).explain(what)?;
    // SAFETY: FIFREEZE has no argument that the kernel would read or write.
    #[allow(unsafe_code, reason = "no safe crate offers this call")]
    let result = unsafe { ioctl(&mount, NoArg::<FREEZE>::new()) };
    match result {
        // Mounted twice, or frozen by someone else.
        Err(rustix::io::Errno::BUSY) => Ok(()),
        result => {
            result.explain(what)?;
            frozen.0.push(mount);
            Ok(())
        }
    }
}

fn thaw(mount: &File) -> rustix::io::Result<()> {
    // SAFETY: FITHAW has no argument that the kernel would read or write.
    #[allow(unsafe_code, reason = "no safe crate offers this call")]
    unsafe {
        ioctl(mount, NoArg::<THAW>::new())
    }
}

/// The places of file systems that can be frozen, in the order of `/proc/self/mounts`.
fn mounts(text: &str) -> Vec<String> {
    let mount = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let &[device, path, kind, options, ..] = fields.as_slice() else { return None };
        let writable = options.split(',').any(|option| option == "rw");
        let fits = device.starts_with('/') && KINDS.contains(&kind) && writable;
        // Spaces and the like are written as octal numbers; such places are rare and frozen by nobody.
        (fits && !path.contains('\\')).then(|| path.to_owned())
    };
    text.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_are_frozen() {
        let text = "proc /proc proc rw 0 0\n/dev/vda / ext4 rw,relatime 0 0\n/dev/vdb /b ext4 ro 0 0\nx /t tmpfs rw 0 0\n";
        assert_eq!(mounts(text), ["/"]);
    }
}
