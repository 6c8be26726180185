use proptest::prelude::*;
use tearless_memory::Gpa;

use super::*;

const BASE: Gpa = Gpa(0x4000_0000);

/// A kernel image whose header asks for `size` bytes of memory at `text_offset`.
fn kernel(text_offset: u64, size: u64) -> KernelImage {
    let mut b = vec![0; 64];
    b[8..16].copy_from_slice(&text_offset.to_le_bytes());
    b[16..24].copy_from_slice(&size.to_le_bytes());
    b[56..60].copy_from_slice(b"ARM\x64");
    kernel::load(b, "k").unwrap()
}

#[test]
fn keeps_qemus_distances() {
    let p = place(&(BASE..BASE + 4096 * MIB), &kernel(0, 40 * MIB), 3 * MIB + 5, 100).unwrap();
    assert_eq!(p.initrd, Some(BASE + 128 * MIB..BASE + 131 * MIB + 5));
    assert_eq!(p.dtb, BASE + 132 * MIB..BASE + 132 * MIB + 100);
    let small = place(&(BASE..BASE + 128 * MIB), &kernel(0, 40 * MIB), 3 * MIB, 100).unwrap();
    assert_eq!(small.initrd.unwrap().start, BASE + 64 * MIB, "half of a small RAM");
    let big = place(&(BASE..BASE + 4096 * MIB), &kernel(0, 200 * MIB), 3 * MIB, 100).unwrap();
    assert_eq!(big.initrd.unwrap().start, BASE + 202 * MIB, "behind a large kernel");
}

#[test]
fn small_memory_is_used_up_before_it_is_refused() {
    let (k, initrd) = (kernel(0, 20 * MIB), 30 * MIB);
    let p = place(&(BASE..BASE + 60 * MIB), &k, initrd, MAX_DTB).unwrap();
    assert_eq!(p.initrd.unwrap().start, p.kernel.end);
    let text = place(&(BASE..BASE + 53 * MIB), &k, initrd, MAX_DTB).unwrap_err().to_string();
    assert_eq!(
        text,
        "kernel and RAM disk need 54 MiB\n  because: the VM has 53 MiB\n  try: --memory 54M or more"
    );
    assert!(place(&(BASE..BASE + 54 * MIB), &k, initrd, MAX_DTB).is_ok());
}

#[test]
fn refuses_a_huge_device_tree() {
    assert!(place(&(BASE..BASE + 4096 * MIB), &kernel(0, MIB), 0, MAX_DTB + 1).is_err());
}

proptest! {
    #[test]
    fn ranges_are_apart_aligned_and_within_ram(
        ram_mib in 1u64..4096, text_offset in 0u64..(4 << 20), size in 1u64..(512 << 20),
        initrd in prop_oneof![Just(0u64), 1u64..(512 << 20)], dtb in 1u64..=MAX_DTB,
    ) {
        let ram = BASE..BASE + ram_mib * MIB;
        let text_offset = text_offset & !0xfff;
        let kernel = kernel(text_offset, size);
        match place(&ram, &kernel, initrd, dtb) {
            Ok(p) => {
                let disk = p.initrd.clone().unwrap_or(p.dtb.start..p.dtb.start);
                prop_assert!(ram.start <= p.kernel.start && p.kernel.end <= disk.start);
                prop_assert!(disk.end <= p.dtb.start && p.dtb.end <= ram.end);
                prop_assert_eq!(p.initrd.is_some(), initrd > 0);
                prop_assert_eq!(disk.end - disk.start, initrd);
                prop_assert_eq!(p.dtb.end - p.dtb.start, dtb);
                prop_assert!(p.kernel.end - p.kernel.start >= size);
                prop_assert!(p.dtb.start.0 % DTB_ALIGN == 0 && (initrd == 0 || disk.start.0 % PAGE == 0));
                prop_assert_eq!(p.entry.0 % (2 * MIB), text_offset % (2 * MIB));
            }
            Err(Error::NoRoom { need_mib, have_mib, .. }) => {
                prop_assert_eq!(have_mib, ram_mib);
                prop_assert!(need_mib > have_mib);
                prop_assert!(place(&(BASE..BASE + need_mib * MIB), &kernel, initrd, dtb).is_ok(), "advice must hold");
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
