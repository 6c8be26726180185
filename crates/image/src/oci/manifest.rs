//! The manifest of an image, and the kinds of layers that VMs have. Tart's are read and written as Tart does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What a manifest is.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What its `config` is.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Tart's description of the VM; there is exactly one.
pub const TART_CONFIG: &str = "application/vnd.cirruslabs.tart.config.v1";
/// A piece of Tart's disk, packed on its own.
pub const TART_DISK: &str = "application/vnd.cirruslabs.tart.disk.v2";
/// The auxiliary storage of a virtual Mac, or EFI's variables; there is exactly one.
pub const TART_NVRAM: &str = "application/vnd.cirruslabs.tart.nvram.v1";
/// A piece of the disk as old releases of Tart cut it: one stream over all pieces.
const TART_OLD_DISK: &str = "application/vnd.cirruslabs.tart.disk.v1";
/// Our own description of the VM.
pub const OWN_CONFIG: &str = "application/vnd.tearless.config.v1+json";
/// Another file of our VM's folder; [`TITLE`] says which.
pub const OWN_FILE: &str = "application/vnd.tearless.file.v1";
/// A piece of a further disk, packed as Tart's; [`TITLE`] says of which.
pub const OWN_DISK: &str = "application/vnd.tearless.disk.v1";

/// The annotation that names a file.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
const PLAIN_SIZE: &str = "org.cirruslabs.tart.uncompressed-size";
const PLAIN_DIGEST: &str = "org.cirruslabs.tart.uncompressed-content-digest";
pub(crate) const DISK_SIZE: &str = "org.cirruslabs.tart.uncompressed-disk-size";
/// The label in the image's configuration that says how Tart stores the disk.
pub(crate) const DISK_FORMAT: &str = "org.cirruslabs.tart.disk.format";

/// The largest disk that is believed: 64 TiB.
const MAX_DISK: u64 = 64 << 40;

/// A manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A disk in an image.
#[derive(Clone, Debug)]
pub struct DiskLayers {
    /// Its file in the VM's folder; none says so of Tart's.
    pub title: Option<String>,
    /// Bytes that it has.
    pub size: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// Of what is unpacked.
    pub(crate) digest: Digest,
    pub(crate) layer: Descriptor,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, size: u64, digest: &Digest) -> Self {
        let digest = format!("sha256:{digest}");
        Self { media_type: media_type.into(), size, digest, annotations: BTreeMap::new() }
    }

    #[must_use]
    pub(crate) fn titled(mut self, title: Option<&str>) -> Self {
        self.annotations.extend(title.map(|title| (TITLE.to_owned(), title.to_owned())));
        self
    }

    #[must_use]
    pub(crate) fn unpacked(mut self, size: u64, digest: &Digest) -> Self {
        self.annotations.insert(PLAIN_SIZE.into(), size.to_string());
        self.annotations.insert(PLAIN_DIGEST.into(), format!("sha256:{digest}"));
        self
    }

    /// The file that it is called to be.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }

    /// Its size in bytes, as it is in the registry.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn digest(&self) -> Result<Digest, &'static str> {
        digest_of(&self.digest)
    }
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>, disk_size: u64) -> Self {
        let annotations = [(DISK_SIZE.to_owned(), disk_size.to_string())].into();
        Self { schema_version: 2, media_type: Some(MANIFEST.into()), config, layers, annotations }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Says why it is none of a VM.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            #[serde(default)]
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind =
            serde_json::from_slice(text).map_err(|e| format!("its manifest is not understood: {e}"))?;
        if kind.manifests.is_some() || kind.media_type.is_some_and(|t| t != MANIFEST) {
            return Err("it is an image of something else, for example of containers".into());
        }
        let manifest: Self =
            serde_json::from_slice(text).map_err(|e| format!("its manifest is not understood: {e}"))?;
        if manifest.schema_version != 2 {
            return Err(format!("its manifest has version {}", manifest.schema_version));
        }
        Ok(manifest)
    }

    /// The layers of a kind.
    pub fn of<'a>(&'a self, media_type: &'a str) -> impl Iterator<Item = &'a Descriptor> {
        self.layers.iter().filter(move |layer| layer.media_type == media_type)
    }

    /// The disks, the one that Tart knows first.
    ///
    /// # Errors
    /// Says what is missing or contradictory.
    pub fn disks(&self) -> Result<Vec<DiskLayers>, String> {
        if self.of(TART_OLD_DISK).next().is_some() {
            return Err(
                "its disk is in the format of Tart before version 2; have it pushed again by a newer Tart"
                    .into(),
            );
        }
        let mut disks: Vec<DiskLayers> = Vec::new();
        for layer in self.of(TART_DISK).chain(self.of(OWN_DISK)) {
            let is_new = disks.last().is_none_or(|disk| disk.title.as_deref() != layer.title());
            if is_new {
                let title = layer.title().map(str::to_owned);
                disks.push(DiskLayers { title, size: 0, pieces: Vec::new() });
            }
            let Some(disk) = disks.last_mut() else { continue };
            let size = layer.annotations.get(PLAIN_SIZE).and_then(|size| size.parse::<u64>().ok());
            let size = size.ok_or("a layer of its disk does not say how large it is")?;
            let digest = layer.annotations.get(PLAIN_DIGEST).ok_or("a layer of its disk has no digest")?;
            let digest = digest_of(digest)?;
            layer.digest()?;
            disk.pieces.push(Piece { offset: disk.size, size, digest, layer: layer.clone() });
            disk.size = disk
                .size
                .checked_add(size)
                .filter(|size| *size <= MAX_DISK)
                .ok_or("its disk is too large")?;
        }
        if disks.is_empty() {
            return Err("it has no disk of a VM; perhaps it is an image of containers".into());
        }
        Ok(disks)
    }
}

