//! systemd units: what is enabled, what is masked. Done by the host, because in the guest each of these is a run of perl.

use crate::error::Result;
use crate::tree::Tree;

const ETC: &str = "etc/systemd/system";
const LIB: &str = "usr/lib/systemd/system";

/// Enabled by their packages' scripts or by us.
const ENABLED: [&str; 5] = [
    "systemd-networkd.service",
    "systemd-resolved.service",
    "ssh.service",
    "fstrim.timer",
    "remote-fs.target",
];

/// Off, with `systemctl unmask` to turn one on. Timed package work would take minutes of a software CPU at moments nobody
/// chose; the wait for a network would fail a machine that has none; the first-boot questions are answered already.
const MASKED: [&str; 9] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-networkd-wait-online.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-pcrphase.service",
];

/// Writes the links.
pub(super) fn write(tree: &mut Tree, time: u64) -> Result<()> {
    for unit in ENABLED {
        enable(tree, unit, time)?;
    }
    for unit in MASKED.iter().filter(|unit| tree.exists(&format!("{LIB}/{unit}"))).collect::<Vec<_>>() {
        tree.symlink(&format!("{ETC}/{unit}"), "/dev/null", time)?;
    }
    Ok(())
}

/// What `systemctl enable` does with a unit's `[Install]` section; nothing when there is no such unit.
fn enable(tree: &mut Tree, unit: &str, time: u64) -> Result<()> {
    let mut waiting = vec![unit.to_owned()];
    let mut done = Vec::new();
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
                match key.trim() {
                    "WantedBy" => {
                        tree.symlink(&format!("{ETC}/{name}.wants/{unit}"), &format!("/{target}"), time)?
                    }
                    "RequiredBy" => {
                        tree.symlink(&format!("{ETC}/{name}.requires/{unit}"), &format!("/{target}"), time)?
                    }
                    "Alias" if name != unit => {
                        tree.symlink(&format!("{ETC}/{name}"), &format!("/{target}"), time)?
                    }
                    "Also" => waiting.push(name.to_owned()),
                    _ => {}
                }
            }
        }
        done.push(unit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    #[test]
    fn enabling_follows_the_install_section() {
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
        enable(&mut tree, "a.service", 0).unwrap();
        enable(&mut tree, "absent.service", 0).unwrap();
        let at = |tree: &Tree, path: &str| tree.link_target(&format!("{ETC}/{path}")).map(str::to_owned);
        assert_eq!(
            at(&tree, "multi-user.target.wants/a.service").unwrap(),
            "/usr/lib/systemd/system/a.service"
        );
        assert!(at(&tree, "other.target.wants/a.service").is_some() && at(&tree, "b.service").is_some());
        assert!(at(&tree, "sockets.target.requires/a.socket").is_some());
        assert!(at(&tree, "no.target.wants/a.socket").is_none());
        write(&mut tree, 0).unwrap();
        assert_eq!(at(&tree, "apt-daily.timer").unwrap(), "/dev/null");
        assert_eq!(at(&tree, "dpkg-db-backup.timer"), None, "what is not installed is not masked");
    }
}
