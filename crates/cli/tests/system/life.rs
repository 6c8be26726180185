//! VMs in the background: started, listed, stopped, seen, killed.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::tool::{Outcome, Tool, finish};

/// The head of an arm64 `Image`: a branch to offset 64, where the program starts; loaded at RAM + 0x20_0000.
fn image(program: &[u32]) -> Vec<u8> {
    let mut image = vec![0; 64];
    image[0..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes());
    image[16..24].copy_from_slice(&0x1_0000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend(program.iter().flat_map(|word| word.to_le_bytes()));
    image
}

/// Waits for a key on the UART and resets. The test that boots it is for Linux.
#[cfg(target_os = "linux")]
const RESET: &[u32] = &[
    0xd2a1_2000, // mov  x0, #0x09000000
    0xb940_1802, // again: ldr w2, [x0, #0x18]   (flags)
    0x3727_ffe2, // tbnz w2, #4, again
    0x5280_0120, // mov  w0, #9
    0x72b0_8000, // movk w0, #0x8400, lsl #16    (PSCI SYSTEM_RESET)
    0xd400_0002, // hvc  #0
];

/// Writes an `A` to the UART, then echoes what is typed; a `!` powers off.
const ECHO: &[u32] = &[
    0xd2a1_2000, // mov  x0, #0x09000000
    0x5280_0821, // mov  w1, #'A'
    0xb900_0001, // str  w1, [x0]
    0xb940_1802, // again: ldr w2, [x0, #0x18]   (flags)
    0x3727_ffe2, // tbnz w2, #4, again           (nothing was typed)
    0xb940_0001, // ldr  w1, [x0]
    0x7100_843f, // cmp  w1, #'!'
    0x5400_0060, // b.eq off
    0xb900_0001, // str  w1, [x0]
    0x17ff_fffa, // b    again
    0x5280_0100, // off: mov w0, #8
    0x72b0_8000, // movk w0, #0x8400, lsl #16    (PSCI SYSTEM_OFF)
    0xd400_0002, // hvc  #0
];

impl Tool {
    /// Makes VMs that echo.
    pub fn create_echoes(&self, names: &[&str]) {
        let kernel = self.file("echo.img", &image(ECHO));
        for name in names {
            let kernel = kernel.to_str().unwrap();
            let made = self.run(&["create", name, "--kernel", kernel, "--cpus", "1", "--memory", "64M"]);
            assert_eq!(made.status, Some(0), "{}", made.stderr);
        }
    }

    pub fn good(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.status, Some(0), "{args:?}: {}", outcome.stderr);
        outcome
    }

    pub fn states(&self) -> Vec<(String, Option<u64>)> {
        let list: serde_json::Value = serde_json::from_str(&self.good(&["list", "--json"]).stdout).unwrap();
        let entries = list.as_array().unwrap().iter();
        entries.map(|e| (e["state"].as_str().unwrap().to_owned(), e["pid"].as_u64())).collect()
    }

    /// The control sockets of this tool's VMs, by the rule of `docs/control.md`.
    fn sockets(&self) -> Vec<PathBuf> {
        fs::read_dir(self.runtime().join("tearless"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect()
    }

    pub fn log(&self, name: &str) -> String {
        self.good(&["logs", name]).stdout
    }
}

pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ten_vms_at_once() {
    let tool = Tool::new();
    let names: Vec<_> = (0..10).map(|i| format!("vm{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tool.create_echoes(&names);
    let started = tool.good(&["start", "--all"]);
    assert_eq!(started.stdout.lines().count(), 10, "{}", started.stdout);
    let states = tool.states();
    assert!(states.iter().all(|(state, pid)| state == "running" && pid.is_some()), "{states:?}");
    assert_eq!(tool.sockets().len(), 10);
    wait_for("every guest's first word", || names.iter().all(|name| tool.log(name) == "A"));
    tool.good(&["stop", "--all", "--force"]);
    assert_eq!(tool.states(), vec![("stopped".to_owned(), None); 10]);
    assert_eq!(tool.sockets(), Vec::<PathBuf>::new());
}

#[test]
fn a_console_is_attached_to_shared_and_left() {
    let tool = Tool::new();
    tool.create_echoes(&["e"]);
    tool.good(&["start", "e"]);
    let type_in = |text: &'static str| {
        let mut child = tool.command(["console", "e"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    wait_for("the first word", || tool.log("e") == "A");
    let first = type_in("hello");
    assert!(first.status.success() && first.stdout.starts_with(b"A"), "{first:?}");
    wait_for("the echo", || tool.log("e") == "Ahello");
    let watcher = {
        let mut command = tool.command(["console", "e"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // At the end of its input it would detach.
        let input = child.stdin.take();
        thread::spawn(move || {
            let outcome = child.wait_with_output().unwrap();
            drop(input);
            outcome
        })
    };
    // It ends the guest, and with it everybody's console.
    type_in(" bye!");
    let seen = watcher.join().unwrap();
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!("Ahello bye".starts_with(&text), "{text:?}");
    wait_for("the end", || tool.states() == [("stopped".to_owned(), None)]);
    assert_eq!(tool.log("e"), "Ahello bye");
    assert_eq!(tool.good(&["logs", "e", "-n", "1"]).stdout, "Ahello bye");
}

#[test]
fn a_paused_guest_stands_still() {
    let tool = Tool::new();
    tool.create_echoes(&["p"]);
    tool.good(&["start", "p"]);
    wait_for("the first word", || tool.log("p") == "A");
    tool.good(&["pause", "p"]);
    assert_eq!(tool.states()[0].0, "paused");
    let mut typing = tool.command(["console", "p"]).stdin(Stdio::piped()).spawn().unwrap();
    typing.stdin.take().unwrap().write_all(b"x").unwrap();
    typing.wait_with_output().unwrap();
    assert_eq!(tool.log("p"), "A");
    tool.good(&["resume", "p"]);
    wait_for("the echo", || tool.log("p") == "Ax");
    let stopped = tool.good(&["stop", "p", "--timeout", "0s"]);
    assert!(stopped.stdout.contains("by force: nothing in its guest listened"), "{}", stopped.stdout);
}

#[test]
fn a_killed_vm_leaves_nothing_and_starts_again() {
    let tool = Tool::new();
    tool.create_echoes(&["k"]);
    tool.good(&["start", "k"]);
    let again = tool.run(&["start", "k"]);
    assert_eq!(again.status, Some(1));
    assert!(
        again.stderr.contains("is running") && again.stderr.contains("tearless stop k"),
        "{}",
        again.stderr
    );
    let pid = tool.states()[0].1.unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_for("its end", || tool.states() == [("stopped".to_owned(), None)]);
    assert_eq!(tool.sockets(), Vec::<PathBuf>::new(), "a listing clears up");
    tool.good(&["start", "k"]);
    let pid = tool.states()[0].1.unwrap().to_string();
    let socket = tool.sockets().remove(0);
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait_for("its death", || {
        UnixListener::bind(&socket).is_err() && tool.run(&["console", "k"]).status == Some(1)
    });
    tool.good(&["restart", "k"]);
    assert_eq!(tool.states()[0].0, "running");
    tool.good(&["stop", "k", "--force"]);
    assert!(tool.good(&["stop", "k"]).stdout.contains("not running"));
}

#[test]
fn a_vm_in_the_foreground_can_be_stopped_from_elsewhere() {
    let tool = Tool::new();
    tool.create_echoes(&["f"]);
    let foreground = tool.command(["run", "f"]).stdin(Stdio::null()).spawn().unwrap();
    wait_for("its start", || tool.states()[0].0 == "running");
    tool.good(&["stop", "f", "--force"]);
    let outcome = foreground.wait_with_output().unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
    assert!(outcome.stdout.starts_with(b"A") || outcome.stdout.is_empty());
}

/// Every thread has no way to new privileges and a filter of system calls.
#[cfg(target_os = "linux")]
#[test]
fn a_vm_process_is_confined_in_all_its_threads() {
    let tool = Tool::new();
    tool.create_echoes(&["c"]);
    tool.good(&["start", "c"]);
    let list: serde_json::Value = serde_json::from_str(&tool.good(&["list", "--json"]).stdout).unwrap();
    let sandbox = list[0]["live"]["sandbox"].as_str().unwrap().to_owned();
    let pid = list[0]["pid"].as_u64().unwrap();
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        threads += 1;
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line) || sandbox.contains("without"), "{status}\n{sandbox}");
        }
    }
    assert!(threads > 3);
    tool.good(&["stop", "c", "--force"]);
}

/// The guest's reset makes the process open its log again; meanwhile somebody has put a stranger's file there.
#[cfg(target_os = "linux")]
#[test]
fn a_vm_process_opens_its_own_files_only() {
    let tool = Tool::new();
    let kernel = tool.file("reset.img", &image(RESET));
    let kernel = kernel.to_str().unwrap();
    tool.good(&["create", "o", "--kernel", kernel, "--cpus", "1", "--memory", "64M"]);
    let (log, secret) = (tool.home().join("o.vm/logs/console.log"), tool.file("secret", b""));
    let live = || {
        let list: serde_json::Value = serde_json::from_str(&tool.good(&["list", "--json"]).stdout).unwrap();
        list[0]["live"].clone()
    };
    let refusals = |sandbox: &[&str]| {
        tool.good(&[&["start", "o"], sandbox].concat());
        fs::remove_file(&log).unwrap();
        std::os::unix::fs::symlink(&secret, &log).unwrap();
        let mut typing = tool.command(["console", "o"]).stdin(Stdio::piped()).spawn().unwrap();
        typing.stdin.take().unwrap().write_all(b"x").unwrap();
        typing.wait_with_output().unwrap();
        wait_for("the reset", || live()["resets"].as_u64() == Some(1) && live()["phase"] == "running");
        let said = tool.good(&["logs", "o", "--source", "vmm"]).stdout;
        let sandbox = live()["sandbox"].as_str().unwrap().to_owned();
        tool.good(&["stop", "o", "--force"]);
        fs::remove_file(&log).unwrap();
        (said.matches("console.log error=Permission denied").count(), sandbox)
    };
    let (count, sandbox) = refusals(&[]);
    let enforced = usize::from(!sandbox.contains("without"));
    assert_eq!(count, enforced, "{sandbox}");
    assert_eq!(refusals(&["--no-sandbox"]), (enforced, "none, by --no-sandbox".to_owned()));
}

#[test]
fn settings_are_checked_kept_and_used() {
    let tool = Tool::new();
    tool.create_echoes(&["s"]);
    let refused = |args: &[&str], hint: &str| {
        let outcome = tool.run(&[&["set", "s"], args].concat());
        assert!(outcome.status != Some(0) && outcome.stderr.contains(hint), "{args:?}: {}", outcome.stderr);
    };
    refused(&["--cpus", "0"], "at least one");
    refused(&["--nice", "20"], "-20 to 19");
    refused(&["--cpu-affinity", "3-1"], "0-3,8");
    refused(&["--remove-disk", "no"], "none of that name");
    tool.good(&["set", "s", "--nice", "5", "--cpu-affinity", "0", "--description", "for tests"]);
    assert!(tool.good(&["info", "s"]).stdout.contains("for tests"));
    tool.good(&["start", "s"]);
    assert!(tool.good(&["set", "s", "--cpus", "2"]).stdout.contains("until it is started again"));
    let pid = tool.states()[0].1.unwrap();
    if cfg!(target_os = "linux") {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"), "{stat}");
    }
    tool.good(&["stop", "s", "--force"]);
    tool.good(&["set", "s", "--cpu-affinity", "1023"]);
    let outcome = tool.run(&["start", "s"]);
    assert!(outcome.stderr.contains("host CPUs 1023"), "{}", outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_vm_starts_at_login_until_it_is_deleted() {
    let tool = Tool::new();
    tool.create_echoes(&["e"]);
    let folder = tool.home().join("config/systemd/user");
    let unit = |name: &str| fs::read_to_string(folder.join(format!("tearless-{name}.service")));
    let enabled = |name: &str| {
        let link = folder.join(format!("default.target.wants/tearless-{name}.service"));
        link.exists()
            && unit(name)
                .unwrap()
                .contains(&format!("\"run\" \"--detached\" \"{}/{name}.vm\"", tool.home().display()))
    };
    assert!(tool.good(&["start", "--at-login", "e"]).stdout.contains("starts when you log in: wrote"));
    assert!(enabled("e") && tool.states()[0].0 == "running");
    tool.good(&["start", "--at-login", "e"]);
    tool.good(&["stop", "e", "--force"]);
    tool.good(&["rename", "e", "f"]);
    assert!(!enabled("e") && unit("e").is_err() && enabled("f"));
    assert!(tool.good(&["info", "f"]).stdout.contains("when you log in"));
    assert!(tool.good(&["start", "--no-at-login", "f"]).stdout.contains("any more"));
    assert!(unit("f").is_err() && tool.states()[0].0 == "stopped");
    tool.good(&["start", "--at-login", "f"]);
    tool.good(&["stop", "f", "--force"]);
    tool.good(&["delete", "f", "--force"]);
    assert!(unit("f").is_err() && !enabled("f"));
}

#[test]
fn what_cannot_start_says_why() {
    let tool = Tool::new();
    tool.create_echoes(&["b"]);
    let config = tool.home().join("b.vm/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"64M\"", "\"1M\"")).unwrap();
    let outcome = tool.run(&["start", "b"]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("cannot start VM b") && outcome.stderr.contains("64M"),
        "{}",
        outcome.stderr
    );
    for command in ["console", "pause", "resume"] {
        let outcome = finish(tool.command([command, "b"]));
        assert_eq!(outcome.status, Some(1), "{command}");
        assert!(outcome.stderr.contains("not running"), "{}", outcome.stderr);
    }
    assert_eq!(tool.good(&["logs", "b"]).stdout, "");
}
