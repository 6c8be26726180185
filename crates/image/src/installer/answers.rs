//! What a user would answer, in the words of each installer.

use std::fmt::Write as _;

use serde_json::json;
use sha_crypt::{PasswordHasher, ShaCrypt};

use super::cloud::CIDATA;
use crate::{
    cache::Cache,
    error::{Error, Kind, Result},
    fetch::Fetcher,
    mirror::Mirror,
    progress::Silent,
};

/// What cloud-init wants to be told beside the answers for an installation.
pub const META_DATA: &str = "instance-id: tearless\n";

/// What a user would answer.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The host's name.
    pub hostname: String,
    /// The user, who may become root.
    pub user: String,
    /// A password of crypt(3); none for a user who logs in by key only, and becomes root without a password.
    pub password_hash: Option<String>,
    /// Public keys: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// `en_US.UTF-8`.
    pub locale: String,
    /// The keyboard's layout, `us`.
    pub keyboard: String,
    /// `Europe/Berlin`.
    pub timezone: String,
    /// Debian's release; the medium's if not said.
    pub suite: Option<String>,
    /// Where Debian's packages come from.
    pub mirror: Mirror,
    /// Whether the security archive is beside it; else it is where Debian has it.
    pub has_security: bool,
    /// Packages beside the base system.
    pub packages: Vec<String>,
    /// The agent's file where the installer finds its answers: a program that is run with the argument `install`.
    pub program: String,
    /// The variable of EFI that says that all is done, as Linux names its file.
    pub done: String,
}

/// The disk of a VM that is installed.
const DISK: &str = "/dev/vda";

impl Answers {
    /// Checks what would be more than a value where it is written to.
    ///
    /// # Errors
    /// [`Kind::Request`], which says what is wrong.
    pub fn check(&self) -> Result<()> {
        check_user(&self.user)?;
        check_hostname(&self.hostname)?;
        let settings = [&self.locale, &self.keyboard, &self.timezone].map(|value| Some(value.as_str()));
        check_settings(settings)?;
        if let Some(suite) = &self.suite {
            check_word("the release", suite, "-", "--suite trixie")?;
        }
        check_packages(&self.packages)?;
        check_keys(&self.ssh_keys)
    }

    /// For Debian's installer: what it finds as `preseed.cfg` in its RAM disk (its manual, appendix B).
    pub fn preseed(&self) -> String {
        let mut text = String::new();
        let mut say = |what: &str| {
            // A String takes anything.
            let _ = writeln!(text, "d-i {what}");
        };
        say(&format!("debian-installer/locale string {}", self.locale));
        say(&format!("keyboard-configuration/xkb-keymap select {}", self.keyboard));
        say("netcfg/choose_interface select auto");
        say(&format!("netcfg/get_hostname string {}", self.hostname));
        say(&format!("netcfg/hostname string {}", self.hostname));
        say("netcfg/get_domain string");
        self.preseed_mirror(&mut say);
        say("passwd/root-login boolean false");
        say(&format!("passwd/user-fullname string {}", self.user));
        say(&format!("passwd/username string {}", self.user));
        say(&format!(
            "passwd/user-password-crypted password {}",
            self.password_hash.as_deref().unwrap_or("!")
        ));
        say("clock-setup/utc boolean true");
        // The VM's clock is the host's.
        say("clock-setup/ntp boolean false");
        say(&format!("time/zone string {}", self.timezone));
        for line in PARTITIONS {
            say(line);
        }
        say(&format!("partman-auto/disk string {DISK}"));
        say("pkgsel/run_tasksel boolean false");
        say(&format!("pkgsel/include string {}", self.all_packages().join(" ")));
        for line in END {
            say(line);
        }
        say(&format!("grub-installer/bootdev string {DISK}"));
        say(&format!(
            "preseed/late_command string {}",
            self.late_command("/target", "in-target", &format!("cp /{}", self.program))
        ));
        text.push_str("popularity-contest popularity-contest/participate boolean false\n");
        text
    }

    fn preseed_mirror(&self, say: &mut impl FnMut(&str)) {
        let base = self.mirror.base();
        let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
        let (host, folder) = rest.split_once('/').unwrap_or((rest, ""));
        // Its questions have the scheme in their names.
        say("mirror/country string manual");
        say(&format!("mirror/protocol string {scheme}"));
        say(&format!("mirror/{scheme}/hostname string {host}"));
        say(&format!("mirror/{scheme}/directory string /{folder}"));
        say(&format!("mirror/{scheme}/proxy string"));
        if let Some(suite) = &self.suite {
            say(&format!("mirror/suite string {suite}"));
        }
        if self.has_security {
            say(&format!("apt-setup/security_host string {host}"));
        }
    }

