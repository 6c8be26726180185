//! Who asks a registry: names and passwords as Docker keeps them, and what a registry wants to see of them.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// The user at whatever registry is asked; for hosts without Docker's file.
pub const USER_VARIABLE: &str = "TEARLESS_REGISTRY_USER";
/// That user's password, or a token that is used like one.
pub const PASSWORD_VARIABLE: &str = "TEARLESS_REGISTRY_PASSWORD";

/// What helpers give as the user when the secret is a token.
const TOKEN_USER: &str = "<token>";
const MAX_FILE: u64 = 1 << 20;

/// A user and what proves it. It has no `Debug`: it must not be logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A token that is exchanged for those that open a repository.
    Identity(String),
}

impl Credentials {
    /// `Authorization` with name and password.
    pub(crate) fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    }

    fn new(user: String, secret: String) -> Self {
        match user.as_str() {
            TOKEN_USER => Self::Identity(secret),
            _ => Self::Password { user, password: secret },
        }
    }

    /// What the environment or Docker's file says about `host`.
    ///
    /// # Errors
    /// They say something that cannot be used.
    pub(crate) fn find(host: &str) -> Result<Option<Self>> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(user), Some(password)) = (set(USER_VARIABLE), set(PASSWORD_VARIABLE)) {
            return Ok(Some(Self::new(user, password)));
        }
        let folder = set("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        match folder {
            Some(folder) => Self::from_file(&folder.join("config.json"), host),
            None => Ok(None),
        }
    }

    fn from_file(path: &Path, host: &str) -> Result<Option<Self>> {
        let fail = |why: &dyn std::fmt::Display| {
            let help = format!(
                "repair the file, or log in again with docker login {host}; or set {USER_VARIABLE} and {PASSWORD_VARIABLE}"
            );
            Error::new(
                Kind::Local,
                format!("cannot use the registry passwords of {}", path.display()),
                why,
                help,
            )
        };
        let text = match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(data) if data.len() > MAX_FILE => return Err(fail(&"it is larger than 1 MiB")),
            _ => fs::read(path).map_err(|e| fail(&e))?,
        };
        let file: DockerConfig = serde_json::from_slice(&text).map_err(|e| fail(&e))?;
        let by_host = |(key, _): &(&String, &Entry)| is_of(key, host);
        let helper = file.cred_helpers.iter().find(|(key, _)| is_of(key, host)).map(|(_, helper)| helper);
        if let Some(helper) = helper.or(file.creds_store.as_ref()).filter(|helper| !helper.is_empty()) {
            let found = ask_helper(helper, host).map_err(|why| fail(&why))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some((_, entry)) = file.auths.iter().find(by_host) else { return Ok(None) };
        entry.credentials().map_err(|why| fail(&why))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Entry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::Identity(self.identity_token.clone())));
        }
        if self.auth.is_empty() {
            let given = !self.username.is_empty();
            return Ok(given.then(|| Credentials::new(self.username.clone(), self.password.clone())));
        }
        let text = BASE64_STANDARD.decode(self.auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
        let text = text.ok_or("its `auth` is no base64 of a text")?;
        let (user, password) = text.split_once(':').ok_or("its `auth` has no colon")?;
        Ok(Some(Credentials::new(user.into(), password.trim_end_matches('\0').into())))
    }
}

/// Whether an entry, which may be an address, is of the registry `host`.
fn is_of(key: &str, host: &str) -> bool {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let key = key.split('/').next().unwrap_or_default();
    key == host || (key == "index.docker.io" && host == "registry-1.docker.io")
}

/// Asks the program `docker-credential-HELPER`.
fn ask_helper(helper: &str, host: &str) -> Result<Option<Credentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if !helper.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("it names an impossible credential helper".into());
    }
    let program = format!("docker-credential-{helper}");
    let fail = |e: io::Error| format!("{program} cannot be asked: {e}");
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(fail)?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read it says why itself.
        let _ = input.write_all(host.as_bytes());
    }
    let output = child.wait_with_output().map_err(fail)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("{program} says: {}", said.trim()));
    }
    let answer: Answer =
        serde_json::from_str(&said).map_err(|e| format!("{program} is not understood: {e}"))?;
    Ok(Some(Credentials::new(answer.username, answer.secret)))
}

