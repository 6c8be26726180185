//! Programs and files in a running guest.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tearless_boot::{
    initramfs::Initramfs,
    quick::{self, Mode, Module, QuickSpec},
};
use tearless_image::{QuickOptions, Silent};

use crate::{
    life::wait_for,
    tool::{Outcome, Tool},
};

impl Tool {
    /// Starts a VM called `g`: busybox in memory, with the agent. It boots in a second.
    fn start_guest(&self, kernel: &QuickOptions, options: &[&str]) {
        let quick = tearless_image::quick_boot(kernel, &Silent).unwrap();
        let modules = quick.kernel.modules.iter();
        let modules: Vec<_> = modules.map(|m| Module { name: &m.name, bytes: &m.bytes }).collect();
        let spec = QuickSpec {
            busybox: &quick.busybox,
            modules: &modules,
            hostname: "g",
            term: None,
            mode: Mode::Shell,
            network: quick::Network::Untouched,
        };
        let mut initrd = quick::build(&spec).unwrap();
        let mut agent = Initramfs::new();
        agent.file("tearless/agent", 0o755, tearless_guest::AGENT).unwrap();
        agent.file("etc/inittab", 0o644, "::respawn:/tearless/agent\n::shutdown:/tearless/off\n").unwrap();
        initrd.extend(agent.finish());
        let initrd = self.file("initrd", &initrd);
        let (kernel, initrd) = (quick.kernel.image.to_str().unwrap(), initrd.to_str().unwrap());
        let cmdline = format!("console=ttyAMA0 quiet {}", quick::FAST_START);
        let made = [
            "create",
            "g",
            "--kernel",
            kernel,
            "--initrd",
            initrd,
            "--cmdline",
            &cmdline,
            "--memory",
            "512M",
            "--disk",
            "1G",
            "--auto-forward",
        ];
        self.succeeds(&[made.as_slice(), options].concat());
        self.succeeds(&["start", "g", "--wait"]);
    }

    pub fn succeeds(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.status, Some(0), "{args:?}: {}", outcome.stderr);
        outcome
    }

    pub fn exec(&self, command: &[&str]) -> Outcome {
        self.run(&[&["exec", "g", "--"], command].concat())
    }
}

/// Ends the VM whatever becomes of the test.
pub struct Guest(pub Tool);

impl Guest {
    fn new() -> Self {
        Self::with(Tool::new(), &[])
    }

    /// One made with further options.
    pub fn with(tool: Tool, options: &[&str]) -> Self {
        Self::with_kernel(tool, &QuickOptions::default(), options)
    }

    /// One with another kernel, or more modules.
    pub fn with_kernel(tool: Tool, kernel: &QuickOptions, options: &[&str]) -> Self {
        let guest = Self(tool);
        guest.0.start_guest(kernel, options);
        guest
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.run(&["stop", "--force", "g"]);
    }
}

