//! Builds `tearless` for Macs on a host that is none: makes what the linker needs of Apple's SDK, links, and signs ad hoc with
//! entitlements; then reads the signature back.
//!
//! ```text
//!   tearless-macbuild build [--release]     all of it: target/aarch64-apple-darwin/*/tearless
//!   tearless-macbuild link ARG...           what rustc calls instead of a linker
//!   tearless-macbuild sign FILE             ad hoc, with the entitlements of `entitlements.plist`
//!   tearless-macbuild verify FILE           checks each hash, and prints the entitlements
//!   tearless-macbuild mock                  runs the framework's calls on this host: the tests of crates/vz/mock
//! ```
//! The stubs of the SDK have the names in `symbols.txt` and no others: a new name fails the link, and is looked up in Apple's
//! documentation (does the oldest supported macOS have it?) before it is added there.

mod macho;
mod mock;
mod sdk;
mod sign;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

const TARGET: &str = "aarch64-apple-darwin";
/// The oldest macOS that the program starts on, and the SDK whose behaviour it expects.
const MACOS: [&str; 2] = ["13.0", "26.0"];
/// What the program may do.
const ENTITLEMENTS: &str = include_str!("../entitlements.plist");
/// How the signature names the program.
const IDENTIFIER: &str = "tearless";
/// Tells the process that links, which rustc starts, where the stubs are.
const SDK: &str = "TEARLESS_MAC_SDK";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = env::args().skip(1).collect();
    // rustc gives a linker its arguments only.
    if env::var_os(SDK).is_some()
        && !matches!(args.first().map(String::as_str), Some("build" | "sign" | "verify" | "mock"))
    {
        return link(&args);
    }
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["build"] => build(false)?,
        ["build", "--release"] => build(true)?,
        ["mock"] => {
            let (root, target) = places();
            mock::run(&root, &target)?;
        }
        ["sign", file] => sign_file(Path::new(file))?,
        ["verify", file] => print!("{}", sign::verify(&read(Path::new(file))?)?),
        _ => bail!("usage: tearless-macbuild build [--release] | sign FILE | verify FILE | mock"),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The workspace, and where it is built.
fn places() -> (PathBuf, PathBuf) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    (root, target)
}

fn build(release: bool) -> Result<()> {
    let (root, target) = places();
    let stubs = target.join("mac-sdk");
    sdk::write(&stubs)?;
    let this = env::current_exe().context("cannot find this program")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(["build", "--locked", "-p", "tearless", "--target", TARGET]);
    cargo.args(release.then_some("--release"));
    cargo.env("CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER", &this).env(SDK, &stubs).env("SDKROOT", &stubs);
    cargo.env("MACOSX_DEPLOYMENT_TARGET", MACOS[0]);
    if !release {
        // What is only linked and looked at need not be fast.
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    }
    if !cargo.status().context("cannot start cargo")?.success() {
        bail!("cargo failed");
    }
    let program = target.join(TARGET).join(if release { "release" } else { "debug" }).join("tearless");
    sign_file(&program)?;
    print!("{}:\n{}", program.display(), sign::verify(&read(&program)?)?);
    Ok(())
}

/// A new file takes the old one's place: macOS remembers the signature of a file that has run.
fn sign_file(path: &Path) -> Result<()> {
    let signed = sign::sign(&read(path)?, IDENTIFIER, ENTITLEMENTS)?;
    let new = path.with_extension("signed");
    fs::write(&new, signed).with_context(|| format!("cannot write {}", new.display()))?;
    fs::set_permissions(&new, fs::metadata(path)?.permissions())?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))
}

/// Calls the linker that comes with Rust, which rustc takes for a C compiler that links.
fn link(args: &[String]) -> Result<ExitCode> {
    let sysroot = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "sysroot"])
        .output()
        .context("cannot ask rustc where its linker is")?;
    let sysroot = String::from_utf8(sysroot.stdout)?;
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let linker = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/gcc-ld/ld64.lld");
    let stubs = env::var_os(SDK).unwrap_or_default();
    let plain =
        args.iter().filter(|arg| !arg.starts_with("-mmacosx-version-min") && *arg != "-nodefaultlibs");
    let plain = plain.flat_map(|arg| match arg.strip_prefix("-Wl,") {
        Some(inner) => inner.split(',').map(str::to_owned).collect(),
        None => vec![arg.clone()],
    });
    let status = Command::new(&linker)
        .args(plain)
        // All missing names at once.
        .arg("--error-limit=0")
        .args(["-arch", "arm64", "-platform_version", "macos", MACOS[0], MACOS[1], "-syslibroot"])
        .arg(stubs)
        .status()
        .with_context(|| format!("cannot start {}", linker.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
