//! What is said on the control socket. A line of JSON each way; fields may be added in later releases and unknown ones
//! are ignored; [`VERSION`] changes when an old client or VM would misunderstand.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// The version of the protocol. A VM refuses requests of a later one, so that a newer `tearless` says what is wrong.
pub const VERSION: u32 = 1;

/// Longest line, with its end. Requests and answers are a few hundred bytes; a stranger must not fill our memory.
pub const MAX_LINE: usize = 64 << 10;

/// A request with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub version: u32,
    #[serde(flatten)]
    pub request: Request,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the VM is. Answer: [`Reply::State`].
    State,
    /// Asks the guest to shut down and ends the VM if it has not after `timeout_ms`. Answered when the VM has ended:
    /// [`Reply::Stopped`].
    Stop {
        /// How long the guest may take, in milliseconds.
        timeout_ms: u64,
    },
    /// Ends the VM at once. Answer: [`Reply::Stopped`].
    Kill,
    /// Stops the vCPUs and the guest's clock. Answer: [`Reply::Done`].
    Pause,
    /// Lets them go on. Answer: [`Reply::Done`].
    Resume,
    /// Saves the VM and ends it. Answer: [`Reply::Stream`], on which lines with replies follow: any number of
    /// [`Reply::Progress`], then [`Reply::Suspended`] or [`Reply::Error`].
    Suspend,
    /// Takes a snapshot of the VM, which goes on afterwards. Answer: [`Reply::Stream`], on which a conversation follows; see
    /// [`crate::taking`].
    Snapshot {
        /// With the memory and the devices, and not just the disks.
        memory: bool,
    },
    /// The console: first the last of what it said, then all it says; what is sent is typed. Answer: [`Reply::Stream`].
    Console,
    /// Tells the guest the size of its console. Answer: [`Reply::Done`].
    Resize {
        /// Width in characters.
        cols: u16,
        /// Height in characters.
        rows: u16,
    },
    /// Has the guest give memory to its balloon, or take it back. Answer: [`Reply::Done`], before the guest has.
    Balloon {
        /// How much the balloon is to hold, in bytes.
        target: u64,
    },
    /// Makes a disk larger; its guest is told. Answer: [`Reply::Done`].
    GrowDisk {
        /// The image, as the VM has it open.
        path: PathBuf,
        /// Its new size in bytes.
        size: u64,
    },
    /// What the screen shows, or the console where there is no screen. Answer: [`Reply::Stream`], on which a PNG file comes.
    Screenshot,
    /// The screen, for a window in another process. Answer: [`Reply::Stream`], on which `tearless_display::link` is spoken; the
    /// client speaks first.
    Screen,
    /// Connects to a vsock port on which the guest listens. Answer: [`Reply::Stream`].
    GuestConnect {
        /// The port.
        port: u32,
    },
}

/// What a VM answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// How it is.
    State(State),
    /// It has ended.
    Stopped {
        /// By whom.
        how: StopOutcome,
    },
    /// It is being saved.
    Progress {
        /// How much of the memory is, in bytes.
        done: u64,
        /// How much there is.
        all: u64,
    },
    /// It is saved, and ends.
    Suspended {
        /// How much of its memory was in use, in bytes.
        bytes: u64,
    },
    /// What it writes to, before a snapshot is taken.
    Disks {
        /// The disks, in the order of the machine's.
        disks: Vec<OpenDisk>,
    },
    /// It stands still, and its disks are what the snapshot is to have.
    Still {
        /// Whether the guest's file systems were told before.
        frozen: bool,
    },
    /// It goes on, and writes to the new layers.
    Switched,
    /// The memory of the snapshot is in its place.
    Kept {
        /// How much of it was in use, in bytes.
        bytes: u64,
    },
    /// Done.
    Done,
    /// From here on the connection is a pipe.
    Stream,
    /// It cannot be done.
    Error {
        /// Why, for people: what failed, because, try.
        message: String,
    },
}

/// What a client says while a snapshot is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// What a disk is to be then. The files come with this line, open.
    Layer {
        /// Which disk.
        disk: usize,
        /// The files of the layer and of what it builds on, from the top down; absolute.
        files: Vec<PathBuf>,
    },
    /// Stand still now.
    Stop,
    /// The disks are what the configuration says now: go on with the new layers.
    Switch,
}

