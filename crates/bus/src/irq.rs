//! Interrupts as devices see them.

use std::{fmt, sync::Arc};

use tearless_memory::Gpa;

/// An interrupt controller's wired inputs.
pub trait IrqSink: Send + Sync {
    /// Sets input `line` (for a GIC: the INTID of a shared peripheral interrupt) to `level`.
    fn set_level(&self, line: u32, level: bool);
}

/// One wired interrupt. The device that owns it sets a level and never learns the number.
#[derive(Clone)]
pub struct IrqLine {
    sink: Option<Arc<dyn IrqSink>>,
    line: u32,
}

impl IrqLine {
    /// The line `line` of `sink`.
    pub fn new(sink: Arc<dyn IrqSink>, line: u32) -> Self {
        Self { sink: Some(sink), line }
    }

    /// A line that leads nowhere, for tests and for boards that leave an output unconnected.
    pub fn detached() -> Self {
        Self { sink: None, line: 0 }
    }

    /// Drives the line.
    pub fn set_level(&self, level: bool) {
        if let Some(sink) = &self.sink {
            sink.set_level(self.line, level);
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IrqLine").field("line", &self.line).field("attached", &self.sink.is_some()).finish()
    }
}

/// A message-signalled interrupt: a write of `data` to `address` by the requester `device_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where the message is written: the doorbell of the interrupt controller.
    pub address: Gpa,
    /// What is written: the event within the device.
    pub data: u32,
    /// Who writes: for PCIe the requester ID, bus in bits 15:8, device in 7:3, function in 2:0.
    pub device_id: u32,
}

/// Takes message-signalled interrupts. A message to an address that is no doorbell, or for an event that the guest has
/// not mapped, is dropped.
pub trait MsiSink: Send + Sync {
    /// Delivers one message.
    fn signal(&self, msi: Msi);
}

/// How an interrupt controller tells a vCPU to look at it again.
pub trait CpuWake: Send + Sync {
    /// The interrupt request towards vCPU `index` changed. Called without the controller's locks held, from any thread,
    /// the vCPU's own among them.
    fn wake(&self, index: u32);
}
