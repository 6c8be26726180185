use std::fs;
use std::io::Write;

use flate2::{Compression, write::DeflateEncoder};
use sha1::{Digest as _, Sha1};

use super::*;
use crate::cache::Cache;
use crate::progress::Silent;
use crate::test_server::Server;

/// A manifest as Apple writes it, in the parts that matter.
pub(crate) fn manifest(class: &str, product: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>ProductVersion</key><string>15.1</string><key>ProductBuildVersion</key><string>24B83</string>
<key>SupportedProductTypes</key><array><string>MacBookAir10,1</string><string>{product}</string></array>
<key>BuildIdentities</key><array>
 <dict><key>ApBoardID</key><string>0x26</string><key>Info</key><dict><key>DeviceClass</key><string>j313ap</string></dict></dict>
 <dict><key>ApBoardID</key><string>0x20</string><key>Info</key><dict><key>DeviceClass</key><string>{class}</string>
  <key>VirtualMachineMinCPUCount</key><integer>2</integer><key>VirtualMachineMinMemorySizeMB</key><integer>4096</integer>
  <key>VirtualMachineMinHostOS</key><string>13.0.0</string></dict></dict>
</array></dict></plist>"#
    )
}

/// How an archive is made.
#[derive(Clone, Copy)]
struct Shape {
    stored: bool,
    zip64: bool,
    /// Bytes of another member before the manifest.
    before: usize,
    /// Members after it, which the directory names.
    others: usize,
}

const PLAIN: Shape = Shape { stored: false, zip64: false, before: 100, others: 3 };

/// A zip archive with a manifest.
pub(crate) fn ipsw(manifest: &str) -> Vec<u8> {
    archive(manifest, PLAIN)
}

fn archive(manifest: &str, shape: Shape) -> Vec<u8> {
    let mut zip = Zip { bytes: Vec::new(), directory: Vec::new(), count: 0, zip64: shape.zip64 };
    zip.add("System.dmg", &vec![0xab; shape.before], true);
    zip.add("BuildManifest.plist", manifest.as_bytes(), shape.stored);
    (0..shape.others).for_each(|n| zip.add(&format!("Firmware/all_flash/{n}.im4p"), b"x", true));
    zip.finish()
}

struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u64,
    zip64: bool,
}

impl Zip {
    fn add(&mut self, name: &str, content: &[u8], stored: bool) {
        let packed = if stored {
            content.to_vec()
        } else {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let method = if stored { 0u16 } else { 8 };
        let offset = self.bytes.len() as u64;
        let (sizes, extra): (Vec<u8>, Vec<u8>) = if self.zip64 {
            let wide = [content.len() as u64, packed.len() as u64, offset].map(u64::to_le_bytes).concat();
            // Another field first: the reader has to look for its own.
            let field = [&[9, 9, 2, 0, 0, 0][..], &[1, 0, 24, 0], &wide].concat();
            (vec![0xff; 8], field)
        } else {
            ([packed.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat(), Vec::new())
        };
        let common = [
            &[45, 0, 0, 0][..],
            &method.to_le_bytes(),
            &[0; 4],
            &crc.sum().to_le_bytes(),
            &sizes,
            &(name.len() as u16).to_le_bytes(),
            &(extra.len() as u16).to_le_bytes(),
        ]
        .concat();
        self.bytes.extend([b"PK\x03\x04", &common[..], name.as_bytes(), &extra, &packed].concat());
        let at = if self.zip64 { u32::MAX } else { offset as u32 };
        let entry = [b"PK\x01\x02\x2d\0", &common[..], &[0; 10], &at.to_le_bytes(), name.as_bytes(), &extra];
        self.directory.extend(entry.concat());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let (start, len) = (self.bytes.len() as u64, self.directory.len() as u64);
        self.bytes.extend(&self.directory);
        let [count, mut short_len, mut short_start] = [self.count as u32, len as u32, start as u32];
        if self.zip64 {
            let end = self.bytes.len() as u64;
            let fields = [self.count, self.count, len, start].map(u64::to_le_bytes).concat();
            self.bytes.extend(
                [b"PK\x06\x06", &44u64.to_le_bytes()[..], &[45, 0, 45, 0], &[0; 8], &fields].concat(),
            );
            self.bytes.extend([b"PK\x06\x07", &[0; 4][..], &end.to_le_bytes(), &[1, 0, 0, 0]].concat());
            (short_len, short_start) = (u32::MAX, u32::MAX);
        }
        let count = (count as u16).to_le_bytes();
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(
            [&count[..], &count, &short_len.to_le_bytes(), &short_start.to_le_bytes(), &[0; 2]].concat(),
        );
        self.bytes
    }
}

struct Memory<'a>(&'a [u8]);

impl Source for Memory<'_> {
    fn size(&mut self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        Ok(self.0[usize::try_from(offset).unwrap()..][..len].to_vec())
    }
}

