//! What only Apple's Virtualization framework has.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{SoundConfig, SoundEnd};

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
    /// Older descriptions have it here. [`Self::hand_over`] leaves none.
    #[serde(default, skip_serializing)]
    sound: Option<AppleSound>,
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

/// Sound, as it was said when only the framework had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AppleSound {
    None,
    Output,
    Both,
}

impl AppleConfig {
    /// Whether there is nothing to write down.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What an older description says of sound becomes a part of what is said of that now.
    pub(crate) fn hand_over(&mut self, sound: &mut SoundConfig) {
        let Some(old) = self.sound.take() else { return };
        let host_if = |on| if on { SoundEnd::Host } else { SoundEnd::None };
        sound.speaker.get_or_insert(host_if(old != AppleSound::None));
        if sound.microphone.is_none() {
            sound.microphone = host_if(old == AppleSound::Both);
        }
    }

    /// Takes over what `choice` says.
    pub fn apply(&mut self, choice: &AppleChoice) {
        match choice {
            AppleChoice::Nested(on) => self.nested = *on,
            AppleChoice::Rosetta(cache) => self.rosetta.clone_from(cache),
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
        nested.or_else(rosetta).or_else(clipboard).or_else(vmnet)
    }
}

/// What is said on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppleChoice {
    /// Whether the guest can run VMs.
    Nested(bool),
    /// Whether there is Rosetta, and its cache.
    Rosetta(Option<RosettaCache>),
    /// Whether the clipboard is shared.
    Clipboard(bool),
    /// The network.
    Vmnet(Option<Vmnet>),
}

/// The text says nothing about Apple's framework.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "give nested, rosetta, rosetta=unix:PATH, rosetta=abstract:NAME, clipboard, vmnet=shared or vmnet=host; \
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
        }
    }
}

/// The file in which Apple's framework keeps EFI's variables in its own format, beside `variables`, which has ours.
pub fn apple_variables(variables: &Path) -> PathBuf {
    variables.with_extension("vz")
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
            "sound=both",
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
        for text in ["vmnet=host", "clipboard", "rosetta", "nested"] {
            let choice = text.parse().unwrap();
            config.apply(&choice);
            assert_eq!(config.first(), Some(choice));
        }
        for text in ["nested=off", "rosetta=off", "clipboard=off", "vmnet=off"] {
            config.apply(&text.parse().unwrap());
        }
        assert!(config.is_default());
    }
}
