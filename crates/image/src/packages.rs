//! The package index of a suite: `Packages`, parsed into what extraction and dependency resolution need.

use std::collections::HashMap;
use std::io::Read;

use crate::compression;
use crate::deb822::{self, Paragraph};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::fetch::{Fetcher, Remote};
use crate::mirror::Mirror;
use crate::release::{Keyring, Release};
use crate::version::{self, Relation};

/// The architecture of every guest.
pub const ARCHITECTURE: &str = "arm64";
/// A release file is 140 KB today.
const RELEASE_LIMIT: u64 = 8 << 20;
/// The index of all of Debian's main section is 64 MB today.
const INDEX_LIMIT: u64 = 1 << 30;
/// No package in Debian is near this.
const PACKAGE_LIMIT: u64 = 4 << 30;

/// How old the cached release file may get before the mirror is asked again.
const FRESH_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A package of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `required`, `important`, `standard`, `optional`, `extra`.
    pub priority: String,
    /// Whether dpkg refuses to live without it.
    pub essential: bool,
    /// Pre-Depends and Depends, each a list of alternatives.
    pub depends: Vec<Vec<Dependency>>,
    /// The part of `depends` that is Pre-Depends, from the start.
    pub pre_depends: usize,
    /// Virtual packages it provides, with versions where it says them.
    pub provides: Vec<(String, Option<String>)>,
    /// What it cannot be installed together with (Conflicts and Breaks).
    pub conflicts: Vec<Dependency>,
    /// Where the archive has it.
    pub remote: Remote,
    /// Size on disk in bytes, as the maintainer's tools estimated.
    pub installed_size: u64,
}

/// One alternative of a dependency: a name and perhaps a version relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Package or virtual package.
    pub name: String,
    /// The versions that do.
    pub version: Option<(Relation, String)>,
}

/// All packages of one or more suites.
#[derive(Debug, Default)]
pub struct Index {
    packages: Vec<Package>,
    by_name: HashMap<String, Vec<usize>>,
    providers: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Parses the text of a `Packages` file and adds its packages, which lie on `mirror`. Incomplete entries are skipped.
    pub fn add(&mut self, text: &str, mirror: &Mirror) {
        self.add_of(ARCHITECTURE, text, mirror);
    }

    /// [`Self::add`] for another architecture than the guests'.
    pub fn add_of(&mut self, architecture: &str, text: &str, mirror: &Mirror) {
        for paragraph in deb822::paragraphs(text) {
            if let Some(package) = Package::parse(&paragraph, architecture, mirror) {
                let id = self.packages.len();
                self.by_name.entry(package.name.clone()).or_default().push(id);
                for (name, _) in &package.provides {
                    self.providers.entry(name.clone()).or_default().push(id);
                }
                self.packages.push(package);
            }
        }
    }

    /// The newest version of a package.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.versions(name).max_by(|a, b| version::compare(&a.version, &b.version))
    }

    /// The newest version of a package, or an error that names it.
    ///
    /// # Errors
    /// [`Kind::Request`] when the archive has no such package.
    pub fn require(&self, name: &str) -> Result<&Package> {
        self.get(name).ok_or_else(|| {
            Error::new(
                Kind::Request,
                format!("there is no package {name}"),
                format!("the suite has no such package for {ARCHITECTURE}"),
                "check the name, or choose another suite",
            )
        })
    }

    /// Every version of a package.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.ids(&self.by_name, name)
    }

    /// Every package that provides the virtual package `name`.
    pub fn providers(&self, name: &str) -> impl Iterator<Item = &Package> {
        self.ids(&self.providers, name)
    }

    /// All packages.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter()
    }

    fn ids<'a>(
        &'a self,
        map: &'a HashMap<String, Vec<usize>>,
        name: &str,
    ) -> impl Iterator<Item = &'a Package> {
        map.get(name).into_iter().flatten().filter_map(|&id| self.packages.get(id))
    }
}

impl Package {
    fn parse(p: &Paragraph, architecture: &str, mirror: &Mirror) -> Option<Self> {
        if ![architecture, "all"].contains(&p.get("Architecture")?) {
            return None;
        }
        let url = mirror.url(p.get("Filename")?);
        let size = p.get("Size")?.parse().ok().filter(|&s| s <= PACKAGE_LIMIT)?;
        let mut depends = parse_dependencies(p.get("Pre-Depends").unwrap_or_default());
        let pre_depends = depends.len();
        depends.extend(parse_dependencies(p.get("Depends").unwrap_or_default()));
        let conflicts = ["Conflicts", "Breaks"]
            .iter()
            .flat_map(|field| parse_dependencies(p.get(field).unwrap_or_default()).into_iter().flatten());
        let provides = parse_dependencies(p.get("Provides").unwrap_or_default());
        Some(Self {
            name: p.get("Package")?.to_owned(),
            version: p.get("Version")?.to_owned(),
            priority: p.get("Priority").unwrap_or("optional").to_owned(),
            essential: p.get("Essential") == Some("yes"),
            depends,
            pre_depends,
            provides: provides.into_iter().flatten().map(|d| (d.name, d.version.map(|(_, v)| v))).collect(),
            conflicts: conflicts.collect(),
            remote: Remote { urls: vec![url], size, digest: Digest::parse(p.get("SHA256")?)? },
            installed_size: p
                .get("Installed-Size")
                .and_then(|s| s.parse::<u64>().ok())
                .unwrap_or(0)
                .saturating_mul(1024),
        })
    }

