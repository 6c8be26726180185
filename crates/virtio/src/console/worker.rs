//! The threads of a console and what they share with the host.
//!
//! A port towards the guest, as the control queues show it:
//!
//! ```text
//!   unknown --DEVICE_READY--> added --PORT_READY--> ready --(host has it open)--> told open
//!                                                     ^                               |
//!                                                     +--(host closed, input empty)---+
//! ```

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tearless_bus::{CharInput, CharSink};
use tearless_state::StateError;

use super::spec::{Control, Size, event};
use crate::{Chain, VirtQueue, Wake, lock};

/// Input that a port holds for the guest, as much as a pipe does. The host is told to wait beyond it.
const INPUT_LIMIT: usize = 64 << 10;
/// Output that is copied at a time. The guest's buffer may be 4 GiB long; this is what it costs the host.
const OUTPUT_CHUNK: usize = 16 << 10;

type SpaceCallback = Arc<dyn Fn() + Send + Sync>;
pub(super) type OpenObserver = Box<dyn Fn(bool) + Send + Sync>;

/// Messages that the guest is to get, each at most once however often the reason recurs: so they need no queue that a
/// guest could make grow.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owed {
    add: bool,
    console: bool,
    name: bool,
    resize: bool,
}

/// A port as a saved VM has it. Whether the host has it open is the host's affair.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedPort {
    name: String,
    input: Vec<u8>,
    end_owed: bool,
    told_open: bool,
    ready: bool,
    guest_open: bool,
    owed: Owed,
}

struct PortState {
    input: VecDeque<u8>,
    /// A push was cut short: the callback must run when there is room.
    refused: bool,
    /// What the host wants.
    host_open: bool,
    /// The host closed after what is in `input`, and the guest does not know yet.
    end_owed: bool,
    /// What the guest was told.
    told_open: bool,
    /// What the guest said.
    ready: bool,
    guest_open: bool,
    owed: Owed,
}

/// The host's side of one port: its input, and whether the host has it open.
///
/// A Linux guest reads to the end once the port is closed, but it also blocks writers of a closed port: close only
/// ports that carry data in one direction. The terminal of a console port takes no notice of it.
pub struct Port {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) is_console: bool,
    pub(super) receive: Arc<VirtQueue>,
    pub(super) transmit: Arc<VirtQueue>,
    pub(super) transmit_wake: Arc<Wake>,
    pub(super) on_guest_open: Option<OpenObserver>,
    pub(super) service: Arc<Wake>,
    /// Taken by the output thread when it starts.
    sink: Mutex<Option<Box<dyn CharSink>>>,
    state: Mutex<PortState>,
    on_space: Mutex<Option<SpaceCallback>>,
}

/// What [`Port::new`] is told.
pub(super) struct PortSeed {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) is_console: bool,
    pub(super) queue_size: u16,
    pub(super) service: Arc<Wake>,
    pub(super) on_guest_open: Option<OpenObserver>,
    pub(super) sink: Box<dyn CharSink>,
}

impl Port {
    pub(super) fn new(seed: PortSeed) -> Self {
        let transmit_wake = Arc::new(Wake::default());
        Self {
            id: seed.id,
            name: seed.name,
            is_console: seed.is_console,
            receive: VirtQueue::new(seed.queue_size, seed.service.clone()),
            transmit: VirtQueue::new(seed.queue_size, transmit_wake.clone()),
            transmit_wake,
            on_guest_open: seed.on_guest_open,
            service: seed.service,
            sink: Mutex::new(Some(seed.sink)),
            state: Mutex::new(PortState {
                input: VecDeque::new(),
                refused: false,
                host_open: true,
                end_owed: false,
                told_open: false,
                ready: false,
                guest_open: false,
                owed: Owed::default(),
            }),
            on_space: Mutex::new(None),
        }
    }

