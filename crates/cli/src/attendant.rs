//! The process beside a VM with a page: the attendant. It does what the VM's own process, which has given up all files that it
//! would need, cannot do for the page's viewers.
//!
//! While the VM runs, the attendant takes its snapshots. It is told nothing but that the button was pressed, and then does what
//! `snapshot take` does, which believes of the VM only which files of its own disks it writes to: what has taken over a VM's
//! process gets snapshots of that VM out of it, a bounded number. While the VM does not run, the attendant serves the page, so
//! that its viewers can start it again; whoever starts the VM then gets the page with its address.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tearless_bundle::{Bundle, Error};
use tearless_control::{
    Socket,
    page::{self, Word},
    place,
};
use tearless_vm::{
    Input, Screen, TakeSnapshot,
    remote::{Action, Host, Site},
    web,
};

use crate::{
    args::{AttendantArgs, ConfinementArgs, StateArgs},
    beside, explain,
    life::{self, Starting},
    states,
};

/// Most times that the snapshot button does something while a VM runs, whatever comes of it.
const MOST: usize = 64;
/// Most snapshots of one minute.
const MOST_ALIKE: u32 = 9;
/// Most bytes of what came of it. The VM's own words may be in it, and a line has to hold it.
const MAX_TEXT: usize = 8 << 10;
/// How long the page of a VM that has ended is kept when nobody looks at it.
const LINGER: Duration = Duration::from_mins(10);
/// How often it is looked whether that is over, and whether there still is such a VM.
const TICK: Duration = Duration::from_secs(1);
/// How long an attendant may take to hand over the page.
const PATIENCE: Duration = Duration::from_secs(5);

/// A VM's way to its attendant.
pub struct Attendant(UnixStream);

impl Attendant {
    /// The one that attends to the page of an earlier run of `bundle`, and the page.
    pub fn find(bundle: &Bundle) -> Option<(Self, web::Place)> {
        place::pages(bundle.path()).iter().find_map(|path| {
            let stream = UnixStream::connect(path).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let (listener, token) = page::take_over(&stream).ok()?;
            stream.set_read_timeout(None).ok()?;
            Some((Self(stream), web::Place { listener, token }))
        })
    }

    /// Starts one for `page` of `bundle`.
    pub fn start(bundle: &Bundle, page: &web::Place) -> Result<Self> {
        let args = ["attendant".into(), bundle.path().into()];
        let ours = beside::start(args, true).context("cannot start a process that attends to the page")?;
        page::hand_over(&ours, &page.token, &page.listener)
            .context("cannot reach the process that attends to the page")?;
        Ok(Self(ours))
    }

    /// Has it end, and waits until it has: the VM is seen in another way.
    pub fn dismiss(self) {
        let patience = self.0.set_read_timeout(Some(PATIENCE));
        let left =
            patience.and_then(|()| page::say(&self.0, &Word::Leave)).and_then(|()| page::hear(&self.0));
        tracing::debug!(?left, "dismissed the attendant");
    }

    /// What has it take a snapshot, and waits until that is done.
    pub fn into_snapshots(self) -> TakeSnapshot {
        let stream = Mutex::new(self.0);
        Arc::new(move || {
            let Ok(stream) = stream.try_lock() else {
                return Err(refusal("one is being taken", "in a moment"));
            };
            let heard = page::say(&stream, &Word::Snapshot).and_then(|()| page::hear(&stream));
            let because = match heard {
                Ok(Word::Said { done, text }) => return if done { Ok(text) } else { Err(text) },
                Ok(_) => "the process that takes them answered something else".to_owned(),
                Err(error) => format!("the process that takes them is gone ({error})"),
            };
            Err(refusal(&because, "tearless snapshot take, in a terminal"))
        })
    }
}

fn refusal(because: &str, advice: &str) -> String {
    format!("cannot take a snapshot\n  because: {because}\n  try: {advice}")
}

