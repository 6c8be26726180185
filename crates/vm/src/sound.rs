//! The VM's sound, from its configuration.

use std::sync::Arc;

use tearless_config::{SoundEnd, VmConfig};
use tearless_sound::{Devices, Host, Microphone, Silence, SoundError, Speaker, WavMicrophone, WavSpeaker};
use tearless_virtio::{VirtioDevice, sound};

/// What a VM's sound is to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    speaker: SoundEnd,
    microphone: SoundEnd,
    /// Its user says so; else the host may do without.
    asked: bool,
}

impl From<&VmConfig> for Wanted {
    fn from(config: &VmConfig) -> Self {
        let microphone = config.microphone().clone();
        let asked = config.sound.speaker == Some(SoundEnd::Host) || microphone == SoundEnd::Host;
        Self { speaker: config.speaker(), microphone, asked }
    }
}

/// What a VM plays on and hears. It lives through the guest's resets. Clones share.
#[derive(Clone)]
pub struct Sound(Devices);

impl Sound {
    /// The type of [`Self::device`].
    pub(crate) const DEVICE_TYPE: u16 = sound::Sound::ID;

    /// What `wanted` describes, but for nobody's ears: nothing is opened.
    pub fn muted(wanted: &Wanted) -> Option<Self> {
        Self::new(Devices {
            speaker: (!wanted.speaker.is_none()).then(|| silence() as _),
            microphone: (!wanted.microphone.is_none()).then(|| silence() as _),
        })
    }

    fn new(devices: Devices) -> Option<Self> {
        (devices.speaker.is_some() || devices.microphone.is_some()).then_some(Self(devices))
    }

    /// A sound card for a new machine.
    pub(crate) fn device(&self) -> Arc<dyn VirtioDevice> {
        sound::Sound::new(self.0.clone())
    }
}

fn silence() -> Arc<Silence> {
    Arc::new(Silence)
}

/// Sound of which that is open what this process may not be able to open once it is confined.
pub struct Prepared<'a> {
    wanted: &'a Wanted,
    files: Devices,
    host: Option<Host>,
}

impl<'a> Prepared<'a> {
    /// Opens what `wanted` describes, but starts no thread.
    ///
    /// # Errors
    /// When a file cannot be used, or the host has no sound and its user asked for that.
    pub fn new(wanted: &'a Wanted) -> Result<Self, SoundError> {
        let speaker: Option<Arc<dyn Speaker>> = match &wanted.speaker {
            SoundEnd::Wav(path) => Some(Arc::new(WavSpeaker::create(path)?)),
            _ => None,
        };
        let microphone: Option<Arc<dyn Microphone>> = match &wanted.microphone {
            SoundEnd::Wav(path) => Some(Arc::new(WavMicrophone::open(path)?)),
            _ => None,
        };
        let files = Devices { speaker, microphone };
        let host = [&wanted.speaker, &wanted.microphone].contains(&&SoundEnd::Host);
        let host = wanted.or_silence(host.then(Host::connect))?;
        Ok(Self { wanted, files, host })
    }

    /// Starts it; `None` when there is to be no card.
    ///
    /// # Errors
    /// When the host's sound server will not have us and its user asked for it.
    pub fn start(self) -> Result<Option<Sound>, SoundError> {
        let host = self.wanted.or_silence(self.host.map(Host::start))?.unwrap_or_default();
        let Devices { speaker, microphone } = self.files;
        let speaker = match &self.wanted.speaker {
            SoundEnd::None => None,
            SoundEnd::Host => host.speaker.or_else(|| Some(silence())),
            SoundEnd::Silent | SoundEnd::Wav(_) => speaker.or_else(|| Some(silence())),
        };
        let microphone = match &self.wanted.microphone {
            SoundEnd::None => None,
            SoundEnd::Host => host.microphone.or_else(|| Some(silence())),
            SoundEnd::Silent | SoundEnd::Wav(_) => microphone.or_else(|| Some(silence())),
        };
        Ok(Sound::new(Devices { speaker, microphone }))
    }
}

impl Wanted {
    /// A host without sound is no reason not to run a VM whose user did not speak of it.
    fn or_silence<T>(&self, host: Option<Result<T, SoundError>>) -> Result<Option<T>, SoundError> {
        match host.transpose() {
            Err(error) if !self.asked => {
                tracing::warn!("nobody hears the VM: {}; --sound none takes its sound card away", error.why);
                Ok(None)
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use tearless_config::BootConfig;

    use super::*;

    fn wanted(speaker: &str, microphone: &str) -> Wanted {
        let mut config = VmConfig::new(BootConfig::efi("NVRAM"));
        config.sound.speaker = Some(speaker.parse().unwrap());
        config.sound.microphone = microphone.parse().unwrap();
        Wanted::from(&config)
    }

    #[test]
    fn there_is_a_card_if_anybody_plays_or_hears() {
        let outline = |speaker, microphone| {
            let wanted = wanted(speaker, microphone);
            let sound = Prepared::new(&wanted).unwrap().start().unwrap();
            assert_eq!(sound.is_some(), Sound::muted(&wanted).is_some());
            sound.map(|sound| sound.device().outline())
        };
        assert_eq!(outline("none", "none"), None);
        assert_eq!(outline("silent", "none").unwrap(), "a sound card that plays");
        assert_eq!(outline("none", "silent").unwrap(), "a sound card that records");
        assert_eq!(outline("silent", "silent").unwrap(), "a sound card that plays and records");
    }

    #[test]
    fn nothing_is_opened_for_a_plan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let file = format!("wav:{}", path.display());
        assert!(Sound::muted(&wanted(&file, "host")).is_some() && !path.exists());
        Prepared::new(&wanted(&file, "none")).unwrap();
        assert!(path.exists());
        let error = Prepared::new(&wanted("none", "wav:/not/there.wav")).err().unwrap().to_string();
        assert!(error.contains("cannot have the VM hear /not/there.wav"), "{error}");
    }

    #[test]
    fn a_host_without_sound_is_an_error_for_those_who_asked() {
        let failure =
            || Some(Err::<(), _>(SoundError { what: "a".into(), why: "b".into(), advice: "c".into() }));
        assert!(wanted("host", "none").or_silence(failure()).is_err());
        assert!(wanted("none", "host").or_silence(failure()).is_err());
        let mut config = VmConfig::new(BootConfig::efi("NVRAM"));
        config.display.apply("web".parse().unwrap());
        assert!(Wanted::from(&config).or_silence(failure()).unwrap().is_none());
    }
}
