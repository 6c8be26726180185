//! Downloads from one mirror into the cache: resumable, verified, retried.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::cache::{Cache, Partial};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::mirror::Mirror;
use crate::progress::Progress;
use crate::tls;

/// How often a broken connection is taken up again before giving up.
pub(crate) const ATTEMPTS: u32 = 4;

/// A file as a signed index describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Addresses where it may be; tried in order.
    pub urls: Vec<String>,
    /// Its exact size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

/// A mirror, a cache, and whoever watches.
pub struct Fetcher<'a> {
    agent: Agent,
    mirror: Mirror,
    cache: Cache,
    progress: &'a dyn Progress,
}

impl<'a> Fetcher<'a> {
    /// Nothing is contacted before the first download. Proxies come from `http_proxy`, `https_proxy` and `no_proxy`.
    pub fn new(mirror: Mirror, cache: Cache, progress: &'a dyn Progress) -> Self {
        Self { agent: agent(), mirror, cache, progress }
    }

    /// The same client for another archive.
    #[must_use]
    pub fn with_mirror(&self, mirror: Mirror) -> Self {
        Self { agent: self.agent.clone(), mirror, cache: self.cache.clone(), progress: self.progress }
    }

    /// The cache that downloads go to.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The mirror that downloads come from.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Whoever watches.
    pub fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// Downloads a small file of unknown size into memory, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`Kind::Network`], [`Kind::Missing`], or [`Kind::Integrity`] when it is larger than `limit`.
    pub fn small(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let url = self.mirror.url(path);
        let mut attempt = 1;
        loop {
            match self.small_once(&url, limit) {
                Err(e) if e.kind() == Kind::Network && attempt < ATTEMPTS && !is_offline(&e) => {
                    attempt = pause(attempt)
                }
                result => return result,
            }
        }
    }

