//! What a VM plays, and what it hears.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::VmConfig;

/// A VM's sound, as its user says it. [`VmConfig::speaker`] and [`VmConfig::microphone`] say what that means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoundConfig {
    /// What its guest plays on. Without it the host plays what VMs play that somebody looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<SoundEnd>,
    /// What its guest hears. Nothing, unless that is said.
    #[serde(default, skip_serializing_if = "SoundEnd::is_none")]
    pub microphone: SoundEnd,
}

impl SoundConfig {
    /// Whether it is what a VM has that says nothing about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where sound goes to or comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoundEnd {
    /// The guest has no device for it.
    #[default]
    None,
    /// The guest has a device that nobody hears, or that hears nothing.
    Silent,
    /// The host's own.
    Host,
    /// A WAV file: absolute.
    Wav(PathBuf),
}

impl SoundEnd {
    /// Whether there is no device.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// With a path that does not depend on where one is. One that cannot be made so stays, and is refused later.
    #[must_use]
    pub fn absolute(self) -> Self {
        match self {
            Self::Wav(path) => Self::Wav(std::path::absolute(&path).unwrap_or(path)),
            other => other,
        }
    }
}

impl FromStr for SoundEnd {
    type Err = ParseSoundError;

    fn from_str(text: &str) -> Result<Self, ParseSoundError> {
        match (text, text.split_once(':')) {
            ("none", _) => Ok(Self::None),
            ("silent", _) => Ok(Self::Silent),
            ("host", _) => Ok(Self::Host),
            (_, Some(("wav", path))) if !path.is_empty() => {
                path.parse().map(Self::Wav).map_err(|e: Infallible| match e {})
            }
            _ => Err(ParseSoundError),
        }
    }
}

impl fmt::Display for SoundEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Silent => f.write_str("silent"),
            Self::Host => f.write_str("host"),
            Self::Wav(path) => write!(f, "wav:{}", path.display()),
        }
    }
}

/// The text says nothing about sound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("give none, silent, host or wav:FILE")]
pub struct ParseSoundError;

impl VmConfig {
    /// What the guest plays on.
    pub fn speaker(&self) -> SoundEnd {
        let usual =
            || if self.boot.is_mac() || self.display.is_seen() { SoundEnd::Host } else { SoundEnd::None };
        self.sound.speaker.clone().unwrap_or_else(usual)
    }

    /// What the guest hears.
    pub fn microphone(&self) -> &SoundEnd {
        &self.sound.microphone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BootConfig;

    #[test]
    fn ends_are_understood_and_say_what_they_are() {
        for text in ["none", "silent", "host", "wav:/a/b.wav", "wav:x:y"] {
            assert_eq!(text.parse::<SoundEnd>().unwrap().to_string(), text);
        }
        for wrong in ["", "wav", "wav:", "hosts", "mp3:x", "Host"] {
            assert_eq!(wrong.parse::<SoundEnd>(), Err(ParseSoundError), "{wrong}");
        }
        let SoundEnd::Wav(path) = "wav:x.wav".parse::<SoundEnd>().unwrap().absolute() else { panic!() };
        assert!(path.is_absolute());
    }

    #[test]
    fn those_who_are_looked_at_are_heard() {
        let mut config = VmConfig::new(BootConfig::efi("NVRAM"));
        assert_eq!((config.speaker(), config.microphone()), (SoundEnd::None, &SoundEnd::None));
        config.display.apply("800x600".parse().unwrap());
        assert_eq!(config.speaker(), SoundEnd::None, "screenshots are silent");
        config.display.apply("vnc".parse().unwrap());
        assert_eq!((config.speaker(), config.microphone()), (SoundEnd::Host, &SoundEnd::None));
        config.sound.speaker = Some(SoundEnd::None);
        assert_eq!(config.speaker(), SoundEnd::None);
        let mut mac = VmConfig::new(BootConfig::MacOs { auxiliary: "A".into(), version: None, build: None });
        assert_eq!(mac.speaker(), SoundEnd::Host);
        mac.sound.microphone = SoundEnd::Wav("/x.wav".into());
        let text = mac.to_json().unwrap();
        assert!(text.contains(r#""wav": "/x.wav""#) && !text.contains("speaker"), "{text}");
        assert_eq!(VmConfig::from_json(&text).unwrap(), mac);
    }

    #[test]
    fn what_was_apples_alone_is_read() {
        let text = |sound| {
            format!(
                r#"{{"version":1,"cpus":2,"memory":"4G","apple":{{"sound":"{sound}","clipboard":true}},
                "boot":{{"kind":"efi","variables":"NVRAM"}}}}"#
            )
        };
        for (sound, speaker, microphone) in [
            ("none", SoundEnd::None, SoundEnd::None),
            ("output", SoundEnd::Host, SoundEnd::None),
            ("both", SoundEnd::Host, SoundEnd::Host),
        ] {
            let config = VmConfig::from_json(&text(sound)).unwrap();
            assert_eq!((config.speaker(), config.microphone()), (speaker, &microphone), "{sound}");
            assert!(config.apple.clipboard);
            let written = config.to_json().unwrap();
            assert!(!written.contains("both"), "{written}");
            assert_eq!(VmConfig::from_json(&written).unwrap(), config);
        }
        assert!(VmConfig::from_json(&text("loud")).is_err());
    }
}
