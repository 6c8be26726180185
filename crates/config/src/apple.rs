//! What only Apple's Virtualization framework has.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest path or name of a socket, without the byte that ends it.
const MAX_SOCKET: usize = 107;

/// What a VM has of Apple's framework beside what every VM has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppleConfig {
    /// Lets the guest run VMs of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nested: bool,
    /// Shares the translator that runs Linux programs for x86-64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rosetta: Option<RosettaCache>,
    /// What the guest hears and says. Without it a virtual Mac plays sound, and others have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<AppleSound>,
    /// Shares the clipboard with Linux guests that have a SPICE agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clipboard: bool,
    /// What the card is plugged into instead of the framework's NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmnet: Option<Vmnet>,
}

/// A network of macOS' own for one VM (macOS 26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vmnet {
    /// The world, through the host.
    Shared,
    /// The host only.
    Host,
}

/// Where Rosetta's daemon in the guest, which keeps translated programs, waits for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RosettaCache {
    /// There is no such daemon: programs are translated each time.
    #[default]
    None,
    /// At a socket file.
    Unix(String),
    /// At an abstract socket.
    Abstract(String),
}

/// The sound of a VM that the framework runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppleSound {
    /// None.
    None,
    /// The host plays what the guest plays.
    Output,
    /// And the guest hears the host's microphone, once its user has allowed it.
    Both,
}

impl AppleConfig {
    /// Whether there is nothing to write down.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what `choice` says.
    pub fn apply(&mut self, choice: &AppleChoice) {
        match choice {
            AppleChoice::Nested(on) => self.nested = *on,
            AppleChoice::Rosetta(cache) => self.rosetta.clone_from(cache),
            AppleChoice::Sound(sound) => self.sound = Some(*sound),
            AppleChoice::Clipboard(on) => self.clipboard = *on,
            AppleChoice::Vmnet(network) => self.vmnet = *network,
        }
    }

    /// The first thing that is set, as on the command line.
    pub fn first(&self) -> Option<AppleChoice> {
        let nested = self.nested.then_some(AppleChoice::Nested(true));
        let rosetta = || self.rosetta.clone().map(|cache| AppleChoice::Rosetta(Some(cache)));
        let clipboard = || self.clipboard.then_some(AppleChoice::Clipboard(true));
        let vmnet = || self.vmnet.map(|network| AppleChoice::Vmnet(Some(network)));
        let sound = || self.sound.map(AppleChoice::Sound);
        nested.or_else(rosetta).or_else(sound).or_else(clipboard).or_else(vmnet)
    }
}

/// What is said on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppleChoice {
    /// Whether the guest can run VMs.
    Nested(bool),
    /// Whether there is Rosetta, and its cache.
    Rosetta(Option<RosettaCache>),
    /// Sound.
    Sound(AppleSound),
    /// Whether the clipboard is shared.
    Clipboard(bool),
    /// The network.
    Vmnet(Option<Vmnet>),
}

/// The text says nothing about Apple's framework.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "give nested, rosetta, rosetta=unix:PATH, rosetta=abstract:NAME, sound=none, sound=output, sound=both, clipboard, vmnet=shared or vmnet=host; \
     =off switches off"
)]
pub struct ParseAppleError;

impl FromStr for AppleChoice {
    type Err = ParseAppleError;

    fn from_str(text: &str) -> Result<Self, ParseAppleError> {
        let (name, value) = text.split_once('=').unwrap_or((text, "on"));
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(ParseAppleError),
        };
        match name {
            "nested" => switch().map(Self::Nested),
            "clipboard" => switch().map(Self::Clipboard),
            "rosetta" => parse_rosetta(value).map(Self::Rosetta),
            "vmnet" => match value {
                "off" => Ok(Self::Vmnet(None)),
                "shared" => Ok(Self::Vmnet(Some(Vmnet::Shared))),
                "host" => Ok(Self::Vmnet(Some(Vmnet::Host))),
                _ => Err(ParseAppleError),
            },
            "sound" => match value {
                "none" | "off" => Ok(Self::Sound(AppleSound::None)),
                "output" | "on" => Ok(Self::Sound(AppleSound::Output)),
                "both" => Ok(Self::Sound(AppleSound::Both)),
                _ => Err(ParseAppleError),
            },
            _ => Err(ParseAppleError),
        }
    }
}

