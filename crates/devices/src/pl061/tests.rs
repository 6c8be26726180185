use std::sync::mpsc;

use tearless_bus::IrqSink;

use super::*;

struct Line(Mutex<mpsc::Sender<bool>>);

impl IrqSink for Line {
    fn set_level(&self, _: u32, level: bool) {
        _ = lock(&self.0).send(level);
    }
}

struct Board {
    gpio: Arc<Pl061>,
    levels: mpsc::Receiver<bool>,
}

fn board() -> Board {
    let (sender, levels) = mpsc::channel();
    let gpio = Pl061::new(IrqLine::new(Arc::new(Line(Mutex::new(sender))), 7));
    Board { gpio, levels }
}

impl Board {
    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.gpio.read(offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.gpio.write(offset, &value.to_le_bytes()).unwrap();
    }

    fn interrupt(&self) -> bool {
        self.levels.try_iter().last().unwrap_or_default()
    }
}

const POWER: u32 = 1 << POWER_PIN;
const POWER_DATA: u64 = (POWER as u64) << 2;

#[test]
fn the_power_button_interrupts_on_both_edges() {
    let board = board();
    board.write(spec::IBE, POWER);
    board.write(spec::IE, POWER);
    board.gpio.set_input(POWER_PIN, true);
    assert!(board.interrupt());
    assert_eq!((board.read(spec::MIS), board.read(POWER_DATA)), (POWER, POWER));
    board.write(spec::IC, POWER);
    assert!(!board.interrupt());
    board.gpio.set_input(POWER_PIN, false);
    assert!(board.interrupt());
    assert_eq!(board.read(POWER_DATA), 0);
}

#[test]
fn a_press_is_let_go_by_itself() {
    let board = board();
    board.write(spec::IS, POWER);
    board.write(spec::IEV, POWER);
    board.write(spec::IE, POWER);
    assert!(!board.interrupt());
    board.gpio.press_power().unwrap();
    assert!(board.levels.recv().unwrap(), "pressed");
    assert!(!board.levels.recv().unwrap(), "let go");
    assert_eq!(board.read(spec::DATA + 0x3fc), 0);
}

#[test]
fn single_edges_are_told_apart() {
    let board = board();
    board.write(spec::IEV, 1);
    for (pin, level, seen) in [(0, true, 1), (0, false, 0), (1, true, 0), (1, false, 2)] {
        board.gpio.set_input(pin, level);
        assert_eq!(board.read(spec::RIS), seen, "pin {pin} to {level}");
        board.write(spec::IC, 0xff);
    }
}

#[test]
fn the_address_selects_the_pins() {
    let board = board();
    board.write(spec::DIR, 0x0f);
    board.write(spec::DATA + (0x05 << 2), 0xff);
    assert_eq!(board.read(spec::DATA + 0x3fc), 0x05);
    assert_eq!(board.read(spec::DATA + (0x04 << 2)), 0x04);
    board.gpio.set_input(7, true);
    board.gpio.set_input(1, true);
    assert_eq!(board.read(spec::DATA + 0x3fc), 0x85, "an output does not show its input");
}

#[test]
fn identifies_itself_and_refuses_the_rest() {
    let board = board();
    let ids: Vec<u32> = (0..8).map(|n| board.read(0xfe0 + 4 * n)).collect();
    assert_eq!(ids, [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(board.gpio.read(0x424, &mut [0; 4]), Err(AccessError::NoRegister));
    assert_eq!(board.gpio.write(2, &[0; 2]), Err(AccessError::Width));
}

#[test]
fn it_tells_whether_the_guest_listens_to_a_pin() {
    let board = board();
    assert!(!board.gpio.listens(POWER_PIN));
    board.write(spec::IE, 1 << POWER_PIN);
    assert!(board.gpio.listens(POWER_PIN) && !board.gpio.listens(POWER_PIN - 1));
}

#[test]
fn goes_on_with_its_pins() {
    let old = board();
    old.gpio.write(spec::IE, &[1 << POWER_PIN]).unwrap();
    old.gpio.write(spec::IEV, &[1 << POWER_PIN]).unwrap();
    old.gpio.set_input(POWER_PIN, true);
    let state = old.gpio.save().unwrap();
    let new = board();
    new.gpio.restore(&state).unwrap();
    assert_eq!(new.gpio.save().unwrap(), state);
    assert!(new.levels.try_recv().is_err());
    new.gpio.drive();
    assert!(new.levels.try_recv().unwrap() && new.gpio.listens(POWER_PIN));
    assert_eq!(new.read(spec::RIS), 1 << POWER_PIN);
}
