//! Kernel loading, device tree, initramfs.
