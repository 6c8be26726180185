//! Downloads of IPSWs into the cache: they go on where they ended, and are checked.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};
use ureq::Agent;
use ureq::http::StatusCode;

use super::remote::{refused, unreachable};
use super::{Ipsw, inspect};
use crate::cache::{Cache, Partial};
use crate::error::{Error, Kind, Result};
use crate::fetch::{ATTEMPTS, agent, content_range, is_offline, pause};
use crate::progress::Progress;
use crate::tls;

/// The folder of the cache.
const FOLDER: &str = "ipsw";

/// The IPSWs in the cache that are complete, by name.
///
/// # Errors
/// The cache cannot be read.
pub fn cached(cache: &Cache) -> Result<Vec<PathBuf>> {
    let folder = cache.path(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::local("read", &folder, &e))?,
    };
    let mut paths = entries
        .map(|entry| Ok(entry.map_err(|e| Error::local("read", &folder, &e))?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ipsw"));
    paths.sort();
    Ok(paths)
}

/// The path of the IPSW at `url` in the cache, downloaded first if it is not there. It has the digest `sha1`, if that is
/// given, and is an IPSW in any case.
///
/// # Errors
/// Any kind; [`Kind::Integrity`] when its content is not what the digest says.
pub fn fetch(
    url: &str,
    sha1: Option<&str>,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<(PathBuf, Ipsw)> {
    tls::check(url).map_err(|e| e.with_help("download the file in another way, and name its path"))?;
    let name = file_name(url).ok_or_else(|| {
        let why = "its last part is no file name that ends in .ipsw";
        Error::new(Kind::Request, format!("cannot download {url}"), why, "name the address of an IPSW")
    })?;
    let target = cache.path(&format!("{FOLDER}/{name}"));
    if !target.exists()
        && let Some(mut partial) = cache.partial(&target)?
    {
        let download = Download { agent: agent(), url, sha1, progress };
        download.fill(&mut partial)?;
        inspect(&partial.path.to_string_lossy()).inspect_err(|_| {
            // It would be taken for a beginning; what matters is the first error.
            _ = partial.restart();
        })?;
        partial.publish()?;
    }
    let ipsw = inspect(&target.to_string_lossy())?;
    Ok((target, ipsw))
}

/// The last part of an address, if it is a name that a file can have.
fn file_name(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?;
    let name = path.rsplit('/').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-,+%".contains(c);
    (name.ends_with(".ipsw") && name.len() <= 200 && !name.starts_with('.') && name.chars().all(plain))
        .then_some(name)
}

struct Download<'a> {
    agent: Agent,
    url: &'a str,
    sha1: Option<&'a str>,
    progress: &'a dyn Progress,
}

impl Download<'_> {
    /// Completes the file. Wrong content is fetched afresh once: its beginning may be of another time.
    fn fill(&self, partial: &mut Partial) -> Result<()> {
        let mut fresh = partial.file.metadata().is_ok_and(|m| m.len() == 0);
        loop {
            self.complete(partial)?;
            if self.is_right(&partial.path)? {
                return Ok(());
            }
            partial.restart()?;
            if fresh {
                let why = "its content is not what Apple's catalogue says (SHA-1 differs)";
                let help = "something between Apple and you changes files; try another network";
                return Err(Error::new(Kind::Integrity, format!("refused {}", self.url), why, help));
            }
            fresh = true;
        }
    }

    fn complete(&self, partial: &mut Partial) -> Result<()> {
        let mut attempt = 1;
        loop {
            let before = partial.file.metadata().map_or(0, |m| m.len());
            let done = self.go_on(partial);
            self.progress.end();
            match done {
                Err(e) if e.kind() == Kind::Network && attempt < ATTEMPTS && !is_offline(&e) => {
                    // As long as it gets on, it may break off any number of times.
                    let moved = partial.file.metadata().map_or(0, |m| m.len()) > before;
                    attempt = if moved { pause(0) } else { pause(attempt) };
                }
                result => return result,
            }
        }
    }

    fn go_on(&self, partial: &mut Partial) -> Result<()> {
        let local = |e: &io::Error, path: &Path| Error::local("write", path, e);
        let mut have = partial.file.seek(SeekFrom::End(0)).map_err(|e| local(&e, &partial.path))?;
        let mut request = self.agent.get(self.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|e| unreachable(self.url, &e))?;
        let length =
            response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let total = match (response.status(), content_range(&response)) {
            (StatusCode::PARTIAL_CONTENT, Some((start, total))) if start == have => total,
            // All of it is there already, or more than there is; the digest tells.
            (StatusCode::RANGE_NOT_SATISFIABLE, _) if have > 0 => return Ok(()),
            (StatusCode::OK, _) => {
                partial.restart()?;
                partial.file.rewind().map_err(|e| local(&e, &partial.path))?;
                have = 0;
                length
            }
            (status, _) => return Err(refused(self.url, status)),
        };
        self.progress.begin(&format!("Downloading {}", file_name(self.url).unwrap_or("IPSW")), total);
        self.progress.advance(have);
        let mut body = response.into_body();
        let mut reader = body.as_reader();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| unreachable(self.url, &e))?;
            if n == 0 {
                break;
            }
            partial.file.write_all(&buffer[..n]).map_err(|e| local(&e, &partial.path))?;
            have += n as u64;
            self.progress.advance(n as u64);
        }
        match total {
            Some(total) if have < total => {
                Err(unreachable(self.url, &format!("the connection ended after {have} of {total} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn is_right(&self, path: &Path) -> Result<bool> {
        let Some(wanted) = self.sha1 else { return Ok(true) };
        let fail = |e: &io::Error| Error::local("read", path, e);
        let mut file = File::open(path).map_err(|e| fail(&e))?;
        self.progress.begin("Checking the IPSW", file.metadata().ok().map(|m| m.len()));
        let (mut hasher, mut buffer) = (Sha1::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).map_err(|e| fail(&e))? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    self.progress.advance(n as u64);
                }
            }
        }
        self.progress.end();
        let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(found == wanted)
    }
}
