//! Taps are Linux'. This host is none, and says so.

use crate::{NetError, Uplink};

fn refused(what: String) -> NetError {
    let why = format!("taps need Linux, this is {}", std::env::consts::OS);
    let advice =
        "--net nat; or on macOS vmnet, by way of vmnet-helper or socket_vmnet with --net socket:PATH";
    NetError::new(format!("cannot connect the network card to {what}"), why, advice)
}

/// Fails.
///
/// # Errors
/// Always: this host has no taps.
pub fn bridged(bridge: &str) -> Result<Uplink, NetError> {
    Err(refused(bridge.to_owned()))
}

/// Fails.
///
/// # Errors
/// Always: this host has no taps.
pub fn named(name: &str) -> Result<Uplink, NetError> {
    Err(refused(format!("tap {name}")))
}

/// Fails.
///
/// # Errors
/// Always: this host has no taps.
pub fn passed(number: i32) -> Result<Uplink, NetError> {
    Err(refused(format!("file {number}")))
}
