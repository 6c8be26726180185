//! Describe, create, open, start and stop virtual machines.
