//! Programs that the host runs.
//!
//! ```text
//!   host ── frames ──► this thread ──► channel ──► input thread ──► program ──► output thread ── frames ──► host
//! ```
//! Input waits in the channel, which the window bounds: so signals get through while the program does not read. The end
//! of the connection ends the program, unless it is detached.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tearless_guest_proto::{
    Control, Ended, Exec, FailureKind, Reply, WindowSize,
    frame::{self, Kind},
};

use super::{
    failure::{Explain, Outcome, failure},
    launch,
    server::{Gone, Host},
    users::{self, User},
};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a program whose host is gone may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// What ends the input of a terminal (`VEOF`).
const END_OF_INPUT: &[u8] = &[4];

/// A program that was started, with the agent's ends of its streams.
struct Running {
    child: Child,
    input: Option<File>,
    outputs: Vec<(Kind, File)>,
    terminal: Option<OwnedFd>,
}

/// Runs a program for the host.
pub fn run(host: &Host, exec: &Exec) -> Result<(), Gone> {
    let mut running = start(exec)?;
    host.send(&Reply::Started { pid: running.child.id() })?;
    if exec.detach {
        // Its end is waited for, so that it does not stay as a zombie.
        drop(running.child.wait());
        return Ok(());
    }
    let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw);
    let pid =
        pid.ok_or_else(|| failure(FailureKind::System, "cannot watch the program", "it has no number"))?;
    let is_terminal = running.terminal.is_some();
    let (to_input, chunks) = mpsc::channel();
    let feeder = running.input.take().map(|input| {
        let host = host.clone();
        thread::spawn(move || feed(&host, input, &chunks, is_terminal))
    });
    let terminal = running.terminal.take();
    let over = Arc::new(AtomicBool::new(false));
    let reporter = thread::spawn({
        let (host, over) = (host.clone(), over.clone());
        move || report(&host, running, &over)
    });
    obey(host, pid, terminal.as_ref(), to_input);
    // The host is gone, or has heard of the end: then what the program left in the background stays.
    if !over.load(Ordering::Acquire) {
        end(pid, &over);
    }
    drop(reporter.join());
    drop(feeder.map(thread::JoinHandle::join));
    Ok(())
}

/// Ends what still runs.
fn end(pid: Pid, over: &AtomicBool) {
    // Nobody has waited for it yet, so its number is still its own.
    _ = kill_process_group(pid, Signal::HUP);
    let mut left = GRACE;
    let pause = Duration::from_millis(20);
    while !over.load(Ordering::Acquire) && !left.is_zero() {
        thread::sleep(pause);
        left = left.saturating_sub(pause);
    }
    _ = kill_process_group(pid, Signal::KILL);
}

fn start(exec: &Exec) -> Outcome<Running> {
    let argv: Vec<OsString> = exec.argv.iter().cloned().map(OsString::from_vec).collect();
    let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
        return Err(failure(FailureKind::Request, "cannot run a command", "it is empty"));
    };
    let name = name.display().to_string();
    let user = users::find(exec.user.as_deref().unwrap_or("root"))?;
    let cwd = match &exec.cwd {
        Some(cwd) => PathBuf::from(OsString::from_vec(cwd.clone())),
        None if user.home.is_dir() => user.home.clone(),
        None => "/".into(),
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(launch::arguments(&user, exec.terminal.is_some(), &cwd, &argv));
    command.env_clear().envs(environment(&user, exec));
    if exec.detach {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().explain(|| format!("cannot run {name}"))?;
        return Ok(Running { child, input: None, outputs: Vec::new(), terminal: None });
    }
    match exec.terminal {
        Some(size) => start_on_terminal(command, size, &user),
        None => start_on_pipes(command),
    }
    .explain(|| format!("cannot run {name}"))
}

fn environment(user: &User, exec: &Exec) -> BTreeMap<OsString, OsString> {
    let usual: [(&str, OsString); 5] = [
        ("PATH", PATH.into()),
        ("HOME", user.home.clone().into()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.clone().into()),
        ("SHELL", user.shell.clone().into()),
    ];
    let own = |(name, value): &(Vec<u8>, Vec<u8>)| {
        (OsString::from_vec(name.clone()), OsString::from_vec(value.clone()))
    };
    let usual = usual.into_iter().map(|(name, value)| (name.into(), value));
    usual.chain(exec.env.iter().map(own)).collect()
}