fn inspect_bytes(bytes: &[u8]) -> Result<Ipsw> {
    read(&mut Memory(bytes), "x.ipsw")
}

#[test]
fn manifests_are_found_in_archives_of_all_shapes() {
    let text = manifest("vma2macosap", VIRTUAL_MAC);
    for (stored, zip64, before, others) in [
        (false, false, 100, 3),
        (true, false, 0, 0),
        (false, true, 0, 0),
        (true, true, 2 << 20, 10),
        // The directory does not fit into the end that is read at first.
        (false, false, 10, 12_000),
        (false, true, 2 << 20, 12_000),
    ] {
        let bytes = archive(&text, Shape { stored, zip64, before, others });
        let ipsw = inspect_bytes(&bytes).unwrap();
        assert_eq!((&*ipsw.version, &*ipsw.build, ipsw.size), ("15.1", "24B83", bytes.len() as u64));
        let host = Some("13.0.0".to_owned());
        assert_eq!(ipsw.virtual_mac, Some(Requirements { cpus: 2, memory_mib: 4096, host }));
        assert_eq!(ipsw.products, ["MacBookAir10,1", VIRTUAL_MAC]);
    }
}

#[test]
fn what_is_for_other_macs_only_says_so() {
    for (class, product) in [("vma2macosap", "Macmini9,1"), ("j274ap", VIRTUAL_MAC)] {
        assert_eq!(inspect_bytes(&ipsw(&manifest(class, product))).unwrap().virtual_mac, None);
    }
}

#[test]
fn damage_is_refused_and_never_panics() {
    let good = ipsw(&manifest("vma2macosap", VIRTUAL_MAC));
    for len in 0..good.len() {
        let error = inspect_bytes(&good[..len]).unwrap_err();
        assert_eq!(error.kind(), Kind::Format, "cut to {len}");
    }
    for zip64 in [false, true] {
        let good = archive(&manifest("vma2macosap", VIRTUAL_MAC), Shape { zip64, ..PLAIN });
        for at in 0..good.len() {
            for with in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = with;
                _ = inspect_bytes(&bad);
            }
        }
    }
    for text in ["", "<plist", "<plist><array/></plist>", "<plist><dict/></plist>"] {
        let error = inspect_bytes(&ipsw(text)).unwrap_err();
        assert!(error.to_string().contains("x.ipsw"), "{error}");
    }
}

#[test]
fn deep_lists_do_not_exhaust_the_stack() {
    let deep = |bracket: &str| format!("<plist><dict><key>k</key>{}", bracket.repeat(1_000_000));
    for text in [deep("<array>"), deep("<array ><dict><key>k</key>"), deep("<!-- </array> --><array>")] {
        assert!(manifest::property_list(text.as_bytes()).is_err());
    }
    let flat =
        format!("<plist><dict><key>k</key><array>{}</array></dict></plist>", "<array/>".repeat(10_000));
    assert!(manifest::property_list(flat.as_bytes()).is_ok());
}

#[test]
fn servers_are_asked_for_parts_only() {
    let server = Server::start();
    let bytes = archive(&manifest("vma2macosap", VIRTUAL_MAC), Shape { before: 8 << 20, ..PLAIN });
    server.put("m.ipsw", &bytes);
    let url = format!("{}/m.ipsw", server.address);
    assert_eq!(inspect(&url).unwrap().build, "24B83");
    let ranges: Vec<_> = server.set(|s| s.requests.drain(..).map(|(_, range)| range.unwrap()).collect());
    assert_eq!(ranges.len(), 3, "size, end, manifest: {ranges:?}");

    server.set(|s| s.no_ranges = true);
    let error = inspect(&url).unwrap_err();
    assert!(error.help().contains("ipsw fetch"), "{error}");
    assert_eq!(inspect(&format!("{}/none.ipsw", server.address)).unwrap_err().kind(), Kind::Missing);
}

