//! The server as a viewer sees it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Extended, Options, serve, session::expected};
use crate::{
    Clipboard, Cursor, Input, Mode, Rect, Screen, Size,
    input::{Device, Event},
    lock,
};

#[derive(Default)]
struct Record(Mutex<Vec<(u16, u16, i32)>>);

impl Device for Record {
    fn report(&self, events: &[Event]) {
        lock(&self.0).extend(events.iter().map(|event| (event.kind, event.code, event.value)));
    }
}

struct Host {
    screen: Arc<Screen>,
    input: Arc<Input>,
    keys: Arc<Record>,
    pointer: Arc<Record>,
    clipboard: Arc<Clipboard>,
    at: std::net::SocketAddr,
}

impl Host {
    fn new(password: Option<&str>) -> Self {
        let screen = Screen::new(Mode::default());
        let (input, keys, pointer) = (Input::new(), Arc::<Record>::default(), Arc::<Record>::default());
        input.plug_keyboard(keys.clone());
        input.plug_pointer(pointer.clone());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let options = Options { password: password.map(str::to_owned) };
        let clipboard = Arc::<Clipboard>::default();
        serve(listener, screen.clone(), input.clone(), Some(clipboard.clone()), options).unwrap();
        Self { screen, input, keys, pointer, clipboard, at }
    }

    fn viewer(&self) -> Viewer {
        let stream = TcpStream::connect(self.at).unwrap();
        // Only ends a test that would hang.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut viewer = Viewer(stream);
        assert_eq!(viewer.read(12), b"RFB 003.008\n");
        viewer.send(b"RFB 003.008\n");
        viewer
    }

    /// A viewer that is in, and the size that it was told.
    fn admitted(&self) -> (Viewer, Size) {
        let mut viewer = self.viewer();
        assert_eq!(viewer.read(2), [1, 1]);
        viewer.send(&[1]);
        assert_eq!(viewer.read(4), [0; 4]);
        let size = viewer.enter();
        (viewer, size)
    }
}

struct Viewer(TcpStream);

impl Viewer {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn enter(&mut self) -> Size {
        self.send(&[1]);
        let init = self.read(24);
        let len = init[23].into();
        assert_eq!(self.read(len), b"Tearless");
        Size::new(short(&init, 0).into(), short(&init, 2).into())
    }

    fn encodings(&mut self, encodings: &[i32]) {
        let mut bytes = vec![2, 0, 0, encodings.len() as u8];
        bytes.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
        self.send(&bytes);
    }

    fn ask(&mut self, incremental: bool) {
        self.send(&[3, incremental.into(), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }

    /// The head of an update: how many rectangles.
    fn update(&mut self) -> u16 {
        let head = self.read(4);
        assert_eq!(head[0], 0);
        short(&head, 2)
    }

    fn rect(&mut self) -> (Rect, i32) {
        let head = self.read(12);
        let [x, y, width, height] = [0, 2, 4, 6].map(|at| u32::from(short(&head, at)));
        (Rect::new(x, y, width, height), i32::from_be_bytes(head[8..].try_into().unwrap()))
    }
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[test]
fn a_viewer_sees_the_screen_and_its_changes() {
    let host = Host::new(None);
    host.screen.resize(Size::new(4, 2));
    let (mut viewer, size) = host.admitted();
    assert_eq!(size, Size::new(4, 2));
    viewer.encodings(&[0]);
    viewer.ask(false);
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(0, 0, 4, 2), 0)));
    assert_eq!(viewer.read(32), [0; 32]);

    viewer.ask(true);
    host.screen.paint(Rect::new(3, 1, 9, 9), |_, _, row| row.fill(0x102030));
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(3, 1, 1, 1), 0)));
    assert_eq!(viewer.read(4), [0x30, 0x20, 0x10, 0]);

    // Nothing is sent that was not asked for; then all that came together.
    host.screen.paint(Rect::new(0, 0, 1, 1), |_, _, row| row.fill(1));
    host.screen.resize(Size::new(2, 2));
    viewer.ask(true);
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(0, 0, 2, 2), 0)));
}

