use crate::{Error, Result};

/// Longest name in bytes: with what is put around it, it stays below the 255 that file systems take.
const MAX_NAME: usize = 100;

/// Checks that `name` works as a file name everywhere, is no path, no option and not hidden.
///
/// # Errors
/// [`Error::Name`] says what is wrong with it.
pub fn check_name(name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is longer than 100 bytes"
    } else if name.starts_with('.') {
        "it starts with a dot"
    } else if name.starts_with('-') {
        "it looks like an option"
    } else if name.contains(['/', '\\']) {
        "it contains a slash"
    } else if name.contains(':') {
        "it contains a colon"
    } else if name.contains(char::is_control) {
        "it contains a control character"
    } else if name.trim() != name {
        "it starts or ends with a space"
    } else if name.to_ascii_lowercase().ends_with(".vm") {
        "it ends like a VM's folder"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: name.escape_debug().take(MAX_NAME).collect(), why })
}
