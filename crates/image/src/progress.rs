//! How long work reports itself, so that the command line can draw bars and this crate need not know how.

/// Receives the course of long work. One stage runs at a time; stages never nest.
pub trait Progress {
    /// A stage named `what` starts; `total` is its size in bytes when known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// `bytes` more of the current stage are done.
    fn advance(&self, bytes: u64);
    /// The current stage is over.
    fn end(&self);
    /// Something that the user should know and that does not stop the work.
    fn warn(&self, message: &str);
}

/// Says nothing; warnings go to the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn warn(&self, message: &str) {
        tracing::warn!("{message}");
    }
}
