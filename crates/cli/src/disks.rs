//! `--disk`, and what a disk of the configuration is to the library.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use tearless_config::{ByteSize, CacheMode, DiskBus, DiskConfig, DiskFormat, SyncMode};
use tearless_vm::{
    DiskSpec,
    storage::{self, Cache, Format, OpenOptions, Sync},
};

type Setting = fn(&mut DiskConfig);

/// What `--disk` may say after the file.
const SUFFIXES: [(&str, Setting); 12] = [
    (":ro", |d| d.read_only = true),
    (":format=raw", |d| d.format = Some(DiskFormat::Raw)),
    (":format=qcow2", |d| d.format = Some(DiskFormat::Qcow2)),
    (":format=vmdk", |d| d.format = Some(DiskFormat::Vmdk)),
    (":sync=full", |d| d.sync = SyncMode::Full),
    (":sync=fsync", |d| d.sync = SyncMode::Fsync),
    (":sync=none", |d| d.sync = SyncMode::None),
    (":cache=host", |d| d.cache = CacheMode::Host),
    (":cache=none", |d| d.cache = CacheMode::None),
    (":bus=virtio", |d| d.bus = DiskBus::Virtio),
    (":bus=nvme", |d| d.bus = DiskBus::Nvme),
    (":bus=usb", |d| d.bus = DiskBus::Usb),
];

/// The disks of the command line; relative paths are made absolute, so that they do not turn into files of a bundle;
/// addresses of servers stay as they are.
pub fn parse(disks: &[OsString]) -> Result<Vec<DiskConfig>> {
    disks.iter().map(|text| parse_one(text)).collect()
}

fn parse_one(text: &OsStr) -> Result<DiskConfig> {
    let mut rest = text.as_bytes();
    let mut disk = DiskConfig::new("");
    let known = |rest: &[u8]| SUFFIXES.iter().find(|(suffix, _)| rest.ends_with(suffix.as_bytes()));
    while let Some((suffix, apply)) = known(rest) {
        apply(&mut disk);
        rest = rest.strip_suffix(suffix.as_bytes()).unwrap_or_default();
    }
    if rest.is_empty() {
        bail!("cannot attach a disk without a name\n  try: --disk FILE or --disk FILE:ro");
    }
    let path = Path::new(OsStr::from_bytes(rest));
    refuse_unknown(path)?;
    if storage::reach(path)?.is_some() {
        disk.path = path.to_owned();
        return Ok(disk);
    }
    disk.path = std::path::absolute(path).with_context(|| format!("cannot find disk {}", path.display()))?;
    Ok(disk)
}

/// Makes the disk of a new VM in `folder`.
pub fn make_disk(folder: &Path, size: ByteSize) -> Result<()> {
    let path = folder.join("Disk.img");
    File::create_new(&path)
        .and_then(|file| file.set_len(size.bytes()))
        .with_context(|| format!("cannot make a disk of {size} at {}", path.display()))
}

/// An installation medium.
pub fn iso(path: &Path) -> Result<DiskConfig> {
    let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    Ok(DiskConfig { read_only: true, format: Some(DiskFormat::Raw), ..DiskConfig::new(path) })
}

/// Copies the content of the image `from`, of whatever format, to a new raw file, which is at least `size` bytes long.
/// What is zero takes no room.
pub fn import(from: &Path, to: &Path, size: u64) -> Result<()> {
    let write = || format!("cannot write {}", to.display());
    let source = storage::open(from, OpenOptions { read_only: true, ..OpenOptions::default() })?.size();
    if size > 0 && size < source {
        bail!(
            "cannot put {} onto a disk of {size} bytes\n  because: it has {source}\n  try: a larger --disk",
            from.display()
        );
    }
    storage::flatten(from, None, to)?;
    let file = File::options().write(true).open(to).with_context(write)?;
    file.set_len(size.max(source)).and_then(|()| file.sync_all()).with_context(write)
}

