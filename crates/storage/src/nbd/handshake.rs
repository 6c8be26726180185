//! How client and server come to terms: the fixed newstyle negotiation.
//!
//! ```text
//!   server: NBDMAGIC, IHAVEOPT, flags      client: flags
//!   client: STRUCTURED_REPLY               server: ACK, or an error: then replies are simple
//!   client: GO, the export's name          server: INFO ..., ACK
//!                                          or an error: then EXPORT_NAME, which all servers know
//! ```
//! Everything that the server says is checked, and nothing is kept that it could make long.

use std::io::{self, Read, Write};

use super::wire::{ANSWER_MAGIC, MAGIC, OLD_MAGIC, OPTION_MAGIC, answer, export, handshake, info, option};

/// Answers to one option; the specification has no more than some dozens.
const MAX_ANSWERS: usize = 64;
/// No answer is longer: names and messages have 4096 bytes at most.
const MAX_ANSWER: u32 = 16 << 10;
/// Blocks larger than this would make small writes expensive beyond use.
const MAX_MIN_BLOCK: u32 = 64 << 10;
/// What a request moves at most where the server does not say.
const DEFAULT_MAX_BLOCK: u32 = 32 << 20;

/// What a server offers under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// In bytes.
    pub(super) size: u64,
    pub(super) flags: u16,
    /// Offsets and lengths of requests are multiples of it; a power of two.
    pub(super) min_block: u32,
    /// No request moves more; a multiple of `min_block`.
    pub(super) max_block: u32,
    /// Whether replies are structured.
    pub(super) structured: bool,
}

impl Export {
    pub(super) fn read_only(&self) -> bool {
        self.flags & export::READ_ONLY != 0
    }
    pub(super) fn can_flush(&self) -> bool {
        self.flags & export::FLUSH != 0
    }
    pub(super) fn can_write_through(&self) -> bool {
        self.flags & export::FUA != 0
    }
    pub(super) fn can_trim(&self) -> bool {
        self.flags & export::TRIM != 0
    }
    pub(super) fn can_write_zeroes(&self) -> bool {
        self.flags & export::WRITE_ZEROES != 0
    }
}

/// Why there is no export.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In words for people.
    pub(super) why: String,
    pub(super) advice: &'static str,
}

impl Refusal {
    pub(super) fn new(why: impl Into<String>, advice: &'static str) -> Self {
        Self { why: why.into(), advice }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server ended the conversation".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the server does not answer".to_owned(),
            _ => error.to_string(),
        };
        Self::new(why, "check that the server runs there, and whom it allows")
    }
}

fn nonsense(what: &str) -> Refusal {
    Refusal::new(format!("what answers is no NBD server, or one with a fault: {what}"), "check the address")
}

/// Asks the server at the other end of `stream` for the export `name`.
pub(super) fn negotiate(stream: &mut (impl Read + Write), name: &str) -> Result<Export, Refusal> {
    if read_u64(stream)? != MAGIC {
        return Err(nonsense("its greeting is another protocol's"));
    }
    match read_u64(stream)? {
        OPTION_MAGIC => {}
        OLD_MAGIC => {
            return Err(Refusal::new("the server speaks the protocol of before 2011", "use a newer server"));
        }
        _ => return Err(nonsense("its greeting is cut")),
    }
    let offered = read_u16(stream)?;
    if offered & handshake::FIXED_NEWSTYLE == 0 {
        return Err(Refusal::new("the server cannot negotiate", "use a newer server"));
    }
    let no_zeroes = offered & handshake::NO_ZEROES;
    stream.write_all(&u32::from(handshake::FIXED_NEWSTYLE | no_zeroes).to_be_bytes())?;

    let structured = ask(stream, option::STRUCTURED_REPLY, &[], |_, _| Ok(()))? == answer::ACK;
    let mut offer = Offer::default();
    let mut wish = Vec::with_capacity(8 + name.len());
    wish.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
    wish.extend(name.as_bytes());
    wish.extend(1u16.to_be_bytes());
    wish.extend(info::BLOCK_SIZE.to_be_bytes());
    match ask(stream, option::GO, &wish, |kind, data| offer.learn(kind, data))? {
        answer::ACK => {}
        answer::UNSUPPORTED => offer.size_and_flags = Some(by_name(stream, name, no_zeroes != 0)?),
        error => return Err(refused(stream, error, name)),
    }
    offer.export(structured)
}

/// What is told about an export, piece by piece.
#[derive(Default)]
struct Offer {
    size_and_flags: Option<(u64, u16)>,
    blocks: Option<(u32, u32)>,
}