#[test]
fn programs_run_in_a_running_guest() {
    let Guest(tool) = &Guest::new();
    let outcome = tool.exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()),
        (Some(7), "out\n", "err\n")
    );
    assert_eq!(tool.exec(&["no-such-program"]).status, Some(127));
    assert_eq!(tool.exec(&["sh", "-c", "kill -9 $$"]).status, Some(137));

    // A mebibyte of everything but what is no text, for the outcome is a string.
    let input: Vec<u8> =
        (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    let outcome = tool.run_with_input(&["exec", "g", "--", "cat"], &input);
    assert!(
        outcome.stdout.as_bytes() == input,
        "{} bytes came back: {}",
        outcome.stdout.len(),
        outcome.stderr
    );

    let terminal = tool.run(&["exec", "-t", "g", "--", "sh", "-c", "stty size; tty"]);
    assert_eq!(terminal.stdout, "24 80\r\n/dev/pts/0\r\n", "{}", terminal.stderr);

    let mut command = tool.command([
        "exec",
        "g",
        "--",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(Command::new("kill").arg(child.id().to_string()).status().unwrap().code(), Some(0));
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let stopped = tool.succeeds(&["stop", "g"]);
    assert!(stopped.stdout.contains("its guest shut down"), "{}", stopped.stdout);
    let refused = tool.exec(&["true"]);
    assert_eq!(refused.status, Some(125));
    assert!(
        refused.stderr.contains("not running") && refused.stderr.contains("tearless start g"),
        "{}",
        refused.stderr
    );
}

#[test]
fn files_and_ports_of_a_running_guest() {
    let Guest(tool) = &Guest::new();
    let folder = tool.home().join("folder");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/file"), vec![0xa5; 300_000]).unwrap();
    fs::set_permissions(folder.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("sub/file", folder.join("link")).unwrap();
    let (folder, back) = (folder.to_str().unwrap(), tool.home().join("back"));
    tool.succeeds(&["cp", folder, "g:/tmp/there"]);
    tool.succeeds(&["cp", "g:/tmp/there", back.to_str().unwrap()]);
    assert!(fs::read(back.join("link")).unwrap() == vec![0xa5; 300_000]);
    assert_eq!(fs::metadata(back.join("sub/file")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(tool.run_with_input(&["cp", "-", "g:/tmp/x"], b"from a pipe").status, Some(0));
    assert_eq!(tool.succeeds(&["cp", "g:/tmp/x", "-"]).stdout, "from a pipe");
    let missing = tool.run(&["cp", "g:/nothing", "x"]);
    assert!(missing.status == Some(1) && missing.stderr.contains("/nothing"), "{}", missing.stderr);

    let into = tool.home().join("into");
    fs::create_dir(&into).unwrap();
    tool.succeeds(&["exec", "g", "--", "dd", "if=/dev/urandom", "of=/tmp/big", "bs=1M", "count=128"]);
    // A copy that was faster than the signal is none that was interrupted.
    let interrupted = (0..5).any(|_| {
        let mut child = tool.command(["cp", "g:/tmp/big", into.to_str().unwrap()]).spawn().unwrap();
        wait_for("the copy's beginning", || fs::read_dir(&into).unwrap().count() > 0);
        Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
        child.wait().unwrap().code() == Some(130)
    });
    assert!(interrupted);
    let names: Vec<_> = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "big"), "{names:?}");

    tool.succeeds(&["exec", "-d", "g", "--", "sh", "-c", "while :; do nc -l -p 8123 -e cat; done"]);
    // A port of the host that is free now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = tool.command(["forward", "g", "-p", &format!("{port}:8123")]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("g:8123"), "{line}");
    // The program in the guest may still be starting.
    let echoed = (0..200).find_map(|_| {
        let echoed = echo(port);
        thread::sleep(Duration::from_millis(if echoed.is_some() { 0 } else { 50 }));
        echoed
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(echoed.as_deref(), Some("there and back"));
}

#[test]
fn a_running_guest_gets_a_larger_disk_and_its_ports_are_found() {
    let Guest(tool) = &Guest::new();
    let sectors = || tool.exec(&["cat", "/sys/block/vda/size"]).stdout;
    assert_eq!(sectors(), "2097152\n");
    tool.succeeds(&["set", "g", "--disk-size", "3G"]);
    wait_for("the guest's sight of it", || sectors() == "6291456\n");
    let smaller = tool.run(&["set", "g", "--disk-size", "2G"]);
    assert!(smaller.status == Some(1) && smaller.stderr.contains("larger already"), "{}", smaller.stderr);

    let forwards = || {
        let text = tool.succeeds(&["list", "--json"]).stdout;
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        list[0]["live"]["forwards"].as_array().cloned().unwrap_or_default()
    };
    assert!(forwards().is_empty());
    tool.succeeds(&["exec", "-d", "g", "--", "nc", "-l", "-p", "8124", "-e", "cat"]);
    wait_for("the forwarded port", || !forwards().is_empty());
    let found = forwards().remove(0);
    assert_eq!(found["guest"], 8124);
    let port: std::net::SocketAddr = found["host"].as_str().unwrap().parse().unwrap();
    // It serves one connection, and is gone then.
    assert_eq!(echo(port.port()).as_deref(), Some("there and back"));
    wait_for("its end", || forwards().is_empty());
}

/// Nothing that a guest does keeps its VM from being stopped, or a listing waiting.
#[test]
fn an_agent_that_does_not_answer_holds_up_nobody() {
    let Guest(tool) = &Guest::new();
    let agent = tool.exec(&["pidof", "agent"]).stdout;
    let script = format!("kill -STOP {}; echo it stands still >/dev/console", agent.trim());
    let mut stuck = tool.command(["exec", "g", "--", "sh", "-c", &script]).spawn().unwrap();
    wait_for("a guest that is heard of no more", || tool.log("g").contains("it stands still"));
    let listed = tool.succeeds(&["list", "--json"]).stdout;
    assert!(listed.contains("\"state\": \"running\""), "{listed}");
    let stopped = tool.succeeds(&["stop", "g", "--timeout", "1s"]);
    assert!(stopped.stdout.contains("by force: nothing in its guest listened"), "{}", stopped.stdout);
    stuck.wait().unwrap();
}

#[test]
fn memory_that_a_guest_does_not_use_goes_back() {
    let Guest(tool) = &Guest::new();
    let entry = || {
        let text = tool.succeeds(&["info", "g", "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let resident = || entry()["resident_bytes"].as_u64().unwrap_or(0) >> 20;
    let balloon = |field: &str| entry()["live"]["balloon"][field].clone();
    // Other hosts do not tell what is resident.
    if cfg!(target_os = "linux") {
        let before = resident();
        tool.exec(&["dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=200"]);
        assert!(resident() > before + 150, "{before} MiB before, {} MiB filled", resident());
        assert!(balloon("guest")["free"].as_u64().unwrap() < 300 << 20);
        tool.exec(&["rm", "/tmp/x"]);
        wait_for("the return of what was freed", || resident() < before + 50);
    }
    tool.succeeds(&["set", "g", "--balloon", "128M"]);
    wait_for("the balloon's inflation", || balloon("actual") == 128 << 20);
    let changed = tool.succeeds(&["set", "g", "--balloon", "0"]).stdout;
    assert_eq!(changed, "changed g\n", "it needs no restart");
    wait_for("the balloon's deflation", || balloon("actual") == 0);
    let refused = tool.run(&["set", "g", "--balloon", "449M"]);
    assert!(refused.status == Some(1) && refused.stderr.contains("448M or less"), "{}", refused.stderr);
}

/// What comes back through the forwarded port.
fn echo(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"there and back").ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    let mut back = String::new();
    stream.read_to_string(&mut back).ok()?;
    Some(back).filter(|back| !back.is_empty())
}
