//! Protocols: one file for each, or for two that are one thing.

pub(crate) mod block_io;
pub(crate) mod file;
pub(crate) mod graphics_output;
pub(crate) mod load_file;
pub(crate) mod path_to_text;
pub(crate) mod rng;
pub(crate) mod text_input;
pub(crate) mod text_output;

use std::collections::BTreeMap;

use crate::media::{Volume, fat::Fat};

/// What the structures in the guest stand for, by their addresses.
#[derive(Default)]
pub(crate) struct Objects {
    /// Of block I/O and disk I/O.
    pub volumes: BTreeMap<u64, Volume>,
    /// Of file systems: indices of `mounted`.
    pub systems: BTreeMap<u64, usize>,
    pub mounted: Vec<Fat>,
    pub files: BTreeMap<u64, file::OpenFile>,
    /// Structures of files that were closed, for those that will be opened.
    pub spare: Vec<u64>,
    /// The RAM disk of the host's kernel.
    pub initrd: Vec<u8>,
}
