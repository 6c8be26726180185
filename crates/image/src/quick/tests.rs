use std::io::Write;

use super::*;
use crate::deb::tests as deb_tests;
use crate::digest::Digest;
use crate::error::Kind;
use crate::progress::Silent;
use crate::test_server::Server;

const MODULES: &str = "usr/lib/modules/6.1-cloud";

/// An index with a kernel in the older and the newer split, and busybox; the packages are put on the server.
fn archive(server: &Server) -> Index {
    let image = deb_tests::build("Package: linux-image-6.1-cloud\n", |tar| {
        deb_tests::append(tar, "./boot/vmlinuz-6.1-cloud", b"KERNEL");
    });
    let modules = deb_tests::build("Package: linux-modules-6.1-cloud\n", |tar| {
        deb_tests::append(tar, &format!("./{MODULES}/modules.builtin"), b"kernel/fs/ext4/ext4.ko\n");
    });
    let busybox = deb_tests::build("Package: busybox-static\n", |tar| {
        deb_tests::append(tar, "./usr/bin/busybox", b"ELF")
    });
    let mut index = Index::default();
    let mut add = |name: &str, depends: &str, deb: &[u8]| {
        let path = format!("pool/{name}.deb");
        server.put(&path, deb);
        index.add(&format!(
            "Package: {name}\nVersion: 6.1-1\nArchitecture: arm64\nDepends: {depends}\nFilename: {path}\nSize: {}\nSHA256: {}\n",
            deb.len(),
            Digest::of(deb)
        ), &Mirror::choose(Some(&server.address)).unwrap());
    };
    add("linux-image-cloud-arm64", "linux-image-6.1-cloud (= 6.1-1)", b"");
    add("linux-image-6.1-cloud", "kmod, linux-modules-6.1-cloud", &image);
    add("linux-modules-6.1-cloud", "", &modules);
    add("busybox-static", "", &busybox);
    index
}

#[test]
fn the_payload_is_built_once_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (server, cache) = (Server::start(), Cache::at(dir.path()));
    let index = archive(&server);
    let fetcher = Fetcher::new(Mirror::choose(Some(&server.address)).unwrap(), cache.clone(), &Silent);
    let options = QuickOptions::default();
    let folder = format!("quick/{PAYLOAD_FORMAT}/trixie-cloud");
    build(&fetcher, &index, Flavour::Cloud, &folder, wanted_modules(&options)).unwrap();

    let payload = quick_boot_in(&cache, &options, &Silent).unwrap();
    assert_eq!(fs::read(&payload.kernel.image).unwrap(), b"KERNEL");
    assert_eq!((payload.kernel.release.as_str(), payload.kernel.version.as_str()), ("6.1-cloud", "6.1-1"));
    assert_eq!((payload.busybox.as_slice(), payload.busybox_version.as_str()), (&b"ELF"[..], "6.1-1"));
    assert!(payload.kernel.modules.is_empty());
    assert!(!payload.kernel.unknown_modules.contains(&"ext4".to_owned()), "it is built in");
    assert!(payload.kernel.unknown_modules.contains(&"virtio_blk".to_owned()));

    // A file that changed its size, or a module that was not asked for before, makes the payload anew: here that fails,
    // because the mirror has no release file.
    let again = |options: &QuickOptions| {
        let options = QuickOptions { mirror: Some(server.address.clone()), ..options.clone() };
        quick_boot_in(&cache, &options, &Silent).unwrap_err().kind()
    };
    assert_eq!(again(&QuickOptions { extra_modules: vec!["nbd".into()], ..options.clone() }), Kind::Missing);
    assert_eq!(again(&QuickOptions { refresh: true, ..options.clone() }), Kind::Missing);
    assert!(quick_boot_in(&cache, &options, &Silent).is_ok(), "failed attempts leave the old payload");
    fs::OpenOptions::new().append(true).open(&payload.kernel.image).unwrap().write_all(b"x").unwrap();
    assert_eq!(again(&options), Kind::Missing);
}

#[test]
fn odd_requests_are_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("none"));
    let options = QuickOptions { suite: "../../etc".into(), ..QuickOptions::default() };
    assert_eq!(quick_boot_in(&cache, &options, &Silent).unwrap_err().kind(), Kind::Request);
    assert!(!cache.root().exists());
    assert!("huge".parse::<Flavour>().is_err());
    assert_eq!("16k".parse::<Flavour>().unwrap(), Flavour::Pages16k);
}
