//! Where a server is, as the specification of NBD's addresses (`doc/uri.md`) writes it.

use std::path::{Path, PathBuf};

/// What IANA gave the protocol.
const PORT: u16 = 10809;

/// A server and one of its exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// The export's name; empty for the server's default.
    pub(crate) export: String,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Whether a disk's path is the address of a server and no file's: `nbd:`, `nbds:` or `nbd+KIND:` and two slashes.
pub fn is_remote(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s == "nbd" || s == "nbds" || s.starts_with("nbd+") || s.starts_with("nbds+"))
}

impl Address {
    /// Reads `nbd://HOST[:PORT][/EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("it is no address")?;
        if rest.contains('#') {
            return Err("an address of a disk has no `#`; write %23 if it is part of a name".into());
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
        let export = decode(export)?;
        if export.len() > MAX_NAME {
            return Err(format!("the export's name has more than {MAX_NAME} bytes"));
        }
        let place = match (scheme, query) {
            ("nbd", None) => tcp(authority)?,
            ("nbd", Some(_)) => return Err("an address of a TCP server has no `?`".into()),
            ("nbd+unix", Some(query)) if authority.is_empty() => unix(query)?,
            ("nbd+unix", Some(_)) => return Err("a third slash must follow `nbd+unix://`".into()),
            ("nbd+unix", None) => return Err("`?socket=PATH` is missing".into()),
            ("nbds" | "nbds+unix", _) => return Err("Tearless speaks NBD without TLS only".into()),
            _ => return Err(format!("`{scheme}` is unknown; there are nbd and nbd+unix")),
        };
        Ok(Self { place, export })
    }
}

/// The longest string of the protocol.
const MAX_NAME: usize = 4096;

fn tcp(authority: &str) -> Result<Place, String> {
    if authority.contains('@') {
        return Err("the protocol has no users".into());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or("a `]` is missing")?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':').ok_or("what follows `]` is no port")?)
            };
            (host, port)
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let port = match port {
        None | Some("") => PORT,
        Some(text) => match text.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("`{text}` is no port")),
        },
    };
    Ok(Place::Tcp { host: decode(host)?, port })
}

fn unix(query: &str) -> Result<Place, String> {
    let path = query.strip_prefix("socket=").filter(|path| !path.is_empty() && !path.contains('&'));
    let path = PathBuf::from(decode(path.ok_or("after `?` only `socket=PATH` is known")?)?);
    if !path.is_absolute() {
        return Err("the socket's path must be absolute".into());
    }
    Ok(Place::Unix(path))
}

/// Replaces `%41` by `A`.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("`%` in `{text}` is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
        let value = digit()? << 4 | digit()?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("`{text}` is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port, export: &str| Address {
            place: Place::Tcp { host: host.into(), port },
            export: export.into(),
        };
        for (text, expected) in [
            ("nbd://h", tcp("h", 10809, "")),
            ("nbd://h/", tcp("h", 10809, "")),
            ("nbd://h:1/a/b%20c", tcp("h", 1, "a/b c")),
            ("nbd://[::1]:2/x", tcp("::1", 2, "x")),
            ("nbd://[::1]", tcp("::1", 10809, "")),
            (
                "nbd+unix:///x?socket=/run/a%3fb",
                Address { place: Place::Unix("/run/a?b".into()), export: "x".into() },
            ),
            ("nbd+unix://?socket=/s", Address { place: Place::Unix("/s".into()), export: String::new() }),
        ] {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
            assert!(is_remote(Path::new(text)));
        }
    }

    #[test]
    fn what_is_no_address_is_explained() {
        for (text, hint) in [
            ("nbd://", "host is missing"),
            ("nbd://:5/x", "host is missing"),
            ("nbd://h:0/x", "no port"),
            ("nbd://h:70000/x", "no port"),
            ("nbd://u@h/x", "no users"),
            ("nbd://h/x?socket=/y", "no `?`"),
            ("nbd://h/%zz", "hexadecimal"),
            ("nbd://h/%e9", "no text"),
            ("nbd://h/%00", "no text"),
            ("nbd://h/a#b", "%23"),
            ("nbd://[::1/x", "`]`"),
            ("nbd+unix://h/x?socket=/y", "third slash"),
            ("nbd+unix:///x", "socket=PATH"),
            ("nbd+unix:///x?socket=y", "absolute"),
            ("nbd+unix:///x?a=b", "only `socket=PATH`"),
            ("nbds://h/x", "TLS"),
            ("nbd+vsock://2/x", "unknown"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
            assert!(is_remote(Path::new(text)));
        }
        for file in ["/nbd://x", "nbd:x", "xnbd://h", "http://h/x", "a.img"] {
            assert!(!is_remote(Path::new(file)), "{file}");
        }
    }
}
