//! A tap of the host: the guest is on one of the host's own networks.
//!
//! ```text
//!   guest ◄── Card ◄─► tap ◄─► bridge ◄─► the host's network card, other guests
//! ```
//! Frames pass with virtio's header, so large ones stay large and checksums are left out up to the network card that needs
//! them. One queue: one thread serves a network, so more would gain nothing.
//!
//! Making a tap needs rights (`CAP_NET_ADMIN`). Using one that somebody made for the user, or passed on open, does not.

mod control;

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};

use crate::{
    Gso, GsoKind, MAX_FRAME, NetError, Offload, Offloads, PartialChecksum, Uplink,
    line::Line,
    wire::{self, be16},
};

/// `struct virtio_net_hdr`: flags, kind, and four words: headers, size, start, offset; in the host's order.
const HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
/// What taps of our own are called; the kernel puts a number there.
const OWN_NAME: &str = "tearless%d";
const PLAIN: i16 = control::IFF_TAP | control::IFF_NO_PI | control::IFF_VNET_HDR;

/// A new tap that is a port of the bridge `bridge` and lasts as long as this process.
///
/// # Errors
/// When there is no such bridge, or the rights are missing.
pub fn bridged(bridge: &str) -> Result<Uplink, NetError> {
    let what = || format!("cannot connect the network card to {bridge}");
    let socket = any_socket().map_err(|e| NetError::new(what(), e, "close other programs"))?;
    let mtu = control::mtu(&socket, bridge).map_err(|e| {
        let advice = "a bridge that `ip link show type bridge` lists, or --net nat";
        NetError::new(what(), missing(e, bridge), advice)
    })?;
    let tun = open_tun().map_err(|e| NetError::new(what(), e, TUN_ADVICE))?;
    let own = control::attach(&tun, OWN_NAME, PLAIN).map_err(|e| without_rights(bridge, e))?;
    let join = || {
        // A bridge takes the smallest MTU of its ports for its own.
        control::set_mtu(&socket, &own, mtu)?;
        control::join(&socket, bridge, control::index(&socket, &own)?)?;
        control::bring_up(&socket, &own)
    };
    join().map_err(|e| match e {
        Errno::OPNOTSUPP | Errno::INVAL => no_bridge(bridge),
        Errno::PERM => without_rights(bridge, e),
        _ => NetError::new(what(), e, "--net nat"),
    })?;
    uplink(tun).map_err(|e| NetError::new(what(), e, "--net nat"))
}

/// The tap `name`, which exists and is the user's.
///
/// # Errors
/// When there is none, or it is somebody else's or in use.
pub fn named(name: &str) -> Result<Uplink, NetError> {
    let what = || format!("cannot connect the network card to tap {name}");
    let make = format!("sudo ip tuntap add dev {name} mode tap user \"$USER\" && sudo ip link set {name} up");
    any_socket()
        .and_then(|socket| control::index(socket, name))
        .map_err(|e| NetError::new(what(), missing(e, name), make.clone()))?;
    let tun = open_tun().map_err(|e| NetError::new(what(), e, TUN_ADVICE))?;
    let attached = match control::attach(&tun, name, PLAIN) {
        Err(Errno::INVAL) => control::attach(&tun, name, PLAIN | control::IFF_MULTI_QUEUE),
        other => other,
    };
    attached.map_err(|e| match e {
        Errno::BUSY => {
            NetError::new(what(), "another program uses it", "end that, or make one more: a VM needs its own")
        }
        Errno::PERM => NetError::new(
            what(),
            "it belongs to another user",
            format!("sudo ip link delete {name} && {make}"),
        ),
        Errno::INVAL => NetError::new(
            what(),
            "that is an interface of another kind",
            format!("--net bridged:{name}, if it is a bridge"),
        ),
        _ => NetError::new(what(), e, "--net nat"),
    })?;
    uplink(tun).map_err(|e| NetError::new(what(), e, "--net nat"))
}

