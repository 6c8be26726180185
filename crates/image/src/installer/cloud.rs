//! What cloud-init is told, on the volume that its data source NoCloud looks for.

use serde_json::{Value, json};

use super::answers::{check_hostname, check_keys, check_packages, check_settings, check_user};
use crate::error::Result;

/// The label of the volume on which cloud-init looks for what it is told (its data source NoCloud).
pub const CIDATA: &str = "CIDATA";

/// How the system of a cloud image is to be set up when it first runs. What is not said stays as the image has it.
#[derive(Clone, Debug, Default)]
pub struct CloudConfig {
    /// The host's name.
    pub hostname: String,
    /// Who this is: another one makes cloud-init set the system up anew.
    pub instance: String,
    /// A user besides the image's own, who may become root.
    pub user: Option<String>,
    /// A password of crypt(3) of `user`, else of the image's own user.
    pub password_hash: Option<String>,
    /// Public keys that `user` and the image's own user log in by: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// `en_US.UTF-8`.
    pub locale: Option<String>,
    /// The keyboard's layout, `us`.
    pub keyboard: Option<String>,
    /// `Europe/Berlin`.
    pub timezone: Option<String>,
    /// Packages to install.
    pub packages: Vec<String>,
    /// A program on the volume that is run with the argument `install`.
    pub program: String,
}

/// Where the volume is mounted for the program's sake.
const MOUNTED: &str = "/run/tearless/seed";

impl CloudConfig {
    /// Checks what would be more than a value where it is written to.
    ///
    /// # Errors
    /// [`Kind::Request`](crate::Kind::Request), which says what is wrong.
    pub fn check(&self) -> Result<()> {
        self.user.as_deref().map_or(Ok(()), check_user)?;
        check_hostname(&self.hostname)?;
        check_settings([&self.locale, &self.keyboard, &self.timezone].map(|value| value.as_deref()))?;
        check_packages(&self.packages)?;
        check_keys(&self.ssh_keys)
    }

    /// The file `meta-data`. JSON is YAML.
    pub fn meta_data(&self) -> String {
        format!("{:#}\n", json!({ "instance-id": self.instance, "local-hostname": self.hostname }))
    }

    /// The file `user-data`.
    pub fn user_data(&self) -> String {
        let mut all = json!({
            "hostname": self.hostname,
            "users": ["default"],
            "ssh_authorized_keys": self.ssh_keys,
            "runcmd": [["sh", "-c", self.install()]],
        });
        match &self.user {
            Some(user) => {
                let users = json!(["default", self.additional(user)]);
                set(&mut all, "users", users);
            }
            None => {
                if let Some(hash) = &self.password_hash {
                    set(&mut all, "password", json!(hash));
                    set(&mut all, "chpasswd", json!({ "expire": false }));
                }
            }
        }
        for (key, value) in [("locale", &self.locale), ("timezone", &self.timezone)] {
            value.iter().for_each(|value| set(&mut all, key, json!(value)));
        }
        if let Some(layout) = &self.keyboard {
            set(&mut all, "keyboard", json!({ "layout": layout }));
        }
        if !self.packages.is_empty() {
            set(&mut all, "package_update", json!(true));
            set(&mut all, "packages", json!(self.packages));
        }
        format!("#cloud-config\n{all:#}\n")
    }

    fn additional(&self, user: &str) -> Value {
        let asks = if self.password_hash.is_some() { "" } else { "NOPASSWD: " };
        let mut value = json!({
            "name": user,
            "shell": "/bin/bash",
            "sudo": format!("ALL=(ALL:ALL) {asks}ALL"),
            "lock_passwd": self.password_hash.is_none(),
            "ssh_authorized_keys": self.ssh_keys,
        });
        self.password_hash.iter().for_each(|hash| set(&mut value, "passwd", json!(hash)));
        value
    }

    fn install(&self) -> String {
        format!(
            "mkdir -p {MOUNTED} && mount -o ro -L {CIDATA} {MOUNTED} && {{ {MOUNTED}/{} install; umount {MOUNTED}; }}",
            self.program
        )
    }
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CloudConfig {
        CloudConfig {
            hostname: "web".into(),
            instance: "i1".into(),
            program: "agent".into(),
            ..CloudConfig::default()
        }
    }

    fn said(config: &CloudConfig) -> Value {
        let text = config.user_data();
        serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_said_stays_as_the_image_has_it() {
        let said = said(&config());
        let keys: Vec<_> = said.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["hostname", "runcmd", "ssh_authorized_keys", "users"]);
        let run = said["runcmd"][0][2].as_str().unwrap();
        assert!(run.contains("mount -o ro -L CIDATA") && run.contains("/agent install"), "{run}");
        let meta: Value = serde_json::from_str(&config().meta_data()).unwrap();
        assert_eq!(meta, json!({ "instance-id": "i1", "local-hostname": "web" }));
    }

    #[test]
    fn a_password_is_the_users_or_that_of_the_images_own() {
        let mut config = CloudConfig { password_hash: Some("$6$x$y".into()), ..config() };
        assert_eq!(said(&config)["password"], "$6$x$y");
        config.user = Some("ada".into());
        config.ssh_keys = vec!["ssh-ed25519 AAAA \"a\" b".into()];
        let said = said(&config);
        assert!(said.get("password").is_none());
        assert_eq!(said["users"][1]["passwd"], "$6$x$y");
        assert_eq!(said["users"][1]["sudo"], "ALL=(ALL:ALL) ALL");
        assert_eq!(said["users"][1]["ssh_authorized_keys"][0], "ssh-ed25519 AAAA \"a\" b");
    }

    #[test]
    fn what_is_more_than_a_value_is_refused() {
        assert!(config().check().is_ok());
        let bad = [
            CloudConfig { hostname: "a\nb".into(), ..config() },
            CloudConfig { user: Some("root".into()), ..config() },
            CloudConfig { timezone: Some("a b".into()), ..config() },
            CloudConfig { packages: vec!["a;b".into()], ..config() },
            CloudConfig { ssh_keys: vec!["a\nb".into()], ..config() },
        ];
        for config in bad {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