    /// Whether this package satisfies the dependency, by itself or by what it provides.
    pub fn satisfies(&self, wanted: &Dependency) -> bool {
        let fits =
            |have: &str| wanted.version.as_ref().is_none_or(|(relation, want)| relation.holds(have, want));
        if self.name == wanted.name {
            return fits(&self.version);
        }
        self.provides.iter().filter(|(name, _)| *name == wanted.name).any(|(_, version)| match version {
            Some(version) => fits(version),
            None => wanted.version.is_none(),
        })
    }
}

/// Parses a relationship field (Debian Policy 7.1): alternatives within commas. Entries for other architectures are
/// dropped; multi-architecture qualifiers (`:any`) mean nothing with one architecture.
pub fn parse_dependencies(field: &str) -> Vec<Vec<Dependency>> {
    let parse = |text: &str| {
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "([<:".contains(c)).unwrap_or(text.len());
        let name = &text[..end];
        if let Some(list) =
            text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list)
        {
            let negated = list.trim_start().starts_with('!');
            let listed = list.split_whitespace().any(|a| {
                let a = a.trim_start_matches('!');
                a == ARCHITECTURE || a == "any" || a == "linux-any" || a == "any-arm64"
            });
            if listed == negated {
                return None;
            }
        }
        let version =
            text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).and_then(|(inner, _)| {
                let inner = inner.trim();
                let at = inner.find(|c: char| !"<>=".contains(c))?;
                Some((Relation::parse(&inner[..at])?, inner[at..].trim().to_owned()))
            });
        (!name.is_empty()).then(|| Dependency { name: name.to_owned(), version })
    };
    field
        .split(',')
        .map(|group| group.split('|').filter_map(parse).collect::<Vec<_>>())
        .filter(|alternatives| !alternatives.is_empty())
        .collect()
}

/// Refuses names that would leave their folder or their place in an address.
pub fn check_suite(suite: &str) -> Result<()> {
    let good = !suite.is_empty()
        && suite.len() <= 64
        && suite.starts_with(|c: char| c.is_ascii_alphanumeric())
        && suite.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    if good {
        return Ok(());
    }
    Err(Error::new(
        Kind::Request,
        format!("{suite:?} is no Debian suite"),
        "suites are lower-case words",
        "use trixie, forky, stable, testing or sid",
    ))
}

/// Fetches and verifies the index of a suite, or takes the cached one: when it is younger than a day and `refresh` is
/// not set, or when the mirror cannot be reached.
///
/// # Errors
/// Any kind. [`Kind::Network`] only when nothing usable is cached.
pub fn fetch_index(fetcher: &Fetcher, suite: &str, refresh: bool) -> Result<Index> {
    let mut index = Index::default();
    index.add(&fetch_packages(fetcher, suite, refresh)?, fetcher.mirror());
    Ok(index)
}

/// [`fetch_index`] for another architecture than the guests': `amd64`, for example.
///
/// # Errors
/// As [`fetch_index`].
pub fn fetch_index_of(fetcher: &Fetcher, suite: &str, architecture: &str, refresh: bool) -> Result<Index> {
    let mut index = Index::default();
    let text = fetch_packages_of(fetcher, suite, architecture, refresh)?;
    index.add_of(architecture, &text, fetcher.mirror());
    Ok(index)
}

/// The text of a suite's `Packages` file; see [`fetch_index`].
pub(crate) fn fetch_packages(fetcher: &Fetcher, suite: &str, refresh: bool) -> Result<String> {
    fetch_packages_of(fetcher, suite, ARCHITECTURE, refresh)
}

