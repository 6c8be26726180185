//! An AArch64 CPU in software.