    fn all_packages(&self) -> Vec<&str> {
        let own = self.packages.iter().map(String::as_str);
        own.chain(["openssh-server"]).collect()
    }

    /// What is left to do when all is installed into the folder `target`; `inside` is what runs a command in there, and
    /// `fetch` copies the agent to the file named behind it.
    fn late_command(&self, target: &str, inside: &str, fetch: &str) -> String {
        let mut steps = self.key_steps(target, inside);
        steps.extend(self.sudo_steps(target));
        steps.extend(self.last_steps(target, inside, fetch));
        steps.join("; ")
    }

    fn key_steps(&self, target: &str, inside: &str) -> Vec<String> {
        let user = &self.user;
        let mut steps = Vec::new();
        if !self.ssh_keys.is_empty() {
            let ssh = format!("{target}/home/{user}/.ssh");
            steps.push(format!("mkdir -p {ssh}"));
            for key in &self.ssh_keys {
                steps.push(format!("echo {} >> {ssh}/authorized_keys", quoted(key)));
            }
            steps.push(format!("chmod 700 {ssh}; chmod 600 {ssh}/authorized_keys"));
            steps.push(format!("{inside} chown -R {user}:{user} /home/{user}/.ssh"));
        }
        steps
    }

    /// Who has no password becomes root without one.
    pub(super) fn sudo_steps(&self, target: &str) -> Vec<String> {
        if self.password_hash.is_some() {
            return Vec::new();
        }
        let rule = format!("{user} ALL=(ALL:ALL) NOPASSWD: ALL", user = self.user);
        let file = format!("{target}/etc/sudoers.d/{}", self.user);
        vec![format!("echo {} > {file}; chmod 440 {file}", quoted(&rule))]
    }

    /// The agent is installed, and EFI's variable says that all is done.
    pub(super) fn last_steps(&self, target: &str, inside: &str, fetch: &str) -> Vec<String> {
        let agent = "/tmp/tearless-agent";
        let variables = "/sys/firmware/efi/efivars";
        vec![
            format!("{fetch} {target}{agent} && {inside} {agent} install; rm -f {target}{agent}"),
            format!("mount -t efivarfs efivarfs {variables} || true"),
            // Attributes: kept, for boot and run time. Then the value.
            format!(r"printf '\007\000\000\000\001' > {variables}/{}", self.done),
        ]
    }

    /// For Ubuntu's installer: `user-data` of cloud-init, on a volume [`CIDATA`](super::CIDATA). JSON is YAML.
    pub fn autoinstall(&self) -> String {
        let volume = "/run/tearless";
        let fetch =
            format!("mkdir -p {volume} && mount -o ro -L {CIDATA} {volume}; cp {volume}/{}", self.program);
        let late = self.late_command("/target", "curtin in-target --", &fetch);
        let answers = json!({ "autoinstall": {
            "version": 1,
            "locale": self.locale,
            "keyboard": { "layout": self.keyboard },
            "timezone": self.timezone,
            "identity": {
                "hostname": self.hostname,
                "realname": self.user,
                "username": self.user,
                "password": self.password_hash.as_deref().unwrap_or("!"),
            },
            "ssh": { "install-server": true, "allow-pw": self.password_hash.is_some(), "authorized-keys": self.ssh_keys },
            "packages": self.packages,
            "storage": { "layout": { "name": "direct", "match": { "path": DISK } } },
            "late-commands": [late],
            "shutdown": "reboot",
        }});
        format!("#cloud-config\n{answers:#}\n")
    }
}

/// Whether Debian's security archive is beside `mirror`: where it is said to be and is not, the installer stops and asks. A mirror
/// that cannot be reached from here may be reached from the guest, so only one that says no has none.
pub fn has_security(mirror: &Mirror) -> bool {
    let (Some(sibling), Ok(cache)) = (mirror.security_sibling(), Cache::open()) else { return false };
    let release = Fetcher::new(sibling, cache, &Silent).small("dists/stable-security/Release", RELEASE);
    !release.is_err_and(|error| error.kind() == Kind::Missing)
}

/// Most bytes of an archive's `Release`.
const RELEASE: u64 = 4 << 20;

