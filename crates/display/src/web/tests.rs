//! The page as browsers and others see it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use tungstenite::{
    WebSocket,
    protocol::{Message as Frame, Role},
};

use super::{Opened, Place, serve};
use crate::{
    Clipboard, Input, Mode, Rect, Screen, Size,
    input::{Device, Event},
    lock,
    remote::{Action, Host, Site},
};

#[derive(Default)]
struct Keys(Mutex<Vec<(u16, u16, i32)>>);

impl Device for Keys {
    fn report(&self, events: &[Event]) {
        lock(&self.0).extend(events.iter().map(|event| (event.kind, event.code, event.value)));
    }
}

/// A VM whose console says a word and then what is typed.
#[derive(Default)]
struct Vm(Mutex<Vec<Action>>);

impl Host for Vm {
    fn phase(&self) -> String {
        "running".to_owned()
    }
    fn phases(&self) -> u64 {
        0
    }
    fn act(&self, action: Action) -> Result<String, String> {
        lock(&self.0).push(action);
        Err("cannot do that".to_owned())
    }
    fn console(&self) -> io::Result<UnixStream> {
        let (ours, mut theirs) = UnixStream::pair()?;
        std::thread::spawn(move || {
            theirs.write_all(b"login: ").unwrap();
            let mut echoed = theirs.try_clone().unwrap();
            io::copy(&mut theirs, &mut echoed)
        });
        Ok(ours)
    }
}

struct Bench {
    screen: Arc<Screen>,
    keys: Arc<Keys>,
    clipboard: Arc<Clipboard>,
    vm: Arc<Vm>,
    at: SocketAddr,
    token: String,
    shared: TcpListener,
    opened: Opened,
}

impl Bench {
    fn new() -> Self {
        let (screen, input, keys) = (Screen::new(Mode::default()), Input::new(), Arc::<Keys>::default());
        input.plug_keyboard(keys.clone());
        let (clipboard, vm) = (Arc::<Clipboard>::default(), Arc::<Vm>::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let site = Site {
            title: "<desk>".to_owned(),
            screen: screen.clone(),
            input,
            clipboard: Some(clipboard.clone()),
            host: Some(vm.clone()),
        };
        let place = Place::new(listener).unwrap();
        let (url, token) = (place.url().unwrap(), place.token.clone());
        assert_eq!(url, format!("http://{at}/?token={token}"));
        let shared = place.listener.try_clone().unwrap();
        let opened = serve(place, site).unwrap();
        Self { screen, keys, clipboard, vm, at, token, shared, opened }
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.at).unwrap();
        // Only ends a test that would hang.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, target: &str, headers: &str) -> String {
        let mut answer = String::new();
        let request = format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
        self.send(&request).read_to_string(&mut answer).unwrap();
        answer
    }

    fn own(&self) -> String {
        format!("Host: {}\r\n", self.at)
    }

