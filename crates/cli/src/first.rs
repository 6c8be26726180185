//! The user that a new macOS makes when it first starts (macOS 27), as `create --ipsw --unattended` wants it.
//!
//! Apple's framework is told of it with that start, so the VM's folder has name and password until then, in a file that its user
//! alone can read.

use std::{fs, io, path::Path};

use anyhow::{Context, Result, bail};
use tearless_bundle::Bundle;
use tearless_vm::whole::FirstUser;

use crate::{args::CreateArgs, install, seed};

/// The file that says which user it is to be.
const FILE: &str = "FirstUser.json";
/// More than a description of a user takes.
const MAX: u64 = 64 << 10;

/// The user that `args` want, if they want one.
pub fn read(args: &CreateArgs) -> Result<Option<FirstUser>> {
    let own = &args.unattended;
    if !own.unattended {
        return Ok(None);
    }
    let password = own.password_file.as_deref().map(seed::first_line).transpose()?;
    let Some(password) = password.filter(|password| !password.is_empty()) else {
        bail!(
            "cannot have macOS make its user\n  because: it makes none without a password\n  try: --password-file with the \
             password in the first line of a file"
        );
    };
    let name = own.user.clone().unwrap_or_else(install::host_user);
    Ok(Some(FirstUser { name, password, logs_in: own.auto_login }))
}

/// Keeps `user` for the first start of the VM in `folder`.
pub fn keep(user: &FirstUser, folder: &Path) -> Result<()> {
    seed::put(&folder.join(FILE), &serde_json::to_vec_pretty(user)?)
}

/// The user for the first start of `bundle`, if that is still to come.
pub fn find(bundle: &Bundle) -> Result<Option<FirstUser>> {
    let path = bundle.path().join(FILE);
    let damaged = || {
        format!(
            "cannot tell macOS of its user in {}\n  try: remove it; then Setup Assistant asks for one",
            path.display()
        )
    };
    let text = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(facts) if facts.len() > MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => fs::read(&path),
        Err(error) => Err(error),
    };
    serde_json::from_slice(&text.with_context(damaged)?).with_context(damaged).map(Some)
}

/// The first start was: macOS looks at such a user no second time, and nobody else shall.
pub fn forget(bundle: &Bundle) -> Result<()> {
    let path = bundle.path().join(FILE);
    fs::remove_file(&path).with_context(|| format!("cannot remove the password in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tearless_bundle::Store;
    use tearless_config::{BootConfig, VmConfig};

    use super::*;

    #[test]
    fn a_user_is_kept_until_the_first_start() {
        let home = tempfile::tempdir().unwrap();
        let new = Store::at(home.path()).create("mac").unwrap();
        let user = FirstUser { name: "ada".into(), password: "secret".into(), logs_in: true };
        keep(&user, new.path()).unwrap();
        let bundle = new.finish(&VmConfig::new(BootConfig::efi("NVRAM"))).unwrap();
        let path = bundle.path().join(FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(find(&bundle).unwrap() == Some(user));
        forget(&bundle).unwrap();
        assert!(find(&bundle).unwrap().is_none());
        for wrong in ["", "{}", r#"{"name":"a","password":"b","logs_in":true,"more":1}"#] {
            fs::write(&path, wrong).unwrap();
            let why = find(&bundle).err().unwrap();
            assert!(format!("{why:#}").contains("Setup Assistant"), "{why:#}");
        }
        fs::write(&path, vec![b' '; 100 << 10]).unwrap();
        assert!(find(&bundle).is_err());
    }
}
