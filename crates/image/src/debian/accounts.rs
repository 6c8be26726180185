//! Users and groups: Debian's fixed ones, those that packages describe in `sysusers.d`, and the caller's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Access;
use crate::error::Result;
use crate::tree::{Meta, Tree};

/// Debian's fixed group that may read the shadow files.
const SHADOW_GROUP: u32 = 42;
/// systemd hands out system IDs downwards from here, and so do we.
const SYSTEM_MAX: u32 = 999;
const FIRST_USER: u32 = 1000;
const NOBODY: u32 = 65534;

#[derive(Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    description: String,
    home: String,
    shell: String,
    password: String,
}

#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

#[derive(Debug, Default)]
struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// Writes the account files, and the home of the caller's user.
pub(super) fn write(tree: &mut Tree, access: &Access, time: u64) -> Result<()> {
    let mut accounts = Accounts::default();
    accounts.read_masters(
        &tree.read_text("usr/share/base-passwd/passwd.master")?,
        &tree.read_text("usr/share/base-passwd/group.master")?,
    );
    let mut lines = Vec::new();
    for file in tree.list("usr/lib/sysusers.d").iter().filter(|f| f.ends_with(".conf")) {
        lines.push(tree.read_text(&format!("usr/lib/sysusers.d/{file}"))?);
    }
    accounts.add_system(&lines.concat());
    if let Some(root) = accounts.users.iter_mut().find(|u| u.name == "root") {
        root.password = access.password_hash.clone().unwrap_or_else(|| "*".to_owned());
    }
    home(tree, access, "root", "root", (0, 0), time)?;
    if let Some(name) = &access.user {
        accounts.add_user(name, access.password_hash.as_deref());
        home(tree, access, name, &format!("home/{name}"), (FIRST_USER, FIRST_USER), time)?;
        let rule = format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n");
        tree.write("etc/sudoers.d/tearless", rule.as_bytes(), Meta::root(0o440, time))?;
    }
    accounts.write_files(tree, time)
}

/// The home folder with the usual files and the keys.
fn home(
    tree: &mut Tree,
    access: &Access,
    name: &str,
    path: &str,
    (uid, gid): (u32, u32),
    time: u64,
) -> Result<()> {
    let meta = |mode| Meta { mode, uid, gid, mtime: time };
    if name != "root" {
        tree.directory(path, meta(0o700))?;
        for file in tree.list("etc/skel") {
            if let Some(content) = tree.read(&format!("etc/skel/{file}"))? {
                tree.write(&format!("{path}/{file}"), &content, meta(0o644))?;
            }
        }
    }
    if !access.ssh_keys.is_empty() {
        tree.directory(&format!("{path}/.ssh"), meta(0o700))?;
        let keys = access.ssh_keys.join("\n") + "\n";
        tree.write(&format!("{path}/.ssh/authorized_keys"), keys.as_bytes(), meta(0o600))?;
    }
    Ok(())
}

impl Accounts {
    fn read_masters(&mut self, passwd: &str, group: &str) {
        for line in passwd.lines() {
            let [name, _, uid, gid, description, home, shell] = line.split(':').collect::<Vec<_>>()[..]
            else {
                continue;
            };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
            self.users.push(User {
                name: name.into(),
                uid,
                gid,
                description: description.into(),
                home: home.into(),
                shell: shell.into(),
                password: "*".into(),
            });
        }
        for line in group.lines() {
            let [name, _, gid, members] = line.split(':').collect::<Vec<_>>()[..] else { continue };
            let Ok(gid) = gid.parse() else { continue };
            let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            self.groups.push(Group { name: name.into(), gid, members });
        }
    }

