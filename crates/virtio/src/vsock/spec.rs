//! Numbers and the packet header of the socket device.

/// Device type (section 5.10.1).
pub(super) const DEVICE_ID: u16 = 19;
/// Communication controller, other.
pub(super) const CLASS: u32 = 0x07_80_00;

/// Stream sockets (section 5.10.3). Drivers that know no feature bit take it for granted.
pub(super) const F_STREAM: u64 = 1 << 0;

/// The host's address (section 5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// The guest's address. Each VM has a device of its own, so all guests can have the same.
pub(super) const GUEST_CID: u64 = 3;

/// The type of stream sockets (section 5.10.6.1).
pub(super) const TYPE_STREAM: u16 = 1;

/// Event: all connections are gone (section 5.10.6.7).
pub(super) const EVENT_TRANSPORT_RESET: u32 = 0;

/// Operations (section 5.10.6).
pub(super) mod op {
    pub const REQUEST: u16 = 1;
    pub const RESPONSE: u16 = 2;
    pub const RST: u16 = 3;
    pub const SHUTDOWN: u16 = 4;
    pub const RW: u16 = 5;
    pub const CREDIT_UPDATE: u16 = 6;
    pub const CREDIT_REQUEST: u16 = 7;
}

/// Flags of `SHUTDOWN` (section 5.10.6.6): the sender of the packet ...
pub(super) mod shutdown {
    /// ... will not receive any more data.
    pub const RECEIVE: u32 = 1;
    /// ... will not send any more data.
    pub const SEND: u32 = 2;
    pub const BOTH: u32 = RECEIVE | SEND;
}

/// `struct virtio_vsock_hdr` (section 5.10.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    pub(super) const SIZE: usize = 44;

    pub(super) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            src_cid: fields.u64(),
            dst_cid: fields.u64(),
            src_port: fields.u32(),
            dst_port: fields.u32(),
            len: fields.u32(),
            kind: fields.u16(),
            op: fields.u16(),
            flags: fields.u32(),
            buf_alloc: fields.u32(),
            fwd_cnt: fields.u32(),
        }
    }

    pub(super) fn bytes(&self) -> [u8; Self::SIZE] {
        let parts: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let mut bytes = [0; Self::SIZE];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Takes little-endian fields off a packet; zeros beyond its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *field
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
}