impl Offer {
    fn learn(&mut self, kind: u16, mut data: &[u8]) -> Result<(), Refusal> {
        let data = &mut data;
        match kind {
            info::EXPORT => self.size_and_flags = Some((read_u64(data)?, read_u16(data)?)),
            info::BLOCK_SIZE => {
                let (min, _preferred, max) = (read_u32(data)?, read_u32(data)?, read_u32(data)?);
                self.blocks = Some((min, max));
            }
            _ => {}
        }
        Ok(())
    }

    fn export(self, structured: bool) -> Result<Export, Refusal> {
        let (size, flags) =
            self.size_and_flags.ok_or_else(|| nonsense("it does not tell the size of the disk"))?;
        let (min_block, max_block) = self.blocks.unwrap_or((1, DEFAULT_MAX_BLOCK));
        if !min_block.is_power_of_two() || min_block > MAX_MIN_BLOCK || max_block < min_block {
            return Err(nonsense("the sizes of its blocks make no sense"));
        }
        if i64::try_from(size).is_err() {
            return Err(nonsense("the size of its disk makes no sense"));
        }
        let max_block = max_block.min(DEFAULT_MAX_BLOCK) / min_block * min_block;
        let flags = flags & export::USED;
        Ok(Export { size, flags, min_block, max_block, structured })
    }
}

/// The words for an error, said by whoever knows the name.
fn refused(stream: &mut impl Write, error: u32, name: &str) -> Refusal {
    // Politeness; the connection is closed in any case.
    let _ = send_option(stream, option::ABORT, &[]);
    match error {
        answer::UNKNOWN if name.is_empty() => {
            Refusal::new("the server has no default export", "name one: nbd://HOST/EXPORT")
        }
        answer::UNKNOWN => Refusal::new(
            format!("the server has no export `{name}`"),
            "`nbdinfo --list` or `qemu-nbd --list` show those that it has",
        ),
        answer::TLS_REQUIRED => Refusal::new(
            "the server wants TLS, which Tearless does not speak",
            "allow plain connections, from the loopback or through a tunnel",
        ),
        answer::POLICY => Refusal::new("the server does not allow it", "ask whoever runs the server"),
        answer::SHUTDOWN => Refusal::new("the server is shutting down", "start it again"),
        other => {
            Refusal::new(format!("the server refuses (error {:#x})", other & !answer::ERROR), "see its log")
        }
    }
}

/// The older way to an export: the server answers or hangs up.
fn by_name(stream: &mut (impl Read + Write), name: &str, no_zeroes: bool) -> Result<(u64, u16), Refusal> {
    send_option(stream, option::EXPORT_NAME, name.as_bytes())?;
    let size = read_u64(stream).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => refused(stream, answer::UNKNOWN, name),
        _ => error.into(),
    })?;
    let flags = read_u16(stream)?;
    if !no_zeroes {
        stream.read_exact(&mut [0; 124])?;
    }
    Ok((size, flags))
}

/// Sends an option and takes its answers; `learn` gets the information among them. Returns the last one: an ACK or an error.
fn ask(
    stream: &mut (impl Read + Write),
    option: u32,
    data: &[u8],
    mut learn: impl FnMut(u16, &[u8]) -> Result<(), Refusal>,
) -> Result<u32, Refusal> {
    send_option(stream, option, data)?;
    let mut text = Vec::new();
    for _ in 0..MAX_ANSWERS {
        if read_u64(stream)? != ANSWER_MAGIC || read_u32(stream)? != option {
            return Err(nonsense("it answers something else than it was asked"));
        }
        let (kind, len) = (read_u32(stream)?, read_u32(stream)?);
        if len > MAX_ANSWER {
            return Err(nonsense("an answer is too long"));
        }
        text.resize(len as usize, 0);
        stream.read_exact(&mut text)?;
        match kind {
            answer::INFO => {
                let mut rest = text.as_slice();
                learn(read_u16(&mut rest)?, rest)?;
            }
            answer::ACK => return Ok(kind),
            error if error & answer::ERROR != 0 => return Ok(error),
            _ => {}
        }
    }
    Err(nonsense("it does not come to an end"))
}

fn send_option(stream: &mut impl Write, option: u32, data: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(16 + data.len());
    message.extend(OPTION_MAGIC.to_be_bytes());
    message.extend(option.to_be_bytes());
    message.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(data);
    stream.write_all(&message)
}

pub(super) fn read_u16(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes).map(|()| u16::from_be_bytes(bytes))
}

pub(super) fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
}

pub(super) fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).map(|()| u64::from_be_bytes(bytes))
}