/// A file name may have colons; but one that ends like a setting, and is no file, is a setting mistyped.
fn refuse_unknown(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    let Some((_, setting)) = text.rsplit_once(':') else { return Ok(()) };
    let key = setting.split_once('=').map_or(setting, |(key, _)| key);
    if matches!(key, "ro" | "rw" | "format" | "sync" | "cache" | "bus") && !path.exists() {
        bail!(
            "cannot attach disk {text}\n  because: there is no setting `{setting}`\n  try: \
             FILE[:ro][:format=raw|qcow2|vmdk][:sync=full|fsync|none][:cache=host|none][:bus=virtio|nvme|usb]"
        );
    }
    Ok(())
}

/// What the library is told of `disk`, of the VM in the folder `bundle`.
pub fn spec(disk: &DiskConfig, bundle: Option<&Path>) -> DiskSpec {
    let own = bundle.filter(|_| disk.path.is_relative() && !storage::is_remote(&disk.path));
    let format = match disk.format {
        Some(DiskFormat::Raw) => Some(Format::Raw),
        Some(DiskFormat::Qcow2) => Some(Format::Qcow2),
        Some(DiskFormat::Vmdk) => Some(Format::Vmdk),
        None => own.map(|_| Format::Raw),
    };
    let options = OpenOptions {
        read_only: disk.read_only,
        sync: match disk.sync {
            SyncMode::Full => Sync::Full,
            SyncMode::Fsync => Sync::Fsync,
            SyncMode::None => Sync::None,
        },
        cache: match disk.cache {
            CacheMode::Host => Cache::Host,
            CacheMode::None => Cache::None,
        },
        format,
    };
    let path = own.map_or_else(|| disk.path.clone(), |bundle| bundle.join(&disk.path));
    DiskSpec { path, options, changes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_absolute_and_may_have_settings() {
        let disks = ["/a:b", "/c:ro", "d", "/e:x.img:cache=none:ro:format=qcow2:sync=none:bus=usb"]
            .map(OsString::from);
        let disks = parse(&disks).unwrap();
        assert_eq!((disks[0].path.to_str(), disks[0].read_only), (Some("/a:b"), false));
        assert_eq!((disks[1].path.to_str(), disks[1].read_only), (Some("/c"), true));
        assert!(disks[2].path.is_absolute());
        let all = DiskConfig {
            path: "/e:x.img".into(),
            format: Some(DiskFormat::Qcow2),
            read_only: true,
            sync: SyncMode::None,
            cache: CacheMode::None,
            bus: DiskBus::Usb,
        };
        assert_eq!(disks[3], all);
        let served = parse(&["nbd://h:1/x:ro".into(), "nbd+unix:///?socket=/a:b:sync=none".into()]).unwrap();
        assert_eq!((served[0].path.to_str(), served[0].read_only), (Some("nbd://h:1/x"), true));
        let remote = spec(&served[1], Some(Path::new("/b")));
        assert_eq!(remote.path.to_str(), Some("nbd+unix:///?socket=/a:b"));
        assert_eq!((remote.options.format, remote.options.sync), (None, Sync::None));
        for wrong in ["", ":ro", "x:sync=maybe", "x:rw", "x:bus=ide", "nbd://", "nbds://h/x"] {
            assert!(parse(&[wrong.into()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bundles_own_disk_is_raw_unless_told() {
        let mut disk = DiskConfig::new("Disk.img");
        let bundle = Some(Path::new("/b"));
        let own = spec(&disk, bundle);
        assert_eq!((own.path.to_str(), own.options.format), (Some("/b/Disk.img"), Some(Format::Raw)));
        disk.format = Some(DiskFormat::Qcow2);
        assert_eq!(spec(&disk, bundle).options.format, Some(Format::Qcow2));
        assert_eq!(spec(&DiskConfig::new("/x/Disk.img"), bundle).options.format, None);
    }
}
