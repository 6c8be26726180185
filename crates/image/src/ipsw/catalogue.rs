//! Apple's catalogue: which IPSWs there are for virtual Macs, where, and with which digest.

use std::collections::BTreeMap;
use std::env;
use std::io::Read;

use plist::{Dictionary, Value};
use serde::Serialize;

use super::manifest::{VIRTUAL_MAC, property_list};
use super::remote::{refused, unreachable};
use super::{is_url, malformed};
use crate::cache::Cache;
use crate::error::{Error, Kind, Result};
use crate::fetch::agent;
use crate::progress::Progress;
use crate::tls;

/// Overrides the address of the catalogue.
pub const CATALOGUE_VARIABLE: &str = "TEARLESS_IPSW_CATALOGUE";

const ADDRESS: &str = "https://mesu.apple.com/assets/macos/com_apple_macOSIPSW/com_apple_macOSIPSW.xml";
/// It has about 200 KiB.
const MAX_SIZE: u64 = 16 << 20;
/// Its place in the cache.
const CACHED: &str = "ipsw/catalogue.xml";

/// The IPSWs for virtual Macs that Apple offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    firmwares: Vec<Firmware>,
}

/// An IPSW that Apple offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firmware {
    /// The version of macOS.
    pub version: String,
    /// Its build.
    pub build: String,
    /// Where it is.
    pub url: String,
    /// Its SHA-1 digest in hexadecimal, if the catalogue names one.
    pub sha1: Option<String>,
}

impl Catalogue {
    /// Fetches the catalogue; without a network it is the one that was fetched last.
    ///
    /// # Errors
    /// When there is neither, or when it makes no sense.
    pub fn fetch(cache: &Cache, progress: &dyn Progress) -> Result<Self> {
        let url = env::var(CATALOGUE_VARIABLE).ok().filter(|url| !url.is_empty());
        let url = url.as_deref().unwrap_or(ADDRESS);
        match download(url) {
            Ok(bytes) => {
                let catalogue = Self::parse(&bytes).map_err(|why| malformed_catalogue(url, why))?;
                cache.write(CACHED, &bytes)?;
                Ok(catalogue)
            }
            Err(error) if error.kind() == Kind::Network => {
                let Some(bytes) = cache.read(CACHED)? else { return Err(error) };
                progress.warn(&format!("the catalogue that was fetched before is used, for {}", error.why()));
                Self::parse(&bytes).map_err(|why| malformed_catalogue(url, why))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the catalogue's text. Says what is wrong with it.
    ///
    /// # Errors
    /// It is no such catalogue, or has nothing for virtual Macs.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let root = property_list(text)?;
        let versions = root.get("MobileDeviceSoftwareVersionsByVersion").and_then(Value::as_dictionary);
        let ours = |version: &Value| -> Option<Dictionary> {
            let products = version.as_dictionary()?.get("MobileDeviceSoftwareVersions")?.as_dictionary()?;
            products.get(VIRTUAL_MAC)?.as_dictionary().cloned()
        };
        let builds: Vec<_> =
            versions.into_iter().flatten().filter_map(|(_, version)| ours(version)).collect();
        // The same build stands under several versions of the format.
        let found: BTreeMap<_, _> = builds
            .iter()
            .flat_map(Dictionary::values)
            .filter_map(firmware)
            .map(|found| (found.build.clone(), found))
            .collect();
        let mut firmwares: Vec<_> = found.into_values().collect();
        firmwares.sort_by_key(|found| (numbers(&found.version), found.build.clone()));
        if firmwares.is_empty() {
            return Err(format!("it has nothing for {VIRTUAL_MAC}"));
        }
        Ok(Self { firmwares })
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> &[Firmware] {
        &self.firmwares
    }

    /// The newest.
    pub fn latest(&self) -> Option<&Firmware> {
        self.firmwares.last()
    }
}

fn firmware(build: &Value) -> Option<Firmware> {
    let restore = build.as_dictionary()?.get("Restore")?.as_dictionary()?;
    let text = |name: &str| restore.get(name).and_then(Value::as_string).filter(|text| is_printable(text));
    Some(Firmware {
        version: text("ProductVersion")?.to_owned(),
        build: text("BuildVersion")?.to_owned(),
        url: text("FirmwareURL").filter(|url| is_url(url))?.to_owned(),
        sha1: text("FirmwareSHA1").map(str::to_ascii_lowercase),
    })
}

fn is_printable(text: &str) -> bool {
    text.len() <= 1000 && text.chars().all(|c| c.is_ascii_graphic())
}

/// `15.10.1` as numbers, for comparing.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

fn download(url: &str) -> Result<Vec<u8>> {
    tls::check(url).map_err(|e| e.with_help("download an IPSW in another way, and name its path"))?;
    let response = agent().get(url).call().map_err(|e| unreachable(url, &e))?;
    if !response.status().is_success() {
        return Err(refused(url, response.status()));
    }
    let mut bytes = Vec::new();
    let mut body = response.into_body();
    body.as_reader().take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|e| unreachable(url, &e))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(malformed_catalogue(url, "it is far larger than Apple's".into()));
    }
    Ok(bytes)
}

fn malformed_catalogue(url: &str, why: String) -> Error {
    malformed(url, why)
        .with_help(format!("see whether {CATALOGUE_VARIABLE} is right, or name an IPSW's path or address"))
}
