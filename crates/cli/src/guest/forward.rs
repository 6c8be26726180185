//! `forward`: ports of the host that lead to ports of the guest, whatever network it has.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tearless_guest::Agent;

use super::agent_of;
use crate::args::ForwardArgs;

/// How often the guest is asked which ports it listens at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Connections at a time over one port; further ones are closed at once.
const MAX_CONNECTIONS: usize = 200;

/// `[ADDR:]HOST[:GUEST]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    host: SocketAddr,
    guest: u16,
}

impl Rule {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            anyhow!(
                "{text} is no port to forward\n  try: PORT, HOST:GUEST or ADDRESS:HOST:GUEST, for example 8080:80"
            )
        };
        // An IPv6 address has brackets.
        let (address, ports) = match text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((address, ports)) => (Some(address), ports),
            None if text.matches(':').count() == 2 => {
                text.split_once(':').map_or((None, text), |(address, ports)| (Some(address), ports))
            }
            None => (None, text),
        };
        let address =
            address.map_or(Ok(IpAddr::from(Ipv4Addr::LOCALHOST)), str::parse).map_err(|_| wrong())?;
        let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self { host: SocketAddr::new(address, number(host)?), guest: number(guest)? })
    }
}

pub fn forward(args: &ForwardArgs) -> Result<ExitCode> {
    let rules = args.ports.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>>>()?;
    let agent = Arc::new(agent_of(&args.name, args.wait.time)?);
    // That it is there is known now; this uses up the first connection.
    agent.info()?;
    let mut open = Vec::new();
    for rule in &rules {
        open.push(Forward::start(*rule, &agent)?);
        println!("{} -> {}:{}", rule.host, args.name, rule.guest);
    }
    if args.all {
        return follow(&args.name, &agent, &rules);
    }
    loop {
        thread::sleep(LOOK_AGAIN);
        // It is over when the VM is.
        agent.info().with_context(|| format!("{} cannot be reached any more", args.name))?;
    }
}

/// Forwards whatever the guest listens at, under the same number.
fn follow(name: &str, agent: &Arc<Agent>, rules: &[Rule]) -> Result<ExitCode> {
    let mut open: BTreeMap<u16, Option<Forward>> = BTreeMap::new();
    loop {
        let ports = agent.ports().with_context(|| format!("{name} cannot be reached any more"))?;
        open.retain(|port, _| {
            let keep = ports.contains(port);
            if !keep {
                println!("127.0.0.1:{port} closed");
            }
            keep
        });
        for port in ports {
            if open.contains_key(&port) || rules.iter().any(|rule| rule.guest == port) {
                continue;
            }
            let rule = Rule { host: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), guest: port };
            let forward = Forward::start(rule, agent);
            match &forward {
                Ok(_) => println!("{} -> {name}:{port}", rule.host),
                // Said once per port: it stays in the table.
                Err(error) => eprintln!("tearless: {error:#}"),
            }
            open.insert(port, forward.ok());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// A port of the host that is listened at as long as this lives. Its connections outlive it.
struct Forward {
    stopped: Arc<AtomicBool>,
    at: SocketAddr,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the thread that waits for connections; if it is gone already, there is nobody to wake.
        drop(TcpStream::connect(self.at));
    }
}

impl Forward {
    fn start(rule: Rule, agent: &Arc<Agent>) -> Result<Self> {
        let listener = match TcpListener::bind(rule.host) {
            Ok(listener) => listener,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => bail!(
                "cannot forward port {}\n  because: another program of this host uses it\n  try: another one, for example \
                 --port {}:{}",
                rule.host.port(),
                rule.host.port().saturating_add(1000),
                rule.guest
            ),
            Err(e) => return Err(e).with_context(|| format!("cannot listen at {}", rule.host)),
        };
        let stopped = Arc::new(AtomicBool::new(false));
        let forward = Self { stopped: stopped.clone(), at: rule.host };
        let agent = agent.clone();
        thread::spawn(move || accept(&listener, rule.guest, &agent, &stopped));
        Ok(forward)
    }
}

fn accept(listener: &TcpListener, port: u16, agent: &Arc<Agent>, stopped: &AtomicBool) {
    let active = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of file descriptors, perhaps: connections that end give some back.
            thread::sleep(LOOK_AGAIN);
            continue;
        };
        if active.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            active.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (agent, active) = (agent.clone(), active.clone());
        thread::spawn(move || {
            if let Err(error) = connect(&stream, port, &agent) {
                tracing::info!(port, %error, "a forwarded connection failed");
            }
            active.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

fn connect(client: &TcpStream, port: u16, agent: &Agent) -> Result<()> {
    client.set_nodelay(true)?;
    let guest = agent.forward(port)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Either side may go away at any time: that is the end of its half.
            drop(io::copy(&mut &*client, &mut &guest));
            drop(guest.shutdown(Shutdown::Write));
        });
        let mut from: &UnixStream = &guest;
        drop(io::copy(&mut from.by_ref(), &mut &*client));
        drop(client.shutdown(Shutdown::Write));
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_three_forms() {
        let rule = |host: &str, guest| Rule { host: host.parse().unwrap(), guest };
        assert_eq!(Rule::parse("80").unwrap(), rule("127.0.0.1:80", 80));
        assert_eq!(Rule::parse("8080:80").unwrap(), rule("127.0.0.1:8080", 80));
        assert_eq!(Rule::parse("0.0.0.0:8080:80").unwrap(), rule("0.0.0.0:8080", 80));
        assert_eq!(Rule::parse("[::1]:8080:80").unwrap(), rule("[::1]:8080", 80));
        for wrong in ["", "x", "0", "70000", "1:2:3", "1:2:3:4", "80/udp"] {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
    }
}
