//! systemd units: what is enabled, what is masked. Done by the host, because in the guest each of these is a run of perl.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::tree::{Meta, Tree};

const ETC: &str = "etc/systemd/system";
const LIB: &str = "usr/lib/systemd/system";
/// Where deb-systemd-helper remembers what it enabled, to respect later what the administrator disabled.
const STATE: &str = "var/lib/systemd/deb-systemd-helper-enabled";

/// Not enabled by Debian's packages, but the way to a network here.
const OURS: [&str; 1] = ["systemd-networkd.service"];

/// Off, with `systemctl unmask` to turn one on. Timed package work would take minutes of a software CPU at moments nobody
/// chose; the wait for a network would fail a machine that has none; the first-boot questions are answered already; the
/// hardware database describes devices that no virtual machine has.
const MASKED: [&str; 8] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-networkd-wait-online.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
];

/// Writes the links. `packaged` are the units that the packages' scripts would enable.
pub(super) fn write(tree: &mut Tree, packaged: &BTreeSet<String>, time: u64) -> Result<()> {
    for unit in packaged {
        let links = enable(tree, unit, time)?;
        let list: String = links.iter().map(|link| format!("/{ETC}/{link}\n")).collect();
        tree.write(&format!("{STATE}/{unit}.dsh-also"), list.as_bytes(), Meta::root(0o644, time))?;
        for link in links {
            tree.write(&format!("{STATE}/{link}"), b"", Meta::root(0o644, time))?;
        }
    }
    for unit in OURS {
        enable(tree, unit, time)?;
    }
    for unit in MASKED {
        if tree.exists(&format!("{LIB}/{unit}")) {
            tree.symlink(&format!("{ETC}/{unit}"), "/dev/null", time)?;
        }
    }
    Ok(())
}

/// The units that a `postinst` made by debhelper enables on a new system. Those that it enables only if they were there
/// before are not among them.
pub(super) fn enabled_by(postinst: &str) -> BTreeSet<String> {
    let after = |command: &'static str| {
        postinst
            .match_indices(command)
            .filter_map(move |(at, _)| postinst[at + command.len()..].split('\'').next())
    };
    let upgraded: BTreeSet<&str> = after("deb-systemd-helper debian-installed '").collect();
    let enabled = after("deb-systemd-helper enable '").filter(|unit| !upgraded.contains(unit));
    enabled.filter(|unit| !unit.contains('/')).map(str::to_owned).collect()
}

/// What `systemctl enable` does with a unit's `[Install]` section and those it names with `Also`; returns the links,
/// relative to the folder of the administrator's units. Nothing when there is no such unit.
fn enable(tree: &mut Tree, unit: &str, time: u64) -> Result<Vec<String>> {
    let mut waiting = vec![unit.to_owned()];
    let (mut done, mut links) = (Vec::new(), Vec::new());
    while let Some(unit) = waiting.pop() {
        let target = format!("{LIB}/{unit}");
        if done.contains(&unit) || !tree.exists(&target) {
            continue;
        }
        let text = tree.read_text(&target)?;
        let install =
            text.split_once("[Install]").map_or("", |(_, rest)| rest.split("\n[").next().unwrap_or_default());
        for (key, value) in install.lines().filter_map(|line| line.trim().split_once('=')) {
            for name in value.split_whitespace() {
                let link = match key.trim() {
                    "WantedBy" => format!("{name}.wants/{unit}"),
                    "RequiredBy" => format!("{name}.requires/{unit}"),
                    "Alias" if name != unit => name.to_owned(),
                    "Also" => {
                        waiting.push(name.to_owned());
                        continue;
                    }
                    _ => continue,
                };
                tree.symlink(&format!("{ETC}/{link}"), &format!("/{target}"), time)?;
                links.push(link);
            }
        }
        done.push(unit);
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(&std::env::temp_dir(), 0).unwrap();
        let mut unit = |name: &str, text: &str| {
            tree.write(&format!("{LIB}/{name}"), text.as_bytes(), Meta::root(0o644, 0)).unwrap();
        };
        unit(
            "a.service",
            "[Unit]\nWants=x\n[Install]\nWantedBy=multi-user.target other.target\nAlias=b.service\nAlso=a.socket\n",
        );
        unit("a.socket", "[Install]\nRequiredBy=sockets.target\nAlso=a.service\n[X]\nWantedBy=no.target\n");
        unit("apt-daily.timer", "");
        tree
    }

    #[test]
    fn enabling_follows_the_install_section() {
        let mut tree = tree();
        write(&mut tree, &BTreeSet::from(["a.service".to_owned(), "absent.service".to_owned()]), 0).unwrap();
        let at = |path: &str| tree.link_target(&format!("{ETC}/{path}"));
        assert_eq!(at("multi-user.target.wants/a.service").unwrap(), "/usr/lib/systemd/system/a.service");
        assert!(at("other.target.wants/a.service").is_some() && at("b.service").is_some());
        assert!(at("sockets.target.requires/a.socket").is_some());
        assert!(at("no.target.wants/a.socket").is_none());
        assert_eq!(at("apt-daily.timer").unwrap(), "/dev/null");
        assert_eq!(at("dpkg-db-backup.timer"), None, "what is not installed is not masked");
        assert!(tree.exists(&format!("{STATE}/multi-user.target.wants/a.service")));
        let also = tree.read_text(&format!("{STATE}/a.service.dsh-also")).unwrap();
        assert!(also.contains("/etc/systemd/system/sockets.target.requires/a.socket\n"), "{also}");
    }

    #[test]
    fn scripts_say_what_they_enable() {
        let script = "if deb-systemd-helper --quiet was-enabled 'a.service'; then\n\tdeb-systemd-helper enable 'a.service' >/dev/null\n\
            if deb-systemd-helper debian-installed 'a.socket'; then\n\tdeb-systemd-helper enable 'a.socket'\n\
            deb-systemd-helper update-state 'c.timer'\ndeb-systemd-helper enable '../x'\n";
        assert_eq!(enabled_by(script), BTreeSet::from(["a.service".to_owned()]));
    }
}
