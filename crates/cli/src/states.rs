//! `snapshot`, `clone`, `rename` and `set`: what a VM has been, is called and may become.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use tearless_bundle::{Bundle, RunningDisk, Snapshot, Store, mac::MachineIdentifier};
use tearless_config::{ByteSize, VmConfig};
use tearless_control::{OpenDisk, Request, taking::Taking};

use crate::{
    args::{CloneArgs, Identity, RenameArgs, RestoreArgs, SnapshotArgs, SnapshotCommand, TakeArgs},
    first, life, login, mac,
    out::say,
    suspend::Bar,
};

pub fn snapshot(command: &SnapshotCommand) -> Result<ExitCode> {
    match command {
        SnapshotCommand::Take(args) => take(args)?,
        SnapshotCommand::Restore(args) => restore(args)?,
        SnapshotCommand::Delete(args) => {
            let bundle = Store::open()?.find(&args.name)?;
            let lock = bundle.lock()?;
            bundle.snapshots(&lock).delete(&args.snapshot)?;
        }
        SnapshotCommand::List(args) => list(&args.name, args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn take(TakeArgs { of: SnapshotArgs { name, snapshot }, disk_only }: &TakeArgs) -> Result<()> {
    let bundle = Store::open()?.find(name)?;
    if bundle.running().is_some() {
        say!("{}", take_live(&bundle, snapshot, *disk_only)?);
        return Ok(());
    }
    let lock = bundle.lock()?;
    let memory = bundle.suspended().is_some() && !disk_only;
    bundle.snapshots(&lock).take(snapshot, memory)?;
    say!("took snapshot {snapshot} of {name}{}", if memory { ", with its memory" } else { "" });
    Ok(())
}

/// Takes the snapshot of a VM that runs, and says what it has. Whatever fails, the VM goes on.
pub fn take_live(bundle: &Bundle, snapshot: &str, disk_only: bool) -> Result<String> {
    let name = bundle.name();
    let (mut taking, disks) = Taking::begin(&life::client(bundle), !disk_only)?;
    let running: Vec<_> = disks
        .into_iter()
        .map(|OpenDisk { path, size, read_only }| RunningDisk { path, size, read_only })
        .collect();
    let mut live = bundle.begin_snapshot(snapshot, &running)?;
    for (index, files) in live.layers()? {
        taking.layer(index, &files)?;
    }
    let mut bar = Bar::new(format!("Saving {name}"));
    let frozen = taking.stop(|done, all| bar.show(done, all))?;
    bar.end();
    live.commit()?;
    taking.switch()?;
    let bytes = taking.kept()?;
    live.finish(!disk_only)?;
    Ok(match (disk_only, frozen) {
        (false, _) => format!("took snapshot {snapshot} of {name}, with {} MiB of memory", bytes >> 20),
        (true, true) => format!("took snapshot {snapshot} of the disks of {name}"),
        (true, false) => format!(
            "took snapshot {snapshot} of the disks of {name}, as a power failure would leave them: no agent in its guest \
             could be told"
        ),
    })
}

fn restore(RestoreArgs { of: SnapshotArgs { name, snapshot }, stop }: &RestoreArgs) -> Result<()> {
    let bundle = Store::open()?.find(name)?;
    // Before a VM is ended for nothing.
    bundle.snapshot(snapshot)?;
    if bundle.running().is_some() {
        if !stop {
            bail!(
                "cannot put {name} back to snapshot {snapshot}\n  because: it is running\n  try: tearless stop {name}; or lose what \
                 it is doing: tearless snapshot restore --stop {name} {snapshot}"
            );
        }
        life::client(&bundle).call(&Request::Kill)?;
        life::wait_gone(&bundle)?;
    }
    let lock = bundle.lock()?;
    let restored = bundle.snapshots(&lock).restore(snapshot)?;
    if restored.memory {
        say!(
            "put {name} back to snapshot {snapshot}; it goes on where it was with: tearless resume {name}, or run it"
        );
    } else {
        say!("put {name} back to snapshot {snapshot}");
    }
    Ok(())
}

/// What `snapshot list --json` prints (docs/json.md): an array of these, oldest first.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    /// Seconds since 1970.
    taken: u64,
    parent: Option<&'a str>,
    /// Whether the VM goes on from it where it was, with its memory.
    memory: bool,
    /// Whether the VM has gone on from it.
    current: bool,
}

fn list(vm: &str, json: bool) -> Result<()> {
    let bundle = Store::open()?.find(vm)?;
    let current = bundle.config()?.snapshot;
    let (snapshots, unreadable) = bundle.readable_snapshots()?;
    if json {
        let entries: Vec<_> = snapshots
            .iter()
            .map(|(name, snapshot)| Entry {
                name,
                taken: snapshot.taken,
                parent: snapshot.parent.as_deref(),
                memory: snapshot.memory,
                current: current.as_ref() == Some(name),
            })
            .collect();
        say!("{}", serde_json::to_string_pretty(&entries)?);
    } else if snapshots.is_empty() && unreadable.is_empty() {
        say!("{vm} has no snapshots; `tearless snapshot take {vm} NAME` takes one");
    } else {
        crate::out::print(format_args!("{}", tree(&snapshots, current.as_deref())));
    }
    match unreadable.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") {
        none if none.is_empty() => Ok(()),
        errors => bail!(errors),
    }
}

/// The snapshots, each below the one that it started from; the one that the VM is at is marked.
fn tree(snapshots: &[(String, Snapshot)], current: Option<&str>) -> String {
    let known =
        |parent: &Option<String>| parent.as_ref().is_some_and(|p| snapshots.iter().any(|(n, _)| n == p));
    let mut text = String::new();
    // A stack of what is still to print: no recursion, however deep the tree; no endless loop, however odd the parents.
    let mut rest: Vec<_> =
        snapshots.iter().rev().filter(|(_, s)| !known(&s.parent)).map(|s| (s, 0)).collect();
    let mut printed = 0;
    while let Some(((name, snapshot), depth)) = rest.pop() {
        let mark = if current == Some(name) { "  (the VM is here)" } else { "" };
        let memory = if snapshot.memory { "  with memory" } else { "" };
        text += &format!("{}{name}  {}{memory}{mark}\n", "  ".repeat(depth), time(snapshot.taken));
        printed += 1;
        if printed <= snapshots.len() {
            let children = snapshots.iter().rev().filter(|(_, s)| s.parent.as_ref() == Some(name));
            rest.extend(children.map(|s| (s, depth + 1)));
        }
    }
    text
}

/// The current time as a snapshot's name: `2026-11-22-2105`.
pub fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    time(now).trim_end_matches(" UTC").replace(' ', "-").replace(':', "")
}

