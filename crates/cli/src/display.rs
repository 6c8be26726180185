//! Screens: who may look at them, and screenshots.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    process::{Command, ExitCode},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use tearless_bundle::Store;
use tearless_config::{DisplayConfig, DisplayKind};
use tearless_control::Request;
use tearless_vm::{Display, vnc, web};

use crate::{
    args::{OpenArgs, ScreenshotArgs},
    life,
    out::say,
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
    Web(TcpListener),
}

impl Viewing {
    /// Takes the port and reads the password.
    pub fn prepare(config: &DisplayConfig) -> Result<Self> {
        match config.kind {
            DisplayKind::None | DisplayKind::Hidden => Ok(Self::Nobody),
            DisplayKind::Web => Ok(Self::Web(listen(config, WEB_PORTS)?)),
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
            DisplayKind::Window => bail!(
                "cannot show a window\n  because: the engine that runs this VM here has none\n  try: --display web and a \
                 browser, or --display vnc and a viewer"
            ),
        }
    }

    /// Serves `display` of the VM called `name`, which `host` steers if it is one that can be. Returns where, as a URL.
    pub fn start(
        self,
        display: Option<&Display>,
        name: &str,
        host: Option<Arc<dyn web::Host>>,
    ) -> Result<Option<String>> {
        let Some(Display { screen, input, clipboard, .. }) = display.cloned() else { return Ok(None) };
        match self {
            Self::Nobody => Ok(None),
            Self::Vnc(listener, options) => {
                let at = listener.local_addr()?;
                vnc::serve(listener, screen, input, clipboard, options).context("cannot serve the screen")?;
                Ok(Some(format!("vnc://{at}")))
            }
            Self::Web(listener) => {
                let site = web::Site { title: name.to_owned(), screen, input, clipboard, host };
                web::serve(listener, site).context("cannot serve the screen").map(Some)
            }
        }
    }
}

/// The first line of the password's file.
fn password(config: &DisplayConfig) -> Result<Option<String>> {
    let Some(path) = &config.password_file else { return Ok(None) };
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the password in {}", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => bail!(
            "cannot use the password in {}\n  because: the first line is empty\n  try: write a password into it",
            path.display()
        ),
    }
}

/// Listens where the user says, at the first free one of `usual` unless they name a port.
fn listen(config: &DisplayConfig, usual: Range<u16>) -> Result<TcpListener> {
    let at = config.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let ports = if at.port() == 0 { usual } else { at.port()..at.port().saturating_add(1) };
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

/// Opens a VM's screen with whatever the user's desktop has for its address.
pub fn open(args: &OpenArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let state = life::client(&bundle).state()?;
    let Some(url) = state.display else {
        bail!(
            "cannot open the screen of {name}\n  because: it runs without one that can be seen\n  try: tearless set {name} \
             --display web; tearless restart {name}",
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
