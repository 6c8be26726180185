//! Character streams between a serial-like device and the host.

/// Where a device's output goes.
///
/// Called from a vCPU or device thread. An implementation may block for as long as its reader does (a full pipe slows
/// the guest down, nothing is dropped), but it must return when the VM is being torn down.
pub trait CharSink: Send {
    /// Takes all of `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl<F: FnMut(&[u8]) + Send> CharSink for F {
    fn put(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// The input side of a serial-like device, fed by the host.
pub trait CharInput: Send + Sync {
    /// Offers `bytes` to the guest and returns how many the device took. Fewer than all means that it is full: offer
    /// the rest after [`CharInput::on_space`]'s callback has run.
    fn push(&self, bytes: &[u8]) -> usize;

    /// Registers the callback that runs (on any thread, possibly from within `push`'s device lock-free tail) whenever
    /// a device that was full has space again. At most one callback is kept.
    fn on_space(&self, callback: Box<dyn Fn() + Send + Sync>);
}
