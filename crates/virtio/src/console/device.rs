//! The console as the transport sees it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tearless_bus::CharSink;
use tearless_state::{Encoded, StateError};

use super::{
    spec::{CLASS, CONTROL_RECEIVE, DEVICE_ID, F_MULTIPORT, F_SIZE, Size},
    worker::{Hub, OpenObserver, Port, PortSeed, SavedPort, pump},
};
use crate::{Activation, DeviceKind, Interrupt, VirtQueue, VirtioDevice, Wake, lock, read_window};

/// Each port costs two queues, two vectors and a thread.
const MAX_PORTS: usize = 31;
/// `PORT_NAME` must fit in any control buffer beside its header; udev makes a file name of it.
const MAX_NAME: usize = 64;
const QUEUE_SIZE: u16 = 128;

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// A port to build.
pub struct ConsolePort {
    /// The name that the guest finds it by; may be empty for a console.
    pub name: String,
    /// A terminal rather than a stream.
    pub is_console: bool,
    /// Where the guest's output goes. It may block.
    pub sink: Box<dyn CharSink>,
    /// Told when the guest opens or closes the port; runs on the console's thread, or on a vCPU's when the guest
    /// resets the device, and must not wait.
    pub on_guest_open: Option<OpenObserver>,
}

/// Why a set of ports is no console device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleError {
    /// No port or too many.
    #[error("a console device has 1 to 31 ports, not {0}")]
    Count(usize),
    /// Guests make a file name of it.
    #[error("{0:?} is no port name: use 1 to 64 letters, digits, dots, dashes and underscores")]
    Name(String),
    /// Guests could not tell them apart.
    #[error("two console ports are called {0:?}")]
    Twice(String),
}

/// A console device with its ports.
pub struct Console {
    hub: Arc<Hub>,
    queues: Vec<Arc<VirtQueue>>,
    features: u64,
    /// How many threads run: none before the first activation, then one per port and one for the service.
    threads: Mutex<usize>,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
}

impl Console {
    /// A console device with `ports`: a lone console, or several ports that the guest tells apart by name.
    ///
    /// # Errors
    /// [`ConsoleError`] when these cannot be ports of one device.
    pub fn new(ports: Vec<ConsolePort>) -> Result<Arc<Self>, ConsoleError> {
        check(&ports)?;
        let features = features(&ports);
        let service = Arc::new(Wake::default());
        let seed = |(id, port): (u32, ConsolePort)| PortSeed {
            id,
            name: port.name,
            is_console: port.is_console,
            queue_size: QUEUE_SIZE,
            service: service.clone(),
            on_guest_open: port.on_guest_open,
            sink: port.sink,
        };
        let ports: Vec<_> = (0..).zip(ports).map(|port| Arc::new(Port::new(seed(port)))).collect();
        let control_receive = VirtQueue::new(QUEUE_SIZE, service.clone());
        let control_transmit = VirtQueue::new(QUEUE_SIZE, service.clone());
        let mut queues: Vec<_> =
            ports.iter().flat_map(|port| [port.receive.clone(), port.transmit.clone()]).collect();
        if features & F_MULTIPORT != 0 {
            let control = [control_receive.clone(), control_transmit.clone()];
            queues.splice(CONTROL_RECEIVE..CONTROL_RECEIVE, control);
        }
        let hub = Hub {
            ports,
            control_receive,
            control_transmit,
            wake: service,
            multiport: AtomicBool::new(false),
            size: Mutex::new(None),
        };
        Ok(Arc::new(Self {
            hub: Arc::new(hub),
            queues,
            features,
            threads: Mutex::new(0),
            interrupt: Mutex::new(None),
        }))
    }

    /// The host's side of port `index`.
    pub fn port(&self, index: usize) -> Option<Arc<Port>> {
        self.hub.ports.get(index).cloned()
    }

    /// The host's side of the port called `name`.
    pub fn port_named(&self, name: &str) -> Option<Arc<Port>> {
        self.hub.ports.iter().find(|port| port.name() == name).cloned()
    }

    /// Tells the guest the size of every console, in characters.
    pub fn resize(&self, cols: u16, rows: u16) {
        let size = Size { cols, rows };
        if lock(&self.hub.size).replace(size) == Some(size) {
            return;
        }
        self.hub.ports.iter().for_each(|port| port.announce_size());
        self.hub.wake.signal();
        if let Some(interrupt) = lock(&self.interrupt).as_ref() {
            interrupt.config();
        }
    }

