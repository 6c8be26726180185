//! The agent and the host's side of it, talking over a socket pair on the host that runs the tests.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tearless_guest::{Agent, Ended, Error, Event, Exec, FailureKind, Session, WindowSize};

/// An agent that serves whoever connects. Each connection has a process of its own, which ends with it.
fn agent() -> Agent {
    Agent::new(|| {
        let (ours, theirs) = UnixStream::pair()?;
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(theirs));
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_tearless-guest-agent")).arg("--stdin").stdin(stdin).spawn()?;
        thread::spawn(move || child.wait());
        Ok(ours)
    })
}

fn exec(argv: &[&str]) -> Exec {
    // The tests run as whoever runs them.
    let user = Some(fs::metadata("/proc/self").unwrap().uid().to_string());
    Exec {
        argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        user,
        cwd: Some(b"/".to_vec()),
        ..Exec::default()
    }
}

/// Runs to the end: output, error output, end.
fn finish(session: &mut Session) -> (Vec<u8>, Vec<u8>, Ended) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match session.event().unwrap() {
            Event::Stdout(bytes) => out.extend(bytes),
            Event::Stderr(bytes) => err.extend(bytes),
            Event::StdinClosed => {}
            Event::Ended(ended) => return (out, err, ended),
        }
    }
}

fn run(exec: Exec) -> (String, String, Ended) {
    let (out, err, ended) = finish(&mut agent().exec(exec).unwrap());
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), ended)
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} never happened");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_mebibyte_goes_through_bit_exact() {
    let input: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut session = agent().exec(exec(&["cat"])).unwrap();
    let (remote, sent) = (session.remote(), input.clone());
    let feeder = thread::spawn(move || {
        assert!(remote.stdin(&sent).unwrap());
        remote.end_stdin().unwrap();
    });
    let (out, err, ended) = finish(&mut session);
    feeder.join().unwrap();
    assert!(out == input, "{} bytes came back", out.len());
    assert_eq!((err.as_slice(), ended), (&b""[..], Ended::Exited(0)));
}

#[test]
fn streams_status_environment_and_folder_are_what_they_should_be() {
    let mut exec = exec(&["sh", "-c", "echo $GREETING $HOME_OF; pwd; echo problem >&2; exit 7"]);
    exec.env = vec![(b"GREETING".to_vec(), b"hello".to_vec())];
    exec.cwd = Some(b"/proc".to_vec());
    assert_eq!(run(exec), ("hello\n/proc\n".into(), "problem\n".into(), Ended::Exited(7)));
}

#[test]
fn ends_are_told_apart() {
    assert_eq!(run(exec(&["sh", "-c", "kill -9 $$"])).2, Ended::Signaled(9));
    let (_, err, ended) = run(exec(&["/no/such/program"]));
    assert_eq!(ended, Ended::Exited(127));
    assert!(err.contains("/no/such/program"), "{err}");
    assert_eq!(run(exec(&["/"])).2, Ended::Exited(126));
    let error = agent().exec(Exec { user: Some("no-such-user".into()), ..exec(&["true"]) }).err().unwrap();
    assert!(matches!(error, Error::Guest(f) if f.kind == FailureKind::NotFound));
    assert!(agent().exec(exec(&[])).is_err());
}

#[test]
fn signals_reach_the_program_while_it_does_not_read() {
    let mut session = agent()
        .exec(exec(&[
            "sh",
            "-c",
            "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done",
        ]))
        .unwrap();
    assert_eq!(session.event().unwrap(), Event::Stdout(b"ready\n"));
    let remote = session.remote();
    // More than the window takes: this waits until the program has ended.
    let stuck = thread::spawn({
        let remote = remote.clone();
        move || remote.stdin(&vec![0; 1 << 20])
    });
    remote.signal(15).unwrap();
    let (out, _, ended) = finish(&mut session);
    assert_eq!((out.as_slice(), ended), (&b"caught\n"[..], Ended::Exited(3)));
    assert!(!stuck.join().unwrap().unwrap_or(false));
}

