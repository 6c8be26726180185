use std::collections::BTreeMap;

use super::*;

fn range(start: u64, len: u64) -> Range<Gpa> {
    Gpa(start)..Gpa(start + len)
}

/// The addresses of QEMU's `virt`.
fn virt<'a>(cpus: &'a [u64], memory: &'a [Range<Gpa>]) -> FdtSpec<'a> {
    let device = |start, intid| Device { range: range(start, 0x1000), intid };
    FdtSpec {
        cpus,
        memory,
        gic: GicNode {
            distributor: range(0x800_0000, 0x1_0000),
            redistributors: range(0x80a_0000, 0xf6_0000),
            its: Some(range(0x808_0000, 0x2_0000)),
        },
        timers: TimerIntids::default(),
        uart: device(0x900_0000, 33),
        rtc: device(0x901_0000, 34),
        gpio: GpioNode { device: device(0x903_0000, 39), power_line: 3 },
        clock_hz: 24_000_000,
        pcie: PcieNode {
            ecam: range(0x40_1000_0000, 0x1000_0000),
            io: Some(range(0x3eff_0000, 0x1_0000)),
            mem32: range(0x1000_0000, 0x2eff_0000),
            mem64: range(0x80_0000_0000, 0x80_0000_0000),
            intx: [35, 36, 37, 38],
        },
        firmware: None,
        chosen: Chosen {
            cmdline: "console=hvc0",
            initrd: Some(range(0x4800_0000, 0x12_3456)),
            rng_seed: [7; 32],
            kaslr_seed: 0x1122_3344_5566_7788,
        },
    }
}

/// "node/property" to value, read back from a blob (Devicetree Specification, chapter 5).
fn read(blob: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let word = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
    let text = |at: usize| {
        let end = at + blob[at..].iter().position(|&b| b == 0).unwrap();
        std::str::from_utf8(&blob[at..end]).unwrap()
    };
    assert_eq!(word(0), 0xd00d_feed);
    let (mut at, strings) = (word(8), word(12));
    let (mut path, mut found) = (Vec::new(), BTreeMap::new());
    loop {
        at += 4;
        match word(at - 4) {
            1 => {
                path.push(text(at));
                at = (at + text(at).len() + 1).next_multiple_of(4);
            }
            2 => assert!(path.pop().is_some()),
            3 => {
                let (len, name) = (word(at), text(strings + word(at + 4)));
                found.insert(format!("{}/{name}", path.join("/")), blob[at + 8..at + 8 + len].to_vec());
                at = (at + 8 + len).next_multiple_of(4);
            }
            9 => return found,
            token => panic!("token {token}"),
        }
    }
}

fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

#[test]
fn has_the_shape_of_qemus_virt() {
    let memory = [range(0x4000_0000, 1 << 30)];
    let tree = read(&build(&virt(&[0, 1, 0x100], &memory)).unwrap());
    let expect = |path: &str, value: &[u8]| {
        assert_eq!(tree.get(path).map(|v| &v[..]), Some(value), "{path}");
    };
    expect("/interrupt-parent", &tree["/intc@8000000/phandle"]);
    expect("/chosen/bootargs", b"console=hvc0\0");
    expect("/chosen/stdout-path", b"/pl011@9000000\0");
    expect("/chosen/linux,initrd-start", &cells(&[0, 0x4800_0000]));
    expect("/chosen/linux,initrd-end", &cells(&[0, 0x4812_3456]));
    expect("/chosen/kaslr-seed", &cells(&[0x1122_3344, 0x5566_7788]));
    expect("/chosen/rng-seed", &[7; 32]);
    expect("/memory@40000000/reg", &cells(&[0, 0x4000_0000, 0, 0x4000_0000]));
    expect("/cpus/cpu@0/enable-method", b"psci\0");
    expect("/cpus/cpu@100/reg", &cells(&[0x100]));
    expect("/psci/compatible", b"arm,psci-1.0\0arm,psci-0.2\0arm,psci\0");
    expect("/psci/method", b"hvc\0");
    expect("/timer/interrupts", &cells(&[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]));
    expect("/timer/always-on", b"");
    let gic = [0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000];
    expect("/intc@8000000/reg", &cells(&gic));
    expect("/intc@8000000/its@8080000/reg", &cells(&[0, 0x808_0000, 0, 0x2_0000]));
    expect("/pl011@9000000/compatible", b"arm,pl011\0arm,primecell\0");
    expect("/pl011@9000000/interrupts", &cells(&[0, 1, 4]));
    expect("/pl011@9000000/clocks", &tree["/apb-pclk/phandle"].repeat(2));
    expect("/pl031@9010000/interrupts", &cells(&[0, 2, 4]));
    expect("/gpio-keys/poweroff/gpios", &[&tree["/pl061@9030000/phandle"][..], &cells(&[3, 0])].concat());
    expect("/apb-pclk/clock-frequency", &cells(&[24_000_000]));
}

