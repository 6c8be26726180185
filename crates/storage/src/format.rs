//! Recognising disk images that are not raw.

/// The names of formats by how their files begin.
const MAGICS: [(&[u8], &str, &str); 6] = [
    (b"QFI\xfb", "qcow2", "qcow2"),
    (b"KDMV", "VMDK", "vmdk"),
    (b"# Disk DescriptorFile", "VMDK", "vmdk"),
    (b"vhdxfile", "VHDX", "vhdx"),
    (b"conectix", "VHD", "vpc"),
    (b"QED\0", "QED", "qed"),
];

/// How many bytes [`recognise`] wants to see.
pub(crate) const HEAD: usize = 32;

/// The format's name and what `qemu-img -f` calls it, if `head` starts a file of a known format other than raw.
///
/// Only to be asked when the host's user hands over a file: a guest can write any of these into its own disk.
pub(crate) fn recognise(head: &[u8]) -> Option<(&'static str, &'static str)> {
    MAGICS.iter().find(|(magic, ..)| head.starts_with(magic)).map(|(_, name, qemu)| (*name, *qemu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_images_from_raw_disks() {
        assert_eq!(recognise(b"QFI\xfb\0\0\0\x03").map(|f| f.0), Some("qcow2"));
        assert_eq!(recognise(b"QFI"), None);
        assert_eq!(recognise(&[0; HEAD]), None);
        assert_eq!(recognise(b""), None);
    }
}
