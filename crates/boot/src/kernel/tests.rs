use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use tearless_memory::Gpa;

use super::*;
use crate::place::place;

fn image(text_offset: u64, size: u64, flags: u64, len: usize) -> Vec<u8> {
    let mut b = vec![0; len];
    b[0..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
    b[8..16].copy_from_slice(&text_offset.to_le_bytes());
    b[16..24].copy_from_slice(&size.to_le_bytes());
    b[24..32].copy_from_slice(&flags.to_le_bytes());
    b[56..60].copy_from_slice(b"ARM\x64");
    b
}

/// Gives `b` the PE header of an EFI stub: one section that ends at `end`.
fn with_stub(mut b: Vec<u8>, machine: u16, end: u32) -> Vec<u8> {
    b[0..2].copy_from_slice(b"MZ");
    b[60..64].copy_from_slice(&64u32.to_le_bytes());
    b[64..68].copy_from_slice(b"PE\0\0");
    b[68..70].copy_from_slice(&machine.to_le_bytes());
    b[70..72].copy_from_slice(&1u16.to_le_bytes());
    b[84..86].copy_from_slice(&16u16.to_le_bytes());
    b[120..124].copy_from_slice(&(end - 200).to_le_bytes());
    b[124..128].copy_from_slice(&200u32.to_le_bytes());
    b
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::fast());
    e.write_all(data).unwrap();
    e.finish().unwrap()
}

