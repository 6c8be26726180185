//! Screens: who may look at them, and screenshots.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use tearless_bundle::Store;
use tearless_config::{DisplayConfig, DisplayKind};
use tearless_control::Request;
use tearless_vm::{Display, link, remote, vnc, web};
use tearless_window::Look;

use crate::{
    args::{OpenArgs, ScreenshotArgs, WindowArgs},
    beside, life,
    out::say,
    serve,
};

/// The ports of VNC's displays.
const VNC_PORTS: Range<u16> = 5900..6000;
/// The ports of pages.
const WEB_PORTS: Range<u16> = 8006..8106;
/// A picture of the largest screen, and then some.
const MAX_PICTURE: u64 = 128 << 20;

/// How a screen is to be seen, with what must be had before the process is confined.
pub enum Viewing {
    /// Not by anybody who has to be waited for.
    Nobody,
    /// Through VNC.
    Vnc(TcpListener, vnc::Options),
    /// In a browser.
    Web(web::Place),
    /// In a window, which a process of its own has opened at the other end.
    Window(UnixStream),
}

/// Where the screen of a VM is that has a window, as `info` says it.
const IN_WINDOW: &str = "window";

impl Viewing {
    /// Takes the port, unless there is a `page` already, and reads the password, or opens the window, of the VM called `name`.
    pub fn prepare(config: &DisplayConfig, name: &str, page: Option<web::Place>) -> Result<Self> {
        match config.kind {
            DisplayKind::None | DisplayKind::Hidden => Ok(Self::Nobody),
            DisplayKind::Web => {
                let new = || Ok(web::Place::new(listen(config, WEB_PORTS)?)?);
                page.map_or_else(new, Ok).map(Self::Web)
            }
            DisplayKind::Vnc => {
                let options = vnc::Options { password: password(config)? };
                let listener = listen(config, VNC_PORTS)?;
                if options.password.is_none() {
                    let whom = if listener.local_addr()?.ip().is_loopback() {
                        "every user of this host"
                    } else {
                        "everybody who reaches this host"
                    };
                    tracing::warn!(
                        "the screen has no password: {whom} can see it and type there; --vnc-password sets one"
                    );
                }
                Ok(Self::Vnc(listener, options))
            }
            DisplayKind::Window => open_window(config, name).map(Self::Window),
        }
    }

    /// Serves `display` of the VM called `name`, which `host` steers if it is one that can be. Returns where, as a URL.
    pub fn start(
        self,
        display: Option<&Display>,
        name: &str,
        host: Option<Arc<dyn remote::Host>>,
    ) -> Result<Option<String>> {
        let Some(Display { screen, input, clipboard, .. }) = display.cloned() else { return Ok(None) };
        match self {
            Self::Nobody => Ok(None),
            Self::Vnc(listener, options) => {
                let at = listener.local_addr()?;
                vnc::serve(listener, screen, input, clipboard, options).context("cannot serve the screen")?;
                Ok(Some(format!("vnc://{at}")))
            }
            Self::Web(place) => {
                let site = remote::Site { title: name.to_owned(), screen, input, clipboard, host };
                let url = place.url()?;
                web::serve(place, site).context("cannot serve the screen")?;
                Ok(Some(url))
            }
            Self::Window(stream) => {
                let site = remote::Site { title: name.to_owned(), screen, input, clipboard, host };
                thread::Builder::new()
                    .name("window".to_owned())
                    .spawn(move || {
                        if let Err(error) = link::serve(stream, &site) {
                            tracing::debug!(%error, "the window is gone");
                        }
                    })
                    .context("cannot show the screen")?;
                Ok(Some(IN_WINDOW.to_owned()))
            }
        }
    }
}

/// Says where a screen is, if it is not to be seen.
pub fn say_where(url: &str) {
    if url != IN_WINDOW {
        eprintln!("tearless: the screen is at {url}");
    }
}

/// Starts a process that opens a window, and waits until it has.
fn open_window(config: &DisplayConfig, name: &str) -> Result<UnixStream> {
    let mode = config.mode.to_string();
    let args = ["window", "--title", name, "--mode", &mode].into_iter();
    let args = args.chain((!config.shares_clipboard()).then_some("--no-clipboard")).map(Into::into);
    // Whoever started a VM in the background waits until nobody has its standard error.
    let ours = beside::start(args, serve::is_detached()).context("cannot start a process for the window")?;
    link::await_viewer(&ours).map_err(|error| anyhow!("{error}")).context("cannot show a window")?;
    Ok(ours)
}