/// A disk as a VM has it open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDisk {
    /// The image.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The guest cannot change it.
    pub read_only: bool,
}

/// How a VM came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopOutcome {
    /// The guest shut down.
    Guest,
    /// The guest was asked, but did not shut down in time: the plug was pulled.
    Forced,
    /// Nothing in the guest listens to such a request: the plug was pulled.
    Unheard,
    /// The plug was pulled without asking.
    Killed,
}

/// What a VM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its machine is being built.
    Starting,
    /// The guest runs.
    Running,
    /// The vCPUs stand still.
    Paused,
    /// The guest was asked to shut down.
    Stopping,
    /// Its state is being written; the vCPUs stand still.
    Saving,
}

impl Phase {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Saving => "saving",
        }
    }
}

/// How a VM is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// Its process.
    pub pid: u32,
    /// For how long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// What runs its instructions.
    pub engine: String,
    /// How many vCPUs it has.
    pub cpus: u32,
    /// How much memory it has, in bytes.
    pub memory: u64,
    /// The balloon, and what the guest says of its memory. Absent from VMs of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<Balloon>,
    /// The guest's network addresses, as its agent says; those that are good for most come first. Without an agent the one
    /// that it uses on its network, if that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Host ports that lead to ports which the guest listens at now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forwarded>,
    /// Where its screen can be seen: a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// How often the guest has reset itself.
    pub resets: u32,
    /// What confines the process: one line, for people.
    pub sandbox: String,
}

/// A port of the host that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest: u16,
}

/// The memory balloon of a VM. All in bytes; what the guest says may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balloon {
    /// How much it is to hold.
    pub target: u64,
    /// How much it holds, as the guest says.
    pub actual: u64,
    /// What the guest says of its memory, if it has a driver that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestMemory>,
}

/// A guest's memory as its kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMemory {
    /// All that it manages.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What programs could have without swapping.
    pub available: u64,
    /// Caches of files.
    pub caches: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_stable() {
        let line = |request| serde_json::to_string(&Envelope { version: VERSION, request }).unwrap();
        assert_eq!(line(Request::State), r#"{"version":1,"request":"state"}"#);
        assert_eq!(line(Request::Stop { timeout_ms: 5 }), r#"{"version":1,"request":"stop","timeout_ms":5}"#);
        assert_eq!(
            line(Request::GuestConnect { port: 22 }),
            r#"{"version":1,"request":"guest-connect","port":22}"#
        );
        let reply = |reply| serde_json::to_string(&reply).unwrap();
        assert_eq!(
            reply(Reply::Stopped { how: StopOutcome::Forced }),
            r#"{"reply":"stopped","how":"forced"}"#
        );
        let state = State {
            phase: Phase::Running,
            pid: 1,
            uptime_ms: 2,
            engine: "soft".into(),
            cpus: 3,
            memory: 4,
            balloon: None,
            addresses: Vec::new(),
            forwards: Vec::new(),
            display: None,
            resets: 0,
            sandbox: "none".into(),
        };
        assert_eq!(
            reply(Reply::State(state)),
            r#"{"reply":"state","phase":"running","pid":1,"uptime_ms":2,"engine":"soft","cpus":3,"memory":4,"resets":0,"sandbox":"none"}"#
        );
        let guest = GuestMemory { total: 3, free: 4, available: 5, caches: 6 };
        let balloon = Balloon { target: 1, actual: 2, guest: Some(guest) };
        assert_eq!(
            serde_json::to_string(&balloon).unwrap(),
            r#"{"target":1,"actual":2,"guest":{"total":3,"free":4,"available":5,"caches":6}}"#
        );
        assert_eq!(
            line(Request::GrowDisk { path: "/d".into(), size: 1 }),
            r#"{"version":1,"request":"grow-disk","path":"/d","size":1}"#
        );
        assert_eq!(line(Request::Balloon { target: 7 }), r#"{"version":1,"request":"balloon","target":7}"#);
    }

    #[test]
    fn phases_are_called_what_json_calls_them() {
        for phase in [Phase::Starting, Phase::Running, Phase::Paused, Phase::Stopping, Phase::Saving] {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{}\"", phase.name()));
        }
    }
}
