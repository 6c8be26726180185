//! Names of images: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Kind};

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: String,
    repository: String,
    version: Version,
}

/// Which of a repository's images it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// The registry, with its port if that was said.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// A name for a VM that comes from there: the last part of the repository's.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// Whether the registry is this host's, so that nobody can listen.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if matches!(self.version, Version::Tag(_)) { ':' } else { '@' };
        write!(f, "{}/{}{sign}{}", self.host, self.repository, self.version)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| {
            Error::new(
                Kind::Request,
                format!("cannot use {text} as the name of an image"),
                why,
                "give REGISTRY/REPOSITORY:TAG, such as ghcr.io/me/my-vm:latest",
            )
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (host, rest) = text.split_once('/').ok_or("it names no registry")?;
    if !(host.contains(['.', ':']) || host == "localhost") {
        return Err("it does not begin with a registry's host name");
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !host.chars().all(is_host) {
        return Err("its host name has characters that none has");
    }
    let (repository, version) = match rest.split_once('@') {
        Some((repository, digest)) => {
            let digest = digest.strip_prefix("sha256:").and_then(Digest::parse);
            (repository, Version::Digest(digest.ok_or("its digest is none of SHA-256")?))
        }
        None => {
            let (repository, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
            let is_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.chars().all(is_tag) {
                return Err("its tag is empty, too long, or has characters that tags have not");
            }
            (repository, Version::Tag(tag.into()))
        }
    };
    let is_part = |part: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        part.chars().all(inside)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if repository.len() > 255 || !repository.split('/').all(is_part) {
        return Err(
            "its repository is not lower-case letters, digits, `-`, `_` and dots, with slashes between",
        );
    }
    Ok(Reference { host: host.into(), repository: repository.into(), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let digest = "a".repeat(64);
        for (text, host, repository, version) in [
            ("ghcr.io/me/vm:1.0", "ghcr.io", "me/vm", "1.0"),
            ("localhost/x", "localhost", "x", "latest"),
            ("127.0.0.1:5000/a_b/c-d.e:T_1", "127.0.0.1:5000", "a_b/c-d.e", "T_1"),
            (&format!("[::1]:5000/x@sha256:{digest}"), "[::1]:5000", "x", &format!("sha256:{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.host(), reference.repository()), (host, repository), "{text}");
            assert_eq!(reference.version().to_string(), version);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
        for bad in [
            "",
            "vm",
            "me/vm",
            "ghcr.io/",
            "ghcr.io/Vm",
            "ghcr.io/a//b",
            "ghcr.io/a:",
            "ghcr.io/../x",
            "ghcr.io/a@sha256:12",
            "ghcr.io/a@md5:12",
            "gh cr.io/a",
            "user@ghcr.io/a",
            "ghcr.io/a:-x",
            "ghcr.io/a?b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_told() {
        for (host, is) in
            [("localhost:5000", true), ("127.0.0.2", false), ("[::1]:80", true), ("127.1.example.com", false)]
        {
            let reference: Reference = format!("{host}/x").parse().unwrap();
            assert_eq!(reference.is_loopback(), is || host == "127.0.0.2", "{host}");
        }
    }
}