/// The tap that this process was given open, as its file number `number`.
///
/// # Errors
/// When that is no tap.
pub fn passed(number: i32) -> Result<Uplink, NetError> {
    // A duplicate, because who owns the number itself cannot be known.
    let duplicate = || {
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        Ok(File::from(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?))
    };
    let opened = duplicate().and_then(|tun| {
        let (_, flags) = control::identity(&tun)?;
        if flags & control::IFF_TAP == 0 { Err(Errno::NOTTY) } else { Ok(tun) }
    });
    let linked = opened.map_err(io::Error::from).and_then(|tun| {
        rustix::io::ioctl_fionbio(&tun, true)?;
        uplink(tun)
    });
    linked.map_err(|e| {
        let why = match Errno::from_io_error(&e) {
            Some(Errno::BADF) => "this process was given no such file".to_owned(),
            Some(Errno::NOTTY) => "that file is no tap".to_owned(),
            _ => e.to_string(),
        };
        let advice =
            "open a tap, or a macvtap's /dev/tapN, and pass it: tearless run --net fd:3 3<>/dev/tapN";
        NetError::new(format!("cannot connect the network card to file {number}"), why, advice)
    })
}

const TUN_ADVICE: &str = "sudo modprobe tun && sudo chmod 666 /dev/net/tun, or --net nat";

fn any_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
}

fn open_tun() -> Result<File, String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/net/tun");
    opened.map_err(|e| format!("/dev/net/tun cannot be opened: {e}"))
}

fn missing(error: Errno, name: &str) -> String {
    match error {
        Errno::NODEV => format!("this host has no interface {name}"),
        _ => error.to_string(),
    }
}

/// What is to be typed once by whoever has the rights.
fn without_rights(bridge: &str, error: Errno) -> NetError {
    let why = match error {
        Errno::PERM => "making a tap needs the right CAP_NET_ADMIN, which root has".to_owned(),
        _ => error.to_string(),
    };
    let advice = format!(
        "have one made for you, once until the next boot:\n      \
         sudo ip tuntap add dev tearless0 mode tap user \"$USER\"\n      \
         sudo ip link set tearless0 master {bridge} up\n    and use it with --net tap:tearless0"
    );
    NetError::new(format!("cannot connect the network card to {bridge}"), why, advice)
}

fn no_bridge(name: &str) -> NetError {
    let master = std::fs::read_link(format!("/sys/class/net/{name}/brport/bridge"));
    let master = master.ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let advice = match master {
        Some(bridge) => format!("--net bridged:{bridge}, the bridge that it is a port of"),
        None => format!(
            "a bridge that {name} is a port of (the host's own address moves to the bridge, so its network is away \
             for a moment):\n      \
             sudo ip link add br0 type bridge && sudo ip link set br0 up\n      \
             sudo ip link set {name} master br0 && sudo ip address flush dev {name} && sudo dhclient br0\n    \
             and then --net bridged:br0; or --net nat with -p for the ports that others need"
        ),
    };
    NetError::new(format!("cannot connect the network card to {name}"), "it is no bridge", advice)
}

fn uplink(tun: File) -> io::Result<Uplink> {
    let (name, flags) = control::identity(&tun)?;
    let has_header = flags & control::IFF_VNET_HDR != 0;
    if has_header {
        control::set_header(&tun, HEADER as i32)?;
        control::set_offloads(&tun, 0)?;
    }
    let mtu = any_socket().and_then(|socket| control::mtu(socket, &name));
    let mtu = mtu.ok().and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| *mtu >= 68);
    let offloads = if has_header { Offloads::ALL } else { Offloads::default() };
    let header = if has_header { HEADER } else { 0 };
    let line = Box::new(Tap { tun, header, readable: true, input: vec![0; HEADER + MAX_FRAME], len: None });
    Ok(Uplink { line, offloads, mtu })
}

struct Tap {
    tun: File,
    /// Bytes before each frame.
    header: usize,
    readable: bool,
    /// The frame that is next, and how long it is with its header.
    input: Vec<u8>,
    len: Option<usize>,
}

