//! A way out of this process for whole frames, and the thread that moves them between it and the card.

use std::{io, sync::Arc};

use mio::{Events, Poll, Registry, Token};

use crate::{Card, Frame, NetError, Offload, Offloads, Threaded, guard, plug::Plug};

const WAKE: Token = Token(0);
const LINE: Token = Token(1);
/// Frames of each direction before the other has its turn.
const TURN: usize = 64;

/// What frames leave and arrive by. It blocks nowhere, and is watched for edges.
pub(crate) trait Line: Send {
    /// Has the poll watch it.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()>;

    /// The poll says that it can be read or written again.
    fn ready(&mut self, readable: bool, writable: bool);

    /// There is another guest, which finishes what `offloads` says.
    fn meet(&mut self, offloads: Offloads) -> io::Result<()>;

    /// Sends a frame. `false` when it cannot now.
    fn send(&mut self, frame: &[u8], offload: Offload) -> io::Result<bool>;

    /// The frame that came first and was not consumed yet. `None` when there is none now.
    fn next(&mut self) -> io::Result<Option<(Offload, &[u8])>>;

    /// Goes on to the next frame.
    fn consume(&mut self);

    /// Writes what waits, as far as that is possible now.
    fn flush(&mut self) -> io::Result<()>;
}

/// A way out that is open, and has no thread yet: opening may need rights that threads do not have any more.
pub struct Uplink {
    pub(crate) line: Box<dyn Line>,
    pub(crate) offloads: Offloads,
    pub(crate) mtu: Option<u16>,
}

impl Uplink {
    /// Starts the thread that moves frames.
    ///
    /// # Errors
    /// When the host lacks a resource.
    pub fn start(self) -> Result<Arc<Threaded>, NetError> {
        let line = self.line;
        Threaded::start((self.offloads, self.mtu), WAKE, |poll, plug| {
            let mut pump = Pump::new(line, poll, plug)?;
            Ok(move || pump.run())
        })
    }
}

struct Pump {
    line: Box<dyn Line>,
    poll: Poll,
    plug: Arc<Plug>,
    card: Option<Arc<dyn Card>>,
    /// The guest has no room for the frame that is next.
    full: bool,
    /// The frame that the guest sent last, and what is left to do for it while the line does not take it.
    frame: Vec<u8>,
    unsent: Option<Offload>,
}

impl Pump {
    fn new(mut line: Box<dyn Line>, poll: Poll, plug: Arc<Plug>) -> io::Result<Self> {
        line.register(poll.registry(), LINE)?;
        Ok(Self { line, poll, plug, card: None, full: false, frame: Vec::new(), unsent: None })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(4);
        while !self.plug.has_ended() {
            match self.turn() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the guest's network is gone: its other end has ended");
                    return;
                }
            }
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "the network ends: the host cannot wait for it");
                    return;
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() == LINE) {
                let broken = event.is_error();
                self.line.ready(
                    event.is_readable() || event.is_read_closed() || broken,
                    event.is_writable() || broken,
                );
            }
        }
    }

    /// Moves some frames each way. Returns whether there may be more to do right away.
    fn turn(&mut self) -> io::Result<bool> {
        if let Some(card) = self.plug.changed() {
            self.line.meet(card.as_ref().map(|card| card.offloads()).unwrap_or_default())?;
            self.card = card;
            self.full = false;
            self.unsent = None;
        }
        if self.plug.was_kicked() {
            self.full = false;
        }
        let more = self.send()? | self.receive()?;
        self.line.flush()?;
        if let Some(card) = &self.card {
            card.flush();
        }
        Ok(more)
    }

    /// From the guest.
    fn send(&mut self) -> io::Result<bool> {
        let Some(card) = &self.card else { return Ok(false) };
        for _ in 0..TURN {
            if self.unsent.is_none() {
                let Some(offload) = card.take(&mut self.frame) else { return Ok(false) };
                if !guard::may_leave(&self.frame, card.mac()) {
                    continue;
                }
                if let Some(address) = guard::arp_sender(&self.frame) {
                    self.plug.meet(address);
                }
                self.unsent = Some(offload);
            }
            if let Some(offload) = self.unsent {
                if !self.line.send(&self.frame, offload)? {
                    return Ok(false);
                }
                self.unsent = None;
            }
        }
        Ok(true)
    }

    /// To the guest.
    fn receive(&mut self) -> io::Result<bool> {
        for _ in 0..TURN {
            if self.full {
                return Ok(false);
            }
            let Some((offload, frame)) = self.line.next()? else { return Ok(false) };
            // Without a guest there is nobody to wait for.
            if let Some(card) = &self.card
                && card.offloads().cover(offload)
                && !card.give(&Frame::whole(frame, offload))
            {
                self.full = true;
                return Ok(false);
            }
            self.line.consume();
        }
        Ok(true)
    }
}
