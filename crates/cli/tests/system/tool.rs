//! Runs the command under a time limit.

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Far more than any of these tests takes; a guest that hangs ends here.
const LIMIT: Duration = Duration::from_secs(300);

/// Says why a test does nothing here: not by `eprintln!`, which the harness keeps for tests that fail.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// What a run gave.
pub struct Outcome {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command with its own home for VMs, so that tests see neither each other's nor the user's.
pub struct Tool {
    home: tempfile::TempDir,
}

impl Tool {
    pub fn new() -> Self {
        let tool = Self { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir(tool.runtime()).unwrap();
        tool
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The folder for control sockets.
    pub fn runtime(&self) -> PathBuf {
        self.home().join("run")
    }

    /// A file of `len` bytes in the home folder.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tearless"));
        command.args(args).env("TEARLESS_HOME", self.home());
        command.env("XDG_RUNTIME_DIR", self.runtime()).env("XDG_CONFIG_HOME", self.home().join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Outcome {
        finish(self.command(args))
    }

    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = thread::spawn(move || {
            // A command that does not read its input closes the pipe: that is its right.
            let _ = stdin.write_all(&input);
        });
        let outcome = wait(child);
        writer.join().unwrap();
        outcome
    }
}

/// A test that fails leaves VMs in the background; they go with their home.
impl Drop for Tool {
    fn drop(&mut self) {
        let vms = std::fs::read_dir(self.home()).into_iter().flatten().flatten();
        if vms.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|e| e == "vm")) {
            // What matters is the test's own failure.
            let _ = self.command(["stop", "--all", "--force"]).output();
        }
    }
}

pub fn finish(mut command: Command) -> Outcome {
    wait(command.spawn().unwrap())
}

fn wait(child: std::process::Child) -> Outcome {
    let pid = child.id();
    let deadline = Instant::now() + LIMIT;
    let waiter = thread::spawn(move || child.wait_with_output());
    while !waiter.is_finished() {
        if Instant::now() > deadline {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            panic!("still running after {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let Output { status, stdout, stderr } = waiter.join().unwrap().unwrap();
    Outcome {
        status: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
