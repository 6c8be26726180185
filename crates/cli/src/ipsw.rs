//! `ipsw`: what macOS is installed from.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use serde::Serialize;
use tearless_bundle::Store;
use tearless_image::{
    Progress,
    cache::Cache,
    ipsw::{self, Catalogue, Firmware, Ipsw},
};

use crate::{
    args::{IpswCommand, IpswSourceArgs, ListArgs},
    mac,
    out::say,
    progress::Bars,
};

/// The word for the newest that Apple offers.
const LATEST: &str = "latest";

pub fn ipsw(command: &IpswCommand) -> Result<ExitCode> {
    match command {
        IpswCommand::List(args) => list(args)?,
        IpswCommand::Info(args) => info(args)?,
        IpswCommand::Fetch(args) => fetch(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What `ipsw list --json` prints (docs/json.md).
#[derive(Serialize)]
struct Known {
    /// What Apple offers, the oldest first; nothing when that cannot be told.
    offered: Vec<Firmware>,
    /// Files in the cache.
    cached: Vec<Cached>,
}

#[derive(Serialize)]
struct Cached {
    path: String,
    size: u64,
}

fn list(args: &ListArgs) -> Result<()> {
    let (cache, bars) = (Cache::open()?, Bars::new());
    let offered = match Catalogue::fetch(&cache, &bars) {
        Ok(catalogue) => catalogue.all().to_vec(),
        // What is in the cache can be used without a network.
        Err(error) => {
            bars.warn(&error.to_string());
            Vec::new()
        }
    };
    let size = |path: &std::path::Path| fs::metadata(path).map_or(0, |m| m.len());
    let cached = ipsw::cached(&cache)?
        .iter()
        .map(|p| Cached { path: p.display().to_string(), size: size(p) })
        .collect();
    let known = Known { offered, cached };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&known)?);
        return Ok(());
    }
    for Firmware { version, build, url, .. } in &known.offered {
        say!("{version:<8} {build:<10} {url}");
    }
    for Cached { path, size } in &known.cached {
        say!("in the cache, {} MiB: {path}", size >> 20);
    }
    if known.cached.is_empty() {
        say!("none is in the cache; `tearless ipsw fetch latest` fetches the newest");
    }
    Ok(())
}

/// Where the IPSW that was asked for is, and its SHA-1 digest if Apple says it.
fn find(source: &str, cache: &Cache, bars: &Bars) -> Result<(String, Option<String>)> {
    if source != LATEST {
        return Ok((source.to_owned(), None));
    }
    let catalogue = Catalogue::fetch(cache, bars)?;
    let Firmware { url, sha1, .. } = catalogue.latest().context("Apple's catalogue is empty")?;
    Ok((url.clone(), sha1.clone()))
}

/// The file of the IPSW `source`, which is downloaded if it is elsewhere.
pub fn local(source: &str, bars: &Bars) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let (source, sha1) = find(source, &cache, bars)?;
    if !ipsw::is_url(&source) {
        return std::path::absolute(&source).with_context(|| format!("cannot find {source}"));
    }
    Ok(ipsw::fetch(&source, sha1.as_deref(), &cache, bars)?.0)
}

fn info(args: &IpswSourceArgs) -> Result<()> {
    let (source, _) = find(&args.source, &Cache::open()?, &Bars::new())?;
    let ipsw = ipsw::inspect(&source)?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&ipsw)?);
    } else {
        print(&source, &ipsw);
    }
    Ok(())
}

fn print(source: &str, ipsw: &Ipsw) {
    say!("IPSW     {source}\nmacOS    {} ({})\nSize     {} MiB", ipsw.version, ipsw.build, ipsw.size >> 20);
    match &ipsw.virtual_mac {
        Some(needs) => {
            let host = needs.host.as_deref().map(|host| format!(", a host with macOS {host} or newer"));
            say!(
                "Guest    a virtual Mac with at least {} vCPUs and {} MiB{}",
                needs.cpus,
                needs.memory_mib,
                host.unwrap_or_default()
            );
        }
        None => say!("Guest    no: it is not for virtual Macs ({} only)", ipsw.products.join(", ")),
    }
}

fn fetch(args: &IpswSourceArgs) -> Result<()> {
    let (cache, bars) = (Cache::open()?, Bars::new());
    let (source, sha1) = find(&args.source, &cache, &bars)?;
    if !ipsw::is_url(&source) {
        anyhow::bail!(
            "cannot fetch {source}\n  because: it is no address\n  try: `latest`, or an http(s) address"
        );
    }
    mac::show_licence(&Store::open()?)?;
    let (path, ipsw) = ipsw::fetch(&source, sha1.as_deref(), &cache, &bars)?;
    let path = path.display().to_string();
    if args.json {
        say!("{}", serde_json::to_string_pretty(&ipsw)?);
    } else {
        print(&path, &ipsw);
    }
    Ok(())
}