    fn page(&self) -> Page {
        let (at, token) = (self.at, &self.token);
        let mut stream = self.send(&format!(
            "GET /ws?token={token} HTTP/1.1\r\nHost: {at}\r\nOrigin: http://{at}\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Page(WebSocket::from_raw_socket(stream, Role::Client, None))
    }
}

struct Page(WebSocket<TcpStream>);

impl Page {
    fn says(&mut self, bytes: &[u8]) {
        self.0.send(Frame::Binary(bytes.to_vec().into())).unwrap();
    }

    /// The next message of `kind`.
    fn hears(&mut self, kind: u8) -> Vec<u8> {
        loop {
            if let Frame::Binary(bytes) = self.0.read().unwrap()
                && bytes[0] == kind
            {
                return bytes[1..].to_vec();
            }
        }
    }
}

#[test]
fn strangers_get_nothing() {
    let bench = Bench::new();
    let (own, token) = (bench.own(), &bench.token);
    let page = bench.ask(&format!("/?token={token}"), &own);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>&lt;desk&gt;</title>"), "{page}");
    assert!(page.contains("Content-Security-Policy: default-src 'none'"), "{page}");
    assert!(bench.ask("/page.js", &own).contains("WebSocket"));
    let socket = "Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    let good = format!("/ws?token={token}");
    let port = bench.at.port();
    for (target, headers, status) in [
        ("/", own.clone(), 403),
        ("/?token=", own.clone(), 403),
        ("/?token=00000000000000000000000000000000", own.clone(), 403),
        ("/etc/passwd", own.clone(), 404),
        (good.as_str(), own.clone(), 403),
        (&good, format!("{own}{socket}"), 403),
        (&good, format!("{own}{socket}Origin: http://evil.example\r\n"), 403),
        (&good, format!("{own}{socket}Origin: null\r\n"), 403),
        // A name that somebody's DNS has lead here.
        (&good, format!("Host: evil.example:{port}\r\n{socket}Origin: http://evil.example:{port}\r\n"), 403),
        ("/page.js", format!("Host: evil.example:{port}\r\n"), 403),
        ("/page.js", String::new(), 403),
    ] {
        let answer = bench.ask(target, &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target} {headers}: {answer}");
    }
    for nonsense in ["POST / HTTP/1.1\r\n\r\n", "\0\0\0\r\n\r\n"] {
        let mut answer = String::new();
        bench.send(nonsense).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[test]
fn a_page_sees_the_screen_and_what_is_typed_there_arrives() {
    let bench = Bench::new();
    let mut page = bench.page();
    assert_eq!(page.hears(5), b"running");
    page.says(&[0]);
    bench.screen.resize(Size::new(4, 2));
    assert_eq!(page.hears(0), [0, 4, 0, 2]);
    let tiles = page.hears(1);
    assert_eq!(tiles[..8], [0, 0, 0, 0, 0, 4, 0, 2]);
    assert_eq!(&tiles[8..12], b"\x89PNG");
    assert_eq!(page.hears(7), []);
    // Nothing comes until it is ready for more.
    bench.screen.paint(Rect::new(1, 1, 2, 1), |_, _, row| row.fill(7));
    page.says(&[0]);
    assert_eq!(page.hears(1)[..8], [0, 1, 0, 1, 0, 2, 0, 1]);

    page.says(&[1, 1, 0, 30]);
    page.says(&[4, 3, 32, 2, 88]);
    let copied = bench.clipboard.join(|| ());
    page.says(&[&[5], "größe".as_bytes()].concat());
    page.says(&[6]);
    assert_eq!(page.hears(4)[..11], *b"\0\0\0\x07login: ");
    assert_eq!(copied.news().as_deref(), Some("größe"));
    assert_eq!(bench.screen.wish().size, Size::new(800, 600));
    page.says(b"\x07root");
    while !page.hears(4).ends_with(b"root") {}
    copied.copy("from the guest");
    assert_eq!(page.hears(3), b"from the guest");
    page.says(&[8, 0]);
    assert_eq!(page.hears(5), b"running\ncannot do that");
    assert_eq!(*lock(&bench.vm.0), [Action::Pause]);

    // What it held down is let go.
    drop(page);
    while lock(&bench.keys.0).len() < 4 {
        std::thread::yield_now();
    }
    assert_eq!(*lock(&bench.keys.0), [(1, 30, 1), (0, 0, 0), (1, 30, 0), (0, 0, 0)]);
}

#[test]
fn a_page_that_says_nonsense_is_left() {
    for nonsense in [&[9u8][..], &[1], &vec![5; (1 << 20) + 100]] {
        let bench = Bench::new();
        let mut page = bench.page();
        let _ = page.0.send(Frame::Binary(nonsense.to_vec().into()));
        while page.0.read().is_ok() {}
    }
}

#[test]
fn strangers_keep_nobody_out() {
    let bench = Bench::new();
    // Half of a request each, and then nothing.
    let strangers: Vec<_> = (0..100).map(|_| bench.send("GET / HTTP/1.1\r\n")).collect();
    let mut pages: Vec<_> = (0..24).map(|_| bench.page()).collect();
    assert!(pages.iter_mut().all(|page| page.hears(5) == b"running"));
    let (at, token) = (bench.at, &bench.token);
    let socket =
        format!("{}Origin: http://{at}\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n", bench.own());
    assert!(bench.ask(&format!("/ws?token={token}"), &socket).starts_with("HTTP/1.1 503"));
    // The oldest ones were sent away.
    let mut oldest = &strangers[0];
    assert!(matches!(oldest.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_page_can_be_served_by_somebody_else_from_then_on() {
    let bench = Bench::new();
    let mut page = bench.page();
    assert_eq!(page.hears(5), b"running");
    assert_eq!(bench.opened.guests(), 1);
    let Bench { shared, opened, at, .. } = bench;
    opened.close();
    while page.0.read().is_ok() {}
    // It waits for the other one.
    let mut caller = TcpStream::connect(at).unwrap();
    caller.write_all(b"hello").unwrap();
    shared.set_nonblocking(false).unwrap();
    let mut heard = [0; 5];
    shared.accept().unwrap().0.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

#[test]
fn requests_of_any_kind_are_refused_or_understood() {
    assert!(super::is_request(b"GET /?token=a HTTP/1.1\r\nHost: a\r\n\r\n"));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    for wrong in [
        &b""[..],
        b"GET",
        b"PUT / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        many.as_bytes(),
    ] {
        assert!(!super::is_request(wrong), "{wrong:?}");
    }
}
