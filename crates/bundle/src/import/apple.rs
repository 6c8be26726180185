//! The layout of Apple's sample code, of Viable and of VirtualBuddy: a folder with four files.

use std::{fs, path::Path};

use super::{Foreign, ForeignDisk, Guest, identifier, refused};
use crate::{
    Result,
    files::failed,
    mac::{AUXILIARY_FILE, IDENTIFIER_FILE, MODEL_FILE, Platform, read_model},
};

const DISK: &str = "Disk.img";

pub(super) fn is_one(folder: &Path) -> bool {
    [DISK, AUXILIARY_FILE, MODEL_FILE].iter().all(|name| folder.join(name).is_file())
}

pub(super) fn read(folder: &Path) -> Result<Foreign> {
    if folder.join(crate::bundle::CONFIG_FILE).exists() {
        return Err(refused(folder, "it is a VM of Tearless already".into()));
    }
    let auxiliary = folder.join(AUXILIARY_FILE);
    let path = folder.join(IDENTIFIER_FILE);
    let given = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.map_err(failed("read", &path))?),
    };
    let mut notes = Vec::new();
    let identifier = identifier(given.as_deref(), &auxiliary, &mut notes)?;
    let buddy = folder.join(".vbdata").is_dir();
    if buddy {
        notes.push("VirtualBuddy's own settings (vCPUs, memory, displays) were not taken over".into());
    }
    let program = if buddy { "VirtualBuddy" } else { "Viable, or Apple's sample" };
    let platform = Platform { identifier, model: read_model(folder)? };
    let guest = Guest::Mac { platform, auxiliary };
    Ok(Foreign { disks: vec![ForeignDisk::raw(folder.join(DISK))], notes, ..Foreign::new(program, guest) })
}