fn sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn downloads_go_on_where_they_broke_off() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = archive(&manifest("vma2macosap", VIRTUAL_MAC), Shape { before: 3 << 20, ..PLAIN });
    server.put("m.ipsw", &bytes);
    let (cache, url) = (Cache::at(dir.path()), format!("{}/m.ipsw", server.address));
    server.set(|s| s.break_after = Some(1 << 20));
    let (path, ipsw) = fetch(&url, Some(&sha1(&bytes)), &cache, &Silent).unwrap();
    assert_eq!(ipsw.version, "15.1");
    assert!(fs::read(&path).unwrap() == bytes);
    let requests = server.set(|s| s.requests.drain(..).collect::<Vec<_>>());
    assert!(requests.iter().any(|(_, range)| range.as_deref() == Some("bytes=1048576-")), "{requests:?}");
    assert_eq!(cached(&cache).unwrap(), std::slice::from_ref(&path));
    // It is there: nobody is asked again.
    fetch(&url, None, &cache, &Silent).unwrap();
    assert!(server.set(|s| s.requests.is_empty()));
}

#[test]
fn what_an_ended_process_left_is_taken_up_and_what_is_wrong_is_not() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = ipsw(&manifest("vma2macosap", VIRTUAL_MAC));
    server.put("m.ipsw", &bytes);
    let (cache, url) = (Cache::at(dir.path()), format!("{}/m.ipsw", server.address));
    let digest = sha1(&bytes);
    let partial = dir.path().join("ipsw/m.ipsw.partial");
    fs::create_dir(dir.path().join("ipsw")).unwrap();
    for left in [bytes[..50].to_vec(), vec![0; 50], bytes.clone(), [&bytes[..], &[0; 10]].concat()] {
        fs::write(&partial, &left).unwrap();
        let (path, _) = fetch(&url, Some(&digest), &cache, &Silent).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "{} bytes were left", left.len());
        fs::remove_file(path).unwrap();
    }
    let error = fetch(&url, Some(&sha1(b"other")), &cache, &Silent).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    server.put("m.ipsw", b"a page that says to log in");
    assert_eq!(fetch(&url, None, &cache, &Silent).unwrap_err().kind(), Kind::Format);
    assert!(cached(&cache).unwrap().is_empty());
    for odd in ["http://x/", "http://x/y.zip", "http://x/.ipsw", "http://x/a b.ipsw"] {
        assert_eq!(fetch(odd, None, &cache, &Silent).unwrap_err().kind(), Kind::Request, "{odd}");
    }
}

/// A catalogue in the form of Apple's.
fn catalogue(builds: &[(&str, &str)]) -> String {
    let one = |(version, build): &(&str, &str)| {
        format!(
            "<key>{build}</key><dict><key>Restore</key><dict><key>BuildVersion</key><string>{build}</string>\
             <key>FirmwareSHA1</key><string>ABCD</string><key>FirmwareURL</key>\
             <string>https://h/U_{build}_Restore.ipsw</string><key>ProductVersion</key><string>{version}</string></dict></dict>"
        )
    };
    let builds: String = builds.iter().map(one).collect();
    format!(
        "<plist version=\"1.0\"><dict><key>MobileDeviceSoftwareVersionsByVersion</key><dict><key>1</key><dict>\
         <key>MobileDeviceSoftwareVersions</key><dict><key>Mac13,1</key><dict/><key>VirtualMac2,1</key><dict>\
         <key>Unknown</key><dict><key>Universal</key><dict/></dict>{builds}</dict></dict></dict></dict></dict></plist>"
    )
}

#[test]
fn the_newest_of_the_catalogue_is_the_latest() {
    let text = catalogue(&[("15.9", "24X"), ("15.10", "24Y"), ("14.7", "23Z")]);
    let catalogue = Catalogue::parse(text.as_bytes()).unwrap();
    let latest = catalogue.latest().unwrap();
    assert_eq!((&*latest.build, latest.sha1.as_deref()), ("24Y", Some("abcd")));
    assert!(latest.url.ends_with("U_24Y_Restore.ipsw"));
    assert_eq!(catalogue.all().len(), 3);
    for bad in ["<plist><dict/></plist>", "<html>", &self::catalogue(&[])] {
        assert!(Catalogue::parse(bad.as_bytes()).is_err());
    }
}
