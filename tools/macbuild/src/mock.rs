//! The tests that run the framework's calls on this host.
//!
//! `objc2-virtualization` links Apple's framework on any host; its copy in `crates/vz/mock/bindings` does without that line.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const CRATE: &str = "objc2-virtualization";
/// Where the line is, and the line.
const LINKS: (&str, &str) =
    ("src/generated/mod.rs", "#[link(name = \"Virtualization\", kind = \"framework\")]\n");

/// Prepares the bindings, and runs the tests of `crates/vz/mock`.
///
/// # Errors
/// When the bindings are other than thought, or a test fails.
pub fn run(root: &Path, target: &Path) -> Result<()> {
    let mock = root.join("crates/vz/mock");
    copy(&published(root)?, &mock.join("bindings"))?;
    let mut cargo = cargo();
    cargo.current_dir(&mock).args(["test", "--locked", "--target-dir"]).arg(target.join("vz-mock"));
    ensure!(
        cargo.status().context("cannot start cargo")?.success(),
        "the tests of {} failed",
        mock.display()
    );
    Ok(())
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where cargo keeps the sources that the workspace is locked to.
fn published(root: &Path) -> Result<PathBuf> {
    let output = cargo()
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cannot start cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read `cargo metadata`")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let manifest = packages.iter().find(|p| p["name"] == CRATE).and_then(|p| p["manifest_path"].as_str());
    let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
    Ok(folder.with_context(|| format!("the workspace does not use {CRATE}"))?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    copy_tree(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    let file = to.join(LINKS.0);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.matches(LINKS.1).count() != 1 {
        bail!("{CRATE} does not link the framework where it did: see {}", file.display());
    }
    fs::write(&file, text.replace(LINKS.1, "")).with_context(|| format!("cannot write {}", file.display()))
}

/// Times stay, so that cargo does not build again what did not change.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to);
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?)?;
            let modified = entry.metadata()?.modified()?;
            fs::File::options().write(true).open(&target)?.set_modified(modified)?;
        }
    }
    Ok(())
}