    /// Adds what `sysusers.d` files describe (sysusers.d(5)): lines `u`, `g` and `m`; fixed IDs first, as they are not
    /// to be taken by others.
    fn add_system(&mut self, text: &str) {
        let lines: Vec<Vec<String>> = text.lines().map(words).filter(|w| w.len() >= 2).collect();
        let (fixed, floating): (Vec<_>, Vec<_>) = lines
            .iter()
            .partition(|w| w.get(2).is_some_and(|id| id.starts_with(|c: char| c.is_ascii_digit())));
        for line in fixed.into_iter().chain(floating) {
            match line[0].trim_end_matches(['!', '+', '-', '=']) {
                "g" => {
                    let gid = line.get(2).and_then(|id| id.parse().ok());
                    self.group(&line[1], gid);
                }
                "u" => self.system_user(line),
                _ => {}
            }
        }
        for line in lines.iter().filter(|w| w[0] == "m" && w.len() >= 3) {
            let gid = self.group(&line[2], None);
            if let Some(group) = self.groups.iter_mut().find(|g| g.gid == gid)
                && !group.members.contains(&line[1])
            {
                group.members.push(line[1].clone());
            }
        }
    }

    fn system_user(&mut self, line: &[String]) {
        let name = &line[1];
        if self.users.iter().any(|u| u.name == *name) {
            return;
        }
        let field = |n: usize| line.get(n).map(String::as_str).filter(|f| *f != "-");
        let (uid, group) = match field(2).and_then(|id| id.split_once(':')) {
            Some((uid, group)) => (uid.parse().ok(), Some(group.to_owned())),
            None => (field(2).and_then(|id| id.parse().ok()), None),
        };
        let uid = uid.filter(|&uid| !self.is_taken(uid, name)).unwrap_or_else(|| self.free_id(name));
        let gid = match group {
            Some(group) => group.parse().unwrap_or_else(|_| self.group(&group, None)),
            None => self.group(name, Some(uid)),
        };
        self.users.push(User {
            name: name.clone(),
            uid,
            gid,
            description: field(3).unwrap_or_default().to_owned(),
            home: field(4).unwrap_or("/").to_owned(),
            shell: field(5).unwrap_or("/usr/sbin/nologin").to_owned(),
            password: "!*".into(),
        });
    }

    /// The ID of a group, which is made if it is not there.
    fn group(&mut self, name: &str, wanted: Option<u32>) -> u32 {
        if let Some(group) = self.groups.iter().find(|g| g.name == name) {
            return group.gid;
        }
        let gid = wanted
            .filter(|gid| !self.groups.iter().any(|g| g.gid == *gid))
            .unwrap_or_else(|| self.free_id(name));
        self.groups.push(Group { name: name.to_owned(), gid, members: Vec::new() });
        gid
    }

    fn is_taken(&self, id: u32, name: &str) -> bool {
        self.users.iter().any(|u| u.uid == id) || self.groups.iter().any(|g| g.gid == id && g.name != name)
    }

    /// The highest system ID that is free for both; the group of the same name does not count.
    fn free_id(&self, name: &str) -> u32 {
        (1..=SYSTEM_MAX).rev().find(|&id| !self.is_taken(id, name)).unwrap_or(NOBODY)
    }

    fn add_user(&mut self, name: &str, password: Option<&str>) {
        self.groups.push(Group { name: name.into(), gid: FIRST_USER, members: Vec::new() });
        self.users.push(User {
            name: name.into(),
            uid: FIRST_USER,
            gid: FIRST_USER,
            description: String::new(),
            home: format!("/home/{name}"),
            shell: "/bin/bash".into(),
            password: password.unwrap_or("!").to_owned(),
        });
        for group in
            self.groups.iter_mut().filter(|g| ["sudo", "adm", "systemd-journal"].contains(&g.name.as_str()))
        {
            group.members.push(name.to_owned());
        }
    }