#[test]
fn the_password_is_asked_for_and_checked() {
    let host = Host::new(Some("secret"));
    host.screen.resize(Size::new(4, 2));
    for (password, answer) in [("secret", [0, 0, 0, 0]), ("sekret", [0, 0, 0, 1])] {
        let mut viewer = host.viewer();
        assert_eq!(viewer.read(2), [1, 2]);
        viewer.send(&[2]);
        let challenge = viewer.read(16).try_into().unwrap();
        viewer.send(&expected(password, challenge));
        assert_eq!(viewer.read(4), answer);
        if answer == [0; 4] {
            viewer.enter();
        } else {
            assert_eq!(viewer.read(18)[4..], *b"wrong password");
            assert_eq!(viewer.0.read(&mut [0]).unwrap(), 0);
        }
    }
    // One that chooses to need none is sent away.
    let mut viewer = host.viewer();
    viewer.read(2);
    viewer.send(&[1]);
    assert_eq!(viewer.0.read(&mut [0]).unwrap_or(0), 0);
}

/// The answer to the challenge 0..16 with the password "password", as OpenSSL computes it.
#[test]
fn the_password_is_encrypted_as_others_do() {
    let challenge: [u8; 16] = std::array::from_fn(|i| i as u8);
    let response = expected("password", challenge);
    // DES with the key 0e 86 ce ce ee f6 4e 26.
    assert_eq!(
        response,
        [0xb8, 0x66, 0x92, 0x41, 0x25, 0xc8, 0xee, 0xbb, 0x9d, 0xeb, 0xc1, 0xdb, 0x61, 0xc5, 0x38, 0xe2]
    );
}

#[test]
fn what_is_typed_and_pointed_at_arrives_and_is_let_go() {
    let host = Host::new(None);
    host.screen.resize(Size::new(101, 101));
    let (mut viewer, _) = host.admitted();
    viewer.send(&[255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30]);
    viewer.send(&[4, 1, 0, 0, 0, 0, 0, b'B']);
    viewer.send(&[5, 1, 0, 100, 0, 0]);
    viewer.send(&[5, 8, 0, 100, 0, 50]);
    viewer.0.shutdown(std::net::Shutdown::Write).unwrap();
    // The server closes once it has let go.
    let mut rest = Vec::new();
    viewer.0.read_to_end(&mut rest).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while lock(&host.keys.0).len() < 8 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let keys: Vec<_> = lock(&host.keys.0).iter().filter(|event| event.0 == 1).copied().collect();
    assert_eq!(keys, [(1, 30, 1), (1, 48, 1), (1, 30, 0), (1, 48, 0)]);
    let pointer: Vec<_> = lock(&host.pointer.0).iter().filter(|event| event.0 != 0).copied().collect();
    assert_eq!(
        pointer,
        [(3, 0, 0x7fff), (3, 1, 0), (1, 0x110, 1), (3, 0, 0x7fff), (3, 1, 0x4000), (1, 0x110, 0), (2, 8, 1)]
    );
}

