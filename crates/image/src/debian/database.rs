//! dpkg's database (dpkg(1), `lib/dpkg` of its source): who owns which file, what is unpacked, who waits for triggers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

use md5::{Digest as _, Md5};

use super::units;
use crate::compression;
use crate::deb::{self, Part};
use crate::deb822;
use crate::error::{Error, Result};
use crate::packages::ARCHITECTURE;
use crate::tree::{Meta, Tree};

const ADMIN: &str = "var/lib/dpkg";
/// No maintainer script or list is near this.
const CONTROL_LIMIT: u64 = 32 << 20;

/// Packages whose `preinst` looks for remains of older versions on an upgrade and does nothing on a new system. Those of
/// other packages run at the first boot.
const IDLE_PREINST: [&str; 21] = [
    "adduser",
    "apt",
    "base-files",
    "base-passwd",
    "dash",
    "dbus",
    "debian-archive-keyring",
    "e2fsprogs",
    "gzip",
    "iproute2",
    "kmod",
    "less",
    "libc6",
    "libpam-modules",
    "libtirpc3t64",
    "login",
    "openssh-client",
    "openssh-server",
    "procps",
    "systemd",
    "udev",
];

/// Packages whose `postinst` the host stands in for, with what their modules here write.
const DONE_BY_HOST: [&str; 1] = ["ca-certificates"];

/// The database in the making.
#[derive(Default)]
pub(super) struct Database {
    packages: BTreeMap<String, Unpacked>,
}

struct Unpacked {
    /// The fields of its control file.
    control: String,
    /// Name of its files in `info`.
    info: String,
    /// What it brought into `info`.
    scripts: BTreeSet<String>,
    /// Configuration files with their MD5 digests, as dpkg notes them.
    conffiles: String,
    triggers: String,
    postinst: String,
    /// Names and defaults of the questions it may ask.
    questions: Vec<(String, String)>,
}

