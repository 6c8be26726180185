//! `--firmware`: firmware of another's making in Tearless' place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tearless_config::{FirmwareConfig, VmConfig};
use tearless_vm::{Firmware, MAX_FIRMWARE, efi::Identity};

use crate::{args::FirmwareArgs, disks, store};

/// The names of a bundle's own files.
const CODE: &str = "Firmware.fd";
const VARIABLES: &str = "NVRAM.fd";

/// What the command line says goes over what the configuration says. Variables stay where they were.
pub fn apply(config: &mut VmConfig, args: &FirmwareArgs) -> Result<()> {
    let absolute =
        |path: &PathBuf| std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()));
    if let Some(code) = &args.firmware {
        let variables = config.firmware.take().and_then(|firmware| firmware.variables);
        config.firmware = Some(FirmwareConfig { code: absolute(code)?, variables });
    }
    match (&mut config.firmware, &args.firmware_vars) {
        (Some(firmware), Some(path)) => firmware.variables = Some(absolute(path)?),
        (None, Some(_)) => bail!(
            "cannot use --firmware-vars\n  because: there is no firmware that keeps them; Tearless' own EFI has a file of its \
             own\n  try: --firmware FILE too"
        ),
        (_, None) => {}
    }
    Ok(())
}

/// Opens the firmware of `config`, of the VM in the folder `bundle`.
pub fn open(firmware: &FirmwareConfig, config: &VmConfig, bundle: Option<&Path>) -> Result<Firmware> {
    let place = |path: &Path| bundle.map_or_else(|| path.to_owned(), |bundle| bundle.join(path));
    let variables = match (&firmware.variables, bundle) {
        (Some(path), _) => Some(place(path)),
        (None, bundle) => bundle.map(|bundle| bundle.join(VARIABLES)),
    };
    let uuid = bundle.map_or([0; 16], |folder| store::uuid(config, folder));
    let identity = Identity { uuid, strings: Vec::new() };
    Ok(Firmware::open(&place(&firmware.code), variables.as_deref(), identity)?)
}

/// What the configuration of a new VM says of its firmware.
pub fn describe(args: &FirmwareArgs) -> Result<Option<FirmwareConfig>> {
    if args.firmware.is_none() {
        // It says what is wrong with variables alone.
        apply(&mut VmConfig::new(tearless_config::BootConfig::efi(PathBuf::new())), args)?;
        return Ok(None);
    }
    Ok(Some(FirmwareConfig { code: CODE.into(), variables: Some(VARIABLES.into()) }))
}

/// Copies the firmware, and its variables if there are any, into the `folder` of a new VM.
pub fn copy(folder: &Path, args: &FirmwareArgs) -> Result<()> {
    let files = [(&args.firmware, CODE), (&args.firmware_vars, VARIABLES)];
    for (path, name) in files.into_iter().filter_map(|(path, name)| Some((path.as_ref()?, name))) {
        let len = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        if len > MAX_FIRMWARE {
            bail!(
                "cannot use {} as firmware\n  because: it is larger than {} MiB, the board's flash\n  try: EDK2's \
                 QEMU_EFI.fd or AAVMF_CODE.fd",
                path.display(),
                MAX_FIRMWARE >> 20
            );
        }
        disks::import(path, &folder.join(name), 0)?;
    }
    if args.firmware.is_some() {
        // Better now than at the first run.
        Firmware::open(&folder.join(CODE), Some(&folder.join(VARIABLES)), Identity::default())?;
    }
    Ok(())
}
