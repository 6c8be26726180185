//! Numbers of the sound card, and what its messages look like.

use tearless_sound::Sample;

/// Device type (section 5.14.1).
pub(super) const DEVICE_ID: u16 = 25;
/// Multimedia controller, audio.
pub(super) const CLASS: u32 = 0x04_01_00;

/// The queues, in their order (section 5.14.2).
pub(super) mod queue {
    pub const CONTROL: usize = 0;
    pub const EVENT: usize = 1;
    pub const TX: usize = 2;
    pub const RX: usize = 3;
}

/// Requests (section 5.14.6).
pub(super) mod request {
    pub const JACK_INFO: u32 = 1;
    pub const JACK_REMAP: u32 = 2;
    pub const PCM_INFO: u32 = 0x100;
    pub const PCM_SET_PARAMS: u32 = 0x101;
    pub const PCM_PREPARE: u32 = 0x102;
    pub const PCM_RELEASE: u32 = 0x103;
    pub const PCM_START: u32 = 0x104;
    pub const PCM_STOP: u32 = 0x105;
    pub const CHMAP_INFO: u32 = 0x200;
}

/// An underrun or overrun happened to a stream.
pub(super) const EVENT_XRUN: u32 = 0x1101;

/// Answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0x8000,
    BadMessage = 0x8001,
    NotSupported = 0x8002,
    IoError = 0x8003,
}

impl Status {
    pub(super) fn bytes(self) -> [u8; 4] {
        (self as u32).to_le_bytes()
    }
}

/// Where sound goes (`VIRTIO_SND_D_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Output = 0,
    Input = 1,
}

/// The driver can be told of underruns and overruns.
pub(super) const F_XRUNS: u32 = 1 << 4;

/// Samples by their numbers.
pub(super) const SAMPLES: [(u8, Sample); 3] = [(5, Sample::S16), (17, Sample::S32), (19, Sample::F32)];
/// Rates by their numbers.
pub(super) const RATES: [(u8, u32); 10] = [
    (1, 8000),
    (2, 11025),
    (3, 16000),
    (4, 22050),
    (5, 32000),
    (6, 44100),
    (7, 48000),
    (8, 64000),
    (9, 88200),
    (10, 96000),
];
/// Most channels.
pub(super) const MAX_CHANNELS: u8 = 2;

/// `struct virtio_snd_pcm_xfer`.
pub(super) const XFER_LEN: u64 = 4;
/// `struct virtio_snd_pcm_status`.
pub(super) const STATUS_LEN: u64 = 8;
/// The longest request, `struct virtio_snd_pcm_set_params`.
pub(super) const MAX_REQUEST: usize = 24;

/// `struct virtio_snd_jack_info`: what is fixed to the card and always connected (HDA, sections 7.3.3.31 and 7.3.4.9).
pub(super) fn jack(direction: Direction) -> Vec<u8> {
    let (kind, capabilities) = match direction {
        Direction::Output => (SPEAKER, CAN_PLAY),
        Direction::Input => (MICROPHONE, CAN_RECORD),
    };
    let association = (direction as u32 + 1) << 4;
    let config = FIXED << 30 | INTERNAL << 24 | kind << 20 | association;
    let mut info = [0, 0, config, capabilities].map(u32::to_le_bytes).concat();
    info.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    info
}

const FIXED: u32 = 2;
const INTERNAL: u32 = 0x10;
const SPEAKER: u32 = 1;
const MICROPHONE: u32 = 0xa;
const CAN_PLAY: u32 = 1 << 4;
const CAN_RECORD: u32 = 1 << 5;

/// `struct virtio_snd_pcm_info`. All streams are of one device of the guest, so they have one node.
pub(super) fn stream(direction: Direction) -> Vec<u8> {
    let bits = |numbers: &mut dyn Iterator<Item = u8>| numbers.fold(0u64, |bits, number| bits | 1 << number);
    let mut info = [0, F_XRUNS].map(u32::to_le_bytes).concat();
    info.extend(bits(&mut SAMPLES.iter().map(|(number, _)| *number)).to_le_bytes());
    info.extend(bits(&mut RATES.iter().map(|(number, _)| *number)).to_le_bytes());
    info.extend([direction as u8, 1, MAX_CHANNELS, 0, 0, 0, 0, 0]);
    info
}

/// `struct virtio_snd_chmap_info` for so many channels.
pub(super) fn channel_map(direction: Direction, channels: u8) -> Vec<u8> {
    const POSITIONS: usize = 18;
    const MONO: u8 = 2;
    const LEFT: u8 = 3;
    const RIGHT: u8 = 4;
    let mut info = vec![0, 0, 0, 0, direction as u8, channels];
    info.extend(if channels == 1 { [MONO, 0] } else { [LEFT, RIGHT] });
    info.resize(6 + POSITIONS, 0);
    info
}
