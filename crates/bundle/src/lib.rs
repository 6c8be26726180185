//! The VM folder: configuration, locks, atomic writes.