#[test]
fn a_terminal_has_its_size_and_gets_another() {
    let script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let terminal = Some(WindowSize { rows: 33, cols: 77 });
    let mut session = agent().exec(Exec { terminal, ..exec(&["sh", "-c", script]) }).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready\r\n") {
        let Event::Stdout(bytes) = session.event().unwrap() else { panic!("no output") };
        seen.extend(bytes);
    }
    session.remote().resize(WindowSize { rows: 10, cols: 20 }).unwrap();
    let (out, ..) = finish(&mut session);
    seen.extend(out);
    assert_eq!(String::from_utf8(seen).unwrap(), "33 77\r\nready\r\n10 20\r\n");
}

#[test]
fn the_end_of_the_input_reaches_a_terminal() {
    let terminal = Some(WindowSize { rows: 24, cols: 80 });
    let mut session =
        agent().exec(Exec { terminal, ..exec(&["sh", "-c", "stty -echo; echo on; cat"]) }).unwrap();
    assert_eq!(session.event().unwrap(), Event::Stdout(b"on\r\n"));
    session.remote().stdin(b"line\n").unwrap();
    session.remote().end_stdin().unwrap();
    let (out, _, ended) = finish(&mut session);
    assert_eq!((out.as_slice(), ended), (&b"line\r\n"[..], Ended::Exited(0)));
}

#[test]
fn a_program_ends_with_its_connection() {
    let mut session = agent().exec(exec(&["sh", "-c", "trap '' HUP; echo $$; sleep 1000"])).unwrap();
    let Event::Stdout(pid) = session.event().unwrap() else { panic!("no output") };
    let process = format!("/proc/{}", String::from_utf8(pid.to_vec()).unwrap().trim());
    assert!(Path::new(&process).exists());
    drop(session);
    eventually("the program's end", || !Path::new(&process).exists());
}

#[test]
fn what_runs_on_in_the_background_holds_up_nobody() {
    let (out, _, ended) = run(exec(&["sh", "-c", "sleep 5 & echo done"]));
    assert_eq!((out.as_str(), ended), ("done\n", Ended::Exited(0)));
}

#[test]
fn what_runs_on_in_the_background_stays() {
    let script = "sleep 1000 > /dev/null 2>&1 & echo $!";
    let pids: Vec<_> = (0..100).map(|_| run(exec(&["sh", "-c", script])).0.trim().to_owned()).collect();
    // A zombie has no command line.
    let runs = |pid: &&String| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    let left = pids.iter().filter(runs).count();
    Command::new("kill").args(&pids).stderr(Stdio::null()).status().unwrap();
    assert_eq!(left, pids.len());
}

#[test]
fn files_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let guest = |name: &str| at(name).to_str().unwrap().as_bytes().to_vec();
    fs::create_dir_all(at("src/sub")).unwrap();
    fs::write(at("src/sub/f"), vec![5; 300_000]).unwrap();
    fs::set_permissions(at("src/sub/f"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("sub/f", at("src/link")).unwrap();

    let mut bytes = 0;
    agent().put(&at("src"), &guest("there"), &mut |n, _| bytes += n).unwrap();
    assert!(bytes >= 300_000);
    fs::create_dir(at("back")).unwrap();
    agent().get(&guest("there"), &at("back"), &mut |_, _| {}).unwrap();
    let copy = at("back/there/sub/f");
    assert!(fs::read(&copy).unwrap() == vec![5; 300_000]);
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::read_link(at("back/there/link")).unwrap(), Path::new("sub/f"));

    // A file into a folder, over a file, and to a place that is not there.
    agent().put(&copy, &guest("src"), &mut |_, _| {}).unwrap();
    assert!(at("src/f").exists());
    agent().put(&copy, &guest("src/f"), &mut |_, _| {}).unwrap();
    let error = agent().put(&copy, &guest("no/where"), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("there is no folder"), "{error}");
    let error = agent().put(&at("src"), &guest("src/f"), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("it is no folder"), "{error}");
    let error = agent().get(&guest("nothing"), &at("x"), &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Guest(f) if f.kind == FailureKind::NotFound));
}