#[test]
fn a_viewer_may_choose_the_size_and_draws_the_pointer() {
    let host = Host::new(None);
    host.screen.resize(Size::new(8, 8));
    let (mut viewer, _) = host.admitted();
    viewer.encodings(&[0, -308, -258, -239]);
    viewer.ask(false);
    assert_eq!((viewer.update(), viewer.rect().1), (4, -258));
    assert_eq!(viewer.rect(), (Rect::new(0, 0, 8, 8), -308));
    assert_eq!(viewer.read(20)[12..], [0, 8, 0, 8, 0, 0, 0, 0]);
    assert_eq!(viewer.rect(), (Rect::default(), -239));
    assert_eq!(viewer.rect(), (Rect::new(0, 0, 8, 8), 0));
    viewer.read(256);

    viewer.ask(true);
    viewer.send(&[&[251, 0, 3, 32, 2, 88, 1, 0][..], &[0; 16]].concat());
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(1, 4, 8, 8), -308)));
    viewer.read(20);
    assert_eq!(host.screen.wish().size, Size::new(800, 600));
    host.screen.resize(Size::new(800, 600));
    viewer.ask(true);
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(0, 0, 800, 600), -308)));
    viewer.read(20);
    viewer.ask(true);
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(0, 0, 800, 600), 0)));
    viewer.read(800 * 600 * 4);

    viewer.ask(true);
    let pixels = Arc::from([0xff11_2233u32, 0]);
    host.screen.set_cursor(Cursor { hot_x: 1, size: Size::new(2, 1), pixels, ..Cursor::default() });
    assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::new(1, 0, 2, 1), -239)));
    assert_eq!(viewer.read(9), [0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0x80]);
}

#[test]
fn a_viewer_that_knows_how_sees_the_lights_of_the_keyboard() {
    let host = Host::new(None);
    host.screen.resize(Size::new(2, 1));
    let (mut viewer, _) = host.admitted();
    viewer.encodings(&[0, -261]);
    viewer.ask(false);
    assert_eq!((viewer.update(), viewer.rect().1), (1, 0), "nobody knows how they are");
    viewer.read(8);
    viewer.ask(true);
    for (light, value, told) in [(1, 1, 0b100), (0, 1, 0b110), (2, 1, 0b111), (1, 0, 0b011)] {
        let lights = host.input.lights().unwrap_or_default();
        host.input.set_lights(Some(lights.after(Event::new(0x11, light, value))));
        assert_eq!((viewer.update(), viewer.rect()), (1, (Rect::default(), -261)));
        assert_eq!(viewer.read(1), [told]);
        // Told once: what comes next is the picture.
        viewer.ask(true);
    }
    host.screen.paint(Rect::new(0, 0, 1, 1), |_, _, row| row.fill(1));
    assert_eq!((viewer.update(), viewer.rect().1), (1, 0));
    let (mut other, _) = host.admitted();
    other.encodings(&[0]);
    other.ask(false);
    assert_eq!((other.update(), other.rect().1), (1, 0), "one that does not know how is not told");
}

#[test]
fn what_is_copied_goes_both_ways() {
    let host = Host::new(None);
    let (copied, heard) = std::sync::mpsc::channel();
    let guest = host.clipboard.join(move || copied.send(()).unwrap());
    let (mut viewer, _) = host.admitted();
    viewer.send(&[6, 0, 0, 0, 0, 0, 0, 3, b'a', 0xe4, b'!']);
    heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(guest.news().as_deref(), Some("aä!"));
    // Without having asked for the screen, and in spite of characters that cannot be said.
    guest.copy("ö€");
    assert_eq!(viewer.read(10), [3, 0, 0, 0, 0, 0, 0, 2, 0xf6, b'?']);
    viewer.ask(true);
    host.screen.resize(Size::new(8, 8));
    assert_eq!((viewer.update(), viewer.rect().0), (1, Rect::new(0, 0, 8, 8)));
}

