//! What browsers ask for: three files and a WebSocket.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

use tungstenite::handshake::derive_accept_key;

use super::{Served, socket};
use crate::door::Stranger;

/// Most bytes of a request.
const MAX_REQUEST: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a browser may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// What holds for every answer: nothing of others is loaded, nothing is shown in others' frames, the token is told to nobody.
const RULES: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\
                     X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n\
                     Cross-Origin-Resource-Policy: same-origin\r\n";

/// A request, as far as it matters here.
#[derive(Default)]
struct Request {
    path: String,
    token: String,
    host: String,
    origin: Option<String>,
    upgrade: bool,
    key: String,
}

/// Answers the browser behind `stream`.
///
/// # Errors
/// When it does not take the answer, or leaves.
pub(super) fn answer(mut stream: TcpStream, served: &Served, stranger: Stranger) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let Some(request) = read(&mut stream)? else {
        return reply(
            &mut stream,
            "400 Bad Request",
            "text/plain",
            "This is no request that is understood here.\n",
        );
    };
    if !is_plain_host(&request.host) {
        let text = "Open this page by the address that Tearless printed, not by a name.\n";
        return reply(&mut stream, "403 Forbidden", "text/plain", text);
    }
    match request.path.as_str() {
        // What is the same for everybody needs no token.
        "/page.js" => return reply(&mut stream, "200 OK", "text/javascript", SCRIPT),
        "/page.css" => return reply(&mut stream, "200 OK", "text/css", STYLE),
        "/" | "/ws" => {}
        _ => return reply(&mut stream, "404 Not Found", "text/plain", "There is no such page.\n"),
    }
    if !is_same(request.token.as_bytes(), served.token.as_bytes()) {
        let text = "The token in the address is missing or wrong: `tearless info` shows the address.\n";
        return reply(&mut stream, "403 Forbidden", "text/plain", text);
    }
    if request.path == "/" {
        let page = PAGE.replace("{title}", &escaped(&served.site.title));
        return reply(&mut stream, "200 OK", "text/html", &page);
    }
    let own = format!("http://{}", request.host);
    if !request.upgrade || request.key.is_empty() || request.origin.as_deref() != Some(own.as_str()) {
        return reply(
            &mut stream,
            "403 Forbidden",
            "text/plain",
            "Only this page's own script may connect.\n",
        );
    }
    let Some(_guest) = stranger.admit() else {
        tracing::warn!("as many pages are open as there may be: another one was closed");
        let text = "Too many pages show this VM: close one.\n";
        return reply(&mut stream, "503 Service Unavailable", "text/plain", text);
    };
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(request.key.as_bytes())
    )?;
    socket::run(stream, &served.site)
}

/// Reads a request; `None` for what is none. Browsers send nothing behind it before they have the answer.
fn read(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let (begun, mut bytes) = (Instant::now(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        // For all of it: whoever says a byte now and then must not keep others out.
        let left = PATIENCE.checked_sub(begun.elapsed()).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let len = stream.read(&mut buffer)?;
        bytes.extend(buffer.get(..len).unwrap_or_default());
        if len == 0 || bytes.len() > MAX_REQUEST {
            return Ok(None);
        }
        if bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(parse(&bytes));
        }
    }
}

/// Whether these bytes are a request as it is understood here. They are anybody's.
pub fn is_request(bytes: &[u8]) -> bool {
    parse(bytes).is_some()
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let complete = parsed.parse(bytes).ok()?.is_complete();
    let target = parsed.path.filter(|_| complete && parsed.method == Some("GET"))?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
    let mut request =
        Request { path: path.to_owned(), token: token.unwrap_or_default().to_owned(), ..Request::default() };
    for header in parsed.headers {
        let value = std::str::from_utf8(header.value).ok()?.trim();
        match header.name.to_ascii_lowercase().as_str() {
            "host" => request.host = value.to_owned(),
            "origin" => request.origin = Some(value.to_owned()),
            "upgrade" => request.upgrade = value.eq_ignore_ascii_case("websocket"),
            "sec-websocket-key" => request.key = value.to_owned(),
            _ => {}
        }
    }
    Some(request)
}

/// Whether a browser that says it speaks to `host` cannot have been led here by somebody else's DNS.
fn is_plain_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Compares in a time that does not tell where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn reply(stream: &mut TcpStream, status: &str, kind: &str, body: &str) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n{RULES}\r\n{body}",
        body.len()
    )
}
