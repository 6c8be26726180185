use super::*;

const RAM: u64 = 0x4000_0000;

fn device() -> (FwCfg, GuestMemory) {
    let memory = GuestMemory::new(&[Gpa(RAM)..Gpa(RAM + 0x4_0000)]).unwrap();
    let mut items = Items::new(2);
    items.add_kernel(&Kernel {
        program: b"MZ kernel"[..].into(),
        initrd: b"disk"[..].into(),
        cmdline: "quiet".into(),
    });
    items.add_file("etc/b", b"0123456789".to_vec());
    items.add_file(&"a".repeat(100), vec![]);
    (FwCfg::new(items, memory.clone()), memory)
}

fn select(device: &FwCfg, item: u16) {
    device.write(spec::SELECTOR, &item.to_be_bytes()).unwrap();
}

fn bytes(device: &FwCfg, len: usize) -> Vec<u8> {
    (0..len)
        .map(|_| {
            let mut byte = [0xee];
            device.read(spec::DATA, &mut byte).unwrap();
            byte[0]
        })
        .collect()
}

/// Describes a transfer, starts it and returns what the guest finds in its control field.
fn transfer(device: &FwCfg, memory: &GuestMemory, control: u32, len: u32, address: u64) -> u32 {
    let at = Gpa(RAM + 0x100);
    memory
        .write(at, &[&control.to_be_bytes()[..], &len.to_be_bytes(), &address.to_be_bytes()].concat())
        .unwrap();
    device.write(spec::DMA, &0u32.to_be_bytes()).unwrap();
    device.write(spec::DMA + 4, &(at.0 as u32).to_be_bytes()).unwrap();
    let mut result = [0; 4];
    memory.read(at, &mut result).unwrap();
    u32::from_be_bytes(result)
}

#[test]
fn items_are_read_from_their_beginning_and_end_in_zeros() {
    let (device, _) = device();
    select(&device, spec::SIGNATURE);
    assert_eq!(bytes(&device, 6), b"QEMU\0\0");
    select(&device, spec::CMDLINE);
    assert_eq!(bytes(&device, 7), b"quiet\0\0");
    select(&device, spec::KERNEL_SIZE);
    let mut wide = [0; 8];
    device.read(spec::DATA, &mut wide).unwrap();
    assert_eq!(wide, 9u64.to_le_bytes());
    select(&device, 0x3000);
    assert_eq!(bytes(&device, 2), [0, 0]);
    device.read(spec::DMA, &mut wide).unwrap();
    assert_eq!(&wide, b"QEMU CFG");
}

#[test]
fn the_directory_has_the_files() {
    let (device, _) = device();
    select(&device, spec::DIRECTORY);
    assert_eq!(bytes(&device, 4), 2u32.to_be_bytes());
    let long = bytes(&device, 64);
    assert_eq!((&long[..8], long[8 + 54], long[8 + 55]), (&[0, 0, 0, 0, 0, 0x20, 0, 0][..], b'a', 0));
    let short = bytes(&device, 64);
    assert_eq!((&short[..8], &short[8..14]), (&[0, 0, 0, 10, 0, 0x21, 0, 0][..], &b"etc/b\0"[..]));
    select(&device, 0x21);
    assert_eq!(bytes(&device, 10), b"0123456789");
}

#[test]
fn transfers_select_skip_and_read() {
    let (device, memory) = device();
    let file = 0x21 << 16 | spec::SELECT;
    assert_eq!(transfer(&device, &memory, file | spec::SKIP, 4, 0), 0);
    memory.write(Gpa(RAM + 0x200), &[0xee; 16]).unwrap();
    assert_eq!(transfer(&device, &memory, spec::READ, 8, RAM + 0x200), 0);
    let mut read = [0; 9];
    memory.read(Gpa(RAM + 0x200), &mut read).unwrap();
    assert_eq!(&read, b"456789\0\0\xee");
    // All zeros, in more than one piece.
    memory.write(Gpa(RAM + 0x3_ffff), &[1]).unwrap();
    assert_eq!(transfer(&device, &memory, spec::READ, 0x3_f000, RAM + 0x1000), 0);
    memory.read(Gpa(RAM + 0x3_ffff), &mut read[..1]).unwrap();
    assert_eq!(read[0], 0);
}

#[test]
fn hostile_transfers_fail() {
    let (device, memory) = device();
    for (len, address) in [(1, 0), (0x4_0001, RAM), (u32::MAX, RAM), (16, u64::MAX - 4), (2, RAM + 0x3_ffff)]
    {
        let control = spec::READ | spec::SELECT;
        assert_eq!(transfer(&device, &memory, control, len, address), spec::ERROR, "{len} at {address:#x}");
    }
    assert_eq!(transfer(&device, &memory, spec::WRITE, 4, RAM), spec::ERROR);
    for at in [0u64, u64::MAX, RAM + 0x4_0000 - 8] {
        device.write(spec::DMA, &at.to_be_bytes()).unwrap();
    }
    for (offset, len) in [(1, 1), (0x18, 4), (spec::SELECTOR, 4), (spec::DMA + 2, 2)] {
        assert!(device.write(offset, &vec![0; len]).is_err(), "{offset:#x}");
    }
}

#[test]
fn goes_on_where_it_was() {
    let (old, _) = device();
    select(&old, 0x21);
    bytes(&old, 3);
    let (new, _) = device();
    new.restore(&old.save().unwrap()).unwrap();
    assert_eq!(bytes(&new, 3), b"345");
}
