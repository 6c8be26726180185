//! VMs that are suspended in the middle of work, and go on.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use crate::{guest::Guest, life::wait_for, tool::Tool};

/// Counts into a file of the shared folder that stays open, in memory and on the disk, while a hash of data is taken
/// again and again.
const WORK: &str = r#"
mkdir -p /mnt/s && mount -t virtiofs s /mnt/s
dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; sha256sum /tmp/data >/tmp/sum
(while sha256sum -c /tmp/sum >/dev/null; do echo >>/tmp/hashed; done; echo >/tmp/broken) &
exec 3>>/mnt/s/log 4<>/dev/vda
i=0
while :; do i=$((i+1)); echo $i >&3; echo $i >/tmp/count; printf '%08d' $i >&4; sleep 0.02; done
"#;

/// The counts in the shared folder: each once, in their order.
fn counted(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    let count = text.lines().count();
    assert!(text.lines().eq((1..=count).map(|n| n.to_string())), "{text}");
    count
}

fn refused(tool: &Tool, args: &[&str], hints: &[&str]) {
    let outcome = tool.run(args);
    assert_eq!(outcome.status, Some(1), "{args:?}: {}", outcome.stdout);
    for hint in hints {
        assert!(outcome.stderr.contains(hint), "{args:?} does not say {hint:?}:\n{}", outcome.stderr);
    }
}

fn state_file(tool: &Tool, vm: &str, name: &str) -> PathBuf {
    tool.home().join(format!("{vm}.vm/state/suspended/{name}"))
}

#[test]
fn a_guest_goes_on_with_what_it_was_doing() {
    let tool = Tool::new();
    let share = tool.home().join("share");
    fs::create_dir(&share).unwrap();
    let folder = format!("{}:s", share.to_str().unwrap());
    let Guest(tool) = &Guest::with(tool, &["--share", &folder, "--cpus", "2"]);
    let log = share.join("log");
    tool.succeeds(&["exec", "-d", "g", "--", "sh", "-c", WORK]);
    wait_for("some counting", || counted(&log) > 20);
    let said = tool.succeeds(&["suspend", "g"]).stdout;
    assert!(said.contains("suspended g: "), "{said}");
    assert_eq!(tool.states(), [("suspended".to_owned(), None)]);
    let before = counted(&log);

    mistakes_leave_the_state_alone(tool);
    assert_eq!(counted(&log), before);

    tool.succeeds(&["resume", "g"]);
    wait_for("more counting", || counted(&log) > before + 20);
    let report = "cat /tmp/count; dd if=/dev/vda bs=8 count=1 2>/dev/null; echo; date +%s; ls /tmp";
    let seen = tool.exec(&["sh", "-c", report]);
    let lines: Vec<_> = seen.stdout.lines().collect();
    assert!(lines[0].parse::<usize>().unwrap() > before + 20, "{lines:?}");
    assert_eq!(lines[1], "00000001", "{lines:?}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    wait_for("the right time", || {
        let guest: u64 = tool.exec(&["date", "+%s"]).stdout.trim().parse().unwrap();
        guest.abs_diff(now) < 60
    });
    assert!(seen.stdout.contains("hashed") && !seen.stdout.contains("broken"), "{}", seen.stdout);
    // A second time, and a paused one.
    tool.succeeds(&["pause", "g"]);
    tool.succeeds(&["suspend", "g"]);
    tool.succeeds(&["start", "g"]);
    let before = counted(&log);
    wait_for("counting again", || counted(&log) > before + 20);
    assert!(!tool.exec(&["ls", "/tmp"]).stdout.contains("broken"));
}

/// As a desktop's agent: has the port open, says what it can do whenever it is told to, and keeps what it hears.
const AGENT: &str = r"
for name in /sys/class/virtio-ports/*/name; do grep -q spice $name && port=${name%/name}; done
exec 5<>/dev/${port##*/}
cat <&5 >/tmp/heard &
while :; do
    until rm /tmp/go 2>/dev/null; do sleep 0.1; done
    # A chunk of 28 bytes; SPICE's protocol 1, message 6 of 8 bytes; with an answer, please; what it can do.
    printf '\001\0\0\0\034\0\0\0\001\0\0\0\006\0\0\0\0\0\0\0\0\0\0\0\010\0\0\0\001\0\0\0\140\0\0\0' >&5
