//! WAV files: one that is written, and one that is played to the guest.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::{Capture, Converter, Format, Microphone, Playback, Sample, SoundError, Speaker};

/// What a file is until somebody plays.
const EMPTY: Format = Format { sample: Sample::S16, channels: 2, rate: 48000 };
/// So much sound is lost when the process is killed.
const FLUSH: Duration = Duration::from_millis(250);
/// The header counts bytes in 32 bits. What does not fit is not written.
const MAX_BYTES: u64 = (1 << 32) - (1 << 20);
/// Frames that are read at a time.
const PIECE: usize = 512;
/// Frames per second of a file, in Hz: converted, a piece of one with fewer would take much memory.
const RATES: RangeInclusive<u32> = 1000..=768_000;

/// Writes what is played into a WAV file. It has the format of what is played first; what has another is converted. Where
/// nothing is played there is no silence in the file either.
pub struct WavSpeaker(Arc<Mutex<Recording>>);

impl WavSpeaker {
    /// Makes the file at `path`, or takes the place of a WAV file that is there.
    ///
    /// # Errors
    /// When it cannot be made, or something else is there.
    pub fn create(path: &Path) -> Result<Self, SoundError> {
        let failed = |why: String, advice: &str| SoundError {
            what: format!("cannot write sound to {}", path.display()),
            why,
            advice: advice.to_owned(),
        };
        let host = |e: io::Error| failed(e.to_string(), "a file in a folder that you can write to");
        // For reading too: a pipe, which is refused next, would be waited for.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(host)?;
        let metadata = file.metadata().map_err(host)?;
        let mut head = [0; 12];
        let mut is_wav =
            || file.read_exact(&mut head).is_ok() && head.starts_with(b"RIFF") && head.ends_with(b"WAVE");
        if !metadata.is_file() || metadata.len() > 0 && !is_wav() {
            let advice = "a file that is not there yet; an older WAV file is written over";
            return Err(failed("it is there and is no WAV file".to_owned(), advice));
        }
        let mut recording = Recording {
            file,
            path: path.to_owned(),
            writer: None,
            format: EMPTY,
            unflushed: 0,
            failed: false,
        };
        let begun = recording.begin(EMPTY);
        begun
            .and_then(|mut writer| writer.flush())
            .map_err(|e| failed(e.to_string(), "another file system"))?;
        Ok(Self(Arc::new(Mutex::new(recording))))
    }
}

impl Speaker for WavSpeaker {
    fn open(&self, format: Format) -> Box<dyn Playback> {
        let to = lock(&self.0).format_for(format);
        let (converter, converted) = (Converter::new(format, to), Vec::new());
        Box::new(WavPlayback { recording: Arc::clone(&self.0), converter, converted })
    }
}

struct Recording {
    file: File,
    path: PathBuf,
    /// There is one from the first stream on.
    writer: Option<WavWriter<BufWriter<File>>>,
    format: Format,
    /// Bytes that the header does not know yet.
    unflushed: usize,
    failed: bool,
}

impl Recording {
    /// The file's format, which is `format` if nobody has played so far.
    fn format_for(&mut self, format: Format) -> Format {
        if self.writer.is_none() && !self.failed {
            self.format = format;
            match self.begin(format) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => self.give_up(&error.to_string()),
            }
        }
        self.format
    }

    fn begin(&mut self, format: Format) -> Result<WavWriter<BufWriter<File>>, hound::Error> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        let (bits_per_sample, sample_format) = match format.sample {
            Sample::S16 => (16, SampleFormat::Int),
            Sample::S32 => (32, SampleFormat::Int),
            Sample::F32 => (32, SampleFormat::Float),
        };
        let spec = WavSpec {
            channels: format.channels.into(),
            sample_rate: format.rate,
            bits_per_sample,
            sample_format,
        };
        WavWriter::new(BufWriter::new(self.file.try_clone()?), spec)
    }

    /// Appends `sound`, which is whole frames of the file's format.
    fn write(&mut self, sound: &[u8]) {
        let Some(writer) = &mut self.writer else { return };
        let bytes = u64::from(writer.len()) * self.format.sample.bytes() as u64;
        let written = if bytes + sound.len() as u64 > MAX_BYTES {
            Err("a WAV file has room for 4 GiB only".to_owned())
        } else {
            put(writer, self.format.sample, sound).map_err(|e| e.to_string())
        };
        self.unflushed += sound.len();
        match written {
            Err(why) => self.give_up(&why),
            Ok(()) if self.unflushed >= self.format.bytes(FLUSH) => self.flush(),
            Ok(()) => {}
        }
    }

    fn flush(&mut self) {
        self.unflushed = 0;
        if let Some(Err(error)) = self.writer.as_mut().map(WavWriter::flush) {
            self.give_up(&error.to_string());
        }
    }

    /// Sound goes nowhere from here on: a guest must not stop because a disk is full.
    fn give_up(&mut self, why: &str) {
        self.failed = true;
        self.writer = None;
        tracing::warn!(
            "cannot write sound to {} any more: {why}; the VM goes on without",
            self.path.display()
        );
    }
}

