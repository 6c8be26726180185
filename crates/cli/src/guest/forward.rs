//! `forward`: ports of the host that lead to ports of the guest, whatever network it has.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tearless_guest::Agent;
use tearless_vm::forward::{Forward, Forwarder};

use super::agent_of;
use crate::args::ForwardArgs;
use crate::out::say;

/// How often the guest is asked which ports it listens at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Ports that are followed at a time: each takes a thread and a descriptor.
const MAX_PORTS: usize = 256;

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
    let forwarder = Forwarder::new(agent.clone());
    let mut open = Vec::new();
    for rule in &rules {
        open.push(listen(&forwarder, *rule)?);
        say!("{} -> {}:{}", rule.host, args.name, rule.guest);
    }
    if args.all {
        return follow(&args.name, &agent, &forwarder, &rules);
    }
    loop {
        thread::sleep(LOOK_AGAIN);
        // It is over when the VM is.
        agent.info().with_context(|| format!("{} cannot be reached any more", args.name))?;
    }
}

/// Forwards whatever the guest listens at, under the same number.
fn follow(name: &str, agent: &Agent, forwarder: &Forwarder, rules: &[Rule]) -> Result<ExitCode> {
    let mut open: BTreeMap<u16, Option<Forward>> = BTreeMap::new();
    loop {
        let mut ports = agent.ports().with_context(|| format!("{name} cannot be reached any more"))?;
        // The guest may say that it listens at all of them.
        ports.truncate(MAX_PORTS);
        open.retain(|port, _| {
            let keep = ports.contains(port);
            if !keep {
                say!("127.0.0.1:{port} closed");
            }
            keep
        });
        for port in ports {
            if open.contains_key(&port) || rules.iter().any(|rule| rule.guest == port) {
                continue;
            }
            let rule = Rule { host: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), guest: port };
            let forward = listen(forwarder, rule);
            match &forward {
                Ok(_) => say!("{} -> {name}:{port}", rule.host),
                // Said once per port: it stays in the table.
                Err(error) => eprintln!("tearless: {error:#}"),
            }
            open.insert(port, forward.ok());
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Listens where `rule` says.
fn listen(forwarder: &Forwarder, rule: Rule) -> Result<Forward> {
    forwarder.listen(rule.host, rule.guest).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "cannot forward port {}\n  because: another program of this host uses it\n  try: another one, for example \
             --port {}:{}",
            rule.host.port(),
            rule.host.port().saturating_add(1000),
            rule.guest
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "cannot forward port {}\n  because: this host lets only privileged users listen below port 1024\n  try: \
             another one, for example --port {}:{}",
            rule.host.port(),
            rule.host.port().saturating_add(8000),
            rule.guest
        ),
        _ => anyhow::Error::from(error).context(format!("cannot listen at {}", rule.host)),
    })
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