done";

#[test]
fn the_port_of_a_desktops_agent_stays_open() {
    let Guest(tool) = &Guest::with(Tool::new(), &["--display", "web"]);
    tool.succeeds(&["exec", "-d", "g", "--", "sh", "-c", AGENT]);
    let heard =
        || -> usize { tool.exec(&["sh", "-c", "wc -c </tmp/heard"]).stdout.trim().parse().unwrap_or(0) };
    let mut before = 0;
    for round in 0..3 {
        if round > 0 {
            tool.succeeds(&["suspend", "g"]);
            tool.succeeds(&["resume", "g"]);
        }
        tool.exec(&["touch", "/tmp/go"]);
        wait_for("an answer", || heard() >= before + 28);
        before = heard();
    }
}

#[test]
fn a_running_guest_is_kept_and_put_back_with_its_memory() {
    let Guest(tool) = &Guest::with(Tool::new(), &["--cpus", "2"]);
    let sh = |script: &str| tool.exec(&["sh", "-c", script]).stdout;
    let both = "cat /tmp/m; dd if=/dev/vda bs=1 count=3 2>/dev/null";
    // A disk of the guest's own making: written through, as a database would.
    let write = |word: &str| {
        sh(&format!("echo {word} > /tmp/m; printf {word} | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null"))
    };
    write("one");
    tool.exec(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/pid"]);
    let said = tool.succeeds(&["snapshot", "take", "g", "warm"]).stdout;
    assert!(said.contains("took snapshot warm of g, with "), "{said}");
    write("two");
    tool.succeeds(&["snapshot", "take", "g", "cold", "--disk-only"]);
    write("six");
    refused(tool, &["snapshot", "take", "g", "warm"], &["already a snapshot warm"]);
    refused(tool, &["snapshot", "restore", "g", "warm"], &["because: it is running", "--stop g warm"]);
    assert_eq!(sh(both), "six\nsix", "it goes on");
    let listed = tool.succeeds(&["snapshot", "list", "g"]).stdout;
    assert_eq!(listed.matches("with memory").count(), 1, "{listed}");

    let warm = tool.home().join("g.vm/snapshots/warm.state/State.json");
    let good = fs::read_to_string(&warm).unwrap();
    fs::write(&warm, good.replace("\"format\":1", "\"format\":9")).unwrap();
    tool.succeeds(&["stop", "g", "--force"]);
    refused(tool, &["snapshot", "restore", "g", "warm"], &["version 9 of the format; this Tearless knows 1"]);
    assert_eq!(tool.states(), [("stopped".to_owned(), None)]);
    fs::write(&warm, good).unwrap();
    for _ in 0..2 {
        tool.succeeds(&["snapshot", "restore", "g", "warm", "--stop"]);
        assert_eq!(tool.states(), [("suspended".to_owned(), None)]);
        tool.succeeds(&["resume", "g"]);
        assert_eq!(sh(both), "one\none");
        assert_eq!(sh("kill -0 $(cat /tmp/pid) && echo alive"), "alive\n");
        write("ten");
    }
    tool.succeeds(&["snapshot", "restore", "g", "cold", "--stop"]);
    assert_eq!(tool.states(), [("stopped".to_owned(), None)]);
    tool.succeeds(&["start", "g", "--wait"]);
    assert_eq!(sh("dd if=/dev/vda bs=1 count=3 2>/dev/null"), "two");
}

fn mistakes_leave_the_state_alone(tool: &Tool) {
    refused(tool, &["set", "g", "--cpus", "1"], &["cannot change VM g", "suspended", "--discard-state"]);
    refused(tool, &["clone", "g", "h"], &["cannot clone VM g", "suspended"]);
    refused(tool, &["run", "g", "--cpus", "3"], &["saved with 2 vCPUs, and is to have 3 now", "try:"]);
    refused(tool, &["run", "g", "--memory", "256M"], &["bytes of memory"]);
    refused(tool, &["run", "g", "--cmdline", "x"], &["another command line"]);
    let extra = tool.file("extra", &[0; 4096]);
    refused(tool, &["run", "g", "--disk", extra.to_str().unwrap()], &["saved without a disk of 4096 bytes"]);

    let path = state_file(tool, "g", "State.json");
    let good = fs::read_to_string(&path).unwrap();
    let gic = r#"{"name":"gic","version":1"#;
    assert!(good.contains(gic));
    fs::write(&path, good.replace(gic, r#"{"name":"gic","version":2"#)).unwrap();
    refused(tool, &["resume", "g"], &["\"gic\"", "version 2; this Tearless knows 1"]);
    fs::write(&path, good.replace(gic, r#"{"name":"gicx","version":1"#)).unwrap();
    refused(tool, &["resume", "g"], &["no part \"gic\""]);
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused(tool, &["resume", "g"], &["State.json is damaged", "--discard-state"]);
    fs::write(&path, &good).unwrap();
    let memory = fs::OpenOptions::new().write(true).open(state_file(tool, "g", "Memory")).unwrap();
    let len = memory.metadata().unwrap().len();
    memory.set_len(len + 4096).unwrap();
    refused(tool, &["resume", "g"], &["Memory is damaged"]);
    memory.set_len(len).unwrap();
    assert_eq!(tool.states(), [("suspended".to_owned(), None)]);
}

impl Tool {
    /// Types `text` on the console of `vm`.
    pub fn type_in(&self, vm: &str, text: &str) {
        let mut child =
            self.command(["console", vm]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn suspending_is_all_or_nothing_and_the_state_can_be_kept_or_thrown_away() {
    let tool = Tool::new();
    tool.create_echoes(&["e"]);
    refused(&tool, &["suspend", "e"], &["does not run", "tearless start e"]);
    refused(&tool, &["resume", "e"], &["it is not running, and it was not suspended"]);
    tool.good(&["start", "e"]);
    wait_for("the first word", || tool.log("e") == "A");
    tool.type_in("e", "1");
    wait_for("the echo", || tool.log("e") == "A1");
    tool.good(&["suspend", "e"]);
    assert!(tool.good(&["suspend", "e"]).stdout.contains("already"));
    // It goes on from the state, which is kept.
    for _ in 0..2 {
        let outcome = tool.run_with_input(&["run", "e", "--ephemeral"], b"x!");
        assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(0), "x"), "{}", outcome.stderr);
    }
    tool.good(&["resume", "e"]);
    tool.type_in("e", "2");
    wait_for("the echo", || tool.log("e").ends_with('2'));
    assert_eq!(tool.log("e").matches('A').count(), 1, "it never booted again");

    for delay in [0, 5, 10, 20, 40] {
        let pid = tool.states()[0].1.unwrap().to_string();
        let mut suspending = tool.command(["suspend", "e"]).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        Command::new("kill").args(["-9", &pid]).status().unwrap();
        suspending.wait().unwrap();
        wait_for("its end", || tool.states()[0].1.is_none());
        let (state, _) = tool.states().remove(0);
        assert!(state == "stopped" || state == "suspended", "{state}");
        let booted = tool.log("e").matches('A').count();
        tool.good(&["start", "e"]);
        let expected = booted + usize::from(state == "stopped");
        wait_for("its start", || tool.log("e").matches('A').count() == expected);
    }
    tool.good(&["suspend", "e"]);
    let booted = tool.log("e").matches('A').count();
    tool.good(&["start", "--discard-state", "e"]);
    wait_for("a boot", || tool.log("e").matches('A').count() == booted + 1);
    tool.good(&["stop", "--force", "e"]);
    assert_eq!(tool.states(), [("stopped".to_owned(), None)]);
}