fn start_on_pipes(mut command: Command) -> std::io::Result<Running> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let file = |fd: OwnedFd| File::from(fd);
    let input = child.stdin.take().map(|stdin| file(stdin.into()));
    let stdout = child.stdout.take().map(|stdout| (Kind::Stdout, file(stdout.into())));
    let stderr = child.stderr.take().map(|stderr| (Kind::Stderr, file(stderr.into())));
    let outputs = stdout.into_iter().chain(stderr).collect();
    Ok(Running { child, input, outputs, terminal: None })
}

fn start_on_terminal(mut command: Command, size: WindowSize, user: &User) -> std::io::Result<Running> {
    use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, open};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    if user.uid != 0 {
        // So that they can open it by its name; the group of terminals keeps its right to write.
        fchown(&theirs, Some(Uid::from_raw(user.uid)), None::<Gid>)?;
        fchmod(&theirs, Mode::RUSR | Mode::WUSR | Mode::WGRP)?;
    }
    resize(&ours, size)?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    let child = command.spawn()?;
    // The command keeps the program's end open as long as it lives, and so the terminal would never hang up.
    drop(command);
    let input = Some(File::from(ours.try_clone()?));
    let outputs = vec![(Kind::Stdout, File::from(ours.try_clone()?))];
    Ok(Running { child, input, outputs, terminal: Some(ours) })
}

fn resize(terminal: &OwnedFd, size: WindowSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}

/// Takes what the host says until it is gone.
fn obey(host: &Host, pid: Pid, terminal: Option<&OwnedFd>, to_input: mpsc::Sender<Vec<u8>>) {
    let mut to_input = Some(to_input);
    let mut bytes = Vec::new();
    while let Ok(Some(kind)) = frame::read(&mut host.reader(), &mut bytes) {
        match kind {
            Kind::Stdin => {
                let end = bytes.is_empty();
                // A program that takes no input any more has no feeder either.
                let taken = to_input.as_ref().is_some_and(|to| to.send(bytes.clone()).is_ok());
                if end || !taken {
                    to_input = None;
                }
            }
            Kind::Message => match frame::decode(&bytes) {
                // Neither can do harm when the program is gone already.
                Ok(Control::Signal(number)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        _ = kill_process_group(pid, signal);
                    }
                }
                Ok(Control::Resize(size)) => {
                    _ = terminal.map(|terminal| resize(terminal, size));
                }
                Err(_) => return,
            },
            _ => return,
        }
    }
}

/// The input thread.
fn feed(host: &Host, mut input: File, chunks: &mpsc::Receiver<Vec<u8>>, is_terminal: bool) {
    for chunk in chunks {
        if chunk.is_empty() {
            if is_terminal {
                // A program that is gone needs no end of input.
                drop(input.write_all(END_OF_INPUT));
            }
            return;
        }
        let told = match input.write_all(&chunk) {
            Ok(()) => host.send(&Reply::Window(chunk.len() as u32)),
            Err(_) => {
                drop(host.send(&Reply::StdinClosed));
                return;
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// The output thread: sends all output and then how the program ended. `over` is true before the host can know of that.
fn report(host: &Host, mut running: Running, over: &AtomicBool) {
    let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw);
    let exit = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let outputs = std::mem::take(&mut running.outputs);
    relay(host, outputs, exit.as_ref());
    let status = running.child.wait();
    over.store(true, Ordering::Release);
    if let Ok(status) = status {
        // A host that is gone does not want to know.
        drop(host.send(&Reply::Ended(ended(status))));
    }
    // The host answers by closing the connection, which ends the thread that reads.
    drop(host.end_writing());
}

/// Relays output until all streams have ended, or the program has and what it wrote is sent: what it left running in the
/// background may keep the streams open for ever.
fn relay(host: &Host, mut outputs: Vec<(Kind, File)>, exit: Option<&OwnedFd>) {
    let mut buffer = vec![0; frame::MAX];
    let mut exited = false;
    while !outputs.is_empty() {
        let mut fds: Vec<_> = outputs.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)).collect();
        fds.extend(exit.filter(|_| !exited).map(|exit| PollFd::new(exit, PollFlags::IN)));
        let now = Timespec::default();
        match poll(&mut fds, exited.then_some(&now)) {
            Ok(0) => return,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let events: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        exited |= events.get(outputs.len()) == Some(&true);
        let mut ready = events.into_iter();
        let mut alive = true;
        outputs.retain_mut(|(kind, file)| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match file.read(&mut buffer) {
                // A terminal whose program is gone gives an error rather than an end.
                Ok(0) | Err(_) => false,
                Ok(len) => {
                    alive &= host.write(*kind, buffer.get(..len).unwrap_or_default()).is_ok();
                    true
                }
            }
        });
        if !alive {
            return;
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => Ended::Signaled(signal.unwrap_or(9)),
    }
}
