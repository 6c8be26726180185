//! `console` and `logs`: what a guest says.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IsTerminal, Read, Write},
    net::Shutdown,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH},
    iterator::Signals,
};
use tearless_bundle::Store;
use tearless_control::{Client, Request};

use crate::{
    args::{ConsoleArgs, LogSource, LogsArgs},
    life, serve,
    terminal::{self, EscapeFilter, RawMode},
};

/// How often a log is looked at for more.
const FOLLOW: Duration = Duration::from_millis(200);

pub fn console(args: &ConsoleArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let client = life::client(&bundle);
    let mut stream = client.stream(&Request::Console)?;
    let _raw = RawMode::enter().context("cannot switch the terminal to raw mode")?;
    if io::stderr().is_terminal() {
        eprint!("[tearless: console of {}; Ctrl-] q detaches]\r\n", bundle.name());
    }
    resize(&client);
    let left = Arc::new(AtomicBool::new(false));
    watch_signals(client, stream.try_clone().context("cannot watch for signals")?, Arc::clone(&left))?;
    let keys = stream.try_clone().context("cannot read the keyboard")?;
    let detached = Arc::clone(&left);
    // Detached: it sits in a read that only the process' end interrupts.
    thread::spawn(move || {
        // Who leaves leaves at once; at the end of a script's input, what the guest has said by then is still shown.
        let how = if send_keys(&keys) { Shutdown::Both } else { Shutdown::Write };
        detached.store(true, Ordering::Release);
        let _ = keys.shutdown(how);
    });
    show(&mut stream)?;
    terminal::restore();
    if io::stderr().is_terminal() {
        let what = if left.load(Ordering::Acquire) { "detached; the VM goes on" } else { "the VM has ended" };
        eprintln!("\n[tearless: {what}]");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(stream: &mut UnixStream) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut stdout = io::stdout();
    loop {
        let n = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // The VM's process died.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(e) => return Err(e).context("lost the connection to the VM"),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("cannot write what the guest says")?,
        }
    }
}

/// Sends what is typed until the user detaches or the input ends; returns whether the user did.
fn send_keys(mut stream: &UnixStream) -> bool {
    let is_terminal = io::stdin().is_terminal();
    let mut filter = EscapeFilter::default();
    let mut buffer = [0; 4096];
    let mut keys = Vec::new();
    while let Ok(n @ 1..) = terminal::read_stdin(&mut buffer) {
        let typed = buffer.get(..n).unwrap_or_default();
        keys.clear();
        let leave = if is_terminal {
            filter.feed(typed, &mut keys)
        } else {
            keys.extend_from_slice(typed);
            false
        };
        if stream.write_all(&keys).is_err() || leave {
            return true;
        }
    }
    false
}

fn resize(client: &Client) {
    if let Some((cols, rows)) = terminal::size()
        && let Err(error) = client.call(&Request::Resize { cols, rows })
    {
        tracing::debug!(%error, "cannot tell the guest the terminal's size");
    }
}

fn watch_signals(client: Client, stream: UnixStream, left: Arc<AtomicBool>) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH]).context("cannot watch for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGWINCH {
                resize(&client);
            } else {
                left.store(true, Ordering::Release);
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    });
    Ok(())
}

pub fn logs(args: &LogsArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let name = match args.source {
        LogSource::Console => tearless_vm::MAIN_LOG,
        LogSource::Uart => tearless_vm::UART_LOG,
        LogSource::Virtio => tearless_vm::VIRTIO_LOG,
        LogSource::Vmm => serve::VMM_LOG,
    };
    let [old, path] = serve::log_files(&bundle.logs(), name);
    let mut bytes = read_if_there(&old)?;
    let mut current = open_if_there(&path)?;
    if let Some(file) = &mut current {
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let result = print(last_lines(&bytes, args.lines)).and_then(|()| match args.follow {
        true => follow(&path, current, || bundle.running().is_some()),
        false => Ok(()),
    });
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).context("cannot show the log"),
    }
}

/// Shows what is appended to the log at `path`, over rotations, as long as `goes_on`.
fn follow(path: &Path, mut current: Option<File>, goes_on: impl Fn() -> bool) -> io::Result<()> {
    loop {
        // Asked before reading, so that the last words of a VM that ends are seen.
        let last = !goes_on();
        if let Some(file) = &mut current {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            print(&bytes)?;
        }
        let named = std::fs::metadata(path).ok();
        let open = current.as_ref().and_then(|file| file.metadata().ok());
        if named.as_ref().map(|m| (m.dev(), m.ino())) != open.map(|m| (m.dev(), m.ino())) {
            current = open_if_there(path)?;
            continue;
        }
        if last {
            return Ok(());
        }
        thread::sleep(FOLLOW);
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_if_there(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read =
        open_if_there(path).and_then(|file| file.map_or(Ok(0), |mut file| file.read_to_end(&mut bytes)));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// The last `lines` lines of `bytes`, or all.
fn last_lines(bytes: &[u8], lines: Option<usize>) -> &[u8] {
    let Some(lines) = lines else { return bytes };
    let mut starts = VecDeque::from([0]);
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    for (at, _) in body.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        starts.push_back(at + 1);
        if starts.len() > lines.max(1) {
            starts.pop_front();
        }
    }
    match (lines, starts.front()) {
        (1.., Some(&at)) => bytes.get(at..).unwrap_or_default(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(last_lines(text, None), text);
        assert_eq!(last_lines(text, Some(2)), b"two\nthree\n");
        assert_eq!(last_lines(text, Some(9)), text);
        assert_eq!(last_lines(text, Some(0)), b"");
        assert_eq!(last_lines(b"one\ntw", Some(1)), b"tw");
        assert_eq!(last_lines(b"", Some(3)), b"");
    }
}
