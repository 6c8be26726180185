//! Checks the arrows of `ARCHITECTURE.md` against `cargo metadata`: a room may depend on the rooms below it only.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Each room with the rooms that it may depend on.
const ROOMS: &[(&str, &[&str])] = &[
    ("arm64", &[]),
    ("config", &[]),
    ("vz", &["config"]),
    ("sandbox", &[]),
    ("control", &[]),
    ("memory", &[]),
    ("state", &["memory"]),
    ("bus", &["memory"]),
    ("pci", &["bus", "memory", "state"]),
    ("engine", &["arm64", "memory"]),
    ("engine-soft", &["arm64", "engine", "memory"]),
    ("devices", &["arm64", "bus", "memory", "state"]),
    ("storage", &["memory"]),
    ("share", &["state"]),
    ("net", &[]),
    ("display", &[]),
    ("sound", &[]),
    ("virtio", &["bus", "display", "memory", "net", "pci", "share", "sound", "state", "storage"]),
    ("boot", &["memory"]),
    ("efi", &["bus", "display", "memory", "state", "storage"]),
    ("bundle", &["config", "memory", "state", "storage"]),
    ("guest-proto", &[]),
    ("guest-agent", &["guest-proto"]),
    ("guest", &["guest-proto"]),
    ("image", &[]),
    (
        "machine",
        &[
            "arm64", "boot", "bus", "devices", "display", "efi", "engine", "memory", "pci", "state",
            "storage", "virtio",
        ],
    ),
    (
        "vm",
        &[
            "boot",
            "bundle",
            "bus",
            "config",
            "control",
            "display",
            "engine",
            "engine-soft",
            "guest",
            "image",
            "machine",
            "net",
            "share",
            "sandbox",
            "sound",
            "state",
            "storage",
            "virtio",
            "vz",
        ],
    ),
    ("window", &["display"]),
    ("cli", &["boot", "bundle", "bus", "config", "control", "guest", "image", "vm", "window"]),
];

fn main() -> Result<()> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read `cargo metadata`")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|p| room_path(p)) {
        let room = room(&package["name"]);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{room} is not in the table of tools/rooms"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Dev-dependencies draw no arrow: a test may look from further up.
            let name = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"].is_null()
                && name.starts_with("tearless-")
                && !allowed.contains(&room_name(name))
            {
                wrong.push(format!("{room} may not depend on {}", room_name(name)));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    println!("{} rooms, every arrow points down", ROOMS.len());
    Ok(())
}

/// Whether a package is a room rather than a tool.
fn room_path(package: &Value) -> bool {
    package["manifest_path"].as_str().is_some_and(|path| path.contains("/crates/"))
}

fn room(name: &Value) -> String {
    match name.as_str().unwrap_or_default() {
        "tearless" => "cli".to_owned(),
        name => room_name(name).to_owned(),
    }
}

fn room_name(name: &str) -> &str {
    name.strip_prefix("tearless-").unwrap_or(name)
}