/// The process that [`Attendant::start`] starts.
pub fn run(args: &AttendantArgs) -> Result<ExitCode> {
    let mut vm = beside::stream().context("cannot reach the VM")?;
    let (listener, token) = page::take_over(&vm).context("cannot get the page from the VM")?;
    let page = web::Place { listener, token };
    let desk = Desk::open(Bundle::at(&args.bundle)?)?;
    while attend(&vm, &desk.between.bundle) {
        match desk.keep(&page)? {
            Some(next) => vm = next,
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does what the VM says, until it has ended. Returns whether the page is to be kept.
fn attend(vm: &UnixStream, bundle: &Bundle) -> bool {
    for tried in 0.. {
        match page::hear(vm) {
            Ok(Word::Snapshot) => {}
            Ok(Word::Leave) => return false,
            Ok(_) | Err(_) => break,
        }
        let (done, mut text) = match take(bundle, tried) {
            Ok(said) => (true, said),
            Err(error) => (false, explain(&error)),
        };
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        if page::say(vm, &Word::Said { done, text }).is_err() {
            break;
        }
    }
    true
}

/// Takes a snapshot, the `tried`th to be tried.
fn take(bundle: &Bundle, tried: usize) -> Result<String> {
    if tried >= MOST {
        bail!(refusal(
            &format!("the button was pressed {MOST} times since the VM was started"),
            "tearless snapshot take, in a terminal"
        ));
    }
    let snapshot = free_name(bundle, &states::stamp())?;
    states::take_live(bundle, &snapshot, false)
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

/// Where the VM's next process finds the page, and what viewers see until then.
struct Desk {
    between: Arc<Between>,
    /// Which folder the VM is: another one may get its name.
    vm: (u64, u64),
    socket: Option<Socket>,
    folder: PathBuf,
}

impl Desk {
    fn open(bundle: Bundle) -> Result<Self> {
        let path = place::for_page(bundle.path())?;
        let vm = identity(bundle.path()).context("cannot look at the VM")?;
        let socket = Socket::bind(&path)?;
        let folder = path.parent().unwrap_or(&path).to_owned();
        let between = Arc::new(Between {
            bundle,
            screen: Arc::default(),
            starting: AtomicBool::new(false),
            failed: Mutex::default(),
            phases: AtomicU64::new(0),
        });
        Ok(Self { between, vm, socket: Some(socket), folder })
    }

    /// Serves `page` until the VM runs again; `None` when it is not to be waited for any longer.
    fn keep(&self, page: &web::Place) -> Result<Option<UnixStream>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let between = &self.between;
        let site = Site {
            title: between.bundle.name().to_owned(),
            screen: between.screen.clone(),
            input: Input::new(),
            clipboard: None,
            host: Some(between.clone()),
        };
        let served = web::serve(page.try_clone()?, site).context("cannot serve the page")?;
        let mut looked_at = Instant::now();
        while identity(between.bundle.path()).is_ok_and(|vm| vm == self.vm) && looked_at.elapsed() < LINGER {
            if let Some(vm) = socket.accept(TICK).context("cannot wait for the VM")? {
                // First nobody serves it here any more: its viewers come back to the VM.
                served.close();
                *between.failed() = None;
                return Ok(page::hand_over(&vm, &page.token, &page.listener).ok().map(|()| vm));
            }
            if served.guests() > 0 || between.starting.load(Ordering::Acquire) {
                looked_at = Instant::now();
            }
        }
        Ok(None)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.socket = None;
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::debug!(%error, "cannot remove the attendant's folder");
        }
    }
}

fn identity(bundle: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(bundle).map(|folder| (folder.dev(), folder.ino()))
}

/// What viewers see and can do while the VM does not run.
struct Between {
    bundle: Bundle,
    screen: Arc<Screen>,
    starting: AtomicBool,
    /// Why the VM did not start.
    failed: Mutex<Option<String>>,
    phases: AtomicU64,
}

impl Between {
    fn tell_viewers(&self) {
        self.phases.fetch_add(1, Ordering::AcqRel);
        self.screen.nudge();
    }

    fn failed(&self) -> MutexGuard<'_, Option<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the VM. The page is handed over meanwhile, so what went wrong is kept for those who come back.
    fn start(&self) -> Result<String, String> {
        if self.starting.swap(true, Ordering::AcqRel) {
            return Ok("The VM is starting.".to_owned());
        }
        *self.failed() = None;
        self.tell_viewers();
        let started = self.start_process().map_err(|error| explain(&error));
        *self.failed() = started.as_ref().err().cloned();
        self.starting.store(false, Ordering::Release);
        self.tell_viewers();
        started.map(|()| String::new())
    }

    fn start_process(&self) -> Result<()> {
        // Whoever is quick presses the button while the last process cleans up.
        life::wait_gone(&self.bundle)?;
        let starting = Starting::spawn(&self.bundle, &StateArgs::default(), &ConfinementArgs::default(), 0)?;
        let mut child = starting.wait()?;
        // Nobody else hears of its end.
        thread::Builder::new().name("vm".to_owned()).spawn(move || child.wait())?;
        Ok(())
    }
}

impl Host for Between {
    fn phase(&self) -> String {
        let phase = if self.starting.load(Ordering::Acquire) {
            "starting"
        } else if self.bundle.suspended().is_some() {
            "suspended"
        } else {
            "stopped"
        };
        phase.to_owned()
    }

    fn phases(&self) -> u64 {
        self.phases.load(Ordering::Acquire)
    }

    fn news(&self) -> Option<String> {
        self.failed().clone()
    }

    fn act(&self, action: Action) -> Result<String, String> {
        match action {
            Action::Start => self.start(),
            _ => Err("cannot do that\n  because: the VM does not run\n  try: start it".to_owned()),
        }
    }

    fn console(&self) -> io::Result<UnixStream> {
        Err(io::Error::new(io::ErrorKind::NotConnected, "The VM does not run."))
    }
}
