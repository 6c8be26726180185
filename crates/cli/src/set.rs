//! `set`: changes what a VM is made of.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tearless_bundle::Store;
use tearless_config::VmConfig;
use tearless_control::Request;
use tearless_vm::{host, open_shares};

use crate::{args::SetArgs, disks, display, life, mac, out::say, run, share, states, whole};

pub fn set(args: &SetArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    bundle.refuse_suspended("change")?;
    if let Some(size) = args.disk_size {
        states::grow(&bundle, args.disk, size)?;
    }
    let before = bundle.config()?;
    if let Some(ecid) = args.ecid {
        mac::set_ecid(&bundle, &before, ecid)?;
    }
    let mut config = before.clone();
    run::apply(&mut config, &args.hardware);
    if args.hardware.display.vnc_password.is_some() {
        display::password(&config.display)?;
    }
    if let Some(description) = &args.description {
        config.description.clone_from(description);
    }
    for path in &args.remove_disks {
        let count = config.disks.len();
        config.disks.retain(|disk| disk.path != *path);
        if config.disks.len() == count {
            bail!(
                "cannot remove disk {}\n  because: VM {} has none of that name\n  try: `tearless info {} --json` shows \
                 its disks",
                path.display(),
                bundle.name(),
                bundle.name()
            );
        }
    }
    config.disks.extend(disks::parse(&args.disks)?);
    for tag in &args.remove_shares {
        let count = config.shares.len();
        config.shares.retain(|share| share.tag != *tag);
        if config.shares.len() == count {
            bail!(
                "cannot remove shared folder {tag}\n  because: VM {} has none of that tag\n  try: `tearless info {}` shows \
                 its folders",
                bundle.name(),
                bundle.name()
            );
        }
    }
    let shares = share::parse(&args.shares)?;
    // Better now than at the next start.
    open_shares(&shares)?;
    config.shares.extend(shares);
    config.validate(&host::limits()?)?;
    let running = bundle.running().is_some();
    // Said to a running VM each time: what it runs with may be something else than what is written.
    if running && args.hardware.balloon.is_some() {
        life::client(&bundle).call(&Request::Balloon { target: config.balloon.bytes() })?;
    }
    if config == before {
        if args.disk_size.is_none() && args.ecid.is_none() {
            say!("{} is so already", bundle.name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    bundle.save_config(&config)?;
    if args.hardware.cpus.is_some() && config.boot.is_mac() {
        whole::advise_cpus(&config);
    }
    // What takes effect at once, or has none on the machine.
    let now = VmConfig { description: before.description.clone(), balloon: before.balloon, ..config };
    say!(
        "changed {}{}",
        bundle.name(),
        if running && now != before { "; it runs as it was until it is started again" } else { "" }
    );
    Ok(ExitCode::SUCCESS)
}