    fn write_files(&self, tree: &mut Tree, time: u64) -> Result<()> {
        let days = time / 86400;
        let (mut passwd, mut shadow, mut group, mut gshadow) =
            (String::new(), String::new(), String::new(), String::new());
        for u in &self.users {
            let _ =
                writeln!(passwd, "{}:x:{}:{}:{}:{}:{}", u.name, u.uid, u.gid, u.description, u.home, u.shell);
            let _ = writeln!(shadow, "{}:{}:{days}:0:99999:7:::", u.name, u.password);
        }
        for g in &self.groups {
            let members = g.members.join(",");
            let _ = writeln!(group, "{}:x:{}:{members}", g.name, g.gid);
            let _ = writeln!(gshadow, "{}:*::{members}", g.name);
        }
        let subordinate: BTreeMap<_, _> =
            self.users.iter().filter(|u| u.uid == FIRST_USER).map(|u| (&u.name, 100_000)).collect();
        let subordinate: String =
            subordinate.iter().map(|(name, start)| format!("{name}:{start}:65536\n")).collect();
        let secret = Meta { mode: 0o640, uid: 0, gid: SHADOW_GROUP, mtime: time };
        let public = Meta::root(0o644, time);
        for (file, text, meta) in [
            ("passwd", &passwd, public),
            ("group", &group, public),
            ("subuid", &subordinate, public),
            ("subgid", &subordinate, public),
            ("shadow", &shadow, secret),
            ("gshadow", &gshadow, secret),
        ] {
            tree.write(&format!("etc/{file}"), text.as_bytes(), meta)?;
        }
        Ok(())
    }
}

/// The words of a line, with double quotes; none for a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return Vec::new();
    }
    let mut words = Vec::new();
    for (n, piece) in line.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        accounts.read_masters(
            "root:*:0:0:root:/root:/bin/bash\n_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n",
            "root:*:0:\nshadow:*:42:\nadm:*:4:\nsudo:*:27:\ntaken:*:998:\n",
        );
        accounts
    }

    fn user<'a>(accounts: &'a Accounts, name: &str) -> &'a User {
        accounts.users.iter().find(|u| u.name == name).unwrap()
    }

    #[test]
    fn system_users_get_ids_from_the_top() {
        let mut accounts = accounts();
        accounts.add_system(
            "# comment\nu! messagebus - \"System Message Bus\" /nonexistent\nu sshd 500:65534 \"sshd user\" /run/sshd\n\
             g systemd-journal -\ng input 700\nm sshd adm\nm sshd newgroup\nu root 0 \"Super User\" /root\nu fixed 997\nu net -:adm\n",
        );
        let bus = user(&accounts, "messagebus");
        assert_eq!(
            (bus.uid, bus.gid, bus.description.as_str(), bus.home.as_str()),
            (999, 999, "System Message Bus", "/nonexistent")
        );
        assert_eq!((user(&accounts, "sshd").uid, user(&accounts, "sshd").gid), (500, 65534));
        assert_eq!(user(&accounts, "fixed").uid, 997);
        assert_eq!(user(&accounts, "net").gid, 4);
        let group = |name: &str| accounts.groups.iter().find(|g| g.name == name).unwrap();
        assert_eq!(group("systemd-journal").gid, 996, "998 and 997 are taken");
        assert_eq!(group("input").gid, 700);
        assert_eq!(group("adm").members, ["sshd"]);
        assert_eq!(group("newgroup").members, ["sshd"]);
        assert_eq!(accounts.users.iter().filter(|u| u.name == "root").count(), 1);
        let mut ids: Vec<_> = accounts.users.iter().map(|u| u.uid).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), accounts.users.len());
    }

    #[test]
    fn shadow_files_are_secret() {
        let mut tree = Tree::new(&std::env::temp_dir(), 0).unwrap();
        let mut accounts = accounts();
        accounts.add_user("ann", Some("$6$x$y"));
        accounts.write_files(&mut tree, 86400 * 100).unwrap();
        assert!(tree.read_text("etc/shadow").unwrap().contains("ann:$6$x$y:100:0:99999:7:::\n"));
        assert!(tree.read_text("etc/passwd").unwrap().contains("ann:x:1000:1000::/home/ann:/bin/bash\n"));
        assert!(tree.read_text("etc/group").unwrap().contains("sudo:x:27:ann\n"));
        let secret = tree.nodes().iter().filter(|n| n.meta.gid == SHADOW_GROUP);
        assert!(secret.clone().count() == 2 && secret.clone().all(|n| n.meta.mode == 0o640));
    }
}