fn zboot(method: &str, payload: &[u8]) -> Vec<u8> {
    let mut b = with_stub(vec![0; 256], 0xaa64, 256);
    b[4..8].copy_from_slice(b"zimg");
    b[8..12].copy_from_slice(&256u32.to_le_bytes());
    b[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    b[24..24 + method.len()].copy_from_slice(method.as_bytes());
    b.extend(payload);
    b
}

/// (physical, virtual, file bytes, memory bytes) per segment.
fn elf(machine: u16, entry: u64, segments: &[(u64, u64, &[u8], u64)]) -> Vec<u8> {
    let mut b = vec![0; 64 + 56 * segments.len()];
    b[0..4].copy_from_slice(b"\x7fELF");
    b[4] = 2;
    b[5] = 1;
    b[16..18].copy_from_slice(&2u16.to_le_bytes());
    b[18..20].copy_from_slice(&machine.to_le_bytes());
    b[24..32].copy_from_slice(&entry.to_le_bytes());
    b[32..40].copy_from_slice(&64u64.to_le_bytes());
    b[54..56].copy_from_slice(&56u16.to_le_bytes());
    b[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
    for (i, (paddr, vaddr, data, size)) in segments.iter().enumerate() {
        let at = 64 + 56 * i;
        let offset = b.len() as u64;
        b[at..at + 4].copy_from_slice(&1u32.to_le_bytes());
        for (field, value) in [(8, offset), (16, *vaddr), (24, *paddr), (32, data.len() as u64), (40, *size)]
        {
            b[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        }
        b.extend(*data);
    }
    b
}

fn message(bytes: Vec<u8>) -> String {
    load(bytes, "kernel k").unwrap_err().to_string()
}

#[test]
fn reads_the_image_header() {
    let k = load(image(0, 0x20_0000, 0b1010, 0x1000), "k").unwrap();
    assert_eq!(*k.shape(), Shape::Image { text_offset: 0, size: 0x20_0000, page_size: Some(PageSize::K4) });
    assert_eq!(load(image(0, 1, 0b0100, 64), "k").unwrap().page_size(), Some(PageSize::K16));
    assert_eq!(load(image(0, 1, 0b0110, 64), "k").unwrap().page_size(), Some(PageSize::K64));
    assert_eq!(load(image(0, 1, 0, 64), "k").unwrap().page_size(), None);
    let old = load(image(0x1234, 0, 0, 64), "k").unwrap();
    assert_eq!(*old.shape(), Shape::Image { text_offset: 0x8_0000, size: 0, page_size: None });
}

#[test]
fn unpacks_gzip_and_zboot() {
    let plain = image(0, 0x20_0000, 2, 0x1000);
    for packed in [gzip(&plain), zboot("gzip", &gzip(&plain))] {
        let k = load(packed, "k").unwrap();
        assert_eq!(k.bytes, plain);
    }
    let text = message(zboot("lz4", &gzip(&plain)));
    assert!(text.contains("`lz4`") && text.contains("Image"), "{text}");
    let mut cut = zboot("gzip", &gzip(&plain));
    cut.pop();
    assert!(message(cut).contains("damaged"), "a zboot file without its last byte");
    let mut x86 = zboot("gzip", &gzip(&plain));
    x86[68..70].copy_from_slice(&0x8664u16.to_le_bytes());
    assert!(message(x86).contains("x86-64"));
}

#[test]
fn unpacks_what_the_kernels_build_may_choose_for_zboot() {
    // Each stream holds the text "tearless\n", which is then refused for what it is.
    use crate::unpack::tests::{LZMA, XZ, ZSTD};
    for (method, payload) in [("xzkern", XZ), ("zstd22", ZSTD), ("lzma", LZMA)] {
        let text = message(zboot(method, payload));
        assert!(text.contains("it is a text file"), "{method}: {text}");
    }
}

#[test]
fn places_an_image_where_qemu_does() {
    let ram = Gpa(0x4000_0000)..Gpa(0x8000_0000);
    let at = |b| place(&ram, &load(b, "k").unwrap(), 0, 0x1_0000).unwrap();
    let p = at(image(0, 0x20_0000, 2, 0x1000));
    assert_eq!((p.entry, p.kernel), (Gpa(0x4020_0000), Gpa(0x4020_0000)..Gpa(0x4040_0000)));
    assert_eq!(p.dtb.start, Gpa(0x4800_0000));
    assert_eq!(at(image(0x8_0000, 0x20_0000, 2, 0x1000)).entry, Gpa(0x4008_0000));
    assert_eq!(at(image(0, 0, 2, 0x1000)).entry, Gpa(0x4008_0000));
    let flat = at(vec![0x1f; 0x100]);
    assert_eq!((flat.entry, flat.kernel.end), (Gpa(0x4008_0000), Gpa(0x4008_0100)));
    assert_eq!(flat.entry_state(), crate::place::Entry { pc: Gpa(0x4008_0000), x0: Gpa(0x4800_0000) });
}

#[test]
fn loads_elf_by_physical_address() {
    let k = load(
        elf(
            183,
            0xffff_0004,
            &[(0x4100_0000, 0xfffe_0000, b"data", 8), (0x4020_0000, 0xffff_0000, b"codecode", 8)],
        ),
        "k",
    )
    .unwrap();
    let ram = Gpa(0x4000_0000)..Gpa(0x4800_0000);
    let p = place(&ram, &k, 0, 0x1000).unwrap();
    assert_eq!(p.entry, Gpa(0x4020_0004));
    assert_eq!(p.dtb, Gpa(0x4000_0000)..Gpa(0x4000_1000), "bare-metal code looks at the start of RAM");
    let memory = GuestMemory::new(std::slice::from_ref(&ram)).unwrap();
    k.write(&memory, &p).unwrap();
    let mut seen = [0; 8];
    memory.read(Gpa(0x4100_0000), &mut seen).unwrap();
    assert_eq!(&seen, b"data\0\0\0\0");
    memory.read(Gpa(0x4020_0000), &mut seen).unwrap();
    assert_eq!(&seen, b"codecode");

    let low = load(elf(183, 0x100, &[(0x100, 0x100, b"code", 4)]), "k").unwrap();
    let text = place(&ram, &low, 0, 0x1000).unwrap_err().to_string();
    assert!(text.contains("outside the VM's RAM"), "{text}");
}

#[test]
fn refuses_damaged_elf() {
    let good = elf(183, 0x4020_0000, &[(0x4020_0000, 0x4020_0000, b"code", 4)]);
    for len in 4..good.len() {
        assert!(load(good[..len].to_vec(), "k").is_err(), "cut to {len}");
    }
    assert!(message(elf(183, 0, &[(0x4020_0000, 0x4020_0000, b"code", 4)])).contains("entry point"));
    let overlap = [(0x1000, 0x1000, &b"code"[..], 4), (0x1002, 0x2000, &b"code"[..], 4)];
    assert!(message(elf(183, 0x1000, &overlap)).contains("overlap"));
    assert!(message(elf(183, 0x1000, &[(u64::MAX, 0x1000, b"code", 4)])).contains("vmlinux"));
}

#[test]
fn names_what_is_no_arm64_kernel() {
    let at = |offset: usize, magic: &[u8]| {
        let mut b = vec![0x90; offset + magic.len() + 8];
        b[offset..offset + magic.len()].copy_from_slice(magic);
        b
    };
    for (bytes, hint) in [
        (vec![], "empty"),
        (at(0x202, b"HdrS"), "x86"),
        (at(56, b"RSC\x05"), "RISC-V"),
        (elf(62, 0, &[]), "x86-64"),
        (elf(40, 0, &[]), "32-bit ARM"),
        (at(0, b"\x04\x22\x4d\x18"), "lz4"),
        (at(0, b"QFI\xfb"), "qcow2"),
        (at(0, b"070701"), "--initrd"),
        (b"<html>not found</html>\n".to_vec(), "text file"),
        (vec![0; 4096], "not code"),
        (vec![0x1f, 0x20], "not code"),
        (with_stub(vec![0; 256], 0x8664, 256), "x86-64"),
        (image(0, 1, 1, 64), "big-endian"),
        (image(0, 1, 0, 60), "ends inside its header"),
        (image(u64::MAX, 1, 0, 64), "offset"),
        (image(0, u64::MAX, 0, 64), "asks for"),
        (with_stub(image(0, 1, 0, 256), 0xaa64, 257), "256 bytes where its header speaks of 257"),
    ] {
        let text = message(bytes);
        assert!(text.starts_with("cannot use kernel k\n") && text.contains(hint), "{hint}: {text}");
    }
    assert!(load(with_stub(image(0, 1, 0, 256), 0xaa64, 256), "k").is_ok());
}

proptest::proptest! {
    #[test]
    fn never_panics(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), magic in 0usize..5) {
        let start: &[u8] = [&b""[..], b"\x7fELF\x02\x01", b"MZ\0\0zimg", b"MZ", b"\x1f\x8b"][magic];
        bytes.splice(..start.len().min(bytes.len()), start.iter().copied());
        if let Ok(kernel) = load(bytes, "k") {
            let _ = place(&(Gpa(0x4000_0000)..Gpa(0x5000_0000)), &kernel, 1, 1);
        }
    }
}