    /// Waits until every sink has what the guest has written so far, at most for `limit`: before a machine goes away.
    /// Returns whether that came true.
    pub fn drain(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let running = *lock(&self.threads);
        self.hub.ports.iter().take(running).all(|port| port.transmit_wake.wait_idle(deadline))
    }

    fn start_threads(&self) -> io::Result<()> {
        let mut running = lock(&self.threads);
        for port in self.hub.ports.iter().skip(*running) {
            let port = port.clone();
            thread::Builder::new().name(format!("console{}", port.id)).spawn(move || pump(&port))?;
            *running += 1;
        }
        if *running == self.hub.ports.len() {
            let hub = self.hub.clone();
            thread::Builder::new().name("console".to_owned()).spawn(move || hub.serve())?;
            *running += 1;
        }
        Ok(())
    }
}

/// A lone console goes without the control queues: its size then comes from the configuration, whose fields every
/// driver reads in the same order, which cannot be said of the `RESIZE` message.
fn features(ports: &[ConsolePort]) -> u64 {
    let consoles = ports.iter().filter(|port| port.is_console).count();
    let size = if consoles > 0 { F_SIZE } else { 0 };
    let multiport = if ports.len() == 1 && consoles == 1 { 0 } else { F_MULTIPORT };
    size | multiport
}

fn check(ports: &[ConsolePort]) -> Result<(), ConsoleError> {
    if ports.is_empty() || ports.len() > MAX_PORTS {
        return Err(ConsoleError::Count(ports.len()));
    }
    for (i, port) in ports.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let good = port.name.len() <= MAX_NAME && port.name.chars().all(plain);
        if !good || (port.name.is_empty() && !port.is_console) {
            return Err(ConsoleError::Name(port.name.clone()));
        }
        if !port.name.is_empty() && ports.iter().skip(i + 1).any(|other| other.name == port.name) {
            return Err(ConsoleError::Twice(port.name.clone()));
        }
    }
    Ok(())
}

impl VirtioDevice for Console {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        self.features
    }

    /// A driver without multiport support takes port 0 for its console, and would write its boot messages into a
    /// stream.
    fn required_features(&self) -> u64 {
        let console_first = self.hub.ports.first().is_some_and(|port| port.is_console);
        if console_first { 0 } else { F_MULTIPORT }
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    /// `struct virtio_console_config`: columns, rows, number of ports.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let Size { cols, rows } = lock(&self.hub.size).unwrap_or_default();
        let mut bytes = [cols.to_le_bytes(), rows.to_le_bytes()].concat();
        bytes.extend((self.hub.ports.len() as u32).to_le_bytes());
        read_window(&bytes, offset, data);
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let multiport = activation.features & F_MULTIPORT != 0;
        self.hub.multiport.store(multiport, Ordering::Release);
        *lock(&self.interrupt) = Some(activation.interrupt.clone());
        self.start_threads()?;
        if let Some(port) = self.hub.ports.first().filter(|_| !multiport) {
            // Without control queues a driver cannot say so: it has port 0 open for as long as it is there.
            port.set_guest_open(true);
            if lock(&self.hub.size).is_some() {
                // Linux looks at the size when it is told that it changed, and only then.
                activation.interrupt.config();
            }
        }
        Ok(())
    }

    fn outline(&self) -> String {
        format!("a console with {} ports", self.hub.ports.len())
    }

    fn save(&self) -> Result<Option<Encoded>, StateError> {
        let ports: Vec<_> = self.hub.ports.iter().map(|port| port.save()).collect();
        Encoded::new(STATE_VERSION, &ports).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("the ports are missing"))?;
        let saved: Vec<SavedPort> = state.decode(STATE_VERSION)?;
        if saved.len() != self.hub.ports.len() {
            return Err(StateError::malformed("it has another number of ports"));
        }
        self.hub.ports.iter().zip(saved).try_for_each(|(port, saved)| port.restore(saved))
    }

    fn reset(&self) {
        *lock(&self.interrupt) = None;
        self.hub.ports.iter().for_each(|port| port.reset());
    }
}

impl Drop for Console {
    /// The threads end when they next look. They are not waited for: a sink may block for as long as its reader does.
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.stop());
        self.hub.wake.shut_down();
        self.hub.ports.iter().for_each(|port| port.transmit_wake.shut_down());
    }
}
