//! Users and groups, from the files that name them.

use std::{fs, path::PathBuf};

use tearless_guest_proto::FailureKind;

use super::failure::{Outcome, failure};

/// A user as programs of theirs run.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups, the first one included.
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// Finds `user`, a name or a number.
pub fn find(user: &str) -> Outcome<User> {
    // Guests without such files have root all the same.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    find_in(&passwd, &group, user).ok_or_else(|| {
        failure(FailureKind::NotFound, format!("cannot run as {user}"), "the guest has no such user")
    })
}

fn find_in(passwd: &str, group: &str, user: &str) -> Option<User> {
    let number: Option<u32> = user.parse().ok();
    let mut entries = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, uid, gid, _, home, shell, ..] = fields.as_slice() else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (name == user || Some(uid) == number).then(|| User {
            name: name.to_owned(),
            uid,
            gid,
            groups: groups(group, name, gid),
            home: if home.is_empty() { "/" } else { home }.into(),
            shell: if shell.is_empty() { "/bin/sh" } else { shell }.into(),
        })
    });
    entries.next().or_else(|| {
        let uid = if user == "root" { 0 } else { number? };
        Some(User {
            name: user.to_owned(),
            uid,
            gid: uid,
            groups: vec![uid],
            home: "/".into(),
            shell: "/bin/sh".into(),
        })
    })
}

fn groups(group: &str, user: &str, first: u32) -> Vec<u32> {
    let others = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let &[_, _, gid, members] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == user).then(|| gid.parse::<u32>().ok())?
    });
    let mut groups = vec![first];
    groups.extend(others.filter(|gid| *gid != first));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:100:Ann:/home/ann:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:ann\nsudo:x:27:bob,ann\nadm:x:4:annette\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let ann = find_in(PASSWD, GROUP, "ann").unwrap();
        assert_eq!((ann.uid, ann.gid, ann.groups.as_slice()), (1000, 100, &[100, 27][..]));
        assert_eq!((ann.home.to_str(), ann.shell.to_str()), (Some("/home/ann"), Some("/bin/sh")));
        assert_eq!(find_in(PASSWD, GROUP, "1000").unwrap(), ann);
        assert_eq!(find_in(PASSWD, GROUP, "nobody"), None);
        assert_eq!(find_in(PASSWD, GROUP, "broken"), None);
    }

    #[test]
    fn numbers_and_root_need_no_entry() {
        assert_eq!(find_in("", "", "root").unwrap().uid, 0);
        assert_eq!(find_in("", "", "77").unwrap().groups, [77]);
    }
}
