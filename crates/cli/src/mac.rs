//! Virtual Macs: which one a VM is, and why it cannot run where it cannot.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tearless_bundle::{
    Bundle, ExportFormat, Foreign, Guest, Store,
    mac::{MachineIdentifier, Platform},
};
use tearless_config::VmConfig;
use tearless_vm::{engines, network};

use crate::{
    args::{Ecid, ExportArgs, Identity, ImportArgs, Program},
    out::say,
    run,
};

/// What is said instead of doing what only an Apple silicon Mac can do. One line.
pub fn refusal(what: &str) -> String {
    let why = engines::macos_missing().unwrap_or_default();
    format!("cannot {what}: macOS guests need an Apple silicon Mac, for {why}")
}

/// `platform` of what `info --json` prints (docs/json.md).
#[derive(Serialize)]
#[serde(untagged)]
pub enum PlatformInfo {
    Known {
        /// Hexadecimal, after `0x`.
        ecid: String,
        provisioning_uuid: String,
        /// The file `HardwareModel`, in hexadecimal.
        hardware_model: String,
        platform_version: u64,
        minimum_host: String,
    },
    Damaged {
        error: String,
    },
}

impl PlatformInfo {
    pub fn of(bundle: &Bundle) -> Self {
        match bundle.platform() {
            Ok(Platform { identifier, model }) => Self::Known {
                ecid: format!("{:#x}", identifier.ecid()),
                provisioning_uuid: identifier.udid(),
                hardware_model: model.data().iter().map(|byte| format!("{byte:02x}")).collect(),
                platform_version: model.platform(),
                minimum_host: model.minimum_host(),
            },
            Err(error) => Self::Damaged { error: error.to_string() },
        }
    }

    pub fn print(&self) {
        match self {
            Self::Known { ecid, provisioning_uuid, platform_version, minimum_host, .. } => say!(
                "ECID     {ecid}\nUDID     {provisioning_uuid}\nModel    VirtualMac{platform_version},1 (hosts with macOS \
                 {minimum_host} or newer)"
            ),
            Self::Damaged { error } => say!("Model    {error}"),
        }
    }
}

/// `set --ecid`.
pub fn set_ecid(bundle: &Bundle, config: &VmConfig, ecid: Ecid) -> Result<()> {
    let name = bundle.name();
    if !config.boot.is_mac() {
        bail!("cannot give {name} an ECID\n  because: it is no virtual Mac\n  try: a VM that runs macOS");
    }
    let identifier = match ecid {
        Ecid::Random => MachineIdentifier::random()?,
        Ecid::Recover => bundle.recover_identifier()?,
        Ecid::Number(number) => MachineIdentifier::from_ecid(number),
    };
    bundle.set_identifier(&identifier)?;
    say!("{name} is the virtual Mac {} now", identifier.udid());
    if ecid != Ecid::Recover && bundle.recover_identifier().is_ok_and(|old| old.ecid() != identifier.ecid()) {
        say!(
            "its macOS was installed on another and does not start; go back with: tearless set {name} --ecid recover"
        );
    }
    Ok(())
}

/// Says the terms of macOS, the first time.
pub fn show_licence(store: &Store) -> Result<()> {
    if store.show_licence()? {
        eprintln!(
            "note: macOS is Apple's. Its licence (https://www.apple.com/legal/sla) lets you run up to two more copies in virtual \
             machines on each Mac that you own, for development, testing, macOS Server or personal use. This is said once."
        );
    }
    Ok(())
}

/// Says what the identity of a cloned virtual Mac means.
pub fn explain_clone(identity: Identity, original: &str, clone: &str) {
    match identity {
        Identity::Keep => say!(
            "{clone} is the same virtual Mac as {original} (serial number, UUIDs, iCloud): its macOS starts, and only one of \
             the two can run at a time"
        ),
        Identity::New => say!(
            "{clone} is a virtual Mac of its own. Its macOS was installed on {original} and does not start on it: install \
             macOS anew, or go back with: tearless set {clone} --ecid recover"
        ),
    }
}

pub fn import(args: &ImportArgs) -> Result<ExitCode> {
    let store = Store::open()?;
    let foreign = Foreign::inspect(&args.source)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            let whole = args.source.canonicalize().context("cannot find the folder")?;
            whole.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        }
    };
    let bundle = foreign.adopt(&store, &name, |config| run::apply(config, &args.hardware))?;
    foreign.notes.iter().for_each(|note| say!("note: {note}"));
    say!("imported {} from {}; see it with: tearless info {}", bundle.name(), foreign.program, bundle.name());
    if matches!(foreign.guest, Guest::Mac { .. }) && engines::macos_missing().is_some() {
        say!("it is a virtual Mac, and can be kept and cloned here, but run on an Apple silicon Mac only");
    }
    Ok(ExitCode::SUCCESS)
}

pub fn export(args: &ExportArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let format = match args.format {
        Program::Tart => ExportFormat::Tart,
        Program::Apple => ExportFormat::Apple,
        Program::Utm => ExportFormat::Utm,
        Program::Lume => ExportFormat::Lume,
        Program::Vfkit => ExportFormat::Vfkit,
        Program::VirtualBuddy => ExportFormat::VirtualBuddy,
        Program::MacOsVm => ExportFormat::MacOsVm,
        Program::Lima => ExportFormat::Lima,
    };
    let mac = network::derived_mac(bundle.path().as_os_str().as_encoded_bytes());
    let notes = bundle.export(format, &args.to, mac)?;
    notes.iter().for_each(|note| say!("note: {note}"));
    say!("exported {} to {}", bundle.name(), args.to.display());
    Ok(ExitCode::SUCCESS)
}