fn put(writer: &mut WavWriter<BufWriter<File>>, sample: Sample, sound: &[u8]) -> Result<(), hound::Error> {
    match sample {
        Sample::S16 => {
            sound.as_chunks().0.iter().try_for_each(|b| writer.write_sample(i16::from_le_bytes(*b)))
        }
        Sample::S32 => {
            sound.as_chunks().0.iter().try_for_each(|b| writer.write_sample(i32::from_le_bytes(*b)))
        }
        Sample::F32 => {
            sound.as_chunks().0.iter().try_for_each(|b| writer.write_sample(f32::from_le_bytes(*b)))
        }
    }
}

struct WavPlayback {
    recording: Arc<Mutex<Recording>>,
    converter: Converter,
    converted: Vec<u8>,
}

impl Playback for WavPlayback {
    fn play(&mut self, sound: &[u8]) {
        self.converted.clear();
        self.converter.convert(sound, &mut self.converted);
        lock(&self.recording).write(&self.converted);
    }
}

impl Drop for WavPlayback {
    fn drop(&mut self) {
        lock(&self.recording).flush();
    }
}

/// Has the guest hear a WAV file, from its beginning each time that it gets ready to record, and then silence.
pub struct WavMicrophone(Arc<Mutex<Song>>);

impl WavMicrophone {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it is not there or no WAV file.
    pub fn open(path: &Path) -> Result<Self, SoundError> {
        let failed = |why: String| SoundError {
            what: format!("cannot have the VM hear {}", path.display()),
            why,
            advice: "a WAV file with samples of 8 to 32 bits".to_owned(),
        };
        let file = File::open(path).map_err(|e| failed(e.to_string()))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(failed("it is no file".to_owned()));
        }
        let reader = WavReader::new(BufReader::new(file)).map_err(|e| failed(e.to_string()))?;
        let spec = reader.spec();
        if spec.channels == 0
            || !RATES.contains(&spec.sample_rate)
            || !(8..=32).contains(&spec.bits_per_sample)
        {
            return Err(failed(format!("its header makes no sense: {spec:?}")));
        }
        Ok(Self(Arc::new(Mutex::new(Song(reader)))))
    }
}

impl Microphone for WavMicrophone {
    fn open(&self, format: Format) -> Box<dyn Capture> {
        let mut song = lock(&self.0);
        // It was at least opened; what cannot be read is silence.
        song.rewind();
        let converter = Converter::new(song.format(), format);
        Box::new(WavCapture { song: Arc::clone(&self.0), converter, ready: VecDeque::new() })
    }
}

struct Song(WavReader<BufReader<File>>);

impl Song {
    fn rewind(&mut self) {
        if let Err(error) = self.0.seek(0) {
            tracing::warn!(%error, "cannot read the sound for the guest from its beginning");
        }
    }

    /// What [`Self::read`] gives.
    fn format(&self) -> Format {
        let spec = self.0.spec();
        let sample = match spec.sample_format {
            SampleFormat::Float => Sample::F32,
            SampleFormat::Int if spec.bits_per_sample <= 16 => Sample::S16,
            SampleFormat::Int => Sample::S32,
        };
        Format { sample, channels: spec.channels.min(2) as u8, rate: spec.sample_rate }
    }

    /// The next frames; of more than two channels the first two. Nothing at the end.
    fn read(&mut self) -> Vec<u8> {
        let spec = self.0.spec();
        let (channels, sample) = (usize::from(spec.channels), self.format().sample);
        let wide = (sample.bytes() * 8) as u16;
        let mut values: Vec<[u8; 4]> = Vec::with_capacity(PIECE * channels);
        let wanted = PIECE * channels;
        if spec.sample_format == SampleFormat::Float {
            let read = self.0.samples::<f32>().take(wanted).map_while(Result::ok);
            values.extend(read.map(f32::to_le_bytes));
        } else {
            let shift = wide.saturating_sub(spec.bits_per_sample);
            let read = self.0.samples::<i32>().take(wanted).map_while(Result::ok);
            values.extend(read.map(|value| (value << shift).to_le_bytes()));
        }
        let frames = values.chunks_exact(channels.max(1)).flat_map(|frame| frame.iter().take(2));
        frames.flat_map(|value| value.iter().take(sample.bytes()).copied()).collect()
    }
}

