//! What a confined process can and cannot do, tried by a process that is this test's own program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::{
    env, fs,
    fs::OpenOptions,
    io::Write as _,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::Path,
    process::Command,
    thread,
};

use tearless_sandbox::{Rules, enter};

const FOLDER: &str = "TEARLESS_TEST_FOLDER";

/// Runs in the child: prints a line for each thing that went another way than it must.
#[test]
fn confined_child() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let listening = UnixListener::bind(folder.join("own/listening")).unwrap();
    let rules = Rules {
        read: vec![folder.join("readable")],
        write: vec![folder.join("own"), folder.join("disk")],
        ..Rules::default()
    };
    let report = enter(&rules);
    println!("report: {report}");
    let must = |what: &str, wanted: bool, got: bool| {
        if wanted != got {
            println!("WRONG: {what}");
        }
    };
    // On another thread too: what is confined is the process.
    let result = thread::spawn({
        let folder = folder.to_owned();
        move || fs::read(folder.join("secret")).is_ok()
    });
    must("a thread reads a stranger's file", false, result.join().unwrap());
    must("read /etc/passwd", false, fs::read("/etc/passwd").is_ok());
    must("read what may be read", true, fs::read(folder.join("readable")).is_ok());
    must(
        "write what may be read",
        false,
        OpenOptions::new().write(true).open(folder.join("readable")).is_ok(),
    );
    must("list a stranger's folder", false, fs::read_dir(folder).is_ok());
    must("make a file in a stranger's folder", false, fs::write(folder.join("new"), "x").is_ok());
    must("delete a stranger's file", false, fs::remove_file(folder.join("secret")).is_ok());
    must("make a file in the own folder", true, fs::write(folder.join("own/new"), "x").is_ok());
    std::os::unix::fs::symlink(folder.join("secret"), folder.join("own/link")).unwrap();
    must("follow a link to the outside", false, fs::read(folder.join("own/link")).is_ok());
    must("move a stranger's file in", false, fs::rename(folder.join("secret"), folder.join("own/s")).is_ok());
    let disk = OpenOptions::new().read(true).write(true).open(folder.join("disk"));
    must("write a disk", true, disk.is_ok_and(|mut disk| disk.write_all(b"x").is_ok()));
    must("delete a disk", false, fs::remove_file(folder.join("disk")).is_ok());
    must("run a program", false, Command::new("/bin/true").status().is_ok());
    must("make an internet socket", false, UdpSocket::bind("127.0.0.1:0").is_ok());
    must("listen on TCP", false, TcpListener::bind("127.0.0.1:0").is_ok());
    must("connect a unix socket", false, UnixStream::connect(folder.join("own/listening")).is_ok());
    must("make a pair of streams", true, UnixStream::pair().is_ok());
    must("make a pair of datagram sockets", false, UnixDatagram::pair().is_ok());
    let kill = rustix::process::getppid().map(|parent| rustix::process::test_kill_process(parent).is_ok());
    must("signal another process", false, kill == Some(true));
    drop(listening);
    println!("done");
}

const PORTS: &str = "TEARLESS_TEST_PORTS";

/// Runs in the child: may connect to the first of two ports.
#[test]
fn connecting_child() {
    let Ok(ports) = env::var(PORTS) else { return };
    let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
    println!("report: {}", enter(&Rules { connect: vec![ports[0]], ..Rules::default() }));
    let reaches = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
    for (what, wanted, got) in [
        ("connect to the port", true, reaches(ports[0])),
        ("connect to another", false, reaches(ports[1])),
        ("make a UDP socket", false, UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("listen", false, TcpListener::bind("127.0.0.1:0").is_ok()),
    ] {
        if wanted != got {
            println!("WRONG: {what}");
        }
    }
    println!("done");
}

#[test]
fn a_process_that_needs_a_port_reaches_that_port_only() {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.each_ref().map(|l| l.local_addr().unwrap().port().to_string()).join(" ");
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "connecting_child", "--nocapture", "--test-threads=1"]).env(PORTS, ports);
    judge(&mut child);
}

/// Runs a confined child, which must have found all as it must be.
fn judge(child: &mut Command) {
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("done"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if text.contains("Landlock") && text.contains("seccomp") && !text.contains("without") {
        assert!(!text.contains("WRONG"), "{text}");
    } else {
        eprintln!("this kernel lacks a part of the sandbox, so nothing is proved: {text}");
    }
}

#[test]
fn a_confined_process_reaches_its_own_files_only() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("own")).unwrap();
    for name in ["readable", "disk", "secret"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "confined_child", "--nocapture", "--test-threads=1"]).env(FOLDER, folder.path());
    judge(&mut child);
    assert_eq!(fs::read(folder.path().join("secret")).unwrap(), b"secret");
}
