//! The process beside a VM with a page that takes its snapshots when a viewer presses the button: a VM's own process has given up
//! all files that it would need. It is told nothing but that the button was pressed, and then does what `snapshot take` does, which
//! believes of the VM only which files of its own disks it writes to: what has taken over a VM's process gets snapshots of that VM
//! out of it, a bounded number.

use std::{
    env,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail};
use tearless_bundle::{Bundle, Error, Store};
use tearless_vm::TakeSnapshot;

use crate::{args::TakerArgs, explain, states};

/// Most times that the button does something while a VM runs, whatever comes of it.
const MOST: usize = 64;
/// Most snapshots of one minute.
const MOST_ALIKE: u32 = 9;

/// Starts the process for the VM called `name`; what is returned asks it for a snapshot, and waits until that is taken.
pub fn start(name: &str) -> Result<TakeSnapshot> {
    let (ours, theirs) = UnixStream::pair().context("cannot have snapshots taken")?;
    let program = env::current_exe().context("cannot find the tearless program")?;
    let mut command = Command::new(program);
    command.args(["snapshot-taker", name]).stdin(OwnedFd::from(theirs));
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("cannot start a process that takes snapshots")?;
    // Dropped with its streams: else its end would not be heard.
    drop(command);
    let stream = Mutex::new(ours);
    Ok(Arc::new(move || {
        let Ok(mut stream) = stream.try_lock() else {
            return Err(refusal("one is being taken", "in a moment"));
        };
        ask(&mut stream).unwrap_or_else(|error| {
            let because = format!("the process that takes them is gone ({error})");
            Err(refusal(&because, "tearless snapshot take, in a terminal"))
        })
    }))
}

fn refusal(because: &str, advice: &str) -> String {
    format!("cannot take a snapshot\n  because: {because}\n  try: {advice}")
}

/// Asks for a snapshot: a byte there; whether it was taken, and a text with its length before it, back.
fn ask(stream: &mut UnixStream) -> io::Result<Result<String, String>> {
    stream.write_all(&[0])?;
    let mut head = [0; 3];
    stream.read_exact(&mut head)?;
    let [taken, high, low] = head;
    let mut text = vec![0; u16::from_be_bytes([high, low]).into()];
    stream.read_exact(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(if taken != 0 { Ok(text) } else { Err(text) })
}

/// The process that [`start`] starts.
pub fn run(args: &TakerArgs) -> Result<ExitCode> {
    let mut stream =
        UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("cannot reach the VM")?);
    let mut tried = 0;
    while stream.read_exact(&mut [0]).is_ok() {
        let result = take(&args.name, tried);
        tried += 1;
        let (ok, text) = match &result {
            Ok(said) => (1, said.clone()),
            Err(error) => (0, explain(error)),
        };
        let len = text.floor_char_boundary(usize::from(u16::MAX));
        let text = text.get(..len).unwrap_or_default().as_bytes();
        stream.write_all(&[&[ok], &(text.len() as u16).to_be_bytes()[..], text].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes one, the `tried`th to be tried.
fn take(name: &str, tried: usize) -> Result<String> {
    if tried >= MOST {
        bail!(refusal(
            &format!("the button was pressed {MOST} times since the VM was started"),
            "tearless snapshot take, in a terminal"
        ));
    }
    let bundle = Store::open()?.find(name)?;
    let snapshot = free_name(&bundle, &states::stamp())?;
    states::take_live(&bundle, &snapshot, false)
}

/// `base`, or with a number behind it, as no snapshot is called yet.
fn free_name(bundle: &Bundle, base: &str) -> Result<String> {
    let numbered = (2..=MOST_ALIKE).map(|n| format!("{base}-{n}"));
    let free = |name: &String| matches!(bundle.snapshot(name), Err(Error::NoSnapshot { .. }));
    let Some(name) = std::iter::once(base.to_owned()).chain(numbered).find(free) else {
        bail!(refusal("there are many of this minute already", "in a minute"));
    };
    Ok(name)
}