/// What a registry asks for with status 401.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token of another service.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads `WWW-Authenticate` (RFC 9110, 11.6.1).
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        let realm = parameters.remove("realm")?;
        Some(Self::Bearer { realm, service: parameters.remove("service"), scope: parameters.remove("scope") })
    }
}

/// `name=value`, `name="value"`, separated by commas, which may stand in quotes.
fn parameters(mut text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        text = rest.trim_start_matches([',', ' ']);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = r#"Bearer realm="https://a.example/token?x=1",service="reg,istry", scope="repository:me/vm:pull,push""#;
        let scope = Some("repository:me/vm:pull,push".to_owned());
        let (realm, service) = ("https://a.example/token?x=1".to_owned(), Some("reg,istry".to_owned()));
        assert_eq!(Challenge::parse(bearer), Some(Challenge::Bearer { realm, service, scope }));
        assert_eq!(Challenge::parse("basic realm=\"x\""), Some(Challenge::Basic));
        for bad in ["", "Negotiate", "Bearer", "Bearer service=x", "Bearer \"=\""] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    fn found(text: &str, host: &str) -> Result<Option<Credentials>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        Credentials::from_file(&path, host)
    }

    #[test]
    fn passwords_come_from_dockers_file() {
        let password = |user: &str, password: &str| {
            Some(Credentials::Password { user: user.into(), password: password.into() })
        };
        let text = r#"{"auths": {"https://ghcr.io/v1/": {"auth": "bWU6c2U6Y3JldA=="}, "h:5000": {"identitytoken": "t"},
            "broken": {"auth": "!"}, "empty": {}}, "other": 1}"#;
        assert!(found(text, "ghcr.io").unwrap() == password("me", "se:cret"));
        assert!(found(text, "h:5000").unwrap() == Some(Credentials::Identity("t".into())));
        assert!(found(text, "h").unwrap().is_none() && found(text, "empty").unwrap().is_none());
        for (text, host) in [(text, "broken"), ("{", "x")] {
            let said = found(text, host).err().unwrap().to_string();
            assert!(said.contains("try:") && !said.contains("secret"), "{said}");
        }
        let none = Credentials::from_file(Path::new("/nonexistent/config.json"), "x");
        assert!(none.unwrap().is_none());
        assert_eq!(Credentials::basic("a", "b"), "Basic YTpi");
    }

    #[test]
    fn a_helper_that_is_missing_or_impossible_is_told() {
        for helper in ["does-not-exist-4711", "../x"] {
            let text = format!(r#"{{"credHelpers": {{"h": "{helper}"}}}}"#);
            assert!(found(&text, "h").is_err(), "{helper}");
            assert!(found(&text, "other").unwrap().is_none());
        }
    }

    /// Only this test needs a program in `PATH`, so it runs itself as a child with another `PATH`.
    #[test]
    fn a_helper_is_asked() {
        const INSIDE: &str = "TEARLESS_TEST_HELPER";
        if env::var_os(INSIDE).is_some() {
            let text = r#"{"credsStore": "test"}"#;
            let is_me = Some(Credentials::Password { user: "me".into(), password: "s".into() });
            assert!(found(text, "known.example").unwrap() == is_me);
            assert!(found(text, "other.example").unwrap().is_none());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let helper = dir.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread host\nif [ \"$host\" = known.example ]; then\necho '{\"Username\":\"me\",\"Secret\":\"s\"}'\nelse\n\
                      echo credentials not found in native keychain; exit 1; fi\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let mut path = dir.path().as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "oci::auth::tests::a_helper_is_asked"]).env(INSIDE, "1").env("PATH", path);
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