fn parse_rosetta(value: &str) -> Result<Option<RosettaCache>, ParseAppleError> {
    let plain = |name: &str| !name.is_empty() && name.len() <= MAX_SOCKET && !name.contains(char::is_control);
    match (value, value.split_once(':')) {
        ("off", _) => Ok(None),
        ("on", _) => Ok(Some(RosettaCache::None)),
        (_, Some(("unix", path))) if path.starts_with('/') && plain(path) => {
            Ok(Some(RosettaCache::Unix(path.into())))
        }
        (_, Some(("abstract", name))) if plain(name) => Ok(Some(RosettaCache::Abstract(name.into()))),
        _ => Err(ParseAppleError),
    }
}

impl fmt::Display for AppleChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: &bool| if *on { "" } else { "=off" };
        match self {
            Self::Nested(on) => write!(f, "nested{}", switch(on)),
            Self::Clipboard(on) => write!(f, "clipboard{}", switch(on)),
            Self::Rosetta(None) => f.write_str("rosetta=off"),
            Self::Rosetta(Some(RosettaCache::None)) => f.write_str("rosetta"),
            Self::Rosetta(Some(RosettaCache::Unix(path))) => write!(f, "rosetta=unix:{path}"),
            Self::Rosetta(Some(RosettaCache::Abstract(name))) => write!(f, "rosetta=abstract:{name}"),
            Self::Vmnet(None) => f.write_str("vmnet=off"),
            Self::Vmnet(Some(Vmnet::Shared)) => f.write_str("vmnet=shared"),
            Self::Vmnet(Some(Vmnet::Host)) => f.write_str("vmnet=host"),
            Self::Sound(AppleSound::None) => f.write_str("sound=none"),
            Self::Sound(AppleSound::Output) => f.write_str("sound=output"),
            Self::Sound(AppleSound::Both) => f.write_str("sound=both"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_understood_and_say_what_they_are() {
        for text in [
            "nested",
            "nested=off",
            "clipboard",
            "rosetta",
            "rosetta=off",
            "rosetta=unix:/run/rosettad/rosetta.sock",
            "rosetta=abstract:rosetta",
            "sound=none",
            "sound=output",
            "sound=both",
            "vmnet=shared",
            "vmnet=host",
            "vmnet=off",
        ] {
            assert_eq!(text.parse::<AppleChoice>().unwrap().to_string(), text);
        }
        let long = format!("rosetta=unix:/{}", "x".repeat(MAX_SOCKET));
        for wrong in [
            "",
            "nested=yes",
            "rosetta=unix:x",
            "rosetta=abstract:",
            "rosetta=a\n",
            "sound=loud",
            "vmnet",
            "x",
            &long,
        ] {
            assert_eq!(wrong.parse::<AppleChoice>(), Err(ParseAppleError), "{wrong}");
        }
    }

    #[test]
    fn choices_add_up() {
        let mut config = AppleConfig::default();
        assert!(config.is_default() && config.first().is_none());
        for text in ["vmnet=host", "clipboard", "sound=both", "rosetta", "nested"] {
            let choice = text.parse().unwrap();
            config.apply(&choice);
            assert_eq!(config.first(), Some(choice));
        }
        for text in ["nested=off", "rosetta=off", "clipboard=off", "vmnet=off"] {
            config.apply(&text.parse().unwrap());
        }
        assert_eq!(config.first(), Some(AppleChoice::Sound(AppleSound::Both)));
    }
}