struct WavCapture {
    song: Arc<Mutex<Song>>,
    converter: Converter,
    ready: VecDeque<u8>,
}

impl Capture for WavCapture {
    fn listen(&mut self, _: bool) {}

    fn record(&mut self, sound: &mut [u8]) {
        let mut converted = Vec::new();
        while self.ready.len() < sound.len() {
            let piece = lock(&self.song).read();
            if piece.is_empty() {
                break;
            }
            self.converter.convert(&piece, &mut converted);
            self.ready.extend(converted.drain(..));
        }
        let ready = self.ready.len().min(sound.len());
        let (now, silence) = sound.split_at_mut(ready);
        now.iter_mut().zip(self.ready.drain(..ready)).for_each(|(to, byte)| *to = byte);
        silence.fill(0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CD: Format = Format { sample: Sample::S16, channels: 2, rate: 44100 };

    /// Some sound that does not repeat.
    fn noise(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * i / 7 + i) as u8).collect()
    }

    fn hear(microphone: &WavMicrophone, format: Format, bytes: usize) -> Vec<u8> {
        let mut capture = microphone.open(format);
        let mut sound = vec![0xee; bytes];
        sound.chunks_mut(format.frame() * 100).for_each(|piece| capture.record(piece));
        sound
    }

    #[test]
    fn what_is_played_is_heard_again() {
        let folder = tempfile::tempdir().unwrap();
        for (i, sample) in [Sample::S16, Sample::S32].into_iter().enumerate() {
            let path = folder.path().join(format!("{i}.wav"));
            let format = Format { sample, ..CD };
            let sound = noise(40000);
            let speaker = WavSpeaker::create(&path).unwrap();
            let mut playback = speaker.open(format);
            sound.chunks(1600).for_each(|piece| playback.play(piece));
            drop(playback);
            let microphone = WavMicrophone::open(&path).unwrap();
            let mut expected = sound;
            expected.resize(48000, 0);
            assert_eq!(hear(&microphone, format, 48000), expected, "{sample:?}");
            assert_eq!(hear(&microphone, format, 48000), expected, "from the beginning again");
        }
    }

    #[test]
    fn the_header_is_right_while_it_plays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let speaker = WavSpeaker::create(&path).unwrap();
        assert_eq!(WavReader::open(&path).unwrap().len(), 0, "from the beginning on");
        let mut playback = speaker.open(CD);
        (0..100).for_each(|_| playback.play(&noise(CD.bytes(Duration::from_millis(10)))));
        let seconds = |path| f64::from(WavReader::open(path).unwrap().duration()) / 44100.0;
        assert!((0.7..=1.0).contains(&seconds(&path)), "{}", seconds(&path));
        drop(playback);
        assert_eq!(seconds(&path), 1.0);
        // Another format is converted: half a second more.
        speaker.open(Format { sample: Sample::F32, channels: 1, rate: 48000 }).play(&vec![0; 96000]);
        assert!((1.499..=1.5).contains(&seconds(&path)), "{}", seconds(&path));
    }

    #[test]
    fn nothing_but_sound_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thesis.txt");
        std::fs::write(&path, "ten years of work").unwrap();
        let error = WavSpeaker::create(&path).err().unwrap().to_string();
        assert!(
            error.contains("because: it is there and is no WAV file") && error.contains("try:"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"ten years of work");
        assert!(WavMicrophone::open(&path).is_err() && WavMicrophone::open(folder.path()).is_err());
        assert!(WavSpeaker::create(folder.path()).is_err());
        assert!(WavSpeaker::create(&folder.path().join("not/there.wav")).is_err());
        let path = folder.path().join("old.wav");
        drop(WavSpeaker::create(&path).unwrap().open(CD));
        assert!(WavSpeaker::create(&path).is_ok());
    }

    #[test]
    fn narrow_and_wide_files_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        for (bits, loud) in [(8, 64), (24, 1 << 22)] {
            let path = folder.path().join(format!("{bits}.wav"));
            let spec = WavSpec {
                channels: 3,
                sample_rate: 44100,
                bits_per_sample: bits,
                sample_format: SampleFormat::Int,
            };
            let mut writer = WavWriter::create(&path, spec).unwrap();
            [loud, -loud, 1, 0, loud, 1].into_iter().for_each(|value| writer.write_sample(value).unwrap());
            writer.finalize().unwrap();
            let heard = hear(&WavMicrophone::open(&path).unwrap(), CD, 8);
            let expected: Vec<u8> =
                [16384i16, -16384, 0, 16384].into_iter().flat_map(i16::to_le_bytes).collect();
            assert_eq!(heard, expected, "{bits} bits");
        }
    }
}