fn fetch_packages_of(fetcher: &Fetcher, suite: &str, architecture: &str, refresh: bool) -> Result<String> {
    check_suite(suite)?;
    let release = fetch_release(fetcher, suite, refresh)?;
    if let Some(age) = release.expired_for() {
        let days = age.as_secs() / 86400;
        fetcher.progress().warn(&format!(
            "the release file of {suite} ran out {days} days ago: the mirror {} is behind, or this clock is wrong",
            fetcher.mirror().describe()
        ));
    }
    let path = format!("main/binary-{architecture}/Packages.xz");
    let (digest, size) = release.file(&path).filter(|(_, size)| *size <= INDEX_LIMIT).ok_or_else(|| {
        Error::new(
            Kind::Missing,
            format!("the suite {suite} cannot be used"),
            format!("its release file names no sensible {path}"),
            format!("the mirror is {}; choose another one with --mirror URL", fetcher.mirror().describe()),
        )
    })?;
    let plain = fetcher.mirror().url(&format!("dists/{suite}/{path}"));
    let by_hash = format!("dists/{suite}/main/binary-{architecture}/by-hash/SHA256/{digest}");
    let urls = if release.by_hash { vec![fetcher.mirror().url(&by_hash), plain] } else { vec![plain] };
    let file = fetcher.object(&format!("package index of {suite}"), &Remote { urls, size, digest })?;
    let open = std::fs::File::open(&file).map_err(|e| Error::local("read", &file, &e))?;
    let mut text = String::new();
    compression::reader(&path, open, INDEX_LIMIT)?
        .read_to_string(&mut text)
        .map_err(|e| Error::format(format!("cannot read the package index of {suite}"), e))?;
    Ok(text)
}

fn fetch_release(fetcher: &Fetcher, suite: &str, refresh: bool) -> Result<Release> {
    let keyring = Keyring::debian()?;
    // Suites of the security archive have names of their own, so the suite alone names the file.
    let name = format!("dists/{suite}/InRelease");
    let cached = fetcher.cache().read(&name)?.and_then(|bytes| Release::verify(&bytes, &keyring, suite).ok());
    let fresh = fetcher.cache().age(&name).is_some_and(|age| age < FRESH_FOR);
    if let Some(cached) = &cached
        && fresh
        && !refresh
    {
        return Ok(cached.clone());
    }
    let fetched = fetcher.small(&name, RELEASE_LIMIT).and_then(|bytes| {
        let release = Release::verify(&bytes, &keyring, suite)?;
        fetcher.cache().write(&name, &bytes)?;
        Ok(release)
    });
    match (fetched, cached) {
        (Err(e), Some(cached)) if e.kind() == Kind::Network && !refresh => {
            fetcher.progress().warn(&format!("{}: {}; the cached package index serves", e.what(), e.why()));
            Ok(cached)
        }
        (fetched, _) => fetched,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: busybox\nVersion: 1:1.37-6\nArchitecture: arm64\nPriority: optional\nPre-Depends: libc6 (>= 2.38)\n\
        Depends: a | b (<< 2), c:any, d [!arm64], e [amd64 arm64]\nProvides: sh, thing (= 3)\nBreaks: old (<= 1~)\nInstalled-Size: 10\n\
        Filename: pool/b.deb\nSize: 12\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n\
        Package: busybox\nVersion: 1:1.38\nArchitecture: all\nEssential: yes\nFilename: pool/c.deb\nSize: 1\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nPackage: other\nVersion: 1\nArchitecture: amd64\n\
        Filename: x\nSize: 1\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nPackage: broken\n";

    fn index() -> Index {
        let mut index = Index::default();
        index.add(TEXT, &Mirror::choose(Some("http://m.example/debian")).unwrap());
        index
    }

    #[test]
    fn other_architectures_are_read_when_asked_for() {
        let mut index = Index::default();
        index.add_of("amd64", TEXT, &Mirror::choose(Some("http://m.example/debian")).unwrap());
        assert!(index.get("other").is_some(), "it is there for amd64 only");
        assert_eq!(index.get("busybox").unwrap().version, "1:1.38", "that for all architectures");
    }

    #[test]
    fn parses_packages() {
        let index = index();
        assert_eq!(index.iter().count(), 2);
        let old = index.versions("busybox").next().unwrap();
        assert_eq!((old.pre_depends, old.depends.len(), old.installed_size), (1, 4, 10240));
        let names: Vec<_> = old.depends.iter().flatten().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["libc6", "a", "b", "c", "e"]);
        assert_eq!(old.depends[1][1].version, Some((Relation::Earlier, "2".to_owned())));
        assert_eq!(old.conflicts[0].name, "old");
        assert_eq!(old.remote.urls, ["http://m.example/debian/pool/b.deb"]);
        assert!(index.get("busybox").unwrap().essential, "the newest version wins");
        assert_eq!(index.providers("thing").count(), 1);
        assert_eq!(index.require("other").unwrap_err().kind(), Kind::Request);
    }

    #[test]
    fn versioned_provides_satisfy_versioned_dependencies() {
        let index = index();
        let package = index.versions("busybox").next().unwrap();
        let wants = |text| package.satisfies(&parse_dependencies(text)[0][0]);
        assert!(wants("sh") && wants("thing (>= 3)") && wants("busybox (= 1:1.37-6)"));
        assert!(!wants("sh (>= 1)") && !wants("thing (>> 3)") && !wants("busybox (>= 2:0)"));
    }

    #[test]
    fn suites_cannot_escape() {
        assert!(check_suite("trixie-security").is_ok());
        for bad in ["", "../x", "a/b", "Trixie", "-x", ".."] {
            assert!(check_suite(bad).is_err(), "{bad}");
        }
    }
}
