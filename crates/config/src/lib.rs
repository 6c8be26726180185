//! The description of a VM: plain data, defaults, validation.
