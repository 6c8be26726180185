//! Servers of disks, as hostile as they like.

/// Has a client listen to a server that says `data`.
pub fn nbd(data: &[u8]) {
    tearless_storage::listen_to_nbd(data);
}
