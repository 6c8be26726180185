//! The guest's network: its addresses, the ports that programs listen at, and ways to them.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use tearless_guest_proto::{Address, Reply};

use super::{
    failure::{Explain, Outcome},
    server::{Gone, Host},
};

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";
/// 127.0.0.1, ::1 and ::ffff:127.0.0.1 there.
const LOOPBACK: [&str; 3] =
    ["0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"];
/// A connection inside of the guest is made at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of all interfaces but the loopback.
pub fn addresses() -> Outcome<Vec<Address>> {
    let interfaces = nix::ifaddrs::getifaddrs().explain(|| "cannot list the network addresses".to_owned())?;
    let mut addresses: Vec<_> = interfaces
        .filter_map(|interface| {
            let (address, mask) = (interface.address?, interface.netmask?);
            let (ip, mask): (IpAddr, u128) = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => (v4.ip().into(), mask.as_sockaddr_in()?.ip().to_bits().into()),
                (_, Some(v6)) => (v6.ip().into(), mask.as_sockaddr_in6()?.ip().to_bits()),
                _ => return None,
            };
            let prefix = mask.count_ones() as u8;
            (!ip.is_loopback()).then_some(Address {
                interface: interface.interface_name,
                address: ip,
                prefix,
            })
        })
        .collect();
    // Those that other machines can use come first.
    addresses.sort_by_key(|a| (is_local(a.address), a.address.is_ipv6()));
    Ok(addresses)
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The TCP ports that programs listen at, as far as [`forward`] reaches them: not those at one outer address only.
pub fn ports() -> Outcome<Vec<u16>> {
    let read = |path: &str| match fs::read_to_string(path) {
        // No IPv6 in the kernel.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.explain(|| "cannot list the listening ports".to_owned()),
    };
    let ports: BTreeSet<_> =
        [read("/proc/net/tcp")?, read("/proc/net/tcp6")?].iter().flat_map(|text| listening(text)).collect();
    Ok(ports.into_iter().collect())
}

/// The ports in `/proc/net/tcp` or `tcp6`.
fn listening(text: &str) -> Vec<u16> {
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, local, _, state, ..] = fields.as_slice() else { return None };
        let (address, port) = local.rsplit_once(':').filter(|_| state == LISTENING)?;
        if !address.trim_start_matches('0').is_empty() && !LOOPBACK.contains(&address) {
            return None;
        }
        u16::from_str_radix(port, 16).ok()
    };
    text.lines().skip(1).filter_map(port).collect()
}

/// Connects the host with a port of the guest itself.
pub fn forward(host: &Host, port: u16) -> Result<(), Gone> {
    let connect = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, port), PATIENCE);
    let stream = connect(Ipv4Addr::LOCALHOST.into())
        .or_else(|error| connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
        .explain(|| format!("cannot connect to port {port}"))?;
    // What is sent through is as it is; small pieces must not wait.
    stream.set_nodelay(true)?;
    host.send(&Reply::Done)?;
    let back = thread::spawn({
        let (host, mut stream) = (host.clone(), stream.try_clone()?);
        move || {
            // Either side may go away at any time: that is the end.
            drop(io::copy(&mut stream, &mut host.reader()));
            drop(host.end_writing());
        }
    });
    drop(io::copy(&mut host.reader(), &mut &stream));
    drop((&stream).flush());
    drop(stream.shutdown(std::net::Shutdown::Write));
    drop(back.join());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_ports_are_found() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
            0: 00000000:0016 00000000:0000 0A 00000000:00000000\n   \
            1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000\n   2: broken\n   \
            3: 3500007F:0035 00000000:0000 0A 00000000:00000000\n";
        assert_eq!(listening(text), [22]);
        assert_eq!(listening("x\n 0: 00000000000000000000000000000000:0050 0:0 0A\n"), [80]);
    }

    #[test]
    fn this_host_has_what_it_has() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(ports().unwrap().contains(&listener.local_addr().unwrap().port()));
        assert!(addresses().unwrap().iter().all(|a| !a.address.is_loopback()));
    }
}