/// A connection that passes `most` bytes from one side to the other and breaks then.
fn breaking(most: usize, to_guest: bool) -> Agent {
    Agent::new(move || {
        let (ours, near) = UnixStream::pair()?;
        let (far, theirs) = UnixStream::pair()?;
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(theirs));
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_tearless-guest-agent")).arg("--stdin").stdin(stdin).spawn()?;
        let pass = |mut from: UnixStream, mut to: UnixStream, most: u64| {
            drop(std::io::copy(&mut Read::by_ref(&mut from).take(most), &mut to));
            drop(from.shutdown(std::net::Shutdown::Both));
            drop(to.shutdown(std::net::Shutdown::Both));
        };
        let (up, down) = if to_guest { (most as u64, u64::MAX) } else { (u64::MAX, most as u64) };
        let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || pass(near, far, up));
        thread::spawn(move || {
            pass(far_too, near_too, down);
            child.wait()
        });
        Ok(ours)
    })
}

#[test]
fn a_connection_that_breaks_leaves_no_part_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let guest = |name: &str| at(name).to_str().unwrap().as_bytes().to_vec();
    fs::create_dir_all(at("src/sub")).unwrap();
    fs::write(at("src/sub/f"), vec![5; 300_000]).unwrap();
    fs::create_dir(at("to")).unwrap();
    let left = || fs::read_dir(at("to")).unwrap().count();
    for source in ["src", "src/sub/f"] {
        for most in [60, 100_000, 301_000] {
            breaking(most, false).get(&guest(source), &at("to/new"), &mut |_, _| {}).unwrap_err();
            assert_eq!(left(), 0, "{source} after {most} bytes");
            breaking(most, true).put(&at(source), &guest("to/new"), &mut |_, _| {}).unwrap_err();
            eventually("the agent's clean-up", || left() == 0);
        }
    }
    let path = guest("to/stream");
    let mut content = std::io::repeat(7).take(1 << 20);
    breaking(100_000, true).write(&mut content, &path, &mut |_, _| {}).unwrap_err();
    eventually("the agent's clean-up", || left() == 0);
    fs::write(at("to/stream"), "old").unwrap();
    fs::set_permissions(at("to/stream"), fs::Permissions::from_mode(0o751)).unwrap();
    let mut content = std::io::repeat(7).take(1 << 20);
    breaking(100_000, true).write(&mut content, &path, &mut |_, _| {}).unwrap_err();
    eventually("the agent's clean-up", || left() == 1);
    assert_eq!(fs::read(at("to/stream")).unwrap(), b"old");
    agent().write(&mut &b"new"[..], &path, &mut |_, _| {}).unwrap();
    assert_eq!(fs::read(at("to/stream")).unwrap(), b"new");
    assert_eq!(fs::metadata(at("to/stream")).unwrap().mode() & 0o7777, 0o751);
    agent().write(&mut &b"gone"[..], b"/dev/null", &mut |_, _| {}).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn streams_become_files_and_files_streams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f").to_str().unwrap().as_bytes().to_vec();
    let content = vec![9; 200_000];
    agent().write(&mut content.as_slice(), &path, &mut |_, _| {}).unwrap();
    let mut back = Vec::new();
    agent().read(&path, &mut back, &mut |_, _| {}).unwrap();
    assert!(back == content);
    agent().read(b"/proc/version", &mut back, &mut |_, _| {}).unwrap();
    assert!(back.len() > content.len());
    assert!(agent().read(b"/", &mut back, &mut |_, _| {}).is_err());
}

#[test]
fn a_connection_with_a_port_is_a_plain_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(agent().ports().unwrap().contains(&port));
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let mut stream = agent().forward(port).unwrap();
    stream.write_all(b"there and back").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    echo.join().unwrap();
    assert_eq!(back, "there and back");
    assert!(agent().forward(port).is_err(), "nobody listens any more");
}

#[test]
fn it_says_what_it_is() {
    let info = agent().info().unwrap();
    assert_eq!(info.agent, env!("CARGO_PKG_VERSION"));
    assert!(!info.kernel.is_empty());
}

#[test]
fn another_release_is_recognised() {
    let old = Agent::new(|| {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(b"tearless\x63\0\0\0")?;
        Ok(ours)
    });
    assert!(matches!(old.info(), Err(Error::Version(99))));
    let other = Agent::new(|| {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(b"220 mail.example.org ESMTP")?;
        Ok(ours)
    });
    assert!(matches!(other.info(), Err(Error::Unreachable(_))));
}