/// All of the disk: EFI's partition, and one file system behind it that can grow with the disk. The installer's own recipes end
/// with swap, and want 9 GB.
const PARTITIONS: [&str; 10] = [
    "partman-auto/method string regular",
    "partman-auto/expert_recipe string tearless :: \
     256 256 256 free $iflabel{ gpt } $reusemethod{ } method{ efi } format{ } . \
     1024 2048 -1 ext4 $primary{ } method{ format } format{ } use_filesystem{ } filesystem{ ext4 } mountpoint{ / } .",
    "partman-auto/choose_recipe select tearless",
    "partman-basicfilesystems/no_swap boolean false",
    "partman-efi/non_efi_system boolean true",
    "partman-partitioning/confirm_write_new_label boolean true",
    "partman/choose_partition select finish",
    "partman/confirm boolean true",
    "partman/confirm_nooverwrite boolean true",
    "hw-detect/firmware-lookup string never",
];

/// Besides the boot entry, GRUB is put where EFI looks without one: a VM whose variables are gone still boots.
const END: [&str; 9] = [
    "apt-setup/cdrom/set-first boolean false",
    "apt-setup/disable-cdrom-entries boolean true",
    "apt-setup/enable-source-repositories boolean false",
    "apt-setup/non-free-firmware boolean false",
    "grub-installer/only_debian boolean true",
    "grub-installer/with_other_os boolean true",
    "grub-installer/force-efi-extra-removable boolean true",
    "cdrom-detect/eject boolean false",
    "finish-install/reboot_in_progress note",
];

fn refuse(what: &str, value: &str, help: &str) -> Result<()> {
    Err(Error::new(
        Kind::Request,
        format!("cannot install with {what} {value:?}"),
        "that is not one that the installer takes",
        help,
    ))
}

fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// Refuses what is more than letters, digits and `extra`.
fn check_word(what: &str, value: &str, extra: &str, help: &str) -> Result<()> {
    if is_word(value, extra) { Ok(()) } else { refuse(what, value, help) }
}

pub(super) fn check_user(user: &str) -> Result<()> {
    let first = user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let small = !user.chars().any(|c| c.is_ascii_uppercase());
    if first && small && user != "root" && user.len() <= 32 && is_word(user, "_-") {
        return Ok(());
    }
    refuse("the user", user, "--user with small letters, digits, - and _; not root")
}

pub(super) fn check_hostname(hostname: &str) -> Result<()> {
    let inside = hostname.len() <= 63 && !hostname.starts_with('-') && !hostname.ends_with('-');
    if inside && is_word(hostname, "-") {
        return Ok(());
    }
    refuse("the host name", hostname, "--hostname with letters, digits and -")
}

/// Locale, keyboard and time zone, those that are given.
pub(super) fn check_settings(settings: [Option<&str>; 3]) -> Result<()> {
    let kinds = [
        ("the locale", "_.@-", "--locale en_US.UTF-8"),
        ("the keyboard", "_-", "--keyboard us"),
        ("the time zone", "_/+-", "--timezone Europe/Berlin"),
    ];
    for (value, (what, extra, help)) in settings.into_iter().zip(kinds) {
        if let Some(value) = value {
            check_word(what, value, extra, help)?;
        }
    }
    Ok(())
}

pub(super) fn check_packages(names: &[String]) -> Result<()> {
    names
        .iter()
        .try_for_each(|name| check_word("the package", name, "+-.:~", "--package with the name of one"))
}

pub(super) fn check_keys(keys: &[String]) -> Result<()> {
    match keys.iter().find(|key| key.chars().any(char::is_control)) {
        Some(key) => refuse("the SSH key", key, "--ssh-key with a file of public keys"),
        None => Ok(()),
    }
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Bytes of a salt, which become 16 characters: crypt(3) takes no more, and cuts off the rest, so that no password would fit.
const SALT: usize = 12;

/// What crypt(3) makes of a password, by SHA-512.
///
/// # Errors
/// [`Kind::Request`] for a password that cannot be typed; [`Kind::Local`] when the host has no random numbers.
pub fn hash_password(password: &str) -> Result<String> {
    if password.is_empty() || password.chars().any(char::is_control) {
        return Err(Error::new(
            Kind::Request,
            "cannot install with that password",
            "it is empty, or has characters that nobody can type",
            "write it into the first line of the file",
        ));
    }
    let cannot = |why: String| Error::new(Kind::Local, "cannot hash the password", why, "try again");
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|why| cannot(why.to_string()))?;
    let hash = ShaCrypt::SHA512.hash_password_with_salt(password.as_bytes(), &salt);
    let hash = hash.map_err(|why| cannot(why.to_string()))?;
    Ok(hash.to_string())
}
