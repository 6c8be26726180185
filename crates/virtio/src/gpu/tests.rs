//! The display as a driver and its viewers see it.

use std::sync::Arc;

use tearless_display::{Mode, Screen, Size};
use tearless_memory::Gpa;
use tearless_state::Encoded;

use super::Gpu;
use crate::VirtioDevice as _;
use crate::testing::{Driver, Queue, RAM, eventually, readable, writable};

const OK: u32 = 0x1100;
/// Where pictures lie in the guest.
const PICTURE: Gpa = Gpa(RAM.0 + (8 << 20));

struct Guest {
    gpu: Arc<Gpu>,
    driver: Driver,
    queues: Vec<Queue>,
    screen: Arc<Screen>,
}

impl Guest {
    fn new() -> Self {
        let screen = Screen::new(Mode { size: Size::new(640, 480), scale: 2 });
        let gpu = Gpu::new(screen.clone());
        let mut driver = Driver::probe(gpu.clone());
        let queues = driver.start(2, 2);
        Self { gpu, driver, queues, screen }
    }

    /// Sends a request of type `kind` with `words` behind its header; returns the answer.
    fn send_to(&mut self, queue: usize, kind: u32, words: &[u32]) -> Vec<u8> {
        let mut bytes = [kind, 1, 0x55, 0x66, 7, 0].map(u32::to_le_bytes).concat();
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let (request, answer) = (self.driver.alloc_with(&bytes), self.driver.alloc(2048));
        let buffers = [readable(request, bytes.len()), writable(answer, 2048)];
        self.queues[queue].offer(&self.driver, &buffers);
        let len = self.queues[queue].wait(&self.driver).1;
        self.driver.bytes(answer, len as usize)
    }

    fn send(&mut self, kind: u32, words: &[u32]) -> Vec<u8> {
        self.send_to(0, kind, words)
    }

    fn code(&mut self, kind: u32, words: &[u32]) -> u32 {
        word(&self.send(kind, words), 0)
    }

