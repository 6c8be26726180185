//! What a person sees, types, points at and hears.

use tearless_config::{DisplayConfig, DisplayKind, ScreenMode, SoundEnd, VmConfig};

use crate::{Host, Object, Refusal, Value, plan::refuse};

/// What a virtual Mac shows unless it is told otherwise.
const MAC_MODE: ScreenMode = ScreenMode { width: 1920, height: 1200, scale: 1 };
/// How fine macOS takes a screen to be: an ordinary one, and one on which it draws everything twice as large.
const PIXELS_PER_INCH: [u64; 2] = [80, 226];

/// The screen.
pub(crate) fn graphics(config: &VmConfig, host: &Host) -> Result<Vec<Object>, Refusal> {
    let DisplayConfig { kind, mode, .. } = &config.display;
    if matches!(kind, DisplayKind::Vnc | DisplayKind::Web) {
        let why = "the framework shows a screen in a window only";
        return refuse(
            "a screen for VNC or a browser",
            why,
            "--display window, or screen sharing or a VNC server in the guest",
        );
    }
    let is_mac = config.boot.is_mac();
    if !config.display.is_on() && !is_mac {
        return Ok(Vec::new());
    }
    if !is_mac && !host.has(13) {
        let why = "Linux guests have one from macOS 13 on";
        return refuse("a screen", why, "update macOS, or --display none");
    }
    // A virtual Mac without a screen does not start.
    let mode = if *mode == ScreenMode::default() && is_mac { &MAC_MODE } else { mode };
    let (class, screens) = match is_mac {
        true => ("VZMacGraphicsDisplayConfiguration", ("VZMacGraphicsDeviceConfiguration", "displays")),
        false => {
            ("VZVirtioGraphicsScanoutConfiguration", ("VZVirtioGraphicsDeviceConfiguration", "scanouts"))
        }
    };
    let mut screen = Object::new(class)
        .with("widthInPixels", u64::from(mode.width))
        .with("heightInPixels", u64::from(mode.height));
    if is_mac {
        let [coarse, fine] = PIXELS_PER_INCH;
        screen = screen.with("pixelsPerInch", if mode.scale > 1 { fine } else { coarse });
    }
    Ok(vec![Object::new(screens.0).with_list(screens.1, vec![screen])])
}

pub(crate) fn keyboards(config: &VmConfig, host: &Host) -> Vec<Object> {
    match (config.boot.is_mac(), config.display.is_on()) {
        (true, _) if host.has(14) => vec![Object::new("VZMacKeyboardConfiguration")],
        (false, false) => Vec::new(),
        _ => vec![Object::new("VZUSBKeyboardConfiguration")],
    }
}

pub(crate) fn pointers(config: &VmConfig, host: &Host) -> Vec<Object> {
    if !config.boot.is_mac() && !config.display.is_on() {
        return Vec::new();
    }
    // A guest that does not know the trackpad takes the other one.
    let trackpad = (config.boot.is_mac() && host.has(13)).then(|| Object::new("VZMacTrackpadConfiguration"));
    let pointer = Object::new("VZUSBScreenCoordinatePointingDeviceConfiguration");
    trackpad.into_iter().chain([pointer]).collect()
}

pub(crate) fn sound(config: &VmConfig) -> Result<Vec<Object>, Refusal> {
    let stream = |end: &SoundEnd, class, host: (_, _)| match end {
        SoundEnd::None => Ok(None),
        // Without a sink what is played is gone, without a source there is silence.
        SoundEnd::Silent => Ok(Some(Object::new(class))),
        SoundEnd::Host => Ok(Some(Object::new(class).with(host.0, Object::new(host.1)))),
        SoundEnd::Wav(_) => {
            let why = "the framework plays and records with the host's devices only";
            refuse("sound in files", why, "--sound host, or --engine soft")
        }
    };
    let (sink, source) = ("VZHostAudioOutputStreamSink", "VZHostAudioInputStreamSource");
    let output = stream(&config.speaker(), "VZVirtioSoundDeviceOutputStreamConfiguration", ("sink", sink))?;
    let input =
        stream(config.microphone(), "VZVirtioSoundDeviceInputStreamConfiguration", ("source", source))?;
    let streams: Vec<_> = output.into_iter().chain(input).collect();
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Object::new("VZVirtioSoundDeviceConfiguration").with_list("streams", streams)])
}

/// What a SPICE agent in a Linux guest shares the clipboard by.
pub(crate) fn clipboard(config: &VmConfig, host: &Host) -> Result<Vec<Object>, Refusal> {
    if !config.apple.clipboard {
        return Ok(Vec::new());
    }
    if !host.has(13) {
        return refuse("clipboard", "it needs macOS 13", "update macOS, or --apple clipboard=off");
    }
    let agent = Object::new("VZSpiceAgentPortAttachment").with("sharesClipboard", true);
    let port = Object::new("VZVirtioConsolePortConfiguration")
        .with("name", Value::Constant("VZSpiceAgentPortAttachment.spiceAgentPortName"))
        .with("attachment", agent);
    Ok(vec![Object::new("VZVirtioConsoleDeviceConfiguration").with_list("ports", vec![port])])
}
