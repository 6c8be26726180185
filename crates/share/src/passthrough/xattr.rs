//! Extended attributes: those of users are passed on. The others mean something to a kernel (capabilities, labels,
//! access lists), and must not be the guest's to set on the host.

use std::os::fd::AsFd;

use rustix::fs::{self, XattrFlags};

use super::{Passthrough, Result, owner::STAT_XATTR, share::path_of};
use crate::{Errno, NodeId, XattrMode};

/// `XATTR_SIZE_MAX`.
const MAX_VALUE: usize = 64 << 10;

fn check(name: &[u8]) -> Result<()> {
    let ours = name == STAT_XATTR.as_bytes();
    if name.starts_with(b"user.") && !ours { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

impl Passthrough {
    pub(super) fn attribute(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        check(name)?;
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        let mut value = vec![0; MAX_VALUE];
        let len = fs::getxattr(path_of(fd.as_fd()), name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    }

    pub(super) fn attributes(&self, node: NodeId) -> Result<Vec<u8>> {
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        let mut names = vec![0; MAX_VALUE];
        let len = fs::listxattr(path_of(fd.as_fd()), &mut names[..])?;
        names.truncate(len);
        let visible = names.split_inclusive(|&b| b == 0);
        Ok(visible
            .filter(|name| name.split_last().is_some_and(|(_, name)| check(name).is_ok()))
            .flatten()
            .copied()
            .collect())
    }

    pub(super) fn set_attribute(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.share.writable()?;
        check(name)?;
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        let flags = match mode {
            XattrMode::Any => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        Ok(fs::setxattr(path_of(fd.as_fd()), name, value, flags)?)
    }

    pub(super) fn remove_attribute(&self, node: NodeId, name: &[u8]) -> Result<()> {
        self.share.writable()?;
        check(name)?;
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        Ok(fs::removexattr(path_of(fd.as_fd()), name)?)
    }
}
