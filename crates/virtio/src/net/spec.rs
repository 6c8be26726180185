//! Numbers of the specification.

pub(super) const DEVICE_ID: u16 = 1;
/// Network controller, Ethernet.
pub(super) const CLASS: u32 = 0x02_00_00;

/// Feature bits (5.1.3).
pub(super) mod feature {
    pub(in crate::net) const CSUM: u64 = 1 << 0;
    pub(in crate::net) const GUEST_CSUM: u64 = 1 << 1;
    pub(in crate::net) const MTU: u64 = 1 << 3;
    pub(in crate::net) const MAC: u64 = 1 << 5;
    pub(in crate::net) const GUEST_TSO4: u64 = 1 << 7;
    pub(in crate::net) const GUEST_TSO6: u64 = 1 << 8;
    pub(in crate::net) const HOST_TSO4: u64 = 1 << 11;
    pub(in crate::net) const HOST_TSO6: u64 = 1 << 12;
    pub(in crate::net) const MRG_RXBUF: u64 = 1 << 15;
    pub(in crate::net) const STATUS: u64 = 1 << 16;
    pub(in crate::net) const CTRL_VQ: u64 = 1 << 17;
    pub(in crate::net) const MQ: u64 = 1 << 22;
}

/// The link is up (5.1.4).
pub(super) const STATUS_LINK_UP: u16 = 1;

/// `struct virtio_net_hdr` (5.1.6): flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers.
pub(super) mod header {
    pub(in crate::net) const LEN: usize = 12;
    pub(in crate::net) const NEEDS_CSUM: u8 = 1;
    pub(in crate::net) const GSO_NONE: u8 = 0;
    pub(in crate::net) const GSO_TCPV4: u8 = 1;
    pub(in crate::net) const GSO_TCPV6: u8 = 4;
    pub(in crate::net) const GSO_ECN: u8 = 0x80;
}

/// Commands of the control queue (5.1.6.5).
pub(super) mod control {
    /// Class and command.
    pub(in crate::net) const HEADER: usize = 2;
    pub(in crate::net) const CLASS_MQ: u8 = 4;
    pub(in crate::net) const VQ_PAIRS_SET: u8 = 0;
    pub(in crate::net) const OK: u8 = 0;
    pub(in crate::net) const ERR: u8 = 1;
}
