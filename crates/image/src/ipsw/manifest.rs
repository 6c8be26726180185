//! `BuildManifest.plist`: which macOS an IPSW is, for which Macs, and what a virtual Mac needs for it.

use std::io::Cursor;

use plist::{Dictionary, Value};
use serde::Serialize;

/// The product name of Apple's virtual Mac.
pub const VIRTUAL_MAC: &str = "VirtualMac2,1";
/// Its board, as manifests name it.
const DEVICE_CLASS: &str = "vma2macosap";
/// Deeper than any property list of Apple's, and harmless for the stack.
const MAX_DEPTH: i32 = 64;

/// What an IPSW is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ipsw {
    /// The version of macOS, "15.1".
    pub version: String,
    /// Its build, "24B83".
    pub build: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The products that it is for.
    pub products: Vec<String>,
    /// What a virtual Mac needs for it; `None` when it is not for virtual Macs.
    pub virtual_mac: Option<Requirements>,
}

/// What a virtual Mac needs for a macOS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirements {
    /// The fewest vCPUs.
    pub cpus: u64,
    /// The least memory in MiB.
    pub memory_mib: u64,
    /// The oldest macOS of the host, if it names one.
    pub host: Option<String>,
}

/// Reads a manifest of an IPSW of `size` bytes. Says what is wrong with it.
pub(super) fn parse(text: &[u8], size: u64) -> Result<Ipsw, String> {
    let root = property_list(text)?;
    let words = |name: &str| root.get(name).and_then(Value::as_string).filter(|word| is_plain(word));
    let word = |name: &str| words(name).map(str::to_owned).ok_or(format!("its manifest has no {name}"));
    let products = root.get("SupportedProductTypes").and_then(Value::as_array).into_iter().flatten();
    let products: Vec<_> =
        products.filter_map(Value::as_string).filter(|word| is_plain(word)).map(str::to_owned).collect();
    let identities = root.get("BuildIdentities").and_then(Value::as_array).into_iter().flatten();
    let mut infos = identities.filter_map(|i| i.as_dictionary()?.get("Info")?.as_dictionary());
    let ours = infos.find(|info| info.get("DeviceClass").and_then(Value::as_string) == Some(DEVICE_CLASS));
    let virtual_mac = ours.filter(|_| products.iter().any(|p| p == VIRTUAL_MAC)).map(requirements);
    Ok(Ipsw {
        version: word("ProductVersion")?,
        build: word("ProductBuildVersion")?,
        size,
        products,
        virtual_mac,
    })
}

fn requirements(info: &Dictionary) -> Requirements {
    let number = |name: &str| info.get(name).and_then(Value::as_unsigned_integer);
    let host = info.get("VirtualMachineMinHostOS").and_then(Value::as_string);
    Requirements {
        // What the framework takes for any macOS.
        cpus: number("VirtualMachineMinCPUCount").unwrap_or(2),
        memory_mib: number("VirtualMachineMinMemorySizeMB").unwrap_or(4096),
        host: host.filter(|word| is_plain(word)).map(str::to_owned),
    }
}

/// Whether it can be shown to people as it is.
fn is_plain(word: &str) -> bool {
    word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric() || ".,-_ ".contains(c))
}

/// Reads an XML property list whose root is a dictionary.
pub(super) fn property_list(text: &[u8]) -> Result<Dictionary, String> {
    let text = str::from_utf8(text).map_err(|_| "its property list is not UTF-8")?;
    if !is_shallow(text) {
        return Err("its property list is none of Apple's".into());
    }
    let value = Value::from_reader_xml(Cursor::new(text)).map_err(|e| e.to_string())?;
    value.into_dictionary().ok_or_else(|| "its property list is no dictionary".into())
}

/// Whether nothing in it is nested so deep that freeing it would exhaust the stack. What could hide brackets (comments and
/// character data) is not in Apple's lists.
fn is_shallow(text: &str) -> bool {
    if text.contains("<!--") || text.contains("<![") {
        return false;
    }
    let mut depth = 0;
    text.split('<').skip(1).all(|tag| {
        let container = |tag: &str| tag.starts_with("array") || tag.starts_with("dict");
        match tag.strip_prefix('/') {
            Some(closed) if container(closed) => depth -= 1,
            None if container(tag) && !tag.split('>').next().is_some_and(|tag| tag.ends_with('/')) => {
                depth += 1
            }
            _ => {}
        }
        depth <= MAX_DEPTH
    })
}
