//! What a desktop's agent in the guest is told and asked: SPICE's vdagent protocol, which `spice-vdagent` speaks on the port
//! [`PORT`].
//!
//! The guest's stream is chunks (port and length, four bytes each, little-endian) that carry messages: a header of 20
//! bytes (protocol, type, opaque, length), then the data. Ours to the guest are of one selection, the clipboard, and of
//! one type, text. Who copies only says so; who pastes asks for it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
};

use crate::{Clipboard, Party, Screen, Size, clipboard::MAX_TEXT, lock};

/// The name of the guest's port.
pub const PORT: &str = "com.redhat.spice.0";

/// Most bytes of a chunk to the guest, by the protocol.
const CHUNK: usize = 2048;
/// The port in the header of a chunk: the client's, as far as the agent knows.
const CLIENT: u32 = 1;
const PROTOCOL: u32 = 1;
const CHUNK_HEADER: usize = 8;
const HEADER: usize = 20;
/// Most bytes of a message that are kept: a text with what comes before it.
const MAX_MESSAGE: usize = MAX_TEXT + 64;
/// Most bytes that wait for a guest that does not read. More is not said.
const MAX_WAITING: usize = 2 * MAX_MESSAGE;

/// Types of messages.
mod kind {
    pub const MONITORS: u32 = 2;
    pub const CLIPBOARD: u32 = 4;
    pub const CAPABILITIES: u32 = 6;
    pub const GRAB: u32 = 7;
    pub const REQUEST: u32 = 8;
    pub const RELEASE: u32 = 9;
}

/// Capabilities, as bits.
mod capability {
    pub const MONITORS: u32 = 1 << 1;
    /// Who pastes asks for it.
    pub const BY_DEMAND: u32 = 1 << 5;
    /// Messages about a clipboard begin with which one.
    pub const SELECTION: u32 = 1 << 6;
}

const OWN: u32 = capability::MONITORS | capability::BY_DEMAND | capability::SELECTION;

/// The clipboard among a desktop's selections.
const SELECTION: [u8; 4] = [0; 4];
/// UTF-8.
const TEXT: u32 = 1;

/// Puts bytes into the guest's port; returns how many there was room for.
pub type Outlet = Box<dyn Fn(&[u8]) -> usize + Send>;

/// The host's side of the agent. It outlives the guest's resets.
pub struct Agent {
    screen: Arc<Screen>,
    party: Party,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outlet: Option<Outlet>,
    open: bool,
    /// What the guest's agent can do, once it has said so.
    capabilities: Option<u32>,
    /// What is left of the chunk that comes.
    chunk: usize,
    /// What has come of a chunk's header, or of a message.
    head: Vec<u8>,
    message: Vec<u8>,
    /// How much of a message that is too long is still to come.
    skip: usize,
    waiting: VecDeque<u8>,
}

impl Agent {
    /// An agent that keeps the guest's clipboard the same as `clipboard`, and its desktop as large as viewers want `screen`.
    pub fn new(clipboard: &Arc<Clipboard>, screen: &Arc<Screen>) -> Arc<Self> {
        let agent = Arc::new_cyclic(|this: &Weak<Self>| {
            let copied = this.clone();
            let party = clipboard.join(move || _ = copied.upgrade().inspect(|agent| agent.copied()));
            Self { screen: screen.clone(), party, state: Mutex::default() }
        });
        let wished = Arc::downgrade(&agent);
        screen.on_wish(Arc::new(move || _ = wished.upgrade().inspect(|agent| agent.wished())));
        agent
    }

    /// From now on the guest is a machine whose port takes what `outlet` is given.
    pub fn plug(&self, outlet: Outlet) {
        *lock(&self.state) = State { outlet: Some(outlet), ..State::default() };
    }

    /// The guest's agent has opened the port, or closed it.
    pub fn set_open(&self, open: bool) {
        let mut state = lock(&self.state);
        *state = State { outlet: state.outlet.take(), open, ..State::default() };
        if open {
            state.announce(true);
        }
    }

