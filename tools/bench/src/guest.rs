//! A guest that runs workloads one after the other, told over its console.
//!
//! The console is standard input and output of the virtual machine's process, on Tearless and on QEMU alike. The guest's
//! first process (`guest/init`) announces the start and the end of each piece of work; between these two lines the
//! process' CPU time is what the work cost.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    measure::{CpuClock, Run},
    system::System,
};

const MEMORY_MIB: u32 = 1024;
/// Lines kept to tell why a guest failed.
const TAIL: usize = 8;

/// A virtual machine monitor with its CPU model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    Tearless { program: PathBuf, extra: Vec<String> },
    Qemu { program: PathBuf, cpu: String },
}

impl Side {
    pub fn name(&self) -> &str {
        match self {
            Self::Tearless { .. } => "tearless",
            Self::Qemu { cpu, .. } => cpu,
        }
    }

    fn command(&self, system: &System, vcpus: u32) -> Command {
        match self {
            Self::Tearless { program, extra } => {
                let mut command = mortal(program);
                command.args(["run", "--engine", "soft", "--cpus", &vcpus.to_string()]);
                command.args(["--memory", &format!("{MEMORY_MIB}M"), "--cmdline", &system.cmdline]);
                command.arg("--kernel").arg(&system.kernel).arg("--initrd").arg(&system.initrd);
                for disk in &system.disks {
                    let mut argument = OsString::from(disk);
                    argument.push(":ro");
                    command.arg("--disk").arg(argument);
                }
                command.args(extra);
                command
            }
            Self::Qemu { program, cpu } => {
                let mut command = mortal(program);
                command.args(["-M", "virt,gic-version=3", "-accel", "tcg,thread=multi", "-cpu", cpu]);
                command.args(["-m", &MEMORY_MIB.to_string(), "-smp", &vcpus.to_string()]);
                command.args(["-display", "none", "-nodefaults", "-no-reboot", "-serial", "null"]);
                command.arg("-kernel").arg(&system.kernel).arg("-initrd").arg(&system.initrd);
                command.args(["-append", &system.cmdline, "-device", "virtio-serial-pci"]);
                command.args([
                    "-chardev",
                    "stdio,id=console,signal=off",
                    "-device",
                    "virtconsole,chardev=console",
                ]);
                for (i, disk) in system.disks.iter().enumerate() {
                    let mut drive =
                        OsString::from(format!("id=disk{i},if=none,format=raw,readonly=on,file="));
                    drive.push(disk);
                    command.arg("-drive").arg(drive);
                    command.args(["-device", &format!("virtio-blk-pci,drive=disk{i}")]);
                }
                command
            }
        }
    }
}

/// A command whose process is killed when this one ends in whatever way: nobody else would end its guest.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A running guest. It is ended when dropped; it has nothing to lose.
pub struct Guest {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    tail: VecDeque<String>,
    clock: CpuClock,
    boot: Run,
}

impl Guest {
    /// Boots a guest up to its first process.
    pub fn boot(side: &Side, system: &System, vcpus: u32, patience: Duration) -> Result<Self> {
        let mut command = side.command(system, vcpus);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().context("cannot start setpriv (package util-linux)")?;
        let (sender, lines) = channel();
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { bail!("the child has no pipes") };
        read_lines(stdout, sender.clone());
        read_lines(stderr, sender);
        let clock = CpuClock::of(child.id())?;
        let boot = Run { cpu: Duration::ZERO, wall: Duration::ZERO, status: 0, output: String::new() };
        let mut guest = Self { child, stdin, lines, tail: VecDeque::new(), clock, boot };
        guest.expect("@ready", start + patience).context("it did not boot")?;
        guest.boot = Run { cpu: clock.now()?, wall: start.elapsed(), ..guest.boot.clone() };
        Ok(guest)
    }

    /// From the start of the process to that of the guest's first one.
    pub fn boot_run(&self) -> Run {
        self.boot.clone()
    }

    /// Runs a line of shell.
    pub fn run(&mut self, script: &str, patience: Duration) -> Result<Run> {
        let deadline = Instant::now() + patience;
        writeln!(self.stdin, "{script}").and_then(|()| self.stdin.flush()).context("the guest is gone")?;
        self.expect("@begin", deadline)?;
        let (cpu, start) = (self.clock.now()?, Instant::now());
        let status = self.expect("@end ", deadline)?;
        let (cpu_end, end) = (self.clock.now()?, Instant::now());
        let output = self.expect("@output", deadline)?;
        Ok(Run {
            cpu: cpu_end.saturating_sub(cpu),
            wall: end - start,
            status: status.trim().parse().context("the guest gave no status")?,
            output: output.trim().to_owned(),
        })
    }

    /// Waits for a line that starts with `mark`; gives the rest of it.
    fn expect(&mut self, mark: &str, deadline: Instant) -> Result<String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once(mark) {
                        return Ok(rest.to_owned());
                    }
                    if self.tail.len() == TAIL {
                        self.tail.pop_front();
                    }
                    self.tail.push_back(line);
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("it took too long")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure("the machine ended")),
            }
        }
    }

    fn failure(&mut self, what: &str) -> anyhow::Error {
        let said: Vec<_> = self.tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
        if said.is_empty() { anyhow!("{what}") } else { anyhow!("{what}; it said: {}", said.join(" | ")) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Either it has ended already, or this ends it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the lines of a stream to `sender`, whatever bytes they have.
fn read_lines(stream: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
}
