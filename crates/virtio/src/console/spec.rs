//! Numbers of the console device.

/// Device type (section 5.3.1).
pub(super) const DEVICE_ID: u16 = 3;
/// Communication controller, other.
pub(super) const CLASS: u32 = 0x07_80_00;

/// The size in the configuration is valid (section 5.3.3).
pub(super) const F_SIZE: u64 = 1 << 0;
/// Several ports and the control queues.
pub(super) const F_MULTIPORT: u64 = 1 << 1;

/// Queues of port 0 and of the control channel; port `n` from 1 on has `2 * n + 2` and `2 * n + 3` (section 5.3.2).
pub(super) const CONTROL_RECEIVE: usize = 2;

/// Events of `struct virtio_console_control` (section 5.3.6.2).
pub(super) mod event {
    pub const DEVICE_READY: u16 = 0;
    pub const PORT_ADD: u16 = 1;
    pub const PORT_READY: u16 = 3;
    pub const CONSOLE_PORT: u16 = 4;
    pub const RESIZE: u16 = 5;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// `struct virtio_console_control`: port, event, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) id: u32,
    pub(super) event: u16,
    pub(super) value: u16,
}

impl Control {
    pub(super) const SIZE: usize = 8;

    pub(super) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            id: u32::from_le_bytes([a, b, c, d]),
            event: u16::from_le_bytes([e, f]),
            value: u16::from_le_bytes([g, h]),
        }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = self.id.to_le_bytes().to_vec();
        bytes.extend(self.event.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        bytes
    }
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cols: u16,
    pub(super) rows: u16,
}

impl Size {
    /// What follows the header of a `RESIZE` message (section 5.3.6.2). Some Linux kernels expect rows first; a lone
    /// console avoids the message.
    pub(super) fn resize_bytes(self) -> [u8; 4] {
        let [a, b] = self.cols.to_le_bytes();
        let [c, d] = self.rows.to_le_bytes();
        [a, b, c, d]
    }
}