impl Line for Tap {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.tun.as_raw_fd()), token, Interest::READABLE)
    }

    fn ready(&mut self, readable: bool, _: bool) {
        self.readable |= readable;
    }

    fn meet(&mut self, offloads: Offloads) -> io::Result<()> {
        if self.header == 0 {
            return Ok(());
        }
        let large = [(offloads.tcp4, control::TUN_F_TSO4), (offloads.tcp6, control::TUN_F_TSO6)];
        let large = large.into_iter().filter(|(takes, _)| *takes).fold(0, |all, (_, flag)| all | flag);
        let flags = if offloads.checksum { control::TUN_F_CSUM | large } else { 0 };
        Ok(control::set_offloads(&self.tun, flags)?)
    }

    fn send(&mut self, frame: &[u8], offload: Offload) -> io::Result<bool> {
        let Some(header) = encode(frame, offload) else { return Ok(true) };
        let header = header.get(..self.header).unwrap_or_default();
        match self.tun.write_vectored(&[IoSlice::new(header), IoSlice::new(frame)]) {
            // The tap is no more.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::BADFD) => Err(e),
            // The interface is down, or the kernel does not like the frame: lost, as on a wire.
            _ => Ok(true),
        }
    }

    fn next(&mut self) -> io::Result<Option<(Offload, &[u8])>> {
        while self.len.is_none() && self.readable {
            match self.tun.read(&mut self.input) {
                Ok(len) if len > self.header => self.len = Some(len),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let Some((header, frame)) =
            self.len.and_then(|len| self.input.get(..len)?.split_at_checked(self.header))
        else {
            return Ok(None);
        };
        Ok(Some((decode(header), frame)))
    }

    fn consume(&mut self) {
        self.len = None;
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The header of a frame of the guest's; `None` when what it says is left to do does not fit what the frame is. The
/// kernel checks too, but shall not have to be right about it.
fn encode(frame: &[u8], offload: Offload) -> Option<[u8; HEADER]> {
    let (flags, start, offset) =
        offload.checksum.map_or((0, 0, 0), |checksum| (NEEDS_CHECKSUM, checksum.start, checksum.offset));
    let (kind, headers, size) = match offload.gso {
        None => (GSO_NONE, 0, 0),
        Some(gso) => {
            let (kind, ethertype) = match gso.kind {
                GsoKind::Tcp4 => (GSO_TCP4, wire::IPV4),
                GsoKind::Tcp6 => (GSO_TCP6, wire::IPV6),
            };
            let ip = wire::Ip::parse(ethertype, frame.get(wire::ETHERNET..)?)?;
            let is_tcp = be16(frame, 12) == Some(ethertype) && ip.protocol == wire::protocol::TCP;
            if !is_tcp || ip.fragment.is_some() || usize::from(gso.headers) >= frame.len() {
                return None;
            }
            (kind, gso.headers, gso.size)
        }
    };
    let mut header = [0; HEADER];
    let words = [headers, size, start, offset].into_iter().flat_map(u16::to_ne_bytes);
    header.iter_mut().zip([flags, kind].into_iter().chain(words)).for_each(|(to, byte)| *to = byte);
    Some(header)
}

/// What the kernel leaves to do.
fn decode(header: &[u8]) -> Offload {
    let word = |at: usize| header.get(at..at + 2).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
    let (Some(flags), Some(kind)) = (header.first(), header.get(1)) else { return Offload::default() };
    let checksum = PartialChecksum { start: word(6), offset: word(8) };
    let kind = match kind & 0x7f {
        GSO_TCP4 => Some(GsoKind::Tcp4),
        GSO_TCP6 => Some(GsoKind::Tcp6),
        _ => None,
    };
    Offload {
        checksum: (flags & NEEDS_CHECKSUM != 0).then_some(checksum),
        gso: kind.map(|kind| Gso { kind, size: word(4), headers: word(2) }),
    }
}

#[cfg(test)]
mod tests;