    /// A picture of `size` whose memory is in two pieces, the first of `first` bytes.
    fn picture(&mut self, id: u32, size: Size, first: u32) {
        assert_eq!(self.code(0x101, &[id, 2, size.width, size.height]), OK);
        let len = size.width * size.height * 4;
        let at = PICTURE.0 as u32;
        let ranges = [at, 0, first, 0, at + 0x10_0000, 0, len - first, 0];
        assert_eq!(self.code(0x106, &[&[id, 2][..], &ranges].concat()), OK);
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let bytes = &bytes[4 * index..4 * index + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[test]
fn a_driver_learns_of_the_screen_and_of_its_user_wanting_another() {
    let mut guest = Guest::new();
    assert_eq!(guest.driver.device_config(8, 4), 1);
    let info = guest.send(0x100, &[]);
    assert_eq!((info.len(), word(&info, 0)), (408, 0x1101));
    // The fence comes back.
    assert_eq!((word(&info, 1), word(&info, 2), word(&info, 3), word(&info, 4)), (1, 0x55, 0x66, 7));
    assert_eq!((word(&info, 8), word(&info, 9), word(&info, 10)), (640, 480, 1));
    let edid = guest.send(0x10a, &[0, 0]);
    assert_eq!((edid.len(), word(&edid, 0), word(&edid, 6)), (1056, 0x1104, 128));
    // 640 pixels at 192 a inch are 8 cm.
    assert_eq!(edid[32 + 21], 8);
    assert_eq!(guest.code(0x10a, &[1, 0]), 0x1202);

    guest.screen.want(Size::new(800, 600));
    assert_eq!(guest.driver.device_config(0, 4), 1);
    let events_clear = guest.driver.places.device + 4;
    guest.driver.write(events_clear, 4, 1);
    assert_eq!(guest.driver.device_config(0, 4), 0);
    let info = guest.send(0x100, &[]);
    assert_eq!((word(&info, 8), word(&info, 9)), (800, 600));
}

#[test]
fn what_is_painted_is_shown_once_it_is_flushed() {
    let mut guest = Guest::new();
    let size = Size::new(8, 4);
    // The first row and a half lie in the first piece.
    guest.picture(5, size, 48);
    for i in 0..32u32 {
        let at = PICTURE.0 + if i < 12 { 4 * u64::from(i) } else { 0x10_0000 + 4 * u64::from(i - 12) };
        guest.driver.memory.write(Gpa(at), &(0xaa00_0000 | i).to_le_bytes()).unwrap();
    }
    // The scanout is the picture's lower right part.
    assert_eq!(guest.code(0x103, &[2, 1, 6, 3, 0, 5]), OK);
    assert_eq!(guest.screen.size(), Some(Size::new(6, 3)));
    assert_eq!(guest.code(0x105, &[0, 1, 8, 2, 32, 0, 5, 0]), OK);
    assert_eq!(guest.code(0x105, &[3, 3, 2, 1, 4 * 27, 0, 5, 0]), OK);
    assert!(guest.screen.picture().unwrap().1.iter().all(|pixel| *pixel == 0));
    assert_eq!(guest.code(0x104, &[0, 0, 8, 4, 5, 0]), OK);
    let row = |y: u32| (0..6).map(|x| 8 * y + 2 + x).collect::<Vec<_>>();
    let mut expected = [row(1), row(2)].concat();
    expected.extend([0, 27, 28, 0, 0, 0]);
    assert_eq!(guest.screen.picture().unwrap().1, expected);

    assert_eq!(guest.code(0x103, &[0, 0, 0, 0, 0, 0]), OK);
    assert_eq!(guest.screen.picture().unwrap().1, [0; 18]);
    guest.driver.negotiate(0);
    eventually("a screen that is off", || guest.screen.size().is_none());
}

#[test]
fn the_pointer_has_a_picture_of_its_own() {
    let mut guest = Guest::new();
    guest.picture(1, Size::new(64, 64), 4);
    assert_eq!(guest.code(0x103, &[0, 0, 64, 64, 0, 1]), OK);
    guest.picture_of_a_pointer();
    let answer = guest.send_to(1, 0x300, &[0, 10, 20, 0, 2, 3, 4, 0]);
    assert_eq!(word(&answer, 0), OK);
    assert_eq!(guest.screen.picture().unwrap().1[64 * 16 + 7], 0x123456);
    assert_eq!(guest.screen.cursor().pixels[..2], [0xff12_3456, 0]);
    guest.send_to(1, 0x301, &[0, 11, 20, 0, 2, 3, 4, 0]);
    let picture = guest.screen.picture().unwrap().1;
    assert_eq!((picture[64 * 16 + 7], picture[64 * 16 + 8]), (0, 0x123456));
    guest.send_to(1, 0x300, &[0; 8]);
    assert_eq!(guest.screen.picture().unwrap().1, [0; 64 * 64]);
    assert_eq!(word(&guest.send_to(1, 0x300, &[0, 0, 0, 0, 1, 64, 0, 0]), 0), 0x1205);
}

impl Guest {
    fn picture_of_a_pointer(&mut self) {
        // As Linux does: a format without alpha for a picture that has it.
        assert_eq!(self.code(0x101, &[2, 2, 64, 64]), OK);
        let at = (PICTURE.0 + 0x20_0000) as u32;
        assert_eq!(self.code(0x106, &[2, 1, at, 0, 64 * 64 * 4, 0]), OK);
        self.driver.memory.write(Gpa(at.into()), &0xff12_3456u32.to_le_bytes()).unwrap();
        assert_eq!(self.code(0x105, &[0, 0, 64, 64, 0, 0, 2, 0]), OK);
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_too_much_too() {
    let mut guest = Guest::new();
    guest.picture(1, Size::new(16, 16), 512);
    let max = u32::MAX;
    for (kind, words, error) in [
        (0x101, vec![1, 2, 4, 4], 0x1203),
        (0x101, vec![0, 2, 4, 4], 0x1203),
        (0x101, vec![2, 99, 4, 4], 0x1205),
        (0x101, vec![2, 2, 0, 4], 0x1205),
        (0x101, vec![2, 2, max, max], 0x1201),
        (0x101, vec![2, 2, 16384, 16384], 0x1201),
        (0x102, vec![9, 0], 0x1203),
        (0x103, vec![0, 0, 17, 16, 0, 1], 0x1205),
        (0x103, vec![max, 0, 2, 1, 0, 1], 0x1205),
        (0x103, vec![0, 0, 16, 16, 1, 1], 0x1202),
        (0x103, vec![0, 0, 16, 16, 0, 9], 0x1203),
        (0x104, vec![1, 1, 16, 16, 1, 0], 0x1205),
        (0x104, vec![0, 0, 1, 1, 9, 0], 0x1203),
        (0x105, vec![0, 0, 16, 16, 4, 0, 1, 0], 0x1205),
        (0x105, vec![0, 0, 16, 16, max, max, 1, 0], 0x1205),
        (0x105, vec![0, max, 1, 2, 0, 0, 1, 0], 0x1205),
        (0x106, vec![1, 0], 0x1200),
        (0x106, vec![9, 0], 0x1203),
        (0x106, vec![1, max], 0x1201),
        (0x106, vec![1, 2, 0, 0, 0, 0], 0x1205),
        (0x107, vec![9, 0], 0x1203),
        (0x108, vec![0, 0], 0x1200),
        (0x999, vec![], 0x1200),
    ] {
        assert_eq!(guest.code(kind, &words), error, "{kind:#x} {words:?}");
    }
    // What was refused took nothing: as much as there is can still be had, once.
    assert_eq!(guest.code(0x102, &[1, 0]), OK);
    assert_eq!(guest.code(0x101, &[2, 2, 8192, 8192]), OK);
    assert_eq!(guest.code(0x101, &[3, 2, 1, 1]), 0x1201);
    assert_eq!(guest.code(0x102, &[2, 0]), OK);
    assert_eq!(guest.code(0x101, &[3, 2, 1, 1]), OK);
    // Memory that is none breaks the device, when it is used.
    assert_eq!(guest.code(0x106, &[3, 1, 0, 0, 4096, 0]), OK);
    assert!(!guest.driver.broken());
    let words = [0x105, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 3, 0].map(u32::to_le_bytes).concat();
    let at = guest.driver.alloc_with(&words);
    guest.queues[0].offer(&guest.driver, &[readable(at, words.len())]);
    eventually("a device that asks for a reset", || guest.driver.broken());
}

#[test]
fn a_saved_screen_shows_what_it_showed() {
    let mut guest = Guest::new();
    guest.picture(1, Size::new(64, 64), 4);
    for i in 0..64 * 63u64 {
        let at = PICTURE.0 + 0x10_0000 + 4 * i;
        guest.driver.memory.write(Gpa(at), &(i as u32).to_le_bytes()).unwrap();
    }
    assert_eq!(guest.code(0x105, &[0, 0, 64, 64, 0, 0, 1, 0]), OK);
    assert_eq!(guest.code(0x103, &[8, 8, 32, 32, 0, 1]), OK);
    guest.picture_of_a_pointer();
    guest.send_to(1, 0x300, &[0, 10, 20, 0, 2, 3, 4, 0]);
    let state = guest.gpu.save().unwrap().unwrap();
    let shown = guest.screen.picture().unwrap();
    assert!(shown.1.iter().any(|pixel| *pixel != 0));

    let mut other = Guest::new();
    let viewer = other.screen.viewer();
    other.gpu.restore(Some(&state)).unwrap();
    assert_eq!(other.screen.picture().unwrap(), shown);
    assert_eq!(other.gpu.save().unwrap().unwrap(), state);
    drop(viewer);
    // Its pictures are what they were: memory that the guest has changed since comes with the next transfer.
    other.driver.memory.write(Gpa(PICTURE.0 + 0x10_0000), &[1; 4096]).unwrap();
    assert_eq!(other.code(0x105, &[0, 0, 64, 64, 0, 0, 1, 0]), OK);
    assert_eq!(other.code(0x104, &[8, 8, 32, 32, 1, 0]), OK);
    assert!(other.screen.picture().unwrap().1.contains(&0x0001_0101));
}

#[test]
fn damaged_screens_are_refused_before_anything_is_shown() {
    let mut guest = Guest::new();
    guest.picture(1, Size::new(8, 8), 4);
    assert_eq!(guest.code(0x103, &[0, 0, 8, 8, 0, 1]), OK);
    let state = guest.gpu.save().unwrap().unwrap();
    let text = state.state.to_string();
    for (old, new) in [
        (r#""size":[8,8]"#, r#""size":[8,9]"#),
        (r#""size":[8,8]"#, r#""size":[65535,65535]"#),
        (r#""format":2"#, r#""format":9"#),
        (r#""id":1"#, r#""id":0"#),
        (r#""rect":[0,0,8,8]"#, r#""rect":[1,0,8,8]"#),
        (r#""resource":1"#, r#""resource":7"#),
        (r#""pixels":"78"#, r#""pixels":"99"#),
        (r#""pixels":"78"#, r#""pixels":"7z"#),
        (r#""size":[0,0]"#, r#""size":[64,65]"#),
    ] {
        let damaged = text.replacen(old, new, 1);
        assert_ne!(damaged, text, "{old}");
        let damaged = Encoded { version: 1, state: serde_json::from_str(&damaged).unwrap() };
        assert!(Guest::new().gpu.restore(Some(&damaged)).is_err(), "{new}");
    }
    assert!(Guest::new().gpu.restore(None).is_err());
}
