//! Which Debian mirror to use: the caller's, the environment's, the one this host's apt uses, or the built-in one.

use std::env;
use std::fs;
use std::path::Path;

use crate::deb822;
use crate::error::{Error, Kind, Result};

/// Overrides the mirror, below an explicit argument.
pub const MIRROR_VARIABLE: &str = "TEARLESS_DEBIAN_MIRROR";

/// A content delivery network run for the kernel.org mirrors: no country, full archive, http and https.
const BUILT_IN: &str = "http://mirrors.edge.kernel.org/debian";

/// Where the choice of the mirror came from; error messages say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller named it (`--mirror`).
    Argument,
    /// [`MIRROR_VARIABLE`].
    Environment,
    /// A file of the host's apt configuration.
    Apt(String),
    /// Nothing said otherwise.
    BuiltIn,
}

/// A mirror's base address, without a slash at the end; below it lie `dists/` and `pool/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    base: String,
    origin: Origin,
}

impl Mirror {
    /// Chooses: `argument`, else the environment, else apt's configuration under `/etc/apt`, else the built-in mirror.
    ///
    /// # Errors
    /// An argument or environment value that is no http(s) address.
    pub fn choose(argument: Option<&str>) -> Result<Self> {
        if let Some(uri) = argument {
            return Self::checked(uri, Origin::Argument);
        }
        if let Ok(uri) = env::var(MIRROR_VARIABLE)
            && !uri.is_empty()
        {
            return Self::checked(&uri, Origin::Environment);
        }
        Ok(from_apt(Path::new("/etc/apt"))
            .unwrap_or_else(|| Self { base: BUILT_IN.to_owned(), origin: Origin::BuiltIn }))
    }

    /// The base address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Who chose it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The address of a file of the archive.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.trim_start_matches('/'))
    }

    /// The mirror of the security archive that most mirrors keep beside the main one, as `debian-security`.
    pub fn security_sibling(&self) -> Option<Self> {
        let root = self.base.strip_suffix("/debian")?;
        Some(Self { base: format!("{root}/debian-security"), origin: self.origin.clone() })
    }

    /// How an error message names it.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Argument => format!("{} (given as --mirror)", self.base),
            Origin::Environment => format!("{} (from {MIRROR_VARIABLE})", self.base),
            Origin::Apt(file) => format!("{} (from {file})", self.base),
            Origin::BuiltIn => format!("{} (the built-in mirror)", self.base),
        }
    }

    fn checked(uri: &str, origin: Origin) -> Result<Self> {
        let base = uri.trim().trim_end_matches('/');
        if !is_http(base) || base.chars().any(char::is_whitespace) {
            return Err(Error::new(
                Kind::Request,
                format!("the mirror {uri:?} cannot be used"),
                "it is not an http:// or https:// address",
                "name one like http://ftp.de.debian.org/debian",
            ));
        }
        Ok(Self { base: base.to_owned(), origin })
    }
}

fn is_http(uri: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| uri.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

/// The first Debian archive in apt's configuration folder.
fn from_apt(folder: &Path) -> Option<Mirror> {
    let mut files = vec![folder.join("sources.list")];
    let mut parts: Vec<_> = fs::read_dir(folder.join("sources.list.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    parts.sort();
    files.extend(parts);
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let uri = match file.extension()?.to_str()? {
            "list" => one_line_uris(&text).into_iter().find(|u| is_debian(u)),
            "sources" => deb822_uris(&text).into_iter().find(|u| is_debian(u)),
            _ => None,
        }?;
        Mirror::checked(&uri, Origin::Apt(file.display().to_string())).ok()
    })
}

/// Only a path that ends in `/debian` is surely a full Debian archive, not another distribution or vendor.
fn is_debian(uri: &str) -> bool {
    is_http(uri) && uri.trim_end_matches('/').ends_with("/debian")
}

/// The addresses of one-line entries: `deb [option=value ...] URI SUITE COMPONENT...` (sources.list(5)).
fn one_line_uris(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb")?;
            let rest = rest.starts_with(char::is_whitespace).then(|| rest.trim_start())?;
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            rest.split_whitespace().next().map(str::to_owned)
        })
        .collect()
}

/// The addresses of deb822 entries that are enabled and of binary type.
fn deb822_uris(text: &str) -> Vec<String> {
    // Unlike other control files, `.sources` may have comments anywhere, even inside a value.
    let text: String = text.lines().filter(|l| !l.starts_with('#')).flat_map(|l| [l, "\n"]).collect();
    deb822::paragraphs(&text)
        .filter(|p| {
            !p.get("Enabled").is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "no" | "false" | "0"))
        })
        .filter(|p| p.get("Types").is_some_and(|t| t.split_whitespace().any(|t| t == "deb")))
        .flat_map(|p| {
            p.get("URIs").unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_line_entries() {
        let text = "# deb http://no.example/debian x main\n deb [arch=arm64 signed-by=/a b] http://a.example/debian/ trixie main\n\
                    deb-src http://src.example/debian trixie main\ndeb cdrom:[x]/ trixie main\ndebris http://no.example/debian";
        assert_eq!(one_line_uris(text), ["http://a.example/debian/", "cdrom:[x]/"]);
    }

    #[test]
    fn reads_deb822_entries() {
        let text = "Types: deb-src\nURIs: http://src.example/debian\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\n\n\
                    Types: deb deb-src\nURIs: http://sec.example/debian-security\n# http://note.example/debian\n http://b.example/debian\n\nTypes: deb\nURIs: http://c.example/debian";
        assert_eq!(
            deb822_uris(text),
            ["http://sec.example/debian-security", "http://b.example/debian", "http://c.example/debian"]
        );
    }

    #[test]
    fn picks_the_first_debian_archive() {
        let dir = tempfile::tempdir().unwrap();
        let parts = dir.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        assert_eq!(from_apt(dir.path()), None);
        fs::write(parts.join("a.list"), "deb https://vendor.example/apt stable main\n").unwrap();
        fs::write(parts.join("b.sources"), "Types: deb\nURIs: mirror+file:/x http://d.example/debian/\n")
            .unwrap();
        fs::write(parts.join("c.save"), "deb http://old.example/debian x main\n").unwrap();
        assert_eq!(from_apt(dir.path()).unwrap().base(), "http://d.example/debian");
        fs::write(
            dir.path().join("sources.list"),
            "deb http://e.example/ubuntu x main\ndeb http://f.example/debian x main\n",
        )
        .unwrap();
        assert_eq!(from_apt(dir.path()).unwrap().base(), "http://f.example/debian");
    }

    #[test]
    fn checks_what_the_user_says() {
        let mirror = Mirror::choose(Some("https://m.example/debian/")).unwrap();
        assert_eq!(mirror.url("/dists/x"), "https://m.example/debian/dists/x");
        assert_eq!(mirror.security_sibling().unwrap().base(), "https://m.example/debian-security");
        for bad in ["ftp://m.example/debian", "http://", "m.example", "http://a b/debian"] {
            assert_eq!(Mirror::choose(Some(bad)).unwrap_err().kind(), Kind::Request, "{bad}");
        }
    }
}
