//! A running VM: the machine on a thread of its own, built anew whenever the guest resets.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use tearless_bus::CharSink;
use tearless_config::EngineChoice;
use tearless_engine_soft::{Options, SoftVm};
use tearless_machine::{Handle, Machine, Outcome, Spec};
use tearless_state::StateError;
use tearless_storage::Disk;
use tearless_virtio::console::ConsolePort;

use crate::{Display, Error, Hardware, SavedState, engines};

/// The host's end of the VM's serial devices.
pub struct HostSide {
    /// Where the UART's output goes.
    pub uart: Box<dyn CharSink>,
    /// The virtio console.
    pub console: ConsolePort,
    /// Streams that the guest finds by name, apart from its console.
    pub streams: Vec<ConsolePort>,
}

/// Who looks at the VM. A reset of the guest starts a new machine, so each method may be called several times.
pub trait Frontend: Send {
    /// Makes the host's end of the serial devices.
    fn connect(&mut self) -> HostSide;

    /// A machine has been built and runs its first instruction as soon as this returns.
    fn started(&mut self, handle: &Handle);

    /// The guest reset itself: whether to run it again.
    fn restart(&mut self) -> bool;
}

/// What stops a VM from any thread, whether its machine has been built or not.
#[derive(Clone, Default)]
pub struct Plug(Arc<Mutex<PlugState>>);

#[derive(Default)]
struct PlugState {
    pulled: bool,
    handle: Option<Handle>,
}

impl Plug {
    /// Ends the VM at once.
    pub fn pull(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.pulled = true;
        if let Some(handle) = &state.handle {
            handle.kill();
        }
    }

    /// Watches `handle`; returns whether it may still run.
    fn insert(&self, handle: Handle) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.handle = Some(handle);
        !state.pulled
    }
}

/// A VM that runs.
pub struct Running {
    plug: Plug,
    thread: JoinHandle<Result<Outcome, Error>>,
}

impl Running {
    /// Starts a VM of `hardware`, seen by `frontend`.
    ///
    /// # Errors
    /// When its engine is missing here. What goes wrong later comes from [`Running::wait`].
    pub fn start(hardware: Hardware, frontend: Box<dyn Frontend>) -> Result<Self, Error> {
        Self::start_with(hardware, frontend, Plug::default())
    }

    /// As [`Running::start`], ended by `plug`.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub fn start_with(hardware: Hardware, frontend: Box<dyn Frontend>, plug: Plug) -> Result<Self, Error> {
        let engine = engines::choose_board(hardware.engine).map_err(Error::Engine)?;
        let thread = thread::Builder::new()
            .name("machine".into())
            .spawn({
                let plug = plug.clone();
                move || run(engine, &hardware, frontend, &plug)
            })
            .map_err(|e| Error::Host("start a thread", e))?;
        Ok(Self { plug, thread })
    }

    /// The way to end it early.
    pub fn plug(&self) -> Plug {
        self.plug.clone()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the machine could not be built or the host failed.
    pub fn wait(self) -> Result<Outcome, Error> {
        self.thread.join().unwrap_or_else(|_| {
            Err(Error::Engine(
                "the machine's thread panicked; this is a bug in Tearless, please report it".into(),
            ))
        })
    }
}

fn run(
    engine: EngineChoice,
    hardware: &Hardware,
    mut frontend: Box<dyn Frontend>,
    plug: &Plug,
) -> Result<Outcome, Error> {
    let mut disks = hardware.open_disks()?;
    let mut saved = hardware.saved.clone();
    loop {
        let spec = hardware.spec(&disks, frontend.connect())?;
        let (outcome, now) = match engine {
            EngineChoice::Soft => run_machine(
                SoftVm::with(Options { lockstep: hardware.lockstep, ..Options::default() })
                    .map_err(tearless_machine::Error::from)?,
                spec,
                saved.take().map(|saved| (saved, engine)),
                hardware.display.as_ref(),
                &mut *frontend,
                plug,
            )?,
            other => return Err(Error::Engine(format!("engine {other} cannot run this machine"))),
        };
        // A snapshot may have put new layers in their place.
        disks = now;
        if outcome != Outcome::Reset || !frontend.restart() {
            return Ok(outcome);
        }
    }
}

fn run_machine<V: tearless_engine::Vm>(
    vm: V,
    spec: Spec,
    saved: Option<(SavedState, EngineChoice)>,
    display: Option<&Display>,
    frontend: &mut dyn Frontend,
    plug: &Plug,
) -> Result<(Outcome, Vec<Arc<dyn Disk>>), Error> {
    let machine = match &saved {
        None => Machine::build(vm, spec)?,
        Some((saved, engine)) => restore(vm, spec, saved, *engine)?,
    };
    let handle = machine.handle();
    if !plug.insert(handle.clone()) {
        return Ok((Outcome::Killed, handle.disks()));
    }
    if let Some((saved, _)) = saved.filter(|(saved, _)| !saved.keep) {
        // From the first instruction on the disks are others than those of the state.
        saved.folder.remove().map_err(Error::State)?;
    }
    if let Some(display) = display {
        display.plug(&handle);
    }
    frontend.started(&handle);
    let outcome = machine.run()?;
    Ok((outcome, handle.disks()))
}

fn restore<V: tearless_engine::Vm>(
    vm: V,
    spec: Spec,
    SavedState { folder, .. }: &SavedState,
    engine: EngineChoice,
) -> Result<Machine<V>, Error> {
    let saved = folder.load().map_err(Error::State)?;
    if saved.machine.engine != engine.to_string() {
        return Err(Error::State(StateError::Differs(format!(
            "engine {} saved it, and engine {engine} is to run it now",
            saved.machine.engine
        ))));
    }
    Machine::restore(vm, spec, folder, saved, &|_, _| ()).map_err(|error| match error {
        tearless_machine::Error::State(error) => Error::State(error),
        other => other.into(),
    })
}
