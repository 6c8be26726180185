//! The formats of disk images.

use std::path::Path;

/// How an image stores a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Byte `n` of the file is byte `n` of the disk.
    Raw,
    /// QEMU's, versions 2 and 3, with backing chains.
    Qcow2,
    /// VMware's: one file, sparse or stream-optimised, or a descriptor of flat or sparse extents. Read only.
    Vmdk,
}

impl Format {
    /// What a file's name says, by its extension.
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "qcow2" => Some(Self::Qcow2),
            "vmdk" => Some(Self::Vmdk),
            _ => None,
        }
    }

    /// Its name, as `qemu-img` has it too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }
}

/// How files of formats other than raw begin: their name, what `qemu-img` calls them, and whether we read them.
const MAGICS: [(&[u8], Recognised); 8] = [
    (b"QFI\xfb", Recognised { name: "qcow2", qemu: "qcow2", known: true }),
    (b"KDMV", Recognised { name: "VMDK", qemu: "vmdk", known: true }),
    (b"# Disk DescriptorFile", Recognised { name: "VMDK", qemu: "vmdk", known: true }),
    (b"vhdxfile", Recognised { name: "VHDX", qemu: "vhdx", known: false }),
    (b"conectix", Recognised { name: "VHD", qemu: "vpc", known: false }),
    (b"<<< Oracle VM VirtualBox", Recognised { name: "VDI", qemu: "vdi", known: false }),
    (b"<<< QEMU VM Virtual Disk Image", Recognised { name: "VDI", qemu: "vdi", known: false }),
    (b"QED\0", Recognised { name: "QED", qemu: "qed", known: false }),
];

/// What a file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recognised {
    pub(crate) name: &'static str,
    pub(crate) qemu: &'static str,
    pub(crate) known: bool,
}

/// How many bytes [`recognise`] wants to see.
pub(crate) const HEAD: usize = 32;

/// The format, if `head` starts a file of a known format other than raw.
///
/// Only to be asked when the host's user hands over a file: a guest can write any of these into its own disk. And only to
/// refuse: what a guest-writable file is taken for is never decided by what is in it.
pub(crate) fn recognise(head: &[u8]) -> Option<Recognised> {
    MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_images_from_raw_disks() {
        assert_eq!(recognise(b"QFI\xfb\0\0\0\x03").map(|f| f.name), Some("qcow2"));
        assert_eq!(recognise(b"<<< QEMU VM Virtual Disk Image >").map(|f| f.qemu), Some("vdi"));
        assert_eq!(recognise(b"QFI"), None);
        assert_eq!(recognise(&[0; HEAD]), None);
        assert_eq!(recognise(b""), None);
    }

    #[test]
    fn names_tell_formats() {
        assert_eq!(Format::of_name(Path::new("a/b.QCOW2")), Some(Format::Qcow2));
        assert_eq!(Format::of_name(Path::new("b.vmdk")), Some(Format::Vmdk));
        for raw in ["b.img", "qcow2", ".qcow2", "b.qcow2.img"] {
            assert_eq!(Format::of_name(Path::new(raw)), None, "{raw}");
        }
    }
}
