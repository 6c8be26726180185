//! Screens: who may look at them, and screenshots.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use tearless_bundle::Store;
use tearless_config::{DisplayConfig, DisplayKind};
use tearless_control::Request;
use tearless_vm::{Display, vnc};

use crate::{args::ScreenshotArgs, life};

/// The ports of VNC's displays.
const VNC_PORTS: std::ops::Range<u16> = 5900..6000;
/// A picture of the largest screen, and then some.
const MAX_PICTURE: u64 = 128 << 20;

/// How a screen is to be seen, with what must be had before the process is confined.
pub struct Viewing(Option<(TcpListener, vnc::Options)>);

impl Viewing {
    /// Takes the port and reads the password.
    pub fn prepare(config: &DisplayConfig) -> Result<Self> {
        if config.kind == DisplayKind::Window {
            bail!(
                "cannot show a window\n  because: the engine that runs this VM here has none\n  try: --display vnc and a viewer"
            );
        }
        if config.kind != DisplayKind::Vnc {
            return Ok(Self(None));
        }
        let password = config.password_file.as_ref().map(|path| {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the password in {}", path.display()))?;
            match text.lines().next() {
                Some(line) if !line.is_empty() => Ok(line.to_owned()),
                _ => bail!(
                    "cannot use the password in {}\n  because: the first line is empty\n  try: write a password into it",
                    path.display()
                ),
            }
        });
        let options = vnc::Options { password: password.transpose()? };
        let listener = listen(config.listen)?;
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
        Ok(Self(Some((listener, options))))
    }

    /// Serves `display`. Returns where, as a URL.
    pub fn start(self, display: Option<&Display>) -> Result<Option<String>> {
        let (Some((listener, options)), Some(display)) = (self.0, display) else { return Ok(None) };
        let at = listener.local_addr()?;
        vnc::serve(
            listener,
            display.screen.clone(),
            display.input.clone(),
            display.clipboard.clone(),
            options,
        )
        .context("cannot serve the screen")?;
        Ok(Some(format!("vnc://{at}")))
    }
}

/// Listens where the user says, at the first free port unless they name one.
fn listen(at: Option<SocketAddr>) -> Result<TcpListener> {
    let at = at.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let ports = if at.port() == 0 { VNC_PORTS } else { at.port()..at.port().saturating_add(1) };
    let mut last = None;
    for port in ports {
        match TcpListener::bind((at.ip(), port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => return Err(error).with_context(|| format!("cannot wait for viewers at {at}")),
        }
    }
    bail!(
        "cannot wait for viewers at {at}\n  because: {}\n  try: another port, as in --display vnc:5950",
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