    /// The port has room again.
    pub fn flush(&self) {
        lock(&self.state).flush();
    }

    /// Takes what the guest says.
    pub fn hear(&self, mut bytes: &[u8]) {
        let mut copied = None;
        let mut state = lock(&self.state);
        while !bytes.is_empty() {
            if let Some(text) = state.take(&mut bytes, &self.party) {
                copied = Some(text);
            }
        }
        drop(state);
        if let Some(text) = copied {
            self.party.copy(&text);
        }
    }

    /// Somebody else has copied something.
    fn copied(&self) {
        let mut state = lock(&self.state);
        if self.party.news().is_some() {
            state.grab();
        }
    }

    /// A viewer wants another size.
    fn wished(&self) {
        let Size { width, height } = self.screen.wish().size;
        let mut state = lock(&self.state);
        if state.can(capability::MONITORS) {
            // One monitor, no flags; its size, depth and place.
            state.say(kind::MONITORS, &[1, 0, height, width, 32, 0, 0].map(u32::to_le_bytes).concat());
        }
    }
}

impl State {
    fn can(&self, capability: u32) -> bool {
        self.capabilities.is_some_and(|all| all & capability != 0)
    }

    fn announce(&mut self, asks: bool) {
        self.say(kind::CAPABILITIES, &[u32::from(asks), OWN].map(u32::to_le_bytes).concat());
    }

    /// Says that there is a text to be pasted.
    fn grab(&mut self) {
        if self.can(capability::BY_DEMAND) {
            self.say_of_clipboard(kind::GRAB, &TEXT.to_le_bytes());
        }
    }

    /// Says something of the clipboard.
    fn say_of_clipboard(&mut self, kind: u32, data: &[u8]) {
        let which: &[u8] = if self.can(capability::SELECTION) { &SELECTION } else { &[] };
        self.say(kind, &[which, data].concat());
    }

    /// Sends a message some time, or not at all if the guest does not read.
    fn say(&mut self, kind: u32, data: &[u8]) {
        if !self.open || self.waiting.len() + data.len() > MAX_WAITING {
            return;
        }
        let mut message = [PROTOCOL, kind, 0, 0, data.len() as u32].map(u32::to_le_bytes).concat();
        message.extend(data);
        for part in message.chunks(CHUNK) {
            self.waiting.extend([CLIENT, part.len() as u32].map(u32::to_le_bytes).iter().flatten());
            self.waiting.extend(part);
        }
        self.flush();
    }

