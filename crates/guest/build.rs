//! Builds the guest agent, a static Linux program for ARM64, to be part of this library.
//!
//! This is a Cargo within Cargo. It cannot wait for the outer one, because it has a target folder of its own, and it
//! cannot recurse, because the agent does not depend on this library. See docs/decisions/011.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "aarch64-unknown-linux-musl";
const PACKAGE: &str = "tearless-guest-agent";
const PROFILE: &str = "agent";

/// What the outer Cargo sets for its own target and tools. The agent is the same whatever is built around it.
const FOREIGN: [&str; 12] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let crates = here.parent().ok_or("this crate lies in no folder")?;
    for watched in ["guest-agent/src", "guest-agent/Cargo.toml", "guest-proto/src", "guest-proto/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", crates.join(watched).display());
    }
    println!("cargo::rerun-if-changed={}", crates.join("../Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");

    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = out.join("agent");
    build(&crates.join("guest-agent/Cargo.toml"), &target)?;
    let built = target.join(TARGET).join(PROFILE).join(PACKAGE);
    fs::copy(&built, out.join("tearless-agent"))
        .map_err(|e| format!("cannot read {}: {e}", built.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or(format!("Cargo did not set {name}"))
}

fn build(manifest: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--locked", "--profile", PROFILE, "--target", TARGET, "--package", PACKAGE]);
    cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target);
    FOREIGN.iter().for_each(|name| _ = cargo.env_remove(name));
    // The linker comes with Rust, so no C tools for ARM64 are needed.
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
    let output = cargo.output().map_err(|e| format!("cannot start Cargo: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let advice = if messages.contains(TARGET) && messages.contains("may not be installed") {
        format!(
            "\n  because: Rust's standard library for {TARGET} is missing\n  try: rustup target add {TARGET}"
        )
    } else {
        String::new()
    };
    Err(format!("cannot build the guest agent{advice}\n\n{messages}").into())
}
