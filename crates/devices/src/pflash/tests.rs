use super::*;

fn flash() -> Pflash {
    Pflash::new(Arc::new(Flash::volatile()))
}

fn read(flash: &Pflash, offset: u64) -> u32 {
    let mut data = [0; 4];
    flash.read(offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn write(flash: &Pflash, offset: u64, value: u32) {
    flash.write(offset, &value.to_le_bytes()).unwrap();
}

/// A command to both chips.
fn both(flash: &Pflash, offset: u64, command: u8) {
    write(flash, offset, u32::from(command) << 16 | u32::from(command));
}

const READY: u32 = 0x0080_0080;
const BLOCK: u64 = spec::BLOCK as u64;

fn erase(flash: &Pflash, offset: u64) {
    both(flash, offset, spec::ERASE);
    both(flash, offset, spec::CONFIRM);
    assert_eq!(read(flash, offset), READY);
    both(flash, 0, spec::READ_ARRAY);
}

#[test]
fn a_driver_finds_what_it_is() {
    let flash = flash();
    both(&flash, 0x55 * 4, spec::QUERY);
    let text: Vec<u32> = (0x10..0x14).map(|word| read(&flash, word * 4)).collect();
    assert_eq!(text, [0x0051_0051, 0x0052_0052, 0x0059_0059, 0x0001_0001]);
    let table = |word: u64| read(&flash, word * 4) & 0xff;
    assert_eq!(1u64 << table(0x27), SIZE_OF_CHIP);
    assert_eq!((u64::from(table(0x2d) | table(0x2e) << 8) + 1) * BLOCK, spec::SIZE as u64);
    assert_eq!(u64::from(table(0x2f) | table(0x30) << 8) * 256 * 2, BLOCK);
    assert_eq!((1usize << table(0x2a)) * 2, spec::BUFFER_WORDS * spec::WORD);
    assert_eq!([0x31, 0x32, 0x33].map(table).map(|b| b as u8), *b"PRI");
    both(&flash, 0, spec::READ_ARRAY);
    both(&flash, 0, spec::READ_ID);
    assert_eq!((read(&flash, 0), read(&flash, 4)), (0x0089_0089, 0x0018_0018));
    both(&flash, 0, 0xf0);
    assert_eq!(read(&flash, 0), 0);
}

const SIZE_OF_CHIP: u64 = spec::SIZE as u64 / 2;

#[test]
fn programming_clears_bits_and_erasing_sets_them() {
    let flash = flash();
    erase(&flash, BLOCK + 8);
    assert_eq!((read(&flash, BLOCK - 4), read(&flash, BLOCK), read(&flash, 2 * BLOCK)), (0, u32::MAX, 0));
    for value in [0x1234_ffff, 0xff00_5678] {
        both(&flash, BLOCK + 4, spec::PROGRAM);
        write(&flash, BLOCK + 4, value);
        assert_eq!(read(&flash, BLOCK + 4), READY);
    }
    both(&flash, 0, spec::READ_ARRAY);
    assert_eq!((read(&flash, BLOCK), read(&flash, BLOCK + 4)), (u32::MAX, 0x1200_5678));
}

#[test]
fn a_buffer_is_programmed_once_confirmed() {
    let flash = flash();
    erase(&flash, 0);
    both(&flash, 0, spec::PROGRAM_BUFFER);
    both(&flash, 0, 1);
    write(&flash, 0x100, 0x0102_0304);
    write(&flash, 0x104, 0x0506_0708);
    both(&flash, 0, spec::CONFIRM);
    assert_eq!(read(&flash, 0), READY);
    both(&flash, 0, spec::READ_ARRAY);
    assert_eq!((read(&flash, 0x100), read(&flash, 0x104)), (0x0102_0304, 0x0506_0708));
    // Not confirmed, or too long: nothing is programmed, and the status says so until it is cleared.
    both(&flash, 0, spec::PROGRAM_BUFFER);
    both(&flash, 0, 0);
    write(&flash, 0x108, 0);
    both(&flash, 0, spec::READ_STATUS);
    assert_eq!(read(&flash, 0), 0x00b0_00b0);
    both(&flash, 0, spec::CLEAR_STATUS);
    both(&flash, 0, spec::PROGRAM_BUFFER);
    write(&flash, 0, spec::BUFFER_WORDS as u32);
    assert_eq!(read(&flash, 0), 0x00b0_00b0);
    both(&flash, 0, spec::READ_ARRAY);
    assert_eq!(read(&flash, 0x108), u32::MAX);
}

#[test]
fn what_was_changed_is_in_the_file_and_in_a_flash_made_of_it() {
    let file = tempfile::tempfile().unwrap();
    let flash = Pflash::new(Arc::new(Flash::with_file(file.try_clone().unwrap()).unwrap()));
    erase(&flash, 0);
    both(&flash, 0x40, spec::PROGRAM);
    write(&flash, 0x40, 0xcafe_f00d);
    both(&flash, 0, spec::READ_ARRAY);
    assert_eq!(file.metadata().unwrap().len(), BLOCK, "no longer than what was used");
    let kept = Flash::with_file(file.try_clone().unwrap()).unwrap();
    kept.detach();
    let again = Pflash::new(Arc::new(kept));
    assert_eq!((read(&again, 0x40), read(&again, 0x44), read(&again, BLOCK)), (0xcafe_f00d, u32::MAX, 0));
    erase(&again, 0);
    both(&again, 0, spec::READ_ARRAY);
    assert_eq!(read(&again, 0x40), u32::MAX);
    let third = Pflash::new(Arc::new(Flash::with_file(file).unwrap()));
    assert_eq!(read(&third, 0x40), 0xcafe_f00d, "what was detached changes no file");
}

#[test]
fn a_file_that_is_too_large_or_cannot_be_written_is_said() {
    let large = tempfile::tempfile().unwrap();
    large.set_len(spec::SIZE as u64 + 1).unwrap();
    assert!(Flash::with_file(large).is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    let read_only = File::open(file.path()).unwrap();
    let flash = Pflash::new(Arc::new(Flash::with_file(read_only).unwrap()));
    both(&flash, 0, spec::ERASE);
    both(&flash, 0, spec::CONFIRM);
    assert_eq!(read(&flash, 0), 0x00a0_00a0);
    both(&flash, 0, spec::READ_ARRAY);
    assert_eq!(read(&flash, 0), 0, "what is not kept is not shown either");
}

#[test]
fn goes_on_in_the_middle_of_a_command() {
    let file = tempfile::tempfile().unwrap();
    let old = Pflash::new(Arc::new(Flash::with_file(file.try_clone().unwrap()).unwrap()));
    erase(&old, 0);
    both(&old, 0, spec::PROGRAM_BUFFER);
    both(&old, 0, 1);
    write(&old, 0, 0x11);
    let state = old.save().unwrap();
    let new = Pflash::new(Arc::new(Flash::with_file(file).unwrap()));
    new.restore(&state).unwrap();
    assert!(!new.is_idle());
    write(&new, 4, 0x22);
    both(&new, 0, spec::CONFIRM);
    both(&new, 0, spec::READ_ARRAY);
    assert_eq!((read(&new, 0), read(&new, 4)), (0x11, 0x22));
    assert!(flash().save().is_err());
    let mut beyond = Chip::default();
    beyond.expects = Expects::Buffer(1, vec![(u32::MAX, vec![0; 4])]);
    assert!(new.restore(&Encoded::new(STATE_VERSION, &beyond).unwrap()).is_err());
}
