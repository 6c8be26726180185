//! `exec`: one program in the guest, with our streams, signals and terminal.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    process::ExitCode,
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    iterator::Signals,
};
use tearless_guest::{Ended, Event, Exec, Remote, WindowSize};

use super::agent_of;
use crate::{
    args::ExecArgs,
    out::say,
    terminal::{self, EscapeFilter, RawMode},
};

/// What runs when no command is given; the agent says which shell is the user's.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "exec \"$SHELL\" -l"];
/// As if ended by SIGPIPE, like any program whose reader is gone.
const READER_GONE: u8 = 141;
/// So many signals of one kind end this program even if the other does not listen.
const INSIST: usize = 3;

pub fn exec(args: &ExecArgs) -> Result<ExitCode> {
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let terminal = args.tty || on_terminal && !args.no_tty;
    let agent = agent_of(&args.name, args.wait.time)?;
    let mut session = agent.exec(request(args, terminal)?)?;
    if args.detach {
        say!("{}", session.pid());
        return Ok(ExitCode::SUCCESS);
    }
    let _raw =
        if terminal { RawMode::enter().context("cannot switch the terminal to raw mode")? } else { None };
    watch_signals(session.remote())?;
    if args.no_input {
        session.remote().end_stdin().context("lost the connection with the guest")?;
    } else {
        let remote = session.remote();
        // It sits in a read that only the process' end interrupts.
        thread::spawn(move || send_input(&remote, terminal));
    }
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    loop {
        let written = match session.event()? {
            Event::Stdout(bytes) => stdout.write_all(bytes).and_then(|()| stdout.flush()),
            Event::Stderr(bytes) => stderr.write_all(bytes),
            Event::StdinClosed => Ok(()),
            Event::Ended(Ended::Exited(status)) => return Ok(ExitCode::from(status)),
            Event::Ended(Ended::Signaled(signal)) => {
                return Ok(ExitCode::from(128_u8.saturating_add(u8::try_from(signal).unwrap_or(127))));
            }
        };
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::from(READER_GONE)),
            other => other.context("cannot write what the program says")?,
        }
    }
}

fn request(args: &ExecArgs, terminal: bool) -> Result<Exec> {
    let mut env = Vec::new();
    for variable in &args.env {
        let bytes = variable.as_bytes();
        let Some(at) = bytes.iter().position(|b| *b == b'=').filter(|at| *at > 0) else {
            bail!("{} is no environment variable\n  try: --env NAME=VALUE", variable.display());
        };
        let (name, value) = bytes.split_at(at);
        env.push((name.to_vec(), value.iter().skip(1).copied().collect()));
    }
    if terminal && let Some(term) = std::env::var_os("TERM") {
        env.insert(0, (b"TERM".to_vec(), term.as_bytes().to_vec()));
    }
    let argv: Vec<Vec<u8>> = if args.command.is_empty() {
        SHELL.iter().map(|word| word.as_bytes().to_vec()).collect()
    } else {
        args.command.iter().map(|word| word.as_bytes().to_vec()).collect()
    };
    Ok(Exec {
        argv,
        env,
        cwd: args.workdir.as_ref().map(|dir| dir.as_os_str().as_bytes().to_vec()),
        user: args.user.clone(),
        terminal: terminal.then(window_size),
        detach: args.detach,
    })
}

fn window_size() -> WindowSize {
    let (cols, rows) = terminal::size().unwrap_or((80, 24));
    WindowSize { rows, cols }
}

/// Passes our input on until it ends, the program takes no more, or the user leaves with Ctrl-] q.
fn send_input(remote: &Remote, terminal: bool) {
    if terminal && io::stdin().is_terminal() {
        return send_keys(remote);
    }
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = terminal::read_stdin(&mut buffer) {
        if !remote.stdin(buffer.get(..len).unwrap_or_default()).unwrap_or(false) {
            return;
        }
    }
    // A program that is gone needs no end of input.
    drop(remote.end_stdin());
}

/// As [`send_input`] from a terminal. Somebody else waits for a guest that takes nothing, so that its user can leave.
fn send_keys(remote: &Remote) {
    let (typed, keys) = mpsc::channel::<Vec<u8>>();
    let sender = remote.clone();
    thread::spawn(move || {
        for keys in keys {
            if !sender.stdin(&keys).unwrap_or(false) {
                return;
            }
        }
        drop(sender.end_stdin());
    });
    let mut filter = EscapeFilter::default();
    let mut buffer = vec![0; 4 << 10];
    while let Ok(len @ 1..) = terminal::read_stdin(&mut buffer) {
        let mut keys = Vec::new();
        if filter.feed(buffer.get(..len).unwrap_or_default(), &mut keys) {
            terminal::restore();
            std::process::exit(i32::from(READER_GONE));
        }
        // A program that takes no more may still say something, and its user still leave.
        drop(typed.send(keys));
    }
}

/// Passes signals on, and the terminal's size.
fn watch_signals(remote: Remote) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH]).context("cannot watch for signals")?;
    thread::spawn(move || {
        let mut count = 0;
        for signal in signals.forever() {
            let sent = if signal == SIGWINCH {
                remote.resize(window_size())
            } else {
                count += 1;
                remote.signal(signal)
            };
            if sent.is_err() || count >= INSIST {
                terminal::restore();
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}