#[test]
fn viewers_that_know_how_share_texts_of_all_characters() {
    let host = Host::new(None);
    let (copied, heard) = std::sync::mpsc::channel();
    let guest = host.clipboard.join(move || copied.send(()).unwrap());
    let (mut viewer, _) = host.admitted();
    let extended = 0xc0a1_e5ce_u32.cast_signed();
    viewer.encodings(&[0, extended]);
    let hear = |viewer: &mut Viewer| {
        let head = viewer.read(8);
        assert_eq!(head[..4], [3, 0, 0, 0]);
        let len = -i32::from_be_bytes(head[4..].try_into().unwrap());
        viewer.read(usize::try_from(len).unwrap())
    };
    assert_eq!(hear(&mut viewer), [0x1f, 0, 0, 1, 0, 0x10, 0, 0], "what can be done");
    // The guest copies; the viewer is told, asks and gets it.
    guest.copy("ö€\n");
    assert_eq!(hear(&mut viewer), [0x08, 0, 0, 1]);
    viewer.send(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 0x02, 0, 0, 1]);
    let provided = hear(&mut viewer);
    let text = Extended::parse(&provided).unwrap();
    assert_eq!(text, Extended::Provide("ö€\n".to_owned()));
    // The viewer copies; it is asked, and gives it.
    viewer.send(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 0x08, 0, 0, 1]);
    assert_eq!(hear(&mut viewer), [0x02, 0, 0, 1]);
    let mut message = super::clipboard::provide("日本").unwrap();
    message[0] = 6;
    viewer.send(&message);
    heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(guest.news().as_deref(), Some("日本"));
}

#[test]
fn a_viewer_gets_pixels_as_it_likes_them_best() {
    let host = Host::new(None);
    host.screen.resize(Size::new(200, 130));
    for (known, expected, count) in
        [(&[7, 16, 0][..], 7, 4), (&[16, 7], 16, 2), (&[5, 0, 7], 0, 1), (&[5], 0, 1)]
    {
        let (mut viewer, _) = host.admitted();
        viewer.encodings(known);
        viewer.ask(false);
        assert_eq!(viewer.update(), count);
        let (rect, encoding) = viewer.rect();
        assert_eq!(encoding, expected);
        if encoding == 7 {
            assert_eq!(rect, Rect::new(0, 0, 128, 128));
            assert_eq!(viewer.read(4), [0x80, 0, 0, 0]);
            assert_eq!(viewer.rect(), (Rect::new(128, 0, 72, 128), 7));
        }
    }
}

#[test]
fn strangers_keep_no_viewer_out_and_viewers_are_counted() {
    let host = Host::new(Some("secret"));
    host.screen.resize(Size::new(4, 2));
    // They say that they speak RFB, and then nothing.
    let strangers: Vec<_> = (0..40).map(|_| host.viewer()).collect();
    let enter = || {
        let mut viewer = host.viewer();
        viewer.read(2);
        viewer.send(&[2]);
        let challenge = viewer.read(16).try_into().unwrap();
        viewer.send(&expected("secret", challenge));
        assert_eq!(viewer.read(4), [0; 4]);
        viewer
    };
    let viewers: Vec<_> = (0..16)
        .map(|_| {
            let mut viewer = enter();
            viewer.enter();
            viewer
        })
        .collect();
    let mut late = enter();
    late.send(&[1]);
    assert_eq!(late.0.read(&mut [0]).unwrap_or(0), 0, "there are 16");
    drop(viewers);
    let mut oldest = &strangers[0].0;
    oldest.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(oldest.read(&mut [0]).unwrap_or(0), 0);
}

/// Neither what is typed by the thousand nor a viewer that takes nothing is waited for.
#[test]
fn a_viewer_that_points_without_end_holds_up_nobody() {
    let host = Host::new(None);
    host.screen.resize(Size::new(640, 480));
    let (mut greedy, _) = host.admitted();
    greedy.encodings(&[7]);
    let ask = [3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let point: Vec<u8> =
        (0..10_000u16).flat_map(|i| [&[5, 0, 0, (i % 200) as u8, 0, 9][..], &ask].concat()).collect();
    // Asks, and asks again, and never reads.
    let flood = std::thread::spawn(move || {
        let _ = greedy.0.write_all(&point);
        greedy
    });
    let (mut other, _) = host.admitted();
    other.encodings(&[0]);
    other.ask(false);
    assert_eq!((other.update(), other.rect().1), (1, 0));
    other.read(640 * 480 * 4);
    drop(flood.join().unwrap());
}
