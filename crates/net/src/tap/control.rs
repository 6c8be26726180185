//! The calls that make and configure taps (Linux, `tun(4)` and `netdevice(7)`).
#![allow(unsafe_code)]

use std::{ffi::c_int, os::fd::AsFd};

use rustix::{
    io::{Errno, Result},
    ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode},
};

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
const TUNGETIFF: Opcode = opcode::read::<c_int>(b'T', 210);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<c_int>(b'T', 216);
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCGIFINDEX: Opcode = 0x8933;
const SIOCBRADDIF: Opcode = 0x89a2;

/// The interface is a tap.
pub(super) const IFF_TAP: i16 = 0x0002;
/// Frames have no header of the driver's own.
pub(super) const IFF_NO_PI: i16 = 0x1000;
/// Frames have virtio's header.
pub(super) const IFF_VNET_HDR: i16 = 0x4000;
/// The interface has several queues.
pub(super) const IFF_MULTI_QUEUE: i16 = 0x0100;
const IFF_UP: i16 = 1;

/// `TUNSETOFFLOAD`: whoever reads takes partial checksums, and large frames of TCP.
pub(super) const TUN_F_CSUM: u32 = 1;
pub(super) const TUN_F_TSO4: u32 = 2;
pub(super) const TUN_F_TSO6: u32 = 4;

/// The longest name of an interface, with its terminator.
const NAME: usize = 16;

/// `struct ifreq`: a name, and a union whose first bytes mean what the call says.
#[repr(C)]
struct Request {
    name: [u8; NAME],
    value: Value,
    rest: [u64; 2],
}

#[repr(C, align(8))]
struct Value([u8; 8]);

impl Request {
    fn new(name: &str) -> Result<Self> {
        let mut request = Self { name: [0; NAME], value: Value([0; 8]), rest: [0; 2] };
        if name.len() >= NAME || name.is_empty() || name.contains('\0') {
            return Err(Errno::NODEV);
        }
        request.name.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        Ok(request)
    }

    fn name(&self) -> String {
        self.name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
    }

    fn short(&self) -> i16 {
        let [a, b, ..] = self.value.0;
        i16::from_ne_bytes([a, b])
    }

    fn int(&self) -> i32 {
        let [a, b, c, d, ..] = self.value.0;
        i32::from_ne_bytes([a, b, c, d])
    }

    fn set(&mut self, bytes: &[u8]) {
        self.value.0.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
    }

    /// Makes the call `OPCODE`, one of those above that take an `ifreq`.
    fn call<const OPCODE: Opcode>(&mut self, fd: impl AsFd) -> Result<()> {
        // SAFETY: each call above but `TUNSETOFFLOAD` and `TUNSETVNETHDRSZ`, which are not made here, reads and writes at most
        // a `struct ifreq`, which is 40 bytes long where pointers have 64 bits and 32 bytes elsewhere; `Request` has 40, any
        // content of which is valid. An fd of another kind refuses the call or, having one of the same number, is not
        // reached: the callers pass `/dev/net/tun`, sockets, and what answered `TUNGETIFF` as a tap does.
        unsafe { ioctl(fd, Updater::<OPCODE, Self>::new(self)) }
    }
}

/// Makes `tun` the interface `name`, or one of that kind if it has a `%d`. Returns its name.
pub(super) fn attach(tun: impl AsFd, name: &str, flags: i16) -> Result<String> {
    let mut request = Request::new(name)?;
    request.set(&flags.to_ne_bytes());
    request.call::<TUNSETIFF>(tun)?;
    Ok(request.name())
}

/// Name and flags of the interface that `tun` is.
pub(super) fn identity(tun: impl AsFd) -> Result<(String, i16)> {
    let mut request = Request::new("?")?;
    request.call::<TUNGETIFF>(tun)?;
    Ok((request.name(), request.short()))
}

/// What the reader of `tun` takes: `TUN_F_...`.
pub(super) fn set_offloads(tun: impl AsFd, flags: u32) -> Result<()> {
    // SAFETY: the call takes an integer, and refuses those that it does not know.
    unsafe { ioctl(tun, IntegerSetter::<TUNSETOFFLOAD>::new_usize(flags as usize)) }
}

/// How many bytes of virtio's header frames have.
pub(super) fn set_header(tun: impl AsFd, len: c_int) -> Result<()> {
    // SAFETY: the call reads an `int`.
    unsafe { ioctl(tun, Setter::<TUNSETVNETHDRSZ, c_int>::new(len)) }
}

/// The number of the interface `name`.
pub(super) fn index(socket: impl AsFd, name: &str) -> Result<i32> {
    let mut request = Request::new(name)?;
    request.call::<SIOCGIFINDEX>(socket)?;
    Ok(request.int())
}

/// The largest packet of the interface `name`.
pub(super) fn mtu(socket: impl AsFd, name: &str) -> Result<i32> {
    let mut request = Request::new(name)?;
    request.call::<SIOCGIFMTU>(socket)?;
    Ok(request.int())
}

/// Sets the largest packet of the interface `name`.
pub(super) fn set_mtu(socket: impl AsFd, name: &str, mtu: i32) -> Result<()> {
    let mut request = Request::new(name)?;
    request.set(&mtu.to_ne_bytes());
    request.call::<SIOCSIFMTU>(socket)
}

/// Makes the interface of number `port` a port of the bridge `name`.
pub(super) fn join(socket: impl AsFd, name: &str, port: i32) -> Result<()> {
    let mut request = Request::new(name)?;
    request.set(&port.to_ne_bytes());
    request.call::<SIOCBRADDIF>(socket)
}

/// Takes the interface `name` into use.
pub(super) fn bring_up(socket: impl AsFd, name: &str) -> Result<()> {
    let mut request = Request::new(name)?;
    request.call::<SIOCGIFFLAGS>(&socket)?;
    request.set(&(request.short() | IFF_UP).to_ne_bytes());
    request.call::<SIOCSIFFLAGS>(socket)
}