/// `2026-11-22 21:05 UTC`.
fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 of the Gregorian calendar, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

pub fn clone(args: &CloneArgs) -> Result<ExitCode> {
    let store = Store::open()?;
    let bundle = store.find(&args.name)?;
    let is_mac = bundle.config()?.boot.is_mac();
    let identity = args.identity.unwrap_or(if is_mac { Identity::Keep } else { Identity::New });
    let renewed = match identity {
        Identity::Keep => None,
        Identity::New => Some((random_id()?, MachineIdentifier::random()?)),
    };
    let user = first::find(&bundle)?;
    let clone = bundle.clone_to(&store, &args.new, renewed.as_ref().map(|(_, mac)| mac), |config| {
        if let Some((id, _)) = &renewed {
            renew(config, id.clone());
        }
    })?;
    if let Some(user) = &user {
        first::keep(user, clone.path())?;
    }
    if is_mac {
        mac::explain_clone(identity, bundle.name(), clone.name());
    }
    say!("cloned {} to {}; start it with: tearless run {}", bundle.name(), clone.name(), clone.name());
    Ok(ExitCode::SUCCESS)
}

/// Makes the VM another machine.
fn renew(config: &mut VmConfig, id: String) {
    // macOS has its own way to be told.
    config.machine_id = Some(id).filter(|_| !config.boot.is_mac());
    // Without one it is derived, and not as the original's was.
    config.network.mac = None;
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| anyhow!("cannot draw a random number: {e}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub fn rename(args: &RenameArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let at_login = login::is_enabled(&bundle);
    let renamed = bundle.clone().rename(&args.new)?;
    if at_login {
        login::disable(&bundle)?;
        login::enable(&renamed)?;
    }
    say!("renamed {} to {}", args.name, renamed.name());
    Ok(ExitCode::SUCCESS)
}

/// Makes disk `number`, counted from 1, as large as `size`.
pub fn grow(bundle: &Bundle, number: usize, size: ByteSize) -> Result<()> {
    let Some(index) = number.checked_sub(1) else {
        bail!(
            "there is no disk 0
  try: --disk 1 for the first"
        );
    };
    if bundle.running().is_some() {
        let path = bundle.disk_file(index)?;
        life::client(bundle).call(&Request::GrowDisk { path, size: size.bytes() })?;
    } else {
        bundle.grow_disk(index, size.bytes())?;
    }
    say!("disk {number} of {} has {size} now", bundle.name());
    if bundle.config()?.boot.is_mac() {
        say!(
            "macOS takes what is new when it is told to: diskutil apfs resizeContainer disk0s2 0, in the guest"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tearless_config::BootConfig;

    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(0), "1970-01-01 00:00 UTC");
        assert_eq!(time(951_782_400 + 3_600 + 60), "2000-02-29 01:01 UTC");
        assert_eq!(time(1_795_381_500), "2026-11-22 21:05 UTC");
    }

    #[test]
    fn trees_are_indented_and_end() {
        let boot = BootConfig::LinuxKernel { kernel: "k".into(), initrd: None, cmdline: String::new() };
        let one = |name: &str, parent: Option<&str>| {
            let config = VmConfig::new(boot.clone());
            let parent = parent.map(str::to_owned);
            (name.to_owned(), Snapshot { version: 1, taken: 0, parent, memory: name == "c", config })
        };
        let list = [
            one("a", None),
            one("b", Some("a")),
            one("c", Some("b")),
            one("d", Some("a")),
            one("e", Some("gone")),
        ];
        let names: Vec<_> =
            tree(&list, Some("d")).lines().map(|l| l.replace("  1970-01-01 00:00 UTC", "")).collect();
        assert_eq!(names, ["a", "  b", "    c  with memory", "  d  (the VM is here)", "e"]);
        assert!(tree(&[one("a", Some("a")), one("b", None)], None).contains('b'));
    }

    #[test]
    fn identities_differ() {
        let (a, b) = (random_id().unwrap(), random_id().unwrap());
        assert!(a != b && a.len() == 32);
    }
}
