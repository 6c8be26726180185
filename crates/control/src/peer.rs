//! Who is at the other end of a socket.

use std::os::unix::net::UnixStream;

/// Whether the peer is this user or root. Hosts that do not tell rely on the socket's folder, which is private.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_trusted(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid() || peer.uid.is_root())
}

/// See above.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_trusted(_: &UnixStream) -> bool {
    true
}
