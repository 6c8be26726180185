//! `exec`, `cp`, `ip`, `ssh`, `forward`, `agent`: what is done in a running VM, by way of the agent in its guest.

mod copy;
mod exec;
mod forward;
mod ssh;

use std::{
    fs,
    io::{self, IsTerminal},
    net::IpAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tearless_bundle::{Bundle, Store};
use tearless_config::NetMode;
use tearless_control::{Client, Error, Request};
use tearless_guest::{AGENT, AGENT_PORT, Agent};

use crate::{
    args::{AgentArgs, IpArgs},
    life,
    out::say,
};

pub use copy::copy;
pub use exec::exec;
pub use forward::forward;
pub use ssh::{proxy, ssh};

/// How often it is looked whether the agent is there.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// When the user is told what is waited for.
const PATIENT: Duration = Duration::from_secs(2);

/// The agent in the VM `name`, for which this waits up to `patience` while the guest boots.
fn agent_of(name: &str, patience: Duration) -> Result<Agent> {
    agent(&Store::open()?.find(name)?, patience)
}

/// The agent in the VM of `bundle`; waits up to `patience` for it.
pub fn agent(bundle: &Bundle, patience: Duration) -> Result<Agent> {
    Ok(Agent::new(connector(bundle, patience)?))
}

/// What connects with the agent in the VM of `bundle`; waits up to `patience` for it.
fn connector(
    bundle: &Bundle,
    patience: Duration,
) -> Result<impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static> {
    let client = life::client(bundle);
    // The first connection is kept for the first request.
    let first = std::sync::Mutex::new(Some(wait_for(&client, bundle.name(), patience)?));
    Ok(move || match first.lock().ok().and_then(|mut first| first.take()) {
        Some(stream) => Ok(stream),
        None => client.stream(&Request::GuestConnect { port: AGENT_PORT }).map_err(io::Error::other),
    })
}

fn wait_for(client: &Client, name: &str, patience: Duration) -> Result<UnixStream> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match client.stream(&Request::GuestConnect { port: AGENT_PORT }) {
            Ok(stream) => return Ok(stream),
            Err(Error::Refused(_)) if begun.elapsed() < patience => {
                if begun.elapsed() > PATIENT && !told && io::stderr().is_terminal() {
                    eprintln!("[tearless: waiting for the agent in {name}]");
                    told = true;
                }
                thread::sleep(LOOK_AGAIN);
            }
            Err(Error::Refused(why)) => {
                let why = why.lines().find_map(|line| line.trim().strip_prefix("because: ")).unwrap_or(&why);
                bail!(
                    "cannot reach the agent in {name}\n  because: {why}\n  try: again when the guest has booted; a guest \
                     that Tearless did not install needs the agent first, see `tearless agent --help`"
                )
            }
            Err(Error::NotRunning(_)) => {
                bail!("cannot reach {name}\n  because: it is not running\n  try: tearless start {name}")
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The schema of `ip --json`: an array of these.
#[derive(Serialize)]
struct Address {
    address: String,
    prefix: u8,
    interface: String,
}

pub fn ip(args: &IpArgs) -> Result<ExitCode> {
    let addresses = addresses(args)?;
    if args.json {
        let addresses: Vec<_> = addresses
            .into_iter()
            .map(|a| Address { address: a.address.to_string(), prefix: a.prefix, interface: a.interface })
            .collect();
        say!("{}", serde_json::to_string_pretty(&addresses)?);
        return Ok(ExitCode::SUCCESS);
    }
    if addresses.is_empty() {
        return Err(anyhow!(
            "{} has no network address\n  because: it has no network, or none has given it an address yet\n  try: \
             tearless exec and tearless ssh, which need none",
            args.name
        ));
    }
    addresses.iter().for_each(|a| say!("{}", a.address));
    Ok(ExitCode::SUCCESS)
}

/// The guest's addresses. One that boots asks for one last of all, so this waits until it has one of more than a link.
fn addresses(args: &IpArgs) -> Result<Vec<tearless_guest::Address>> {
    let begun = Instant::now();
    let bundle = Store::open()?.find(&args.name)?;
    let agent = agent(&bundle, args.wait.time)?;
    let networked = bundle.config()?.network.mode != NetMode::None;
    loop {
        let addresses = agent.addresses()?;
        let reached = addresses.iter().any(|a| !is_of_a_link(a.address));
        if reached || !networked || begun.elapsed() >= args.wait.time {
            return Ok(addresses);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn is_of_a_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Gives the agent's program away, for guests that Tearless did not install.
pub fn agent_program(args: &AgentArgs) -> Result<ExitCode> {
    let path = &args.file;
    fs::write(path, AGENT).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    eprintln!("wrote {}; copy it into the guest and run it there as root: ./{} install", path.display(), {
        path.file_name().unwrap_or_default().display()
    });
    Ok(ExitCode::SUCCESS)
}
