//! `--share`: what was typed becomes configuration.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tearless_config::{MAX_TAG, ShareConfig};

use crate::args::ShareArgs;

/// The shared folders of a command line.
pub fn parse(args: &ShareArgs) -> Result<Vec<ShareConfig>> {
    args.shares.iter().map(|text| parse_one(text)).collect()
}

/// `DIR[:TAG][:ro][:uid=N]`. A colon may be part of the folder's name, if there is such a folder.
fn parse_one(text: &OsStr) -> Result<ShareConfig> {
    let mut share = ShareConfig { path: PathBuf::new(), tag: String::new(), read_only: false, owner: 0 };
    let mut rest = text.as_bytes();
    loop {
        if Path::new(OsStr::from_bytes(rest)).is_dir() {
            break;
        }
        let Some(colon) = rest.iter().rposition(|&b| b == b':') else { break };
        let (before, option) =
            (rest.get(..colon).unwrap_or_default(), rest.get(colon + 1..).unwrap_or_default());
        match option {
            b"ro" => share.read_only = true,
            b"rw" => share.read_only = false,
            _ if option.starts_with(b"uid=") => share.owner = parse_uid(text, option)?,
            // A slash is part of a path.
            _ if option.contains(&b'/') || !share.tag.is_empty() => break,
            tag => share.tag = String::from_utf8_lossy(tag).into_owned(),
        }
        rest = before;
    }
    if rest.is_empty() {
        bail!(
            "cannot share a folder without a name\n  because: {text:?} names none\n  try: --share DIR or --share DIR:TAG"
        );
    }
    let path = PathBuf::from(OsString::from_vec(rest.to_vec()));
    // A path that stays what it is when a VM is run from elsewhere.
    share.path = std::path::absolute(&path).with_context(|| format!("cannot find {}", path.display()))?;
    if share.tag.is_empty() {
        share.tag = default_tag(&share.path)?;
    }
    Ok(share)
}

fn parse_uid(text: &OsStr, option: &[u8]) -> Result<u32> {
    let digits = std::str::from_utf8(option).ok().and_then(|option| option.strip_prefix("uid="));
    digits.and_then(|digits| digits.parse().ok()).with_context(|| {
        format!("cannot share {}\n  because: uid= takes a number\n  try: uid=1000", text.display())
    })
}

/// The folder's name, as far as it can be a tag.
fn default_tag(path: &Path) -> Result<String> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let tag: String = name.chars().map(plain).collect();
    let tag = tag.trim_start_matches(['.', '-']);
    if tag.is_empty() {
        bail!(
            "cannot share {}\n  because: its name does not make a tag\n  try: a name for it in the guest: --share {}:TAG",
            path.display(),
            path.display()
        );
    }
    Ok(tag.chars().take(MAX_TAG).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ShareConfig> {
        parse_one(OsStr::new(text))
    }

    #[test]
    fn parts_come_in_any_number() {
        let one = |text| parsed(text).unwrap();
        let share = |path: &str, tag: &str| ShareConfig {
            path: path.into(),
            tag: tag.into(),
            read_only: false,
            owner: 0,
        };
        assert_eq!(one("/no/dir"), share("/no/dir", "dir"));
        assert_eq!(one("/no/dir:t"), share("/no/dir", "t"));
        assert_eq!(one("/no/dir:ro"), ShareConfig { read_only: true, ..share("/no/dir", "dir") });
        assert_eq!(
            one("/no/dir:t:uid=1000:ro"),
            ShareConfig { read_only: true, owner: 1000, ..share("/no/dir", "t") }
        );
        assert_eq!(one("/a:b/c"), share("/a:b/c", "c"));
        assert_eq!(one("/no/My Files"), share("/no/My Files", "My-Files"));
        assert!(one("dir").path.is_absolute());
    }

    #[test]
    fn a_folder_with_a_colon_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a:ro");
        std::fs::create_dir(&path).unwrap();
        let share = parsed(path.to_str().unwrap()).unwrap();
        assert_eq!((share.path, share.read_only, share.tag.as_str()), (path, false, "a-ro"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, hint) in [("", "names none"), (":t", "names none"), ("/d:uid=x", "number"), ("/", "tag")] {
            assert!(parsed(text).unwrap_err().to_string().contains(hint), "{text}");
        }
    }
}
