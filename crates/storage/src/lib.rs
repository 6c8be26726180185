//! Disk back ends.
