//! All services by number: which of the host's functions each entry in the guest stands for.

use crate::{boot, boot_manager, call::Service, protocol, runtime};

/// Entries of a group.
const ROOM: u16 = 64;

/// Groups of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Behind what the machine starts with, which is no service.
    Boot = 1,
    /// Not called this way: see [`runtime`].
    Runtime,
    TextOutput,
    TextInput,
    TextInputEx,
    BlockIo,
    DiskIo,
    FileSystem,
    File,
    Rng,
    PathToText,
    LoadFile,
    Graphics,
}

const GROUPS: [(&str, &[Service]); 14] = [
    ("start", &[boot_manager::start]),
    ("boot", &boot::SERVICES),
    ("runtime", &[]),
    ("text output", &protocol::text_output::METHODS),
    ("text input", &protocol::text_input::METHODS),
    ("text input ex", &protocol::text_input::EX_METHODS),
    ("block I/O", &protocol::block_io::METHODS),
    ("disk I/O", &protocol::block_io::DISK_METHODS),
    ("file system", &protocol::file::SYSTEM_METHODS),
    ("file", &protocol::file::METHODS),
    ("random numbers", &protocol::rng::METHODS),
    ("path to text", &protocol::path_to_text::METHODS),
    ("load file", &protocol::load_file::METHODS),
    ("graphics", &protocol::graphics_output::METHODS),
];

/// One above the highest number.
pub(crate) const COUNT: u16 = ROOM * GROUPS.len() as u16;

/// The number of a group's entry `index`.
pub(crate) const fn number(group: Group, index: u16) -> u16 {
    group as u16 * ROOM + index
}

/// How many functions a group has.
pub(crate) fn len(group: Group) -> u16 {
    if group == Group::Runtime { runtime::COUNT } else { GROUPS[group as usize].1.len() as u16 }
}

/// Whether the OS may call an entry.
pub(crate) fn is_runtime(number: u16) -> bool {
    number / ROOM == Group::Runtime as u16
}

pub(crate) fn find(number: u16) -> Option<Service> {
    let (_, services) = GROUPS.get(usize::from(number / ROOM))?;
    services.get(usize::from(number % ROOM)).copied()
}

/// For messages.
pub(crate) fn name(number: u16) -> String {
    let group = GROUPS.get(usize::from(number / ROOM)).map_or("nothing", |(name, _)| name);
    format!("{group} {}", number % ROOM)
}
