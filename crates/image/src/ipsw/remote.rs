//! A file on a server, read in parts.

use std::io::Read;

use ureq::{Agent, http::StatusCode};

use super::Source;
use crate::error::{Error, Kind, Result};
use crate::fetch::{ATTEMPTS, agent, content_range, is_offline, pause};
use crate::tls;

/// A file on a server that gives parts of it.
pub struct RemoteFile {
    agent: Agent,
    url: String,
    size: u64,
}

impl RemoteFile {
    /// Asks how large the file is.
    ///
    /// # Errors
    /// [`Kind::Network`], [`Kind::Missing`], or [`Kind::Request`] when the server gives no parts.
    pub fn open(url: &str) -> Result<Self> {
        tls::check(url).map_err(|e| e.with_help("download the file in another way, and name its path"))?;
        let mut file = Self { agent: agent(), url: url.to_owned(), size: 0 };
        let (_, total) = file.part(0, 1)?;
        let why = "the server does not say how large the file is";
        file.size =
            total.ok_or_else(|| Error::new(Kind::Request, format!("cannot read {url}"), why, DOWNLOAD))?;
        Ok(file)
    }

    /// The bytes from `offset` on, and the size of the whole.
    fn part(&self, offset: u64, len: usize) -> Result<(Vec<u8>, Option<u64>)> {
        let mut attempt = 1;
        loop {
            match self.part_once(offset, len) {
                Err(e) if e.kind() == Kind::Network && attempt < ATTEMPTS && !is_offline(&e) => {
                    attempt = pause(attempt);
                }
                result => return result,
            }
        }
    }

    fn part_once(&self, offset: u64, len: usize) -> Result<(Vec<u8>, Option<u64>)> {
        let fail = |e: &dyn std::fmt::Display| unreachable(&self.url, e);
        let last = offset + (len as u64).saturating_sub(1);
        let range = format!("bytes={offset}-{last}");
        let response = self.agent.get(&self.url).header("Range", range).call().map_err(|e| fail(&e))?;
        let found = content_range(&response);
        match (response.status(), found) {
            (StatusCode::PARTIAL_CONTENT, Some((start, total))) if start == offset => {
                let mut bytes = Vec::new();
                response
                    .into_body()
                    .as_reader()
                    .take(len as u64)
                    .read_to_end(&mut bytes)
                    .map_err(|e| fail(&e))?;
                if bytes.len() < len {
                    return Err(fail(&format!("the connection ended after {} of {len} bytes", bytes.len())));
                }
                Ok((bytes, total))
            }
            (status, _) if status.is_success() => {
                let why = "the server gives whole files only";
                Err(Error::new(Kind::Request, format!("cannot read a part of {}", self.url), why, DOWNLOAD))
            }
            (status, _) => Err(refused(&self.url, status)),
        }
    }
}

const DOWNLOAD: &str = "download it first: tearless ipsw fetch URL";

/// The server cannot be reached, or breaks off.
pub(super) fn unreachable(url: &str, why: &dyn std::fmt::Display) -> Error {
    let help =
        "check the network and https_proxy, or name the path of a file; what is downloaded already is kept";
    Error::new(Kind::Network, format!("cannot download {url}"), why, help)
}

/// The server says no.
pub(super) fn refused(url: &str, status: StatusCode) -> Error {
    let gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN);
    let (kind, help) = if gone {
        (Kind::Missing, "check the address; `tearless ipsw list` shows Apple's newest")
    } else {
        (Kind::Network, "try again later; what is downloaded already is kept")
    };
    Error::new(kind, format!("cannot download {url}"), format!("the server says {status}"), help)
}

impl Source for RemoteFile {
    fn size(&mut self) -> Result<u64> {
        Ok(self.size)
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        Ok(self.part(offset, len)?.0)
    }
}