/// The window that [`open_window`] asks for.
pub fn window(args: &WindowArgs) -> Result<ExitCode> {
    let stream = beside::stream().context("cannot reach the VM")?;
    let mut config = DisplayConfig::default();
    config.apply(args.mode);
    // The VM's process says what is wrong, if it is the window.
    let shown = tearless_window::show(stream, &look(&config, &args.title, !args.no_clipboard));
    Ok(if shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(config: &DisplayConfig, name: &str, clipboard: bool) -> Look {
    let mode = config.mode;
    let scale = mode.scale.max(1);
    Look { title: name.to_owned(), size: (mode.width / scale, mode.height / scale), clipboard }
}

/// The password that `config` names. What viewers could not know is refused: better when it is chosen than at the next start, so
/// `create` and `set` call this too.
///
/// # Errors
/// When its file cannot be read, its first line is empty, or that is longer than what VNC looks at.
pub fn password(config: &DisplayConfig) -> Result<Option<String>> {
    let Some(path) = &config.password_file else { return Ok(None) };
    let file = fs::File::open(path);
    let mut text = Vec::new();
    // No more than it takes to see that it is too long: it may be no file with an end.
    file.and_then(|file| file.take(MAX_PASSWORD as u64 + 2).read_to_end(&mut text)).map_err(|error| {
        anyhow!(
            "cannot read the password of VNC viewers in {}\n  because: {error}\n  try: the path of a file whose first line is the \
             password",
            path.display()
        )
    })?;
    password_in(&text).map(Some).map_err(|(why, advice)| {
        anyhow!("cannot use the password in {}\n  because: {why}\n  try: {advice}", path.display())
    })
}

/// The bytes of a password that VNC looks at: it is the key of DES (RFC 6143, section 7.2.2).
const MAX_PASSWORD: usize = 8;

/// The first line of `text`, or why it is no password and what would be one.
fn password_in(text: &[u8]) -> Result<String, (&'static str, &'static str)> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(("the first line is empty", "write a password into it"));
    }
    if line.len() > MAX_PASSWORD {
        return Err((
            "VNC looks at the first 8 bytes of a password only, and this one is longer: who knows its beginning is let in",
            "a password of up to 8 characters; or --display web, whose address has a token of 128 bits",
        ));
    }
    let line = str::from_utf8(line).map(str::to_owned);
    line.map_err(|_| ("the first line is no text", "write a password into it, in UTF-8"))
}

/// Whether a page at `at` is where the user says.
pub fn is_page_place(config: &DisplayConfig, at: SocketAddr) -> bool {
    let (wanted, ports) = places(config, WEB_PORTS);
    config.kind == DisplayKind::Web && at.ip() == wanted.ip() && ports.contains(&at.port())
}

/// Where the user says, and the ports there.
fn places(config: &DisplayConfig, usual: Range<u16>) -> (SocketAddr, Range<u16>) {
    let at = config.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let ports = if at.port() == 0 { usual } else { at.port()..at.port().saturating_add(1) };
    (at, ports)
}

/// Listens where the user says, at the first free one of `usual` unless they name a port.
fn listen(config: &DisplayConfig, usual: Range<u16>) -> Result<TcpListener> {
    let (at, ports) = places(config, usual);
    let mut last = None;
    for port in ports {
        match TcpListener::bind((at.ip(), port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(error).with_context(|| format!("cannot wait for viewers at {at}")),
        }
    }
    bail!(
        "cannot wait for viewers at {at}\n  because: {}\n  try: another port, as in --display web:8100 or vnc:5950",
        last.map_or_else(|| "there is no free port".to_owned(), |error| error.to_string())
    )
}

pub fn screenshot(args: &ScreenshotArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let stream = life::client(&bundle).stream(&Request::Screenshot)?;
    let mut file = Vec::new();
    stream.take(MAX_PICTURE).read_to_end(&mut file).context("cannot read the screenshot")?;
    if file.is_empty() {
        bail!(
            "cannot take a screenshot\n  because: the VM ended meanwhile\n  try: `tearless start {}`",
            bundle.name()
        );
    }
    if args.file.as_os_str() == "-" {
        io::stdout().write_all(&file)?;
    } else {
        fs::write(&args.file, &file).with_context(|| format!("cannot write {}", args.file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The program that opens addresses.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Opens a VM's screen: in a window, or with whatever the user's desktop has for its address.
pub fn open(args: &OpenArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let state = life::client(&bundle).state()?;
    if args.window || (state.display.as_deref() == Some(IN_WINDOW) && !args.print) {
        let config = bundle.config()?.display;
        let stream = life::client(&bundle).stream(&Request::Screen)?;
        tearless_window::show(stream, &look(&config, bundle.name(), config.shares_clipboard()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(url) = state.display else {
        bail!(
            "cannot open the screen of {name}\n  because: it runs without one that can be seen\n  try: tearless open --window {name}; \
             or tearless set {name} --display web; tearless restart {name}",
            name = bundle.name()
        );
    };
    if args.print {
        say!("{url}");
        return Ok(ExitCode::SUCCESS);
    }
    match Command::new(OPENER).arg(&url).status() {
        Ok(status) if status.success() => Ok(ExitCode::SUCCESS),
        Ok(_) | Err(_) => bail!(
            "cannot open the screen of {}\n  because: {OPENER} did not open it\n  try: open {url} yourself",
            bundle.name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_and_what_vnc_can_check() {
        for good in ["12345678", "12345678\n", "12345678\r\n", "1\nrest of a file"] {
            let expected = good.lines().next().unwrap();
            assert_eq!(password_in(good.as_bytes()), Ok(expected.to_owned()));
        }
        let why = |text: &[u8]| password_in(text).unwrap_err().0;
        assert!(why(b"").contains("empty") && why(b"\nsecret").contains("empty"));
        assert!(why(b"123456789").contains("8 bytes"));
        assert!(why("äöüäö".as_bytes()).contains("8 bytes"));
        assert!(why(b"\xff\xff").contains("no text"));
    }
}
