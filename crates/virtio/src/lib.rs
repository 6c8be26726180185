//! Virtio devices over PCI: console, block, entropy.
