//! `start`, `stop`, `restart`, `pause`, `resume`: the life of VMs in the background.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tearless_bundle::{Bundle, Store};
use tearless_control::{Client, Error, Reply, Request, StopOutcome};

use crate::{
    args::{ConfinementArgs, NamesArgs, RestartArgs, StartArgs, StateArgs, StopArgs},
    explain, guest, login,
    out::say,
    serve,
};

/// How long the process of a VM may take to go once its guest has ended.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// What of a VM's messages is shown when it fails to start.
const MAX_MESSAGE: u64 = 64 << 10;

pub fn start(args: &StartArgs, verbose: u8) -> Result<ExitCode> {
    let mut bundles = if args.all { all(|running| !running)? } else { find(&args.names)? };
    if args.no_at_login {
        return report(bundles.iter().map(|bundle| {
            let did = login::disable(bundle)?;
            Ok(format!(
                "{} {}",
                bundle.name(),
                if did { "does not start at login any more" } else { "does not start at login" }
            ))
        }));
    }
    if args.at_login {
        report(bundles.iter().map(login::enable))?;
        // Those that run do so already.
        bundles.retain(|bundle| bundle.running().is_none());
    }
    // All of them first, then one after the other: they come up at the same time.
    let confinement = &args.confinement;
    let suspended: Vec<_> = bundles.iter().map(|bundle| bundle.suspended().is_some()).collect();
    let starting: Vec<_> =
        bundles.iter().map(|bundle| Starting::spawn(bundle, &args.state, confinement, verbose)).collect();
    let results = starting.into_iter().zip(&bundles).zip(suspended).map(|((starting, bundle), suspended)| {
        let pid = starting.and_then(Starting::wait)?.id();
        if let Some(patience) = args.wait {
            guest::ready(bundle, patience)?;
        }
        let done = if suspended && !args.state.discard_state { "resumed" } else { "started" };
        Ok(format!("{done} {} (pid {pid})", bundle.name()))
    });
    report(results)
}

pub fn stop(args: &StopArgs) -> Result<ExitCode> {
    let bundles = if args.all { all(|running| running)? } else { find(&args.names)? };
    report(stop_all(&bundles, args))
}

pub fn restart(args: RestartArgs, verbose: u8) -> Result<ExitCode> {
    let RestartArgs { stop, confinement } = args;
    let bundles = if stop.all { all(|running| running)? } else { find(&stop.names)? };
    let stopped = report(stop_all(&bundles, &stop))?;
    if stopped != ExitCode::SUCCESS {
        return Ok(stopped);
    }
    let names = bundles.iter().map(|bundle| bundle.path().display().to_string()).collect();
    let [all, at_login, no_at_login] = [false; 3];
    let state = StateArgs::default();
    start(&StartArgs { names, all, wait: None, at_login, no_at_login, state, confinement }, verbose)
}

pub fn pause(args: &NamesArgs) -> Result<ExitCode> {
    each(&args.names, "paused", &Request::Pause)
}

fn each(names: &[String], done: &str, request: &Request) -> Result<ExitCode> {
    let bundles = find(names)?;
    report(bundles.iter().map(|bundle| {
        client(bundle).call(request)?;
        Ok(format!("{done} {}", bundle.name()))
    }))
}

/// The way to talk to the VM.
pub fn client(bundle: &Bundle) -> Client {
    Client::for_bundle(bundle.path(), bundle.name())
}

pub fn find(names: &[String]) -> Result<Vec<Bundle>> {
    let store = Store::open()?;
    Ok(names.iter().map(|name| store.find(name)).collect::<Result<_, _>>()?)
}

/// The VMs of which `wanted` says so, told whether they run. Damaged ones are left alone.
fn all(wanted: impl Fn(bool) -> bool) -> Result<Vec<Bundle>> {
    let listed = Store::open()?.list()?.into_iter();
    Ok(listed.filter(|l| l.config.is_ok() && wanted(l.running.is_some())).map(|l| l.bundle).collect())
}

