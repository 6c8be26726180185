//! One viewer: the handshake, and what it says afterwards (RFC 6143, sections 7.1 to 7.3).

use std::{
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use des::{
    Des,
    cipher::{BlockEncrypt, KeyInit, generic_array::GenericArray},
};

use super::{
    Shown,
    clipboard::Extended,
    keys,
    message::Message,
    pixels::PixelFormat,
    update::{self, Ask, Sights, Wants},
};
use crate::{Party, Size, door::Stranger, input::Seat, lock};

/// How long a stranger may take to be let in, and a viewer to take what it has asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that does not know the password has to wait for the answer.
const PENALTY: Duration = Duration::from_secs(1);

/// Security types (section 7.1.2).
const NO_SECURITY: u8 = 1;
const PASSWORD: u8 = 2;

/// Serves the viewer behind `stream` until it leaves.
///
/// # Errors
/// Why it left, or had to.
pub(super) fn run(mut stream: TcpStream, shown: &Shown, stranger: Stranger) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let version = agree(&mut stream)?;
    admit(&mut stream, version, shown.options.password.as_deref())?;
    // Whether it shares the screen with other viewers is not for it to say.
    let mut shared = [0];
    stream.read_exact(&mut shared)?;
    let Some(_guest) = stranger.admit() else {
        return Err(io::Error::other("there are as many viewers as there may be"));
    };
    let size = shown.screen.size().unwrap_or_else(|| shown.screen.wish().size);
    stream.write_all(&greeting(size))?;
    stream.set_read_timeout(None)?;

    let wants = Arc::new(Mutex::new(Wants::new(size)));
    let (mut writer, their_wants) = (stream.try_clone()?, wants.clone());
    let (screen, input) = (shown.screen.clone(), shown.input.clone());
    let nudged = shown.screen.clone();
    let party = shown.clipboard.as_ref().map(|clipboard| Arc::new(clipboard.join(move || nudged.nudge())));
    let their_party = party.clone();
    let writing = thread::Builder::new().name("vnc-screen".to_owned()).spawn(move || {
        let sights = Sights { screen: &screen, input: &input, party: their_party.as_deref() };
        if let Err(error) = update::run(&mut writer, &sights, &their_wants) {
            tracing::debug!(%error, "cannot send a viewer the screen");
        }
        // The reader must not wait for one that is gone.
        let _ = writer.shutdown(Shutdown::Both);
    })?;
    let mut viewer = Viewer { shown, wants: &wants, party, seat: shown.input.seat(), buttons: 0 };
    let mut from = BufReader::new(&stream);
    let gone = loop {
        match Message::read(&mut from) {
            Ok(message) => viewer.take(message),
            Err(error) => break error,
        }
    };
    lock(&wants).leave = true;
    let _ = stream.shutdown(Shutdown::Both);
    shown.screen.nudge();
    if writing.join().is_err() {
        tracing::error!("a viewer's writer ended with a panic");
    }
    Err(gone)
}

/// The minor version of the protocol: 3, 7 or 8.
fn agree(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_all(b"RFB 003.008\n")?;
    let mut theirs = [0; 12];
    stream.read_exact(&mut theirs)?;
    match &theirs {
        b"RFB 003.008\n" => Ok(8),
        b"RFB 003.007\n" => Ok(7),
        // Others that are no version are to be treated so (section 7.1.1).
        [b'R', b'F', b'B', b' ', b'0', b'0', b'3', b'.', _, _, _, b'\n'] => Ok(3),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak RFB")),
    }
}