impl Database {
    /// Unpacks a package file into the tree.
    pub(super) fn unpack(&mut self, tree: &mut Tree, file: &Path) -> Result<()> {
        let mut control = BTreeMap::new();
        let mut list = String::new();
        deb::read(file, &mut |part, entry, content: &mut dyn Read| {
            if part == Part::Control {
                if !entry.path.is_empty() && !entry.path.contains('/') {
                    let bytes = compression::read_all(&entry.path, content, CONTROL_LIMIT)?;
                    control.insert(entry.path.clone(), (bytes, entry.mode));
                }
                return Ok(());
            }
            // dpkg writes the root folder as "/.".
            let _ = writeln!(list, "/{}", if entry.path.is_empty() { "." } else { &entry.path });
            if entry.path.is_empty() { Ok(()) } else { tree.add(entry, content) }
        })?;
        let text = |name: &str| {
            control.get(name).map(|(b, _)| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
        };
        let fields = text("control");
        let head = deb822::paragraphs(&fields).next().unwrap_or_default();
        let name = head.get("Package").unwrap_or_default().to_owned();
        if name.is_empty() || name.contains('/') {
            return Err(Error::format(
                format!("cannot use {}", file.display()),
                "its control file names no package",
            ));
        }
        let same = head.get("Multi-Arch") == Some("same");
        let info = if same { format!("{name}:{ARCHITECTURE}") } else { name.clone() };
        let conffiles = digest_conffiles(tree, &text("conffiles"))?;
        let time = 0;
        tree.write(&format!("{ADMIN}/info/{info}.list"), list.as_bytes(), Meta::root(0o644, time))?;
        for (member, (bytes, mode)) in control.iter().filter(|(member, _)| *member != "control") {
            tree.write(&format!("{ADMIN}/info/{info}.{member}"), bytes, Meta::root(mode & 0o777, time))?;
        }
        let unpacked = Unpacked {
            info,
            conffiles,
            triggers: text("triggers"),
            postinst: text("postinst"),
            questions: questions(&text("templates")),
            scripts: control.into_keys().collect(),
            control: fields,
        };
        self.packages.insert(name, unpacked);
        Ok(())
    }

    /// Writes what concerns all packages. `wanted` are those that are not there merely because others need them.
    pub(super) fn write(&self, tree: &mut Tree, wanted: &[&str], time: u64) -> Result<()> {
        let meta = Meta::root(0o644, time);
        let mut status = String::new();
        for (name, package) in &self.packages {
            status += &package.stanza(name);
            status.push('\n');
        }
        for folder in ["alternatives", "info", "parts", "triggers", "updates"] {
            tree.directory(&format!("{ADMIN}/{folder}"), Meta::root(0o755, time))?;
        }
        tree.write(&format!("{ADMIN}/status"), status.as_bytes(), meta)?;
        for empty in ["available", "statoverride", "triggers/Unincorp"] {
            tree.write(&format!("{ADMIN}/{empty}"), b"", meta)?;
        }
        let diversions = diversions(tree)?;
        tree.write(&format!("{ADMIN}/diversions"), diversions.as_bytes(), meta)?;
        tree.write(&format!("{ADMIN}/info/format"), b"1\n", meta)?;
        tree.write(&format!("{ADMIN}/arch-native"), format!("{ARCHITECTURE}\n").as_bytes(), meta)?;
        self.write_triggers(tree, meta)?;
        self.write_automatic(tree, wanted, meta)?;
        let count = self.packages.iter().filter(|(name, p)| p.needs_configuring(name)).count();
        tree.write("usr/lib/tearless/count", format!("{count}\n").as_bytes(), meta)?;
        let preinst = self
            .packages
            .iter()
            .filter(|(n, p)| p.scripts.contains("preinst") && !IDLE_PREINST.contains(&n.as_str()));
        let preinst: String = preinst.map(|(_, p)| format!("{}\n", p.info)).collect();
        tree.write("usr/lib/tearless/preinst", preinst.as_bytes(), meta)?;
        for (question, default) in self.packages.values().flat_map(|p| &p.questions) {
            tree.write(
                &format!("usr/lib/tearless/answers/{question}"),
                format!("{default}\n").as_bytes(),
                meta,
            )?;
        }
        Ok(())
    }

    /// The units that the packages' scripts would enable.
    pub(super) fn enabled_units(&self) -> BTreeSet<String> {
        self.packages.values().flat_map(|p| units::enabled_by(&p.postinst)).collect()
    }

    /// Who is interested in which trigger (deb-triggers(5)): paths in `File`, names in a file each.
    fn write_triggers(&self, tree: &mut Tree, meta: Meta) -> Result<()> {
        let mut files = String::new();
        let mut named: BTreeMap<&str, String> = BTreeMap::new();
        for package in self.packages.values() {
            for line in package.triggers.lines() {
                let mut words = line.split_whitespace();
                let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
                let suffix = match directive {
                    "interest" | "interest-await" => "",
                    "interest-noawait" => "/noawait",
                    _ => continue,
                };
                if trigger.starts_with('/') {
                    let _ = writeln!(files, "{trigger} {}{suffix}", package.info);
                } else if !trigger.contains('/') {
                    let _ = writeln!(named.entry(trigger).or_default(), "{}{suffix}", package.info);
                }
            }
        }
        tree.write(&format!("{ADMIN}/triggers/File"), files.as_bytes(), meta)?;
        named.iter().try_for_each(|(trigger, list)| {
            tree.write(&format!("{ADMIN}/triggers/{trigger}"), list.as_bytes(), meta)
        })
    }

    /// apt removes what it knows to be automatic when nothing needs it any more.
    fn write_automatic(&self, tree: &mut Tree, wanted: &[&str], meta: Meta) -> Result<()> {
        let automatic = self.packages.iter().filter(|(name, package)| {
            let head = deb822::paragraphs(&package.control).next().unwrap_or_default();
            !wanted.contains(&name.as_str())
                && head.get("Essential") != Some("yes")
                && head.get("Priority") != Some("required")
        });
        let text: String = automatic
            .map(|(name, _)| format!("Package: {name}\nArchitecture: {ARCHITECTURE}\nAuto-Installed: 1\n\n"))
            .collect();
        tree.write("var/lib/apt/extended_states", text.as_bytes(), meta)
    }
}

/// base-files keeps these names free for the links of other architectures; its `preinst` would do it.
fn diversions(tree: &mut Tree) -> Result<String> {
    let script = tree.read_text(&format!("{ADMIN}/info/base-files.preinst"))?;
    let names = ["lib32", "lib64", "libo32", "libx32"];
    let wanted = names.iter().filter(|_| script.contains("usr-is-merged\" \"/$d"));
    Ok(wanted.map(|d| format!("/{d}\n/.{d}.usr-is-merged\nbase-files\n")).collect())
}

impl Unpacked {
    fn needs_configuring(&self, name: &str) -> bool {
        self.scripts.contains("postinst") && !DONE_BY_HOST.contains(&name)
    }

    fn stanza(&self, name: &str) -> String {
        let state = if self.needs_configuring(name) { "unpacked" } else { "installed" };
        let mut text = format!("Package: {name}\nStatus: install ok {state}\n");
        let head = deb822::paragraphs(&self.control).next().unwrap_or_default();
        for (field, value) in head.fields().iter().filter(|(f, _)| !f.eq_ignore_ascii_case("Package")) {
            let _ = writeln!(text, "{field}: {}", value.trim());
        }
        if !self.conffiles.is_empty() {
            let _ = write!(text, "Conffiles:\n{}", self.conffiles);
        }
        text
    }
}

/// The questions of a `templates` file (debconf-devel(7)) that are no mere texts.
fn questions(templates: &str) -> Vec<(String, String)> {
    let template = |p: deb822::Paragraph| {
        let name = p
            .get("Template")
            .filter(|n| n.split('/').all(|part| !part.is_empty() && part != ".." && part != "."))?;
        let asks = !matches!(p.get("Type"), Some("note" | "error" | "title" | "text"));
        asks.then(|| (name.to_owned(), p.get("Default").unwrap_or_default().replace('\n', " ")))
    };
    deb822::paragraphs(templates).filter_map(template).collect()
}

/// dpkg keeps the digest of each configuration file as it was delivered, to know later whether the user changed it.
fn digest_conffiles(tree: &mut Tree, conffiles: &str) -> Result<String> {
    let mut out = String::new();
    for path in conffiles.lines().map(str::trim).filter(|p| p.starts_with('/')) {
        let Some(bytes) = tree.read(&path[1..])? else { continue };
        let _ = write!(out, " {path} ");
        for byte in Md5::digest(&bytes) {
            let _ = write!(out, "{byte:02x}");
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
