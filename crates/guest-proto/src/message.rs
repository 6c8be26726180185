use serde::{Deserialize, Serialize};

/// What the host wants. Paths, arguments and the environment are bytes, as Unix has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you? [`Reply::Info`].
    Info,
    /// Run a program: [`Reply::Started`], then streams and [`Control`], then [`Reply::Ended`].
    Exec(Exec),
    /// Take files: [`Reply::Ready`], then a [`tree`](crate::tree) as data, then [`Reply::Done`].
    Put(Put),
    /// Give files: [`Reply::Size`], then a [`tree`](crate::tree) as data, then [`Reply::Copied`].
    Get {
        /// The file or folder.
        path: Vec<u8>,
    },
    /// Give the content of one file, which may be a device or a pipe: [`Reply::Ready`], then data, then [`Reply::Copied`].
    Read {
        /// The file.
        path: Vec<u8>,
    },
    /// Write one file: [`Reply::Ready`], then its content as data, then [`Reply::Done`].
    Write {
        /// The file.
        path: Vec<u8>,
    },
    /// The network addresses: [`Reply::Addresses`].
    Addresses,
    /// The TCP ports that programs listen at: [`Reply::Ports`].
    Ports,
    /// Connect with a TCP port of the guest itself: [`Reply::Done`], then both directions without frames.
    Forward {
        /// The port.
        port: u16,
    },
    /// End cleanly: [`Reply::Done`] when the guest has begun to.
    Power(Power),
    /// Set the clock: [`Reply::Done`].
    SetTime {
        /// Nanoseconds since 1970.
        nanos: u64,
    },
    /// Write everything to the disks: [`Reply::Done`].
    Sync,
    /// As [`Request::Sync`], and let nobody write until the connection ends, or for a minute: [`Reply::Done`].
    Freeze,
}

/// A program to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables beside the usual ones.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The folder to run in; default: the user's home.
    pub cwd: Option<Vec<u8>>,
    /// The user by name or number; default: root.
    pub user: Option<String>,
    /// With a terminal of this size, instead of pipes.
    pub terminal: Option<WindowSize>,
    /// It outlives the connection, and has no input and output.
    pub detach: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// Where files go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The path to have them at, or a folder to have them in.
    pub path: Vec<u8>,
    /// What they are called, if `path` is a folder.
    pub name: Vec<u8>,
    /// A folder comes, rather than a file.
    pub folder: bool,
}

/// How the guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// It powers off.
    Off,
    /// It starts again.
    Reboot,
}

/// What the host says while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// A signal by its Linux number, for the program and its children.
    Signal(i32),
    /// The terminal has another size.
    Resize(WindowSize),
}

/// The agent's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It did not work.
    Failed(Failure),
    /// It is done.
    Done,
    /// Go on.
    Ready,
    /// The answer to [`Request::Info`].
    Info(Info),
    /// The program runs.
    Started {
        /// Its process ID.
        pid: u32,
    },
    /// The program took this much of its input.
    Window(u32),
    /// The program takes no more input.
    StdinClosed,
    /// The program ended, and all its output was sent.
    Ended(Ended),
    /// About this much data will come.
    Size {
        /// Bytes of the files' content.
        bytes: u64,
    },
    /// All was sent.
    Copied {
        /// Files that were left out.
        skipped: u64,
        /// Why the first of them was.
        why: Option<String>,
    },
    /// The answer to [`Request::Addresses`].
    Addresses(Vec<Address>),
    /// The answer to [`Request::Ports`], in ascending order.
    Ports(Vec<u16>),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}\n  because: {because}")]
pub struct Failure {
    /// What kind it is, for programs.
    pub kind: FailureKind,
    /// What failed.
    pub what: String,
    /// Why.
    pub because: String,
}

impl Failure {
    /// As it can be shown to people: what a guest says may be meant for their terminal, or have no end.
    pub fn printable(self) -> Self {
        Self { kind: self.kind, what: printable(&self.what), because: printable(&self.because) }
    }
}

/// `text` as a line of at most 1000 characters, none of which moves the cursor or turns the text around.
pub fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    text.chars().take(1000).map(shown).collect()
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The request makes no sense in this guest.
    Request,
    /// Something is not there.
    NotFound,
    /// The guest's system refused.
    System,
}

/// What an agent says of its guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The agent's release.
    pub agent: String,
    /// The host name.
    pub hostname: String,
    /// The system, `PRETTY_NAME` of os-release.
    pub system: String,
    /// The kernel's release.
    pub kernel: String,
    /// Seconds since the guest started.
    pub uptime: u64,
}

/// An address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: std::net::IpAddr,
    /// Length of the network's prefix.
    pub prefix: u8,
}
