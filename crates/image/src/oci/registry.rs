//! A registry, as the OCI distribution specification has it: manifests by name, blobs by digest.

use std::fmt::Display;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, SendBody};

use super::auth::{Challenge, Credentials, PASSWORD_VARIABLE, USER_VARIABLE};
use super::manifest::{Descriptor, MANIFEST, Manifest};
use super::reference::{Reference, Version};
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::fetch::{ATTEMPTS, agent, content_range, is_offline, pause};
use crate::tls;

/// Registries refuse larger ones.
const MAX_MANIFEST: u64 = 4 << 20;
/// An answer that tells of an error, or has a token.
const MAX_ANSWER: u64 = 64 << 10;

/// What is to be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Pull,
    /// Read and change it.
    Push,
}

/// One repository of a registry. Several threads may use it at once.
pub struct Registry {
    agent: Agent,
    reference: Reference,
    /// The registry's address, `https://HOST`.
    root: String,
    access: Access,
    /// What is sent as `Authorization`.
    authorization: Mutex<Option<String>>,
    /// Whether others may listen.
    insecure: bool,
}

impl Registry {
    /// Nothing is contacted yet. A registry on this host is spoken to by http, and with `insecure` any.
    pub fn new(reference: &Reference, access: Access, insecure: bool) -> Self {
        let insecure = insecure || reference.is_loopback();
        let scheme = if insecure { "http" } else { "https" };
        let host = match reference.host() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            agent: agent(),
            reference: reference.clone(),
            root: format!("{scheme}://{host}"),
            access,
            authorization: Mutex::default(),
            insecure,
        }
    }

    /// The image that is meant.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    fn url(&self, rest: impl Display) -> String {
        format!("{}/v2/{}/{rest}", self.root, self.reference.repository())
    }

    /// Reads the image's manifest.
    ///
    /// # Errors
    /// [`Kind::Missing`] when there is none, [`Kind::Format`] when it is none of a VM.
    pub fn manifest(&self) -> Result<(Manifest, Digest)> {
        let url = self.url(format_args!("manifests/{}", self.reference.version()));
        let text = retried(|| {
            let response =
                self.send(&url, |auth| with(self.agent.get(&url), auth).header("Accept", MANIFEST).call())?;
            if response.status() != StatusCode::OK {
                return Err(self.refused("read the image", response));
            }
            self.read(response, MAX_MANIFEST)
        })?;
        let digest = Digest::of(&text);
        if matches!(self.reference.version(), Version::Digest(wanted) if *wanted != digest) {
            return Err(self.wrong("its manifest is not what its digest says"));
        }
        let manifest = Manifest::parse(&text).map_err(|why| self.unusable(why))?;
        Ok((manifest, digest))
    }

    /// Stores a manifest under the image's name.
    pub(crate) fn put_manifest(&self, text: &[u8]) -> Result<Digest> {
        let Version::Tag(tag) = self.reference.version() else {
            let (why, help) = ("its digest follows from its content", "give a tag: REGISTRY/REPOSITORY:TAG");
            return Err(Error::new(Kind::Request, format!("cannot push to {}", self.reference), why, help));
        };
        let url = self.url(format_args!("manifests/{tag}"));
        retried(|| {
            let response = self.send(&url, |auth| {
                with(self.agent.put(&url), auth).header(header::CONTENT_TYPE, MANIFEST).send(text)
            })?;
            match response.status() {
                StatusCode::CREATED | StatusCode::OK => Ok(Digest::of(text)),
                _ => Err(self.refused("store the manifest", response)),
            }
        })
    }

    /// Whether the registry has the blob.
    fn has(&self, digest: &Digest) -> Result<bool> {
        let url = self.url(format_args!("blobs/sha256:{digest}"));
        retried(|| {
            let response = self.send(&url, |auth| with(self.agent.head(&url), auth).call())?;
            match response.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refused("ask for a blob", response)),
            }
        })
    }

    /// Stores a blob of `size` bytes, unless it is there. `body` gives it, each time anew; `shown` is told how far it is.
    pub(crate) fn upload<R: Read>(
        &self,
        digest: &Digest,
        size: u64,
        body: impl Fn() -> R,
        shown: &dyn Fn(u64),
    ) -> Result<()> {
        if self.has(digest)? {
            shown(size);
            return Ok(());
        }
        retried(|| {
            let mut body = Counted { source: body(), at: 0, shown };
            self.upload_once(digest, size, &mut body)
        })
    }

    fn upload_once(&self, digest: &Digest, size: u64, body: &mut dyn Read) -> Result<()> {
        let url = self.url("blobs/uploads/");
        let response = self.send(&url, |auth| with(self.agent.post(&url), auth).send_empty())?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused("begin an upload", response));
        }
        let place = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let mut place = self.resolve(place.unwrap_or_default())?;
        place.push(if place.contains('?') { '&' } else { '?' });
        place.push_str(&format!("digest=sha256%3A{digest}"));
        tls::check(&place)?;
        // The body is read once, so there is no second try; that the first request was let in makes one needless.
        let auth = self.authorization_for(&place);
        let request = with(self.agent.put(&place), auth.as_deref())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, size);
        let response = request.send(SendBody::from_reader(body)).map_err(|e| self.broken(&e))?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.refused("store a blob", response)),
        }
    }

    /// Where an upload goes: an address, or a path at the registry.
    fn resolve(&self, place: &str) -> Result<String> {
        let url = match place {
            path if path.starts_with('/') && !path.starts_with("//") => format!("{}{path}", self.root),
            other => other.to_owned(),
        };
        let is_safe = url.starts_with("https://") || (self.insecure && url.starts_with("http://"));
        if !is_safe {
            return Err(self.wrong(format_args!("it sends uploads to `{place}`, where others may listen")));
        }
        Ok(url)
    }

    /// A blob's content; it is whole and right when [`BlobReader::finish`] says so.
    pub(crate) fn blob(&self, blob: &Descriptor) -> Result<BlobReader<'_>> {
        let digest = blob.digest().map_err(|why| self.unusable(why))?;
        let url = self.url(format_args!("blobs/sha256:{digest}"));
        Ok(BlobReader {
            registry: self,
            url,
            digest,
            size: blob.size,
            at: 0,
            body: None,
            attempt: 1,
            hasher: Sha256::new(),
        })
    }

    /// A blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Kind::Integrity`] when it is larger, or not what its digest says.
    pub fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if blob.size > limit {
            return Err(self.wrong(format_args!("its {} has {} bytes", blob.media_type, blob.size)));
        }
        let mut reader = self.blob(blob)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|e| self.reading(e))?;
        reader.finish()?;
        Ok(bytes)
    }

    /// Sends a request; if the registry wants to know who asks, once more with the answer.
    fn send(
        &self,
        url: &str,
        mut request: impl FnMut(Option<&str>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        tls::check(url)
            .map_err(|e| e.with_help("another computer, or --insecure if the registry has http"))?;
        let auth = self.authorization_for(url);
        let response = request(auth.as_deref()).map_err(|e| self.broken(&e))?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_ours(url) {
            return Ok(response);
        }
        let auth = self.authorize(response, auth.as_deref())?;
        request(Some(&auth)).map_err(|e| self.broken(&e))
    }

    fn authorization(&self) -> MutexGuard<'_, Option<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `url` is told about who asks: nothing, unless it is the registry's own.
    fn authorization_for(&self, url: &str) -> Option<String> {
        self.authorization().clone().filter(|_| self.is_ours(url))
    }

    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.root).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Finds out what opens the repository; `used` did not.
    fn authorize(&self, response: Response<Body>, used: Option<&str>) -> Result<String> {
        let mut current = self.authorization();
        if let Some(other) = current.as_ref().filter(|other| Some(other.as_str()) != used) {
            // Another thread was faster.
            return Ok(other.clone());
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = challenges.iter().filter_map(|value| Challenge::parse(value.to_str().ok()?)).next();
        let host = self.root.split("://").nth(1).unwrap_or_default();
        let credentials = Credentials::find(host)?;
        let new = match (challenge, credentials) {
            (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => {
                Credentials::basic(&user, &password)
            }
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                let token = retried(|| {
                    self.token(&realm, service.as_deref(), scope.as_deref(), credentials.as_ref())
                })?;
                format!("Bearer {token}")
            }
            _ => return Err(self.refused("let you in", response)),
        };
        if Some(new.as_str()) == used {
            return Err(self.refused("let you in", response));
        }
        *current = Some(new.clone());
        Ok(new)
    }

    /// Asks the token service `realm`.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
        }
        if !(realm.starts_with("https://") || self.insecure && realm.starts_with("http://")) {
            return Err(
                self.wrong(format_args!("it asks for passwords at `{realm}`, where others may listen"))
            );
        }
        tls::check(realm)?;
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let own_scope = format!("repository:{}:{actions}", self.reference.repository());
        let scope = scope.unwrap_or(&own_scope);
        let service = service.unwrap_or_default();
        let response = if let Some(Credentials::Identity(token)) = credentials {
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                ("service", service),
                ("scope", scope),
                ("client_id", "tearless"),
            ];
            self.agent.post(realm).send_form(form)
        } else {
            let auth = match credentials {
                Some(Credentials::Password { user, password }) => Some(Credentials::basic(user, password)),
                _ => None,
            };
            let request = self.agent.get(realm).query("service", service).query("scope", scope);
            with(request, auth.as_deref()).call()
        };
        let response = response.map_err(|e| self.broken(&e))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused("let you in", response));
        }
        let answer: Answer = serde_json::from_slice(&self.read(response, MAX_ANSWER)?)
            .map_err(|e| self.wrong(format_args!("its token service is not understood: {e}")))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| self.wrong("its token service gives no token"))
    }

    fn read(&self, response: Response<Body>, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut body = response.into_body();
        body.as_reader().take(limit + 1).read_to_end(&mut bytes).map_err(|e| self.broken(&e))?;
        if bytes.len() as u64 > limit {
            return Err(self.wrong(format_args!("its answer is longer than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn broken(&self, why: &dyn Display) -> Error {
        let help = if self.insecure {
            "check that the registry runs, and that it speaks http there; run again to resume"
        } else {
            "check the network and https_proxy; --insecure for a registry without https; run again to resume"
        };
        Error::new(Kind::Network, format!("cannot reach {}", self.reference), why, help)
    }

    /// What the registry says instead of doing it.
    fn refused(&self, doing: &str, response: Response<Body>) -> Error {
        #[derive(Deserialize)]
        struct Said {
            errors: Vec<Detail>,
        }
        #[derive(Deserialize)]
        struct Detail {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let status = response.status();
        let said = self.read(response, MAX_ANSWER).unwrap_or_default();
        let said: Option<Said> = serde_json::from_slice(&said).ok();
        let detail = said.and_then(|said| said.errors.into_iter().next());
        let detail = detail.map(|d| format!(" ({} {})", d.code, d.message)).unwrap_or_default();
        let user = format!(
            "docker login {}, or {USER_VARIABLE} and {PASSWORD_VARIABLE}; and check the name",
            self.reference.host()
        );
        let (kind, help) = match status {
            StatusCode::NOT_FOUND => {
                (Kind::Missing, "check the name; a private image also wants a login".into())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (Kind::Request, user),
            StatusCode::TOO_MANY_REQUESTS => (Kind::Network, "run again later; it resumes".into()),
            status if status.is_server_error() => (Kind::Network, "run again later; it resumes".into()),
            _ => (Kind::Request, "check the name, and that the registry takes images of VMs".into()),
        };
        let what = format!("cannot use {}", self.reference);
        Error::new(kind, what, format!("the registry does not {doing}: it says {status}{detail}"), help)
    }

    /// The registry gives what it must not.
    pub(crate) fn wrong(&self, why: impl Display) -> Error {
        let help = "pull it again, or have it pushed again; nothing of it was kept";
        Error::new(Kind::Integrity, format!("refused {}", self.reference), why, help)
    }

    /// The image is none of a VM that can be used.
    pub(crate) fn unusable(&self, why: impl Display) -> Error {
        let help = "name an image of a VM, as `tearless push` and Tart make them";
        Error::new(Kind::Format, format!("cannot use {} as a VM", self.reference), why, help)
    }

    /// The error that reading a blob ended with.
    pub(crate) fn reading(&self, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(other) => self.broken(&other),
        }
    }
}

/// Adds `Authorization`.
fn with<B>(request: ureq::RequestBuilder<B>, auth: Option<&str>) -> ureq::RequestBuilder<B> {
    match auth {
        Some(auth) => request.header(header::AUTHORIZATION, auth),
        None => request,
    }
}

/// Tries again what a broken connection, or a registry that is busy, may have failed.
fn retried<T>(mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match act() {
            Err(e) if e.kind() == Kind::Network && attempt < ATTEMPTS && !is_offline(&e) => {
                attempt = pause(attempt);
            }
            result => return result,
        }
    }
}

/// Reads a blob. A connection that breaks is taken up again where it broke.
pub(crate) struct BlobReader<'a> {
    registry: &'a Registry,
    url: String,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<Box<dyn Read + Send>>,
    attempt: u32,
    hasher: Sha256,
}

impl BlobReader<'_> {
    /// Whether the blob was read to its end, and is what its digest says.
    pub(crate) fn finish(self) -> Result<()> {
        if self.at != self.size || Digest::finish(self.hasher) != self.digest {
            return Err(self
                .registry
                .wrong(format_args!("the content of {} is not what its digest says", self.url)));
        }
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let registry = self.registry;
        let response = registry.send(&self.url, |auth| {
            let request = with(registry.agent.get(&self.url), auth);
            let request = match self.at {
                0 => request,
                at => request.header(header::RANGE, format!("bytes={at}-")),
            };
            request.call()
        })?;
        let start = content_range(&response).map(|(start, _)| start);
        let skip = match response.status() {
            StatusCode::OK => self.at,
            StatusCode::PARTIAL_CONTENT if start == Some(self.at) => 0,
            _ => return Err(registry.refused("give a blob", response)),
        };
        let mut body = response.into_body().into_reader();
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        skipped.map_err(|e| registry.broken(&e))?;
        Ok(Box::new(body))
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.open()?,
        };
        match body.read(buffer).map_err(|e| self.registry.broken(&e))? {
            0 => {
                let why = format!("the connection ended after {} of {} bytes", self.at, self.size);
                Err(self.registry.broken(&why))
            }
            n => {
                self.body = Some(body);
                Ok(n)
            }
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let buffer = &mut buffer[..len];
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_once(buffer) {
                Ok(n) => {
                    self.attempt = 1;
                    self.at += n as u64;
                    self.hasher.update(&buffer[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == Kind::Network && self.attempt < ATTEMPTS && !is_offline(&e) => {
                    self.attempt = pause(self.attempt);
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
    }
}

/// Tells how far `source` was read.
struct Counted<'a, R> {
    source: R,
    at: u64,
    shown: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.at += n as u64;
        (self.shown)(self.at);
        Ok(n)
    }
}