    /// The port's name; empty for an unnamed console.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the stream towards the guest: its reader gets what was pushed so far and then end-of-file. Until
    /// [`Port::open`] nothing can be pushed.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        if state.host_open {
            state.host_open = false;
            state.end_owed = state.told_open || !state.input.is_empty();
            drop(state);
            self.service.signal();
        }
    }

    /// Opens the port again. Pushes succeed once the guest was told of the end before.
    pub fn open(&self) {
        lock(&self.state).host_open = true;
        self.service.signal();
    }

    /// Whether the guest has the port open.
    pub fn guest_open(&self) -> bool {
        lock(&self.state).guest_open
    }

    /// For a saved VM.
    pub(super) fn save(&self) -> SavedPort {
        let state = lock(&self.state);
        SavedPort {
            name: self.name.clone(),
            input: state.input.iter().copied().collect(),
            end_owed: state.end_owed,
            told_open: state.told_open,
            ready: state.ready,
            guest_open: state.guest_open,
            owed: state.owed.clone(),
        }
    }

    /// Takes over what was saved.
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it is of another port, or has more input than a port can have.
    pub(super) fn restore(&self, saved: SavedPort) -> Result<(), StateError> {
        if saved.name != self.name || saved.input.len() > INPUT_LIMIT {
            return Err(StateError::malformed(format!("it is of another port than {:?}", self.name)));
        }
        let mut state = lock(&self.state);
        state.input = saved.input.into();
        state.end_owed = saved.end_owed;
        state.told_open = saved.told_open;
        state.ready = saved.ready;
        state.owed = saved.owed;
        drop(state);
        self.set_guest_open(saved.guest_open);
        Ok(())
    }

    pub(super) fn announce_size(&self) {
        lock(&self.state).owed.resize = self.is_console;
    }

    /// The driver went away.
    pub(super) fn reset(&self) {
        let mut state = lock(&self.state);
        state.owed = Owed::default();
        state.ready = false;
        state.told_open = false;
        state.end_owed &= !state.input.is_empty();
        drop(state);
        self.set_guest_open(false);
    }

    pub(super) fn set_guest_open(&self, open: bool) {
        let changed = std::mem::replace(&mut lock(&self.state).guest_open, open) != open;
        if let Some(observer) = self.on_guest_open.as_ref().filter(|_| changed) {
            observer(open);
        }
    }

    /// Moves input into the guest's buffers. Returns whether it moved any.
    fn deliver(&self, chain: &mut Chain) -> bool {
        let mut state = lock(&self.state);
        if state.input.is_empty() || !state.guest_open {
            return false;
        }
        let input = &mut state.input;
        // One round of the ring at most: the host must not wait in `push` for a guest that offers empty buffers.
        let used = self.receive.with(|ring| {
            let mut used = 0;
            while !input.is_empty() && used < self.receive.max_size() {
                if !ring.pop_or_arm(chain)? {
                    break;
                }
                let written = chain.write(ring.memory(), 0, input.make_contiguous())?;
                ring.push(chain.head(), written as u32)?;
                input.drain(..written);
                used += 1;
            }
            ring.notify().map(|()| used)
        });
        used.is_some_and(|used| used > 0)
    }

    /// Whether the host waits for room and there is some; asks once per refused push.
    fn take_space(&self, multiport: bool) -> bool {
        let mut state = lock(&self.state);
        if !multiport && state.input.is_empty() {
            state.end_owed = false;
        }
        let room = state.input.len() < INPUT_LIMIT && state.host_open && !state.end_owed;
        room && std::mem::take(&mut state.refused)
    }

    /// The next message about this port for the guest, if any.
    fn next_message(&self, size: Option<Size>) -> Option<(Step, Vec<u8>)> {
        let state = lock(&self.state);
        let message = |event, value| Control { id: self.id, event, value }.bytes();
        let wants_open = (state.host_open && !state.end_owed) || !state.input.is_empty();
        if state.owed.add {
            Some((Step::Add, message(event::PORT_ADD, 1)))
        } else if !state.ready {
            None
        } else if state.owed.console {
            Some((Step::Console, message(event::CONSOLE_PORT, 1)))
        } else if state.owed.name {
            let mut bytes = message(event::PORT_NAME, 1);
            bytes.extend(self.name.as_bytes());
            Some((Step::Name, bytes))
        } else if let Some(size) = size.filter(|_| state.owed.resize) {
            let mut bytes = message(event::RESIZE, 0);
            bytes.extend(size.resize_bytes());
            Some((Step::Resize, bytes))
        } else if wants_open && !state.told_open {
            Some((Step::Open, message(event::PORT_OPEN, 1)))
        } else if state.end_owed && state.told_open && state.input.is_empty() {
            Some((Step::End, message(event::PORT_OPEN, 0)))
        } else {
            None
        }
    }

    /// The guest got the message.
    fn told(&self, step: Step) {
        let mut state = lock(&self.state);
        match step {
            Step::Add => state.owed.add = false,
            Step::Console => state.owed.console = false,
            Step::Name => state.owed.name = false,
            Step::Resize => state.owed.resize = false,
            Step::Open => state.told_open = true,
            Step::End => {
                state.told_open = false;
                state.end_owed = false;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Step {
    Add,
    Console,
    Name,
    Resize,
    Open,
    End,
}

impl CharInput for Port {
    fn push(&self, bytes: &[u8]) -> usize {
        let mut state = lock(&self.state);
        let room = if state.host_open && !state.end_owed { INPUT_LIMIT - state.input.len() } else { 0 };
        let (taken, refused) = bytes.split_at(bytes.len().min(room));
        state.input.extend(taken);
        state.refused |= !refused.is_empty();
        drop(state);
        if !taken.is_empty() {
            self.service.signal();
        }
        taken.len()
    }

    fn on_space(&self, callback: Box<dyn Fn() + Send + Sync>) {
        *lock(&self.on_space) = Some(callback.into());
    }
}

/// What the service thread works on.
pub(super) struct Hub {
    pub(super) ports: Vec<Arc<Port>>,
    pub(super) control_receive: Arc<VirtQueue>,
    pub(super) control_transmit: Arc<VirtQueue>,
    pub(super) wake: Arc<Wake>,
    pub(super) multiport: AtomicBool,
    pub(super) size: Mutex<Option<Size>>,
}

impl Hub {
    /// The service thread: input of all ports, and the control queues.
    pub(super) fn serve(&self) {
        let mut chain = Chain::default();
        while self.wake.wait() {
            loop {
                let mut progress = self.hear(&mut chain);
                progress |= self.speak(&mut chain);
                let multiport = self.multiport.load(Ordering::Acquire);
                for port in &self.ports {
                    progress |= port.deliver(&mut chain);
                    if port.take_space(multiport) {
                        // Called without a lock, so that it may push.
                        let callback = lock(&port.on_space).clone();
                        callback.inspect(|callback| callback());
                    }
                }
                if !progress || self.wake.is_shut_down() {
                    break;
                }
            }
        }
    }

    /// Takes the guest's control messages. Returns whether there was one.
    fn hear(&self, chain: &mut Chain) -> bool {
        let mut any = false;
        loop {
            let message = self.control_transmit.with(|ring| {
                if !ring.pop_or_arm(chain)? {
                    return Ok(None);
                }
                let mut bytes = [0; Control::SIZE];
                let len = chain.read(ring.memory(), 0, &mut bytes)?;
                ring.push(chain.head(), 0)?;
                ring.notify()?;
                Ok(Some((len == bytes.len()).then(|| Control::from_bytes(bytes))))
            });
            let Some(Some(message)) = message else { return any };
            any = true;
            if let Some(message) = message {
                self.handle(message);
            }
        }
    }

    fn handle(&self, message: Control) {
        if message.event == event::DEVICE_READY {
            for port in self.ports.iter().filter(|_| message.value == 1) {
                port.reset();
                lock(&port.state).owed.add = true;
            }
            return;
        }
        let port = usize::try_from(message.id).ok().and_then(|id| self.ports.get(id));
        let Some(port) = port else {
            tracing::debug!(?message, "guest speaks of a console port that does not exist");
            return;
        };
        match (message.event, message.value) {
            (event::PORT_READY, 1) => {
                let mut state = lock(&port.state);
                state.ready = true;
                state.told_open = false;
                state.owed.console = port.is_console;
                state.owed.name = !port.name.is_empty();
                state.owed.resize = port.is_console;
            }
            (event::PORT_READY, _) => {
                tracing::warn!(port = port.name, "the guest cannot add this console port")
            }
            (event::PORT_OPEN, value) => port.set_guest_open(value == 1),
            _ => tracing::debug!(?message, "guest sent an unknown console message"),
        }
    }

    /// Sends what the guest is owed, as far as it offers buffers. Returns whether it sent anything.
    fn speak(&self, chain: &mut Chain) -> bool {
        let mut any = false;
        for port in &self.ports {
            let size = *lock(&self.size);
            while let Some((step, bytes)) = port.next_message(size) {
                let sent = self.control_receive.with(|ring| {
                    if !ring.pop_or_arm(chain)? {
                        return Ok(false);
                    }
                    let written = chain.write(ring.memory(), 0, &bytes)?;
                    ring.push(chain.head(), written as u32)?;
                    ring.notify()?;
                    Ok(true)
                });
                if sent != Some(true) {
                    return any;
                }
                port.told(step);
                any = true;
            }
        }
        any
    }
}

/// A port's output thread.
pub(super) fn pump(port: &Port) {
    let Some(mut sink) = lock(&port.sink).take() else { return };
    let mut chain = Chain::default();
    let mut buffer = vec![0; OUTPUT_CHUNK];
    while port.transmit_wake.wait() {
        while let Some(epoch) = next_output(port, &mut chain) {
            if !copy_out(port, epoch, &chain, &mut buffer, sink.as_mut()) || port.transmit_wake.is_shut_down()
            {
                break;
            }
        }
    }
}

fn next_output(port: &Port, chain: &mut Chain) -> Option<u64> {
    let found = port.transmit.with(|ring| {
        let found = ring.pop_or_arm(chain)?;
        Ok(found.then(|| ring.epoch()))
    });
    found.flatten()
}

/// Hands one buffer to the sink, without the queue's lock while the sink may block, and then back to the guest.
/// `false` when the queue was stopped meanwhile.
fn copy_out(port: &Port, epoch: u64, chain: &Chain, buffer: &mut [u8], sink: &mut dyn CharSink) -> bool {
    let total = chain.readable_len();
    let mut offset = 0;
    while offset < total {
        let copied = port.transmit.with_epoch(epoch, |ring| chain.read(ring.memory(), offset, buffer));
        let Some(bytes) = copied.and_then(|len| buffer.get(..len)).filter(|bytes| !bytes.is_empty()) else {
            return false;
        };
        sink.put(bytes);
        offset += bytes.len() as u64;
    }
    let returned = port.transmit.with_epoch(epoch, |ring| {
        ring.push(chain.head(), 0)?;
        ring.notify()
    });
    returned.is_some()
}