fn digest_of(text: &str) -> Result<Digest, &'static str> {
    let digest = text.strip_prefix("sha256:").and_then(Digest::parse);
    digest.ok_or("a digest in its manifest is none of SHA-256")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layers: &str) -> Result<Manifest, String> {
        let config = format!(r#"{{"mediaType":"{CONFIG}","size":2,"digest":"sha256:{}"}}"#, "0".repeat(64));
        Manifest::parse(format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#).as_bytes())
    }

    #[test]
    fn disks_are_cut_into_pieces() {
        let digest = Digest::of(b"x");
        let layer = |media: &str, title: Option<&str>, size| {
            let layer = Descriptor::new(media, 10, &digest).titled(title).unpacked(size, &digest);
            serde_json::to_string(&layer).unwrap()
        };
        let layers = [
            layer(TART_DISK, None, 100),
            layer(OWN_DISK, Some("disks/2"), 7),
            layer(TART_DISK, None, 50),
            layer("other", None, 1),
        ];
        let disks = manifest(&layers.join(",")).unwrap().disks().unwrap();
        assert_eq!(disks.iter().map(|d| d.size).collect::<Vec<_>>(), [150, 7]);
        assert_eq!(disks[0].pieces.iter().map(|p| p.offset).collect::<Vec<_>>(), [0, 100]);
        assert_eq!(disks[1].title.as_deref(), Some("disks/2"));
    }

    #[test]
    fn what_is_no_vm_is_told() {
        let layer =
            |media: &str| serde_json::to_string(&Descriptor::new(media, 10, &Digest::of(b""))).unwrap();
        for (layers, hint) in [
            (String::new(), "no disk"),
            (layer(TART_OLD_DISK), "before version 2"),
            (layer(TART_DISK), "how large"),
            (layer(TART_DISK).replace("sha256:", "sha1:"), "how large"),
        ] {
            let why = manifest(&layers).unwrap().disks().unwrap_err();
            assert!(why.contains(hint), "{why}");
        }
        let index =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(Manifest::parse(index).unwrap_err().contains("containers"));
        assert!(Manifest::parse(b"[]").is_err());
        let huge = Descriptor::new(TART_DISK, 1, &Digest::of(b"")).unpacked(u64::MAX, &Digest::of(b""));
        assert!(manifest(&serde_json::to_string(&huge).unwrap()).unwrap().disks().is_err());
    }
}