fn admit(stream: &mut TcpStream, version: u8, password: Option<&str>) -> io::Result<()> {
    let kind = if password.is_some() { PASSWORD } else { NO_SECURITY };
    if version == 3 {
        stream.write_all(&u32::from(kind).to_be_bytes())?;
    } else {
        stream.write_all(&[1, kind])?;
        let mut chosen = [0];
        stream.read_exact(&mut chosen)?;
        if chosen != [kind] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it wants to be let in another way"));
        }
    }
    let Some(password) = password else {
        return if version == 8 { stream.write_all(&[0; 4]) } else { Ok(()) };
    };
    let mut challenge = [0; 16];
    getrandom::fill(&mut challenge).map_err(io::Error::other)?;
    stream.write_all(&challenge)?;
    let mut response = [0; 16];
    stream.read_exact(&mut response)?;
    if response == expected(password, challenge) {
        return stream.write_all(&[0; 4]);
    }
    thread::sleep(PENALTY);
    let why = b"wrong password";
    stream.write_all(&1u32.to_be_bytes())?;
    if version == 8 {
        stream.write_all(&(why.len() as u32).to_be_bytes())?;
        stream.write_all(why)?;
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it does not know the password"))
}

/// The challenge, encrypted with the password by DES whose keys have their bits the other way round (section 7.2.2).
pub(super) fn expected(password: &str, challenge: [u8; 16]) -> [u8; 16] {
    let mut key = [0; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(to, byte)| *to = byte.reverse_bits());
    let cipher = Des::new(&GenericArray::from(key));
    let mut response = challenge;
    for block in response.chunks_exact_mut(8) {
        cipher.encrypt_block(GenericArray::from_mut_slice(block));
    }
    response
}

/// ServerInit (section 7.3.2).
fn greeting(size: Size) -> Vec<u8> {
    let name = b"Tearless";
    let mut bytes = [size.width, size.height].map(|side| (side as u16).to_be_bytes()).concat();
    bytes.extend(PixelFormat::OWN.bytes());
    bytes.extend((name.len() as u32).to_be_bytes());
    bytes.extend(name);
    bytes
}

/// A viewer as it is heard.
struct Viewer<'a> {
    shown: &'a Shown,
    wants: &'a Mutex<Wants>,
    party: Option<Arc<Party>>,
    seat: Seat,
    /// The buttons that are down, wheels included, as RFB counts them.
    buttons: u8,
}

impl Viewer<'_> {
    fn take(&mut self, message: Message) {
        match message {
            Message::Format(format) => lock(self.wants).format = format,
            Message::Encodings(encodings) => {
                lock(self.wants).learn(&encodings);
                self.shown.screen.nudge();
            }
            Message::Update { incremental, rect } => {
                lock(self.wants).ask(incremental, rect);
                self.shown.screen.nudge();
            }
            Message::Code { down, code } => self.key(keys::from_code(code), down),
            Message::Symbol { down, symbol } => self.key(keys::from_symbol(symbol), down),
            Message::Pointer { buttons, x, y } => self.point(buttons, x, y),
            Message::Resize(size) => {
                let status = if size.area() == 0 { update::INVALID } else { update::FORWARDED };
                lock(self.wants).answer_resize(status);
                if status == update::FORWARDED {
                    self.shown.screen.want(size);
                }
                self.shown.screen.nudge();
            }
            Message::Text(text) | Message::Clipboard(Extended::Provide(text)) => {
                _ = self.party.as_ref().inspect(|party| party.copy(&text));
            }
            Message::Clipboard(said) => {
                let ask = match said {
                    Extended::Request => Ask::Text,
                    Extended::Peek => Ask::Whether,
                    Extended::Notify { text: true } => Ask::Theirs,
                    _ => return,
                };
                lock(self.wants).ask_clipboard(ask);
                self.shown.screen.nudge();
            }
        }
    }

    fn key(&mut self, key: Option<u16>, down: bool) {
        if let Some(key) = key {
            self.seat.key(key, down);
        }
    }

    fn point(&mut self, buttons: u8, x: u32, y: u32) {
        let size = lock(self.wants).size();
        let pressed = buttons & !std::mem::replace(&mut self.buttons, buttons);
        // Left, middle, right are as here; then come four of the wheels.
        self.seat.point((x, y), size, buttons & 7 | (buttons >> 7 & 1) << 3);
        let turn = |more: u8, less: u8| i32::from(pressed >> more & 1) - i32::from(pressed >> less & 1);
        self.seat.turn(turn(6, 5), turn(3, 4));
    }
}
