//! An HTTP server on the loopback address for tests: serves bytes by path, knows ranges, can break off.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server has and what it saw.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: HashMap<String, Vec<u8>>,
    /// Ends the next answer with a body after this many bytes of it.
    pub(crate) break_after: Option<usize>,
    /// Ignores `Range`.
    pub(crate) no_ranges: bool,
    /// Path and value of `Range` of each request.
    pub(crate) requests: Vec<(String, Option<String>)>,
}

/// A running server; it ends with the test process.
pub(crate) struct Server {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/debian", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // A broken connection is the client's to complain about.
                let _ = answer(connection, &shared);
            }
        });
        Self { address, state }
    }

    pub(crate) fn set<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        self.set(|s| s.files.insert(format!("/debian/{path}"), content.to_vec()));
    }
}

fn answer(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.to_owned());
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push((path.clone(), range.clone()));
    let Some(content) = state.files.get(&path).cloned() else {
        return write!(
            connection,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let from = range.filter(|_| !state.no_ranges);
    let range = from.and_then(|r| {
        let (from, to) = r.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()))
    });
    let total = content.len();
    let last = range.and_then(|(_, to)| to).unwrap_or(usize::MAX).min(total.saturating_sub(1));
    let from = range.map(|(from, _)| from);
    let status = match from {
        Some(from) if from >= total => "416 Range Not Satisfiable".to_owned(),
        Some(from) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{total}"),
        None => "200 OK".to_owned(),
    };
    let end = if from.is_some() { last + 1 } else { total };
    let body = content.get(from.unwrap_or(0)..end).unwrap_or_default();
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    let sent = state.break_after.take().unwrap_or(body.len()).min(body.len());
    connection.write_all(&body[..sent])
}