    fn flush(&mut self) {
        let Some(outlet) = &self.outlet else { return };
        while !self.waiting.is_empty() {
            let bytes = self.waiting.make_contiguous();
            let taken = outlet(bytes).min(bytes.len());
            self.waiting.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    /// Takes a part of `bytes`, at least one: of a chunk's header, or of a message. Returns a text that the guest's user copied.
    fn take(&mut self, bytes: &mut &[u8], party: &Party) -> Option<String> {
        let mut split = |most: usize| {
            let (part, rest) = bytes.split_at(bytes.len().min(most));
            *bytes = rest;
            part
        };
        if self.chunk == 0 {
            self.head.extend(split(CHUNK_HEADER - self.head.len()));
            if let Ok(header) = <[u8; CHUNK_HEADER]>::try_from(self.head.as_slice()) {
                self.chunk = word(&header, 4) as usize;
                self.head.clear();
            }
            return None;
        }
        if self.skip > 0 {
            let skipped = split(self.chunk.min(self.skip)).len();
            self.chunk -= skipped;
            self.skip -= skipped;
            return None;
        }
        let part = split(self.chunk.min(self.message_len() - self.message.len()));
        self.chunk -= part.len();
        self.message.extend(part);
        if self.message_len() > MAX_MESSAGE {
            self.skip = self.message_len() - HEADER;
            self.message.clear();
        }
        if self.message.len() < self.message_len() {
            return None;
        }
        let message = std::mem::take(&mut self.message);
        self.understand(word(&message, 4), message.get(HEADER..).unwrap_or_default(), party)
    }

    /// How long the message that comes is, as far as is known.
    fn message_len(&self) -> usize {
        let data = if self.message.len() < HEADER { 0 } else { word(&self.message, 16) as usize };
        HEADER + data
    }

    fn understand(&mut self, kind: u32, data: &[u8], party: &Party) -> Option<String> {
        if kind == kind::CAPABILITIES {
            let first = self.capabilities.replace(word(data, 4)).is_none();
            if word(data, 0) != 0 {
                self.announce(false);
            }
            if first && !party.text().is_empty() {
                self.grab();
            }
            return None;
        }
        let data = if self.can(capability::SELECTION) {
            // Other selections, such as what is marked, stay in the guest.
            data.strip_prefix(&SELECTION)?
        } else {
            data
        };
        match kind {
            kind::GRAB if data.chunks(4).any(|kind| kind == TEXT.to_le_bytes()) => {
                self.say_of_clipboard(kind::REQUEST, &TEXT.to_le_bytes());
            }
            kind::REQUEST => {
                let text = if word(data, 0) == TEXT { party.text() } else { Arc::default() };
                let kind = if text.is_empty() { 0 } else { TEXT };
                let answer = [&kind.to_le_bytes(), text.as_bytes()].concat();
                self.say_of_clipboard(kind::CLIPBOARD, &answer);
            }
            kind::CLIPBOARD if word(data, 0) == TEXT => {
                let text = String::from_utf8_lossy(data.get(4..).unwrap_or_default());
                return Some(text.trim_end_matches('\0').to_owned());
            }
            kind::RELEASE => {}
            _ => tracing::trace!(kind, "the guest's agent says what does not matter here"),
        }
        None
    }
}

/// The four bytes at `at`; zero beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    /// An agent in a guest whose port takes a few bytes at a time.
    struct Guest {
        agent: Arc<Agent>,
        got: Arc<Mutex<Vec<u8>>>,
        viewer: Party,
        screen: Arc<Screen>,
    }

    impl Guest {
        fn new() -> Self {
            let clipboard = Arc::new(Clipboard::default());
            let screen = Screen::new(Mode::default());
            let agent = Agent::new(&clipboard, &screen);
            let got = Arc::new(Mutex::new(Vec::new()));
            let to = got.clone();
            agent.plug(Box::new(move |bytes: &[u8]| {
                let part = &bytes[..bytes.len().min(5)];
                lock(&to).extend(part);
                part.len()
            }));
            agent.set_open(true);
            Self { agent, got, viewer: clipboard.join(|| ()), screen }
        }

        /// Says `kind` with `data`, in one chunk.
        fn says(&self, kind: u32, data: &[u8]) {
            let mut bytes = [CLIENT, (HEADER + data.len()) as u32].map(u32::to_le_bytes).concat();
            bytes.extend([PROTOCOL, kind, 0, 0, data.len() as u32].map(u32::to_le_bytes).concat());
            bytes.extend(data);
            bytes.chunks(7).for_each(|part| self.agent.hear(part));
        }

        /// The messages that it got, chunks put together.
        fn hears(&self) -> Vec<(u32, Vec<u8>)> {
            let got = std::mem::take(&mut *lock(&self.got));
            let (mut bytes, mut stream) = (got.as_slice(), Vec::new());
            while !bytes.is_empty() {
                let len = word(bytes, 4) as usize;
                assert!(len <= CHUNK);
                stream.extend(&bytes[CHUNK_HEADER..CHUNK_HEADER + len]);
                bytes = &bytes[CHUNK_HEADER + len..];
            }
            let (mut rest, mut messages) = (stream.as_slice(), Vec::new());
            while !rest.is_empty() {
                let end = HEADER + word(rest, 16) as usize;
                messages.push((word(rest, 4), rest[HEADER..end].to_vec()));
                rest = &rest[end..];
            }
            messages
        }

        fn introduces_itself(&self) {
            self.says(kind::CAPABILITIES, &[0, OWN].map(u32::to_le_bytes).concat());
            self.hears();
        }
    }

    fn selected(data: &[u8]) -> Vec<u8> {
        [&SELECTION, data].concat()
    }

    #[test]
    fn capabilities_are_told_when_the_port_opens_and_when_asked() {
        let guest = Guest::new();
        let own = |asks: u32| (kind::CAPABILITIES, [asks, OWN].map(u32::to_le_bytes).concat());
        assert_eq!(guest.hears(), [own(1)]);
        guest.says(kind::CAPABILITIES, &[1, OWN].map(u32::to_le_bytes).concat());
        assert_eq!(guest.hears(), [own(0)]);
    }

    #[test]
    fn text_goes_both_ways() {
        let guest = Guest::new();
        guest.introduces_itself();
        guest.viewer.copy("héllo");
        assert_eq!(guest.hears(), [(kind::GRAB, selected(&TEXT.to_le_bytes()))]);
        guest.says(kind::REQUEST, &selected(&TEXT.to_le_bytes()));
        let text = [&TEXT.to_le_bytes(), "héllo".as_bytes()].concat();
        assert_eq!(guest.hears(), [(kind::CLIPBOARD, selected(&text))]);

        guest.says(kind::GRAB, &selected(&[9, TEXT].map(u32::to_le_bytes).concat()));
        assert_eq!(guest.hears(), [(kind::REQUEST, selected(&TEXT.to_le_bytes()))]);
        let text = "ü".repeat(30_000);
        guest.says(kind::CLIPBOARD, &selected(&[&TEXT.to_le_bytes(), text.as_bytes()].concat()));
        assert_eq!(guest.viewer.news().as_deref(), Some(text.as_str()));
        assert!(guest.hears().is_empty(), "what is the guest's own is not offered to it");
    }

    #[test]
    fn what_was_copied_before_is_offered_to_an_agent_that_comes() {
        let guest = Guest::new();
        guest.viewer.copy("early");
        guest.hears();
        guest.says(kind::CAPABILITIES, &[0, OWN].map(u32::to_le_bytes).concat());
        assert_eq!(guest.hears(), [(kind::GRAB, selected(&TEXT.to_le_bytes()))]);
    }

    #[test]
    fn the_desktop_follows_the_window() {
        let guest = Guest::new();
        guest.introduces_itself();
        guest.screen.want(Size::new(1000, 700));
        let monitors = [1, 0, 700, 1000, 32, 0, 0].map(u32::to_le_bytes).concat();
        assert_eq!(guest.hears(), [(kind::MONITORS, monitors)]);
    }

    #[test]
    fn a_guest_that_says_too_much_or_reads_nothing_is_bounded() {
        let guest = Guest::new();
        guest.introduces_itself();
        let huge = selected(&[&TEXT.to_le_bytes()[..], &vec![b'x'; 2 * MAX_TEXT]].concat());
        guest.says(kind::CLIPBOARD, &huge);
        assert_eq!(guest.viewer.news(), None);
        guest.says(kind::CLIPBOARD, &selected(&[&TEXT.to_le_bytes()[..], b"small"].concat()));
        assert_eq!(guest.viewer.news().as_deref(), Some("small"), "what follows is understood");
        for noise in [0xffu8, 0, 1] {
            guest.agent.set_open(true);
            guest.agent.hear(&vec![noise; 100_000]);
            assert!(lock(&guest.agent.state).message.len() <= MAX_MESSAGE);
        }
        guest.agent.plug(Box::new(|_| 0));
        guest.agent.set_open(true);
        guest.introduces_itself();
        guest.viewer.copy(&"y".repeat(MAX_TEXT));
        for _ in 0..10 {
            guest.says(kind::REQUEST, &selected(&TEXT.to_le_bytes()));
        }
        let waiting = lock(&guest.agent.state).waiting.len();
        assert!((MAX_TEXT..2 * MAX_WAITING).contains(&waiting), "{waiting}");
    }
}
