//! The answers for Anaconda, the installer of Fedora, CentOS Stream and their kin, as the documentation of pykickstart has them.

use std::fmt::Write as _;

use super::Answers;

/// The label of the volume on which Anaconda looks for `ks.cfg` by itself.
pub const OEMDRV: &str = "OEMDRV";

/// Where it has the new system; its environment for scripts outside of that.
const TARGET: &str = "/mnt/sysroot";

/// What holds for all: the whole disk, with EFI's partition and one file system that is the last, and no questions at the end.
const FIXED: [&str; 9] = [
    "text",
    "reboot",
    "firstboot --disable",
    "rootpw --lock",
    "zerombr",
    "ignoredisk --only-use=vda",
    "clearpart --all --initlabel --disklabel=gpt",
    "autopart --type=plain --fstype=ext4 --noboot --nohome --noswap",
    "bootloader --timeout=1",
];

/// What of the guest gets labels of SELinux again: scripts outside of it write files without.
const LABELLED: &str = "/etc /home /usr/local";

impl Answers {
    /// For Anaconda: `ks.cfg`, on a volume [`OEMDRV`].
    pub fn kickstart(&self) -> String {
        let mut text = String::new();
        let mut say = |line: &str| {
            // A String takes anything.
            let _ = writeln!(text, "{line}");
        };
        FIXED.into_iter().for_each(&mut say);
        say(&format!("lang {}", self.locale));
        say(&format!("keyboard --xlayouts={}", self.keyboard));
        say(&format!("timezone {} --utc", self.timezone));
        say(&format!("network --bootproto=dhcp --device=link --activate --hostname={}", self.hostname));
        let password = match &self.password_hash {
            Some(hash) => format!("--iscrypted --password={hash}"),
            None => "--lock".to_owned(),
        };
        let user = &self.user;
        say(&format!("user --name={user} --gecos={user} --groups=wheel {password}"));
        for key in &self.ssh_keys {
            // It is one word of a shell's.
            say(&format!("sshkey --username={user} \"{}\"", key.replace('\\', r"\\").replace('"', "\\\"")));
        }
        say("%packages");
        for package in
            ["@core", "openssh-server", "sudo"].into_iter().chain(self.packages.iter().map(String::as_str))
        {
            say(package);
        }
        say("%end");
        let volume = "/run/tearless";
        let inside = format!("chroot {TARGET}");
        let fetch =
            format!("mkdir -p {volume} && mount -o ro -L {OEMDRV} {volume}; cp {volume}/{}", self.program);
        let mut steps = self.sudo_steps(TARGET);
        steps.extend(self.last_steps(TARGET, &inside, &fetch));
        steps.push(format!("{inside} restorecon -RF {LABELLED} || true"));
        say("%post --nochroot");
        steps.iter().for_each(|step| say(step));
        say("%end");
        text
    }
}
