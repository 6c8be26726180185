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

/// How long a guest whose agent serves already may take until it has a network.
const NETWORK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK_FOR_NETWORK: Duration = Duration::from_millis(50);

/// Waits up to `patience` until programs can be run in the VM of `bundle`: until its agent serves and, where this host gives
/// the guest its address, it has that. A guest that does not ask for one is waited for a few seconds only, as it may never.
pub fn ready(bundle: &Bundle, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    let agent = agent(bundle, patience)?;
    agent.info()?;
    if !bundle.config()?.network.mode.is_nat() {
        return Ok(());
    }
    let limit = NETWORK_PATIENCE.min(patience.saturating_sub(begun.elapsed()));
    let begun = Instant::now();
    let is_up = |a: &tearless_guest::Address| a.address.is_ipv4() && !is_of_a_link(a.address);
    while !agent.addresses()?.iter().any(is_up) && begun.elapsed() < limit {
        thread::sleep(LOOK_FOR_NETWORK);
    }
    Ok(())
}

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

/// What `ip --json` prints (docs/json.md): an array of these. Without an agent in the guest only the address is known.
#[derive(Serialize)]
struct Address {
    address: String,
    prefix: Option<u8>,
    interface: Option<String>,
}

pub fn ip(args: &IpArgs) -> Result<ExitCode> {
    let addresses = addresses(args)?;
    if args.json {
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

/// The guest's addresses. One that boots asks for one last of all, so this waits until it has one of more than a link. A guest
/// without an agent has the address that it was seen to use.
fn addresses(args: &IpArgs) -> Result<Vec<Address>> {
    let begun = Instant::now();
    let bundle = Store::open()?.find(&args.name)?;
    let networked = bundle.config()?.network.mode != NetMode::None;
    loop {
        let is_late = begun.elapsed() >= args.wait.time;
        let told = match agent(&bundle, Duration::ZERO).and_then(|agent| Ok(agent.addresses()?)) {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                let seen = seen(&bundle);
                if !seen.is_empty() {
                    return Ok(seen);
                }
                if is_late || bundle.running().is_none() {
                    return Err(error);
                }
                None
            }
        };
        let answered = told.is_some();
        let told = told.unwrap_or_default();
        if is_late || answered && !networked || told.iter().any(|a| !is_of_a_link(a.address)) {
            let address = |a: tearless_guest::Address| Address {
                address: a.address.to_string(),
                prefix: Some(a.prefix),
                interface: Some(a.interface),
            };
            return Ok(told.into_iter().map(address).collect());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// What the VM knows without asking its guest.
fn seen(bundle: &Bundle) -> Vec<Address> {
    let address = |a: IpAddr| Address { address: a.to_string(), prefix: None, interface: None };
    let state = life::client(bundle).state();
    state.map(|state| state.addresses.into_iter().map(address).collect()).unwrap_or_default()
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