#[test]
fn describes_pcie_like_qemus_virt() {
    let memory = [range(0x4000_0000, 1 << 30)];
    let tree = read(&build(&virt(&[0], &memory)).unwrap());
    let pcie = |name: &str| &tree[&format!("/pcie@4010000000/{name}")];
    assert_eq!(*pcie("bus-range"), cells(&[0, 255]));
    assert_eq!(
        *pcie("ranges"),
        cells(&[
            0x100_0000,
            0,
            0,
            0,
            0x3eff_0000,
            0,
            0x1_0000, // I/O
            0x200_0000,
            0,
            0x1000_0000,
            0,
            0x1000_0000,
            0,
            0x2eff_0000, // 32-bit
            0x300_0000,
            0x80,
            0,
            0x80,
            0,
            0x80,
            0, // 64-bit
        ])
    );
    let (gic, its) = (&tree["/intc@8000000/phandle"], &tree["/intc@8000000/its@8080000/phandle"]);
    assert_eq!(*pcie("msi-map"), [&cells(&[0])[..], its, &cells(&[0, 0x1_0000])].concat());
    let map = pcie("interrupt-map");
    assert_eq!(map.len(), 16 * 40);
    // Pin INTB of device 3 is INTA of device 0.
    let entry = [&cells(&[0x1800, 0, 0, 2])[..], gic, &cells(&[0, 0, 0, 3, 4])].concat();
    assert_eq!(map[13 * 40..14 * 40], entry);
}

#[test]
fn tells_firmware_where_its_flash_and_its_answers_are() {
    let memory = [range(0x4000_0000, 1 << 30)];
    let mut spec = virt(&[0], &memory);
    assert!(!read(&build(&spec).unwrap()).keys().any(|k| k.contains("flash") || k.contains("fw-cfg")));
    let flash = range(0x400_0000, 0x400_0000);
    spec.firmware = Some(FirmwareNodes { flash, fw_cfg: range(0x902_0000, 0x18) });
    let tree = read(&build(&spec).unwrap());
    assert_eq!(tree["/flash@4000000/reg"], cells(&[0, 0x400_0000, 0, 0x400_0000]));
    assert_eq!(tree["/flash@4000000/bank-width"], cells(&[4]));
    assert_eq!(tree["/fw-cfg@9020000/compatible"], b"qemu,fw-cfg-mmio\0");
    assert_eq!(tree["/fw-cfg@9020000/reg"], cells(&[0, 0x902_0000, 0, 0x18]));
}

#[test]
fn length_does_not_depend_on_addresses() {
    let memory = [range(0x4000_0000, 1 << 30)];
    let mut spec = virt(&[0], &memory);
    let one = build(&spec).unwrap().len();
    spec.chosen.initrd = Some(range(0x80_1234_5000, 1));
    assert_eq!(build(&spec).unwrap().len(), one);
}

#[test]
fn leaves_out_what_is_not_there_and_refuses_nonsense() {
    let memory = [range(0x4000_0000, 1 << 30)];
    let mut spec = virt(&[0], &memory);
    spec.gic.its = None;
    spec.chosen.initrd = None;
    spec.chosen.kaslr_seed = 0;
    let tree = read(&build(&spec).unwrap());
    assert!(!tree.keys().any(|k| k.contains("its@") || k.ends_with("msi-map") || k.contains("initrd")));
    assert!(!tree.contains_key("/chosen/kaslr-seed"));
    for change in [
        (|s| s.uart.intid = 15) as fn(&mut FdtSpec<'_>),
        |s| s.rtc.intid = 1020,
        |s| s.chosen.cmdline = "a\0b",
        |s| s.cpus = &[1 << 32],
        |s| s.pcie.ecam.end = s.pcie.ecam.start,
    ] {
        let mut bad = virt(&[0], &memory);
        change(&mut bad);
        assert!(matches!(build(&bad), Err(Error::DeviceTree(_))));
    }
}
