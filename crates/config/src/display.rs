//! The screen of a VM.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// What a VM shows, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisplayConfig {
    /// Whether there is a screen, and how it is seen.
    #[serde(default)]
    pub kind: DisplayKind,
    /// Its size.
    #[serde(default)]
    pub mode: ScreenMode,
    /// Where viewers are waited for; port 0 takes the first free one of the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// A file whose first line is the password of viewers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Keep what is copied in the guest there, and what viewers copy away from it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_clipboard: bool,
}

impl DisplayConfig {
    /// Whether it is what a VM has that says nothing about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is a screen.
    pub fn is_on(&self) -> bool {
        self.kind != DisplayKind::None
    }

    /// Whether people look at it.
    pub fn is_seen(&self) -> bool {
        !matches!(self.kind, DisplayKind::None | DisplayKind::Hidden)
    }

    /// Whether what is copied in the guest can be pasted by its viewers, and the other way round.
    pub fn shares_clipboard(&self) -> bool {
        !self.no_clipboard && self.is_seen()
    }

    /// Takes over what `choice` says. A size alone makes a screen for screenshots where there is none.
    pub fn apply(&mut self, choice: DisplayChoice) {
        match choice {
            DisplayChoice::Kind(kind, listen) => {
                self.kind = kind;
                self.listen = listen;
            }
            DisplayChoice::Clipboard(shared) => self.no_clipboard = !shared,
            DisplayChoice::Mode(mode) => {
                self.mode = mode;
                if !self.is_on() {
                    self.kind = DisplayKind::Hidden;
                }
            }
        }
    }
}

/// How a screen is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DisplayKind {
    /// There is none.
    #[default]
    None,
    /// In screenshots only.
    Hidden,
    /// Through VNC.
    Vnc,
    /// In a browser.
    Web,
    /// In a window on the host's own screen.
    Window,
}

/// A screen's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScreenMode {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How many pixels, in each direction, are where an ordinary screen has one: the guest learns how large the screen is and draws
    /// accordingly.
    pub scale: u32,
}

impl ScreenMode {
    /// The smallest side.
    pub const MIN_SIDE: u32 = 64;
    /// The largest: a mode line cannot say more.
    pub const MAX_SIDE: u32 = 4095;
    /// The largest scale.
    pub const MAX_SCALE: u32 = 4;

    /// Whether a screen can be like that.
    pub fn is_possible(&self) -> bool {
        let side = Self::MIN_SIDE..=Self::MAX_SIDE;
        side.contains(&self.width)
            && side.contains(&self.height)
            && (1..=Self::MAX_SCALE).contains(&self.scale)
    }
}

impl Default for ScreenMode {
    fn default() -> Self {
        Self { width: 1280, height: 800, scale: 1 }
    }
}

impl fmt::Display for ScreenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}x", self.width, self.height, self.scale)
    }
}

/// What is said about a screen on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayChoice {
    /// How it is seen, and where viewers are waited for.
    Kind(DisplayKind, Option<SocketAddr>),
    /// Whether the clipboard is shared.
    Clipboard(bool),
    /// Its size.
    Mode(ScreenMode),
}

/// The text says nothing about a screen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "give none, hidden, web, vnc, window, web or vnc with :PORT, :ADDRESS or :ADDRESS:PORT, no-clipboard, clipboard, or a size such as \
     1920x1200 or 2560x1600@2x"
)]
pub struct ParseDisplayError;

impl FromStr for DisplayChoice {
    type Err = ParseDisplayError;

    fn from_str(text: &str) -> Result<Self, ParseDisplayError> {
        match text {
            "none" => Ok(Self::Kind(DisplayKind::None, None)),
            "hidden" => Ok(Self::Kind(DisplayKind::Hidden, None)),
            "window" => Ok(Self::Kind(DisplayKind::Window, None)),
            "vnc" => Ok(Self::Kind(DisplayKind::Vnc, None)),
            "web" => Ok(Self::Kind(DisplayKind::Web, None)),
            "clipboard" => Ok(Self::Clipboard(true)),
            "no-clipboard" => Ok(Self::Clipboard(false)),
            _ => match text.split_once(':') {
                Some(("vnc", place)) => Ok(Self::Kind(DisplayKind::Vnc, Some(parse_place(place)?))),
                Some(("web", place)) => Ok(Self::Kind(DisplayKind::Web, Some(parse_place(place)?))),
                _ => Ok(Self::Mode(parse_mode(text)?)),
            },
        }
    }
}

/// A port, an address, or both.
fn parse_place(text: &str) -> Result<SocketAddr, ParseDisplayError> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = text.parse().ok().filter(|port| *port != 0).map(|port| SocketAddr::new(loopback, port));
    let address = || text.parse().ok().map(|address| SocketAddr::new(address, 0));
    port.or_else(|| text.parse().ok()).or_else(address).ok_or(ParseDisplayError)
}

fn parse_mode(text: &str) -> Result<ScreenMode, ParseDisplayError> {
    let (size, scale) = match text.split_once('@') {
        Some((size, scale)) => (size, scale.strip_suffix('x').unwrap_or(scale)),
        None => (text, "1"),
    };
    let (width, height) = size.split_once('x').ok_or(ParseDisplayError)?;
    let number = |text: &str| text.parse().map_err(|_| ParseDisplayError);
    Ok(ScreenMode { width: number(width)?, height: number(height)?, scale: number(scale)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_understood() {
        let vnc = |place: &str| Ok(DisplayChoice::Kind(DisplayKind::Vnc, Some(place.parse().unwrap())));
        assert_eq!("vnc".parse(), Ok(DisplayChoice::Kind(DisplayKind::Vnc, None)));
        assert_eq!("vnc:5901".parse(), vnc("127.0.0.1:5901"));
        assert_eq!("web".parse(), Ok(DisplayChoice::Kind(DisplayKind::Web, None)));
        assert_eq!("vnc:0.0.0.0".parse(), vnc("0.0.0.0:0"));
        assert_eq!("vnc:[::1]:7".parse(), vnc("[::1]:7"));
        let mode = |width, height, scale| Ok(DisplayChoice::Mode(ScreenMode { width, height, scale }));
        assert_eq!("1920x1200".parse(), mode(1920, 1200, 1));
        assert_eq!("2560x1600@2x".parse(), mode(2560, 1600, 2));
        for wrong in
            ["", "tv", "vnc:", "vnc:x", "web:x", "1x", "x1", "1x1@", "1x1@y", "-1x5", "99999999999x1"]
        {
            assert_eq!(wrong.parse::<DisplayChoice>(), Err(ParseDisplayError), "{wrong}");
        }
    }

    #[test]
    fn a_size_alone_makes_a_screen() {
        let mut display = DisplayConfig::default();
        assert!(!display.is_on());
        display.apply("800x600".parse().unwrap());
        assert_eq!((display.kind, display.mode.width), (DisplayKind::Hidden, 800));
        display.apply("vnc:5901".parse().unwrap());
        display.apply("640x480@2x".parse().unwrap());
        assert_eq!((display.kind, display.listen.map(|at| at.port())), (DisplayKind::Vnc, Some(5901)));
        assert_eq!(display.mode.to_string(), "640x480@2x");
        assert!(display.shares_clipboard());
        display.apply("no-clipboard".parse().unwrap());
        assert!(!display.shares_clipboard());
        assert!(display.mode.is_possible());
        assert!(!ScreenMode { width: 4096, height: 100, scale: 1 }.is_possible());
    }
}