    fn small_once(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        let (status, mut body, _) = self.get(url, 0)?;
        if status != StatusCode::OK {
            return Err(self.refused(url, status));
        }
        let mut bytes = Vec::new();
        let mut reader = body.as_reader().take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|e| self.broken(url, &e))?;
        if bytes.len() as u64 > limit {
            let why = format!("it is larger than the {limit} bytes that are sensible for it");
            return Err(Error::new(Kind::Integrity, format!("refused {url}"), why, self.other_mirror()));
        }
        Ok(bytes)
    }

    /// The path of a file in the cache, downloaded first if it is not there. It has the size and digest of `remote`.
    ///
    /// # Errors
    /// Any kind; [`Kind::Integrity`] names the file whose content is not what the signed index says.
    pub fn object(&self, label: &str, remote: &Remote) -> Result<PathBuf> {
        let target = self.cache.object(&remote.digest);
        if self.intact(&target, remote)? {
            return Ok(target);
        }
        self.progress.begin(&format!("Downloading {label}"), Some(remote.size));
        let done = self.download(target, remote);
        self.progress.end();
        done
    }

    /// [`Fetcher::object`] for many files, as one stage of progress.
    ///
    /// # Errors
    /// As [`Fetcher::object`].
    pub fn objects(&self, label: &str, remotes: &[&Remote]) -> Result<Vec<PathBuf>> {
        self.progress.begin(&format!("Downloading {label}"), Some(remotes.iter().map(|r| r.size).sum()));
        let fetch = |remote: &&Remote| {
            let target = self.cache.object(&remote.digest);
            if self.intact(&target, remote)? {
                self.progress.advance(remote.size);
                return Ok(target);
            }
            self.download(target, remote)
        };
        let paths = remotes.iter().map(fetch).collect();
        self.progress.end();
        paths
    }

    fn download(&self, target: PathBuf, remote: &Remote) -> Result<PathBuf> {
        match self.cache.partial(&target)? {
            Some(mut partial) => {
                self.fill_from_any(&mut partial, remote)?;
                partial.publish()
            }
            None => Ok(target),
        }
    }

    /// Whether the cached file is complete and unharmed; a damaged one is removed.
    fn intact(&self, target: &Path, remote: &Remote) -> Result<bool> {
        let Ok(data) = fs::metadata(target) else { return Ok(false) };
        if data.len() == remote.size {
            let digest = Digest::of_file(target).map_err(|e| Error::local("read", target, &e))?;
            if digest == remote.digest {
                return Ok(true);
            }
        }
        self.progress.warn(&format!("{} was damaged on disk; it is fetched again", target.display()));
        fs::remove_file(target).map_err(|e| Error::local("remove", target, &e))?;
        Ok(false)
    }

    fn fill_from_any(&self, partial: &mut Partial, remote: &Remote) -> Result<()> {
        let mut last = None;
        for url in &remote.urls {
            match self.fill(url, partial, remote) {
                Err(e) if e.kind() == Kind::Missing => last = Some(e),
                result => return result,
            }
        }
        Err(last
            .unwrap_or_else(|| Error::format("cannot download a file", "the index gives no address for it")))
    }

    /// Downloads, resumes after broken connections, and checks. Wrong content is fetched afresh once: the first part may
    /// stem from an older, interrupted download that went wrong.
    fn fill(&self, url: &str, partial: &mut Partial, remote: &Remote) -> Result<()> {
        let mut attempt = 1;
        let mut shown = 0;
        let mut fresh = partial.file.metadata().is_ok_and(|m| m.len() == 0);
        loop {
            match self.fill_once(url, partial, remote, &mut shown) {
                Ok(()) if Digest::of_file(&partial.path).is_ok_and(|d| d == remote.digest) => return Ok(()),
                Ok(()) => {
                    partial.restart()?;
                    if fresh {
                        return Err(self.wrong_content(url));
                    }
                    fresh = true;
                }
                Err(e) if e.kind() == Kind::Network && attempt < ATTEMPTS && !is_offline(&e) => {
                    attempt = pause(attempt);
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn fill_once(&self, url: &str, partial: &mut Partial, remote: &Remote, shown: &mut u64) -> Result<()> {
        let local = |path: &Path, e: &io::Error| Error::local("write", path, e);
        let mut have = partial.file.seek(SeekFrom::End(0)).map_err(|e| local(&partial.path, &e))?;
        if have > remote.size {
            partial.restart()?;
            have = 0;
        }
        if have == remote.size {
            return Ok(());
        }
        let (status, mut body, range_start) = self.get(url, have)?;
        let resumed = status == StatusCode::PARTIAL_CONTENT && range_start == Some(have);
        if !resumed {
            let too_far = status == StatusCode::RANGE_NOT_SATISFIABLE && have > 0;
            if status != StatusCode::OK && !too_far {
                return Err(self.refused(url, status));
            }
            partial.restart()?;
            partial.file.seek(SeekFrom::Start(0)).map_err(|e| local(&partial.path, &e))?;
            have = 0;
            if too_far {
                return self.fill_once(url, partial, remote, shown);
            }
        }
        self.show(have, shown);
        // One byte more than promised is enough to see that the content is wrong; the digest then fails.
        let mut reader = body.as_reader().take(remote.size - have + 1);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| self.broken(url, &e))?;
            if n == 0 {
                break;
            }
            partial.file.write_all(&buffer[..n]).map_err(|e| local(&partial.path, &e))?;
            have += n as u64;
            self.show(have, shown);
        }
        if have < remote.size {
            let why = format!("the connection ended after {have} of {} bytes", remote.size);
            return Err(Error::new(
                Kind::Network,
                format!("cannot download {url}"),
                why,
                "run again; it resumes",
            ));
        }
        Ok(())
    }

    /// One request; the third value is where a partial answer starts.
    fn get(&self, url: &str, from: u64) -> Result<(StatusCode, Body, Option<u64>)> {
        tls::check(url)?;
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| self.broken(url, &e))?;
        let start = content_range(&response).map(|(start, _)| start);
        Ok((response.status(), response.into_body(), start))
    }

    /// Tells the progress how far the file is; `shown` is what it was told before. A download that starts over shows
    /// nothing until it is as far as it was.
    fn show(&self, have: u64, shown: &mut u64) {
        self.progress.advance(have.saturating_sub(*shown));
        *shown = have.max(*shown);
    }

    fn other_mirror(&self) -> String {
        format!("the mirror is {}; choose another one with --mirror URL", self.mirror.describe())
    }

    fn broken(&self, url: &str, why: &dyn std::fmt::Display) -> Error {
        let help = format!(
            "check the network and http_proxy, or {}; without a network, --kernel FILE --initrd FILE boot local files",
            self.other_mirror()
        );
        Error::new(Kind::Network, format!("cannot download {url}"), why, help)
    }

    fn refused(&self, url: &str, status: StatusCode) -> Error {
        let kind = if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            Kind::Missing
        } else {
            Kind::Network
        };
        Error::new(
            kind,
            format!("cannot download {url}"),
            format!("the server says {status}"),
            self.other_mirror(),
        )
    }

    fn wrong_content(&self, url: &str) -> Error {
        Error::new(
            Kind::Integrity,
            format!("refused {url}"),
            "its content is not what the signed index of the archive says (SHA-256 differs)",
            format!("something between the archive and you changes files; {}", self.other_mirror()),
        )
    }
}

/// The HTTP client, with our patience and our TLS.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .user_agent(concat!("tearless/", env!("CARGO_PKG_VERSION")))
        // Without TLS a redirect to https must end as an answer, not as a panic in the TLS library.
        .max_redirects(if tls::is_supported() { 10 } else { 0 })
        .tls_config(tls::config())
        .build()
        .new_agent()
}

/// Where a partial answer starts, and how long the whole file is, if that is said.
pub(crate) fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/').unwrap_or((value, "*"));
    Some((range.split('-').next()?.parse().ok()?, total.parse().ok()))
}

/// Waits before the next attempt, longer each time. Returns its number.
pub(crate) fn pause(attempt: u32) -> u32 {
    thread::sleep(Duration::from_millis(300 << attempt));
    attempt + 1
}

/// Failures that another attempt a second later does not mend.
pub(crate) fn is_offline(error: &Error) -> bool {
    ["host not found", "dns", "refused", "unreachable"]
        .iter()
        .any(|s| error.why().to_ascii_lowercase().contains(s))
}

#[cfg(test)]
mod tests;