/// Prints what was done and what went wrong; fails when anything did.
pub fn report(results: impl IntoIterator<Item = Result<String>>) -> Result<ExitCode> {
    let mut failed = Vec::new();
    for result in results {
        match result {
            Ok(text) => say!("{text}"),
            Err(error) => failed.push(error),
        }
    }
    let last = failed.pop();
    for error in &failed {
        eprintln!("tearless: {}", explain(error));
    }
    last.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// A VM process that has not said yet that it is up.
pub struct Starting {
    name: String,
    child: Child,
    messages: thread::JoinHandle<String>,
}

impl Starting {
    /// Starts the process of `bundle`.
    pub fn spawn(
        bundle: &Bundle,
        state: &StateArgs,
        confinement: &ConfinementArgs,
        verbose: u8,
    ) -> Result<Self> {
        let name = bundle.name().to_owned();
        let program = env::current_exe().context("cannot find the tearless program")?;
        let mut command = Command::new(program);
        command.args(["run", "--detached"]).args((0..verbose).map(|_| "-v")).arg(bundle.path());
        command.args(state.discard_state.then_some("--discard-state"));
        command.args(confinement.no_sandbox.then_some("--no-sandbox"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start a process for VM {name}"))?;
        let stderr = child.stderr.take();
        let messages = thread::spawn(move || {
            let mut text = Vec::new();
            // The process closes it when it is up; what cannot be read cannot be shown.
            let _ = stderr.map(|stderr| stderr.take(MAX_MESSAGE).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { name, child, messages })
    }

    /// Waits until it is up. Returns its process.
    pub fn wait(mut self) -> Result<Child> {
        let mut said = String::new();
        let stdout = self.child.stdout.take().context("no pipe from the VM's process")?;
        BufReader::new(stdout).read_line(&mut said).context("cannot hear from the VM's process")?;
        let up = said.trim_end() == serve::UP;
        if !up {
            self.child.wait().context("cannot wait for the VM's process")?;
        }
        let messages = self.messages.join().unwrap_or_default();
        if up {
            // Warnings about what was asked for.
            eprint!("{messages}");
            return Ok(self.child);
        }
        let reason = messages.trim_end();
        let reason = reason.strip_prefix("tearless: ").unwrap_or(reason);
        bail!(
            "cannot start VM {}\n  because: {}",
            self.name,
            if reason.is_empty() { "its process died without a word" } else { reason }
        )
    }
}

fn stop_all(bundles: &[Bundle], args: &StopArgs) -> Vec<Result<String>> {
    thread::scope(|scope| {
        let threads: Vec<_> = bundles.iter().map(|bundle| scope.spawn(|| stop_one(bundle, args))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("stopping a VM failed by a bug in Tearless")))
        });
        joined.collect()
    })
}

fn stop_one(bundle: &Bundle, args: &StopArgs) -> Result<String> {
    let name = bundle.name();
    let Some(pid) = bundle.running() else { return Ok(format!("{name} is not running")) };
    let request = match args.force {
        true => Request::Kill,
        false => Request::Stop { timeout_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX) },
    };
    let how = match client(bundle).call(&request) {
        Ok(Reply::Stopped { how: StopOutcome::Guest }) => "its guest shut down".to_owned(),
        Ok(Reply::Stopped { how: StopOutcome::Forced }) => {
            format!("by force: its guest did not shut down within {:?}", args.timeout)
        }
        Ok(Reply::Stopped { how: StopOutcome::Unheard }) => {
            format!("by force: nothing in its guest listened to the request for {:?}", args.timeout)
        }
        Ok(_) => "by force".to_owned(),
        Err(Error::NotRunning(_) | Error::Broken(_)) if bundle.running().is_none() => "it ended".to_owned(),
        // Its socket is gone or it hangs: what is left is its process.
        Err(error) => match pid.filter(|_| args.force) {
            Some(pid) => {
                signal(pid)?;
                "by a signal: it did not answer".to_owned()
            }
            None => return Err(unreachable(error, name)),
        },
    };
    wait_gone(bundle)?;
    Ok(format!("stopped {name}: {how}"))
}

/// Waits until the process of a VM that has ended is gone.
pub fn wait_gone(bundle: &Bundle) -> Result<()> {
    let name = bundle.name();
    let deadline = Instant::now() + CLEAN_UP;
    while bundle.running().is_some() {
        if Instant::now() > deadline {
            bail!("VM {name} has ended, but its process is still there\n  try: tearless stop --force {name}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    clear_up(bundle);
    Ok(())
}

fn unreachable(error: Error, name: &str) -> anyhow::Error {
    match error {
        Error::NotRunning(_) => anyhow!(
            "cannot stop VM {name}\n  because: a process holds it but does not listen: it is just starting, or another \
             command works on it\n  try: in a moment, or tearless stop --force {name}"
        ),
        other => other.into(),
    }
}

fn signal(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("the VM's process is not known")?;
    match kill_process(pid, Signal::KILL) {
        Err(e) if e != rustix::io::Errno::SRCH => {
            Err(io::Error::from(e)).context("cannot end the VM's process")
        }
        _ => Ok(()),
    }
}

/// Removes what a VM that was killed left behind, unless somebody runs it again.
pub fn clear_up(bundle: &Bundle) {
    if tearless_control::place::is_stale(bundle.path())
        && let Ok(_lock) = bundle.lock()
    {
        tearless_control::place::remove_stale(bundle.path());
    }
}
