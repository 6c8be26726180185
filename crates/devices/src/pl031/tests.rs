use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc,
};

use tearless_bus::IrqSink;

use super::*;

const START: u64 = 1_700_000_000;

#[derive(Default)]
struct Line(AtomicBool, Option<Mutex<mpsc::Sender<()>>>);

impl IrqSink for Line {
    fn set_level(&self, _: u32, level: bool) {
        if !self.0.swap(level, Ordering::SeqCst)
            && level
            && let Some(rises) = &self.1
        {
            _ = lock(rises).send(());
        }
    }
}

struct Board {
    rtc: Pl031,
    line: Arc<Line>,
    now: Arc<AtomicU64>,
}

fn board(line: Line) -> Board {
    let line = Arc::new(line);
    let now = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&now);
    let clock = Box::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
    let rtc = Pl031::with_clock(IrqLine::new(Arc::clone(&line) as _, 2), clock);
    Board { rtc, line, now }
}

impl Board {
    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.rtc.read(offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.rtc.write(offset, &value.to_le_bytes()).unwrap();
    }

    fn interrupt(&self) -> bool {
        self.line.0.load(Ordering::SeqCst)
    }
}

#[test]
fn shows_the_hosts_time_until_set() {
    let board = board(Line::default());
    assert_eq!(board.read(spec::DR), START as u32);
    board.write(spec::LR, 100);
    assert_eq!((board.read(spec::DR), board.read(spec::LR)), (100, 100));
    board.now.fetch_add(5, Ordering::SeqCst);
    assert_eq!(board.read(spec::DR), 105);
}

#[test]
fn the_alarm_is_raised_masked_and_cleared() {
    let board = board(Line::default());
    board.write(spec::MR, START as u32 + 2);
    board.now.fetch_add(1, Ordering::SeqCst);
    assert_eq!(board.read(spec::RIS), 0);
    board.now.fetch_add(3, Ordering::SeqCst);
    assert_eq!((board.read(spec::RIS), board.read(spec::MIS), board.interrupt()), (1, 0, false));
    board.write(spec::IMSC, 1);
    assert_eq!((board.read(spec::MIS), board.interrupt()), (1, true));
    board.write(spec::ICR, 1);
    assert_eq!((board.read(spec::RIS), board.interrupt()), (0, false));
    board.now.fetch_add(100, Ordering::SeqCst);
    assert_eq!(board.read(spec::RIS), 0, "once");
}

#[test]
fn setting_the_time_moves_the_alarm() {
    let board = board(Line::default());
    board.write(spec::MR, 1000);
    board.write(spec::LR, 990);
    board.now.fetch_add(9, Ordering::SeqCst);
    assert_eq!(board.read(spec::RIS), 0);
    board.now.fetch_add(1, Ordering::SeqCst);
    assert_eq!(board.read(spec::RIS), 1);
}

#[test]
fn the_thread_interrupts_without_an_access() {
    let (sender, rises) = mpsc::channel();
    let rtc = Pl031::new(IrqLine::new(Arc::new(Line(AtomicBool::new(false), Some(Mutex::new(sender)))), 2));
    let mut data = [0; 4];
    rtc.write(spec::IMSC, &[1]).unwrap();
    rtc.read(spec::DR, &mut data).unwrap();
    let soon = u32::from_le_bytes(data) + 1;
    rtc.write(spec::MR, &soon.to_le_bytes()).unwrap();
    rises.recv().unwrap();
    rtc.read(spec::MIS, &mut data).unwrap();
    assert_eq!(data, [1, 0, 0, 0]);
}

#[test]
fn the_thread_ends_with_the_alarm_and_with_the_device() {
    let ended = |shared: &Arc<Shared>, rest: usize| {
        while Arc::strong_count(shared) > rest {
            thread::yield_now();
        }
    };
    let board = board(Line::default());
    let shared = Arc::clone(&board.rtc.0);
    board.write(spec::MR, START as u32 + 1000);
    assert_eq!(Arc::strong_count(&shared), 2);
    board.write(spec::IMSC, 1);
    board.write(spec::IMSC, 0);
    ended(&shared, 2);
    board.write(spec::IMSC, 1);
    assert_eq!(Arc::strong_count(&shared), 3);
    drop(board);
    ended(&shared, 1);
}

#[test]
fn identifies_itself_and_refuses_the_rest() {
    let board = board(Line::default());
    let ids: Vec<u32> = (0..8).map(|n| board.read(0xfe0 + 4 * n)).collect();
    assert_eq!(ids, [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!(board.read(spec::CR), 1);
    board.write(spec::DR, 7);
    assert_eq!(board.read(spec::DR), START as u32);
    assert_eq!(board.rtc.write(0x20, &[0; 4]), Err(AccessError::NoRegister));
    assert_eq!(board.rtc.read(0, &mut [0; 8]), Err(AccessError::Width));
}

#[test]
fn the_time_is_right_after_a_long_sleep_and_an_alarm_comes_at_once() {
    let old = board(Line::default());
    old.write(spec::LR, 1000);
    old.write(spec::MR, 1060);
    old.write(spec::IMSC, 1);
    let state = old.rtc.save().unwrap();
    let new = board(Line::default());
    new.now.store(START + 3600, Ordering::SeqCst);
    new.rtc.restore(&state).unwrap();
    assert_eq!(new.read(spec::DR), 1000 + 3600);
    new.rtc.drive();
    assert!(new.line.0.load(Ordering::SeqCst));
    assert_eq!(new.read(spec::RIS), 1);
}
