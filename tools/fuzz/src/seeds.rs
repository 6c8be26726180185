//! Inputs that get somewhere, made here: small files of every kind that the parsers know, and useful instructions.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use tearless_efi::media::{Volume, fat::Fat};

use crate::targets::{HEAD, KINDS, MemoryDisk, saved_seed};

/// What `spice-vdagent` says: that it knows selections, that a text was copied, the text, that it wants one.
pub fn desktop_agent() -> Vec<Vec<u8>> {
    let message = |kind: u32, data: &[u32]| {
        let len = 4 * data.len() as u32;
        let words = [&[1, 20 + len, 1, kind, 0, 0, len][..], data].concat();
        words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>()
    };
    let all =
        [message(6, &[1, 0x62]), message(7, &[0, 1]), message(4, &[0, 1, 0x6c6c_6568]), message(8, &[0, 1])];
    vec![all.concat()]
}

/// Devices need none: their inputs are programs as they come.
pub fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// What a machine says of itself.
pub fn saved() -> Vec<Vec<u8>> {
    saved_seed().into_iter().collect()
}

/// `printf 'tearless\n' | xz`, `zstd` and `xz --format=lzma`.
const XZ: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x08tearless\x0a\x00\x00\x00\x00\xe1W!BWy\xe2\x90\x00\x01!\x09l\x18\xc5\xd5\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";
const ZSTD: &[u8] = b"(\xb5/\xfd\x04XI\x00\x00tearless\x0a;\x9e))";
const LZMA: &[u8] = b"]\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00:\x19HI\xa0:\x96\xcdz\xfe\xbe/\xff\xff\xef\xfd\x00\x00";

/// Writes to a `Vec` do not fail.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

/// Greetings of a modern and an old server, and replies to the requests that are in progress.
pub fn nbd() -> Vec<Vec<u8>> {
    let greeting = b"NBDMAGICIHAVEOPT\0\x03";
    let answer = |option: u32, kind: u32, data: &[u8]| {
        let mut bytes = 0x0003_e889_0455_65a9u64.to_be_bytes().to_vec();
        [option, kind, data.len() as u32].iter().for_each(|word| bytes.extend(word.to_be_bytes()));
        [bytes, data.to_vec()].concat()
    };
    let export = [&[0; 2][..], &(1u64 << 30).to_be_bytes(), &[0, 0x6d]].concat();
    let blocks = [&[0, 3][..], &[1u32, 4096, 1 << 20].map(u32::to_be_bytes).concat()].concat();
    let go = [answer(7, 3, &export), answer(7, 3, &blocks), answer(7, 1, &[])].concat();
    let chunk = |flags: u16, kind: u16, cookie: u64, data: &[u8]| {
        let mut bytes = 0x668e_33efu32.to_be_bytes().to_vec();
        [flags, kind].iter().for_each(|half| bytes.extend(half.to_be_bytes()));
        bytes.extend(cookie.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        [bytes, data.to_vec()].concat()
    };
    let data = [&4096u64.to_be_bytes()[..], &[7; 2048]].concat();
    let hole = [&6144u64.to_be_bytes()[..], &2048u32.to_be_bytes()].concat();
    let chunks = [
        chunk(0, 1, 1, &data),
        chunk(1, 2, 1, &hole),
        chunk(1, 0, 2, &[]),
        chunk(1, 0x8001, 3, b"\0\0\0\x05\0\x02no"),
    ];
    let simple = |cookie: u64| [&0x6744_6698u32.to_be_bytes()[..], &[0; 4], &cookie.to_be_bytes()].concat();
    let structured = [&greeting[..], &answer(8, 1, &[]), &go, &chunks.concat()].concat();
    let plain =
        [&greeting[..], &answer(8, 1 << 31 | 1, b"no"), &go, &simple(2), &simple(1), &[7; 4096]].concat();
    let by_name =
        [&greeting[..], &answer(8, 1 << 31 | 1, &[]), &answer(7, 1 << 31 | 1, &[]), &export[2..]].concat();
    vec![structured, plain, [by_name, simple(4)].concat()]
}

/// An image of two grains in two ways, without its first four bytes.
pub fn vmdk() -> Vec<Vec<u8>> {
    let build = |compressed: bool| {
        let (flags, algorithm): (u32, u16) = if compressed { (0x3_0001, 1) } else { (5, 0) };
        let fields: [(usize, &[u8]); 13] = [
            (0, b"KDMV"),
            (4, &3u32.to_le_bytes()),
            (8, &flags.to_le_bytes()),
            (12, &32u64.to_le_bytes()),
            (20, &16u64.to_le_bytes()),
            (28, &1u64.to_le_bytes()),
            (36, &1u64.to_le_bytes()),
            (44, &512u32.to_le_bytes()),
            (56, &2u64.to_le_bytes()),
            (73, b"\n \r\n"),
            (77, &algorithm.to_le_bytes()),
            (512, b"# Disk DescriptorFile\nparentCID=ffffffff\n"),
            (1024, &3u32.to_le_bytes()),
        ];
        let mut bytes = file(7 * 512, &fields);
        bytes[1536..1544].copy_from_slice(&[8, 0, 0, 0, 1, 0, 0, 0]);
        bytes.resize(8 * 512, 0);
        if compressed {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
            _ = encoder.write_all(&[7; 16 * 512]);
            let packed = encoder.finish().unwrap_or_default();
            bytes.extend([&[0; 8][..], &(packed.len() as u32).to_le_bytes(), &packed].concat());
        } else {
            bytes.extend([7; 16 * 512]);
        }
        bytes.split_off(4)
    };
    vec![build(false), build(true)]
}

/// A qcow2 image with clusters of 512 bytes, of 64 KiB, whose first cluster has data: its content after the magic number.
fn qcow2(version: u32, backing: &str) -> Vec<u8> {
    let (name_at, name_len) = (if backing.is_empty() { 0u64 } else { 256 }, backing.len() as u32);
    let fields: [(usize, &[u8]); 17] = [
        (4, &version.to_be_bytes()),
        (8, &name_at.to_be_bytes()),
        (16, &name_len.to_be_bytes()),
        (20, &9u32.to_be_bytes()),
        (24, &(64u64 << 10).to_be_bytes()),
        // Two entries, for 32 KiB each, at 1536; the reference counts' table, a cluster, at 512.
        (36, &2u32.to_be_bytes()),
        (40, &1536u64.to_be_bytes()),
        (48, &512u64.to_be_bytes()),
        (56, &1u32.to_be_bytes()),
        (96, &4u32.to_be_bytes()),
        (100, &104u32.to_be_bytes()),
        (256, backing.as_bytes()),
        (512, &1024u64.to_be_bytes()),
        (1024, &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
        (1536, &(2048u64 | 1 << 63).to_be_bytes()),
        (2048, &(2560u64 | 1 << 63).to_be_bytes()),
        (2560, &[7; 512]),
    ];
    file(3072, &fields).split_off(4)
}

pub fn image_chain() -> Vec<Vec<u8>> {
    let chain = |files: &[(u8, &[u8])]| {
        let one = |(kind, content): &(u8, &[u8])| {
            [&[*kind][..], &(content.len() as u16).to_le_bytes(), content].concat()
        };
        files.iter().flat_map(one).collect::<Vec<u8>>()
    };
    let raw = KINDS.len() as u8;
    let parts = b"RW 8 FLAT \"1\" 0\nRW 32 SPARSE \"2\"\nRW 3 ZERO\n";
    let sparse = vmdk().swap_remove(0);
    vec![
        chain(&[(0, &qcow2(3, "1")), (0, &qcow2(2, "2")), (raw, &[3; 4096])]),
        chain(&[(0, &qcow2(3, "1")), (0, &qcow2(3, "0"))]),
        chain(&[(0, &qcow2(2, "../../../../../../etc/hostname"))]),
        chain(&[(0, &qcow2(3, "1")), (1, parts), (raw, &[3; 4096])]),
        chain(&[(1, parts), (raw, &[3; 4096]), (2, &sparse)]),
        chain(&[(1, b"RW 8 FLAT \"../1\" 0\nRW 8 FLAT \"0\" 0"), (raw, &[3; 4096])]),
    ]
}

pub fn streams() -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..2000u32).flat_map(|n| (n * n / 7).to_string().into_bytes()).collect();
    let mut lzma = vec![3];
    lzma.extend(LZMA);
    vec![gzip(b"tearless\n"), gzip(&text), XZ.to_vec(), ZSTD.to_vec(), lzma]
}

/// Puts `values` at their places into a file of `len` bytes.
fn file(len: usize, values: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, value) in values {
        bytes[*at..at + value.len()].copy_from_slice(value);
    }
    bytes
}

fn image() -> Vec<u8> {
    let fields: [(usize, &[u8]); 5] = [
        (0, b"MZ\x40\xfa\x0f\x00\x00\x14"),
        (16, &0x1_0000u64.to_le_bytes()),
        (24, &0xau32.to_le_bytes()),
        (56, b"ARM\x64"),
        (60, &64u32.to_le_bytes()),
    ];
    let mut bytes = file(512, &fields);
    // A PE header with one section.
    let section: [(usize, &[u8]); 5] = [
        (64, b"PE\0\0"),
        (68, &0xaa64u16.to_le_bytes()),
        (70, &1u16.to_le_bytes()),
        (88 + 16, &256u32.to_le_bytes()),
        (88 + 20, &256u32.to_le_bytes()),
    ];
    for (at, value) in section {
        bytes[at..at + value.len()].copy_from_slice(value);
    }
    bytes
}

fn zboot(method: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = file(
        64,
        &[
            (0, b"MZ\0\0zimg"),
            (8, &64u32.to_le_bytes()),
            (12, &(payload.len() as u32).to_le_bytes()),
            (24, method),
        ],
    );
    bytes.extend(payload);
    bytes
}

fn elf() -> Vec<u8> {
    let base = 0x4008_0000u64.to_le_bytes();
    file(
        256,
        &[
            (0, b"\x7fELF\x02\x01\x01"),
            (16, &2u16.to_le_bytes()),
            (18, &183u16.to_le_bytes()),
            (24, &base),
            (32, &64u64.to_le_bytes()),
            (54, &56u16.to_le_bytes()),
            (56, &2u16.to_le_bytes()),
            (64, &1u32.to_le_bytes()),
            (72, &128u64.to_le_bytes()),
            (80, &base),
            (88, &base),
            (96, &64u64.to_le_bytes()),
            (104, &4096u64.to_le_bytes()),
            (120, &1u32.to_le_bytes()),
        ],
    )
}

pub fn kernels() -> Vec<Vec<u8>> {
    let flat: Vec<u8> = [0x1400_0000u32; 64].iter().flat_map(|word| word.to_le_bytes()).collect();
    vec![image(), gzip(&image()), zboot(b"gzip\0", &gzip(&image())), zboot(b"lzma\0", LZMA), elf(), flat]
}

fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        _ = header.set_path(path);
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            _ = header.set_link_name("usr/bin/x");
        }
        if let (tar::EntryType::GNUSparse, Some(header)) = (kind, header.as_gnu_mut()) {
            header.set_real_size(1 << 40);
            header.sparse[0].set_offset(1 << 40);
            header.sparse[0].set_length(0);
        }
        header.set_cksum();
        out.extend(header.as_bytes());
        out.extend(*content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        out.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes(),
        );
        out.extend(*content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

pub fn debs() -> Vec<Vec<u8>> {
    use tar::EntryType as Kind;
    let control = tar(&[("control", Kind::Regular, b"Package: x\nVersion: 1\n")]);
    let long = format!("{}\0", "long/".repeat(60));
    let data = tar(&[
        ("usr", Kind::Directory, b""),
        ("usr/bin", Kind::Directory, b""),
        ("usr/bin/x", Kind::Regular, b"#!/bin/sh\n"),
        ("usr/bin/y", Kind::Link, b""),
        ("bin", Kind::Symlink, b""),
        ("fifo", Kind::Fifo, b""),
        ("././@LongLink", Kind::GNULongName, long.as_bytes()),
        ("short", Kind::Regular, b"z"),
        ("pax", Kind::XHeader, b"19 path=other/name\n"),
        ("name", Kind::Regular, b"p"),
    ]);
    let with = |name: &str, content: &[u8]| {
        archive(&[("debian-binary", b"2.0\n"), ("control.tar", &control), (name, content)])
    };
    vec![
        with("data.tar", &data),
        with("data.tar", &tar(&[("holes", Kind::GNUSparse, b"")])),
        with("data.tar.gz", &gzip(&data)),
        with("data.tar.xz", XZ),
        with("data.tar.zst", ZSTD),
    ]
}

pub fn releases() -> Vec<Vec<u8>> {
    let text = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
                Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
                e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-arm64/Packages\n";
    let signed = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}-----BEGIN PGP SIGNATURE-----\n\n\
         iHUEARYIAB0WIQQAAAAAAAAAAAAAAAAAAAAAAAAAAAUCZAAAAAAKCRAAAAAAAAAA\n\
         AAAAAQD+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEA/wAAAAAA\n\
         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n=njUN\n-----END PGP SIGNATURE-----\n"
    );
    vec![text.into(), signed.into()]
}

pub fn indices() -> Vec<Vec<u8>> {
    let text = "Package: a\nVersion: 1:2.41-12+deb13u1\nArchitecture: arm64\nEssential: yes\n\
                Pre-Depends: b (>= 1.0~rc1)\nDepends: c | d [arm64 !amd64], e:any <!nocheck>\n\
                Provides: v (= 2)\nConflicts: f\nBreaks: g (<< 3)\nFilename: pool/a.deb\nSize: 10\n\
                Installed-Size: 18446744073709551615\n\
                SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n";
    let others = ["b", "c", "e", "f", "a"].map(|name| {
        text.replacen("Package: a", &format!("Package: {name}"), 1)
            .replace("Pre-Depends: b (>= 1.0~rc1)\n", "")
            .replace("c | d", "v | a")
            .replace("1:2.41-12+deb13u1", "1.0~~git20-0~1")
    });
    vec![text.into(), format!("{text}{}", others.concat()).into()]
}

/// A little-endian ELF file with one section, `.modinfo`.
fn module(info: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let names_at = 64 + info.len();
    let table = (names_at + names.len()).next_multiple_of(8);
    let section = |index: usize| table + 64 * index;
    let number = |value: usize| (value as u64).to_le_bytes();
    file(
        table + 3 * 64,
        &[
            (0, b"\x7fELF\x02\x01\x01"),
            (16, b"\x01\0\xb7\0\x01\0\0\0"),
            (40, &number(table)),
            (52, b"\x40\0\0\0\0\0\x40\0\x03\0\x02\0"),
            (64, info.as_bytes()),
            (names_at, names),
            (section(1), b"\x01\0\0\0\x01\0\0\0"),
            (section(1) + 24, &number(64)),
            (section(1) + 32, &number(info.len())),
            (section(1) + 48, b"\x01"),
            (section(2), b"\x0a\0\0\0\x03\0\0\0"),
            (section(2) + 24, &number(names_at)),
            (section(2) + 32, &number(names.len())),
            (section(2) + 48, b"\x01"),
        ],
    )
}

pub fn modules() -> Vec<Vec<u8>> {
    let pieces = [
        (0u8, module("depends=b\0softdep=pre: c post: d\0alias=virtio:d00000001v*\0")),
        (1, module("depends=\0alias=pci:v00001AF4d[0-9]*sv*\0alias=a-b\0")),
        (2, XZ.to_vec()),
        (3, gzip(&module("depends=a,b\0"))),
        (5, b"kernel/fs/ext4/ext4.ko\nkernel/x-y.ko\n".to_vec()),
    ];
    let join = |pieces: &[(u8, Vec<u8>)]| {
        let parts = pieces.iter().flat_map(|(name, bytes)| {
            let len = (bytes.len() as u16).to_le_bytes();
            [*name, len[0], len[1]].into_iter().chain(bytes.iter().copied())
        });
        parts.collect()
    };
    vec![join(&pieces), join(&pieces[..1]), join(&pieces[3..])]
}

pub fn configs() -> Vec<Vec<u8>> {
    let debian = r#"{"version": 1, "engine": "auto", "cpus": 2, "memory": "2G",
        "disks": [{"path": "Disk.img", "sync": "fsync", "read_only": true}],
        "boot": {"kind": "linux-debian", "suite": "trixie", "kernel": "Kernel", "initrd": "Initrd"},
        "console": "virtio"}"#;
    let kernel = r#"{"version":1,"cpus":1,"memory":67108864,"allow_overcommit":true,
        "boot":{"kind":"linux-kernel","kernel":"k","initrd":"i","cmdline":"a=\u00e9"}}"#;
    vec![debian.into(), kernel.into()]
}

/// Programs for the CPU: what stands before the code is short, and zeros choose ordinary registers.
pub fn cpu() -> Vec<Vec<u8>> {
    /// One word of many encodings; mutants change their registers and sizes.
    const WORDS: [u32; 64] = [
        0x9100_0421,
        0xcb02_0020,
        0x9b02_0c20,
        0x9ac2_0c20,
        0xd360_fc20,
        0xdac0_0c20,
        0x9a82_1020,
        0xfa42_0024,
        0xf940_0020,
        0xf900_0020,
        0xb840_4420,
        0x3820_4820,
        0xa940_0820,
        0xa9bf_7bfd,
        0x1c00_0041,
        0x5800_0041,
        0xc85f_7c20,
        0xc802_7c20,
        0xc87f_0820,
        0xc8a2_7c20,
        0x4862_7c20,
        0xf822_0020,
        0xf822_8020,
        0xd503_3f5f,
        0x4c40_2020,
        0x4cdf_7020,
        0x0d40_c420,
        0x3dc0_0020,
        0xad40_0820,
        0x4e22_8420,
        0x6e22_dc20,
        0x4ea1_b820,
        0x1e62_0820,
        0x1e78_0020,
        0x9e66_0020,
        0x1e7e_0020,
        0x0e01_0020,
        0x6e00_0820,
        0x4e28_4820,
        0x5e02_0020,
        0xd538_1000,
        0xd518_2000,
        0xd518_2040,
        0xd518_1000,
        0xd538_d080,
        0xd51b_e340,
        0xd503_201f,
        0xd503_207f,
        0xd503_3fdf,
        0xd508_871f,
        0xd50b_7520,
        0xd508_7800,
        0xd50b_7420,
        0xd538_cc00,
        0xd518_cc20,
        0xd503_4fdf,
        0x1400_0002,
        0x9400_0010,
        0xb400_0040,
        0x3600_0041,
        0xd61f_0020,
        0xd65f_03c0,
        0xd400_0001,
        0xd420_0000,
    ];
    let code: Vec<u8> = WORDS.iter().flat_map(|word| word.to_le_bytes()).collect();
    let program = |shape: u8| {
        let mut bytes = vec![0; HEAD];
        bytes[0] = shape;
        [bytes, code.clone(), code.clone()].concat()
    };
    [0x01, 0x00, 0x29, 0x20, 0x2d, 0x61].map(program).into()
}

/// A conversation's answers.
pub fn guest_frames() -> Vec<Vec<u8>> {
    use tearless_guest_proto::{Address, Ended, Reply, frame, hello};
    let mut wire = hello().to_vec();
    let address = Address { interface: "eth0".to_owned(), address: [10, 0, 2, 15].into(), prefix: 24 };
    let replies = [
        Reply::Started { pid: 7 },
        Reply::Window(9),
        Reply::Addresses(vec![address]),
        Reply::Copied { skipped: 1, why: Some("it is a device".to_owned()) },
        Reply::Ended(Ended::Exited(3)),
    ];
    for reply in replies {
        _ = frame::send(&mut wire, &reply);
    }
    let mut data = Vec::new();
    for part in [&b"some data"[..], b""] {
        _ = frame::write(&mut data, frame::Kind::Data, part);
    }
    vec![wire.split_off(12), wire, data]
}

/// A folder with a file and a link, and links that lead out.
pub fn guest_trees() -> Vec<Vec<u8>> {
    let tree = |entries: &[(tar::EntryType, &str, &str)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            let content: &[u8] = if kind.is_file() { b"content" } else { b"" };
            header.set_size(content.len() as u64);
            let name_field = &mut header.as_old_mut().name;
            name_field.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            let link_field = &mut header.as_old_mut().linkname;
            link_field.iter_mut().zip(link.bytes()).for_each(|(to, from)| *to = from);
            header.set_cksum();
            _ = archive.append(&header, content);
        }
        archive.into_inner().unwrap_or_default()
    };
    use tar::EntryType::{Directory, Regular, Symlink};
    vec![
        tree(&[(Regular, ".", "")]),
        tree(&[
            (Directory, ".", ""),
            (Directory, "./a", ""),
            (Regular, "./a/b", ""),
            (Symlink, "./c", "a/b"),
        ]),
        tree(&[(Directory, ".", ""), (Symlink, "./a", ".."), (Regular, "./a/bystander", "")]),
        tree(&[(Directory, ".", ""), (Symlink, "./a", "../bystander"), (Regular, "./a", "")]),
        tree(&[(Regular, "../bystander", "")]),
    ]
}

/// Bytes with words at given places.
fn patched(len: usize, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, patch) in patches {
        bytes.iter_mut().skip(*at).zip(*patch).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// A program with one section and one relocation.
pub fn efi_programs() -> Vec<Vec<u8>> {
    let patches: [(usize, &[u8]); 18] = [
        (0, b"MZ"),
        (0x3c, &[0x40]),
        (0x40, b"PE\0\0\x64\xaa\x01\0"),
        (0x54, &[112 + 48, 0]),
        (0x58, &[0x0b, 2]),
        (0x68, &[0, 0x10, 0, 0]),
        (0x78, &[0, 0x10, 0, 0]),
        (0x90, &[0, 0x20, 0, 0, 0, 2, 0, 0]),
        (0x9c, &[10, 0]),
        (0xc4, &[6]),
        (0xf0, &[0, 0x11, 0, 0, 12, 0, 0, 0]),
        (0x100, &[0, 2, 0, 0]),
        (0x104, &[0, 0x10, 0, 0]),
        (0x108, &[0, 2, 0, 0]),
        (0x10c, &[0, 2, 0, 0]),
        (0x300, &[0, 0x10, 0, 0]),
        (0x304, &[12, 0, 0, 0]),
        (0x308, &[8, 0xa0]),
    ];
    vec![patched(0x400, &patches)]
}

/// A CD with a folder, by its Rock Ridge name, and a file in that.
pub fn media() -> Vec<Vec<u8>> {
    const DIRECTORY: usize = 18 * 2048;
    let record = |name: &[u8], block: u8, len: [u8; 2], flags: u8, system: &[u8]| {
        let mut record = vec![0; 33];
        record[2] = block;
        record[10..12].copy_from_slice(&len);
        record[25] = flags;
        record[32] = name.len() as u8;
        record.extend(name);
        record.resize(record.len().next_multiple_of(2), 0);
        record.extend(system);
        record[0] = record.len() as u8;
        record
    };
    let folder = record(b"A", 19, [0, 8], 2, b"NM\x10\x01\0install.a64");
    let file = record(b"VMLINUZ.;1", 20, [6, 0], 0, &[]);
    let image = patched(
        21 * 2048,
        &[
            (16 * 2048, b"\x01CD001\x01"),
            (16 * 2048 + 156, &record(&[0], 18, [0, 8], 2, &[])),
            (17 * 2048, b"\xffCD001\x01"),
            (DIRECTORY, &folder),
            (19 * 2048, &file),
            (20 * 2048, b"kernel"),
        ],
    );
    vec![image]
}

/// FAT12 alone and behind an MBR, and the records of a bootable CD.
pub fn efi_disks() -> Vec<Vec<u8>> {
    let boot: [(usize, &[u8]); 4] = [
        (11, &[0, 2, 1, 1, 0, 1, 16, 0, 128, 0]),
        (22, &[1, 0]),
        (510, &[0x55, 0xaa]),
        (512, &[0xf8, 0xff, 0xff]),
    ];
    let disk = MemoryDisk::new(patched(128 * 512, &boot));
    if let Ok(mut fat) = Fat::open(Volume::whole(disk.clone())) {
        let root = fat.root();
        if let Ok(mut file) = fat.create(&root, "a file with a long name", false, (0x5a21, 0)) {
            _ = fat.write(&mut file, 0, &[7; 1500]);
        }
        _ = fat.create(&root, "d", true, (0x5a21, 0));
    }
    let fat = disk.content();
    let entry: (usize, &[u8]) = (450, &[0xef, 0, 0, 0, 1, 0, 0, 0, 128, 0, 0, 0]);
    let behind_mbr = [patched(512, &[entry, (510, &[0x55, 0xaa])]), fat.clone()].concat();
    let cd: [(usize, &[u8]); 4] = [
        (17 * 2048, b"\0CD001\x01EL TORITO SPECIFICATION"),
        (17 * 2048 + 0x47, &[18]),
        (18 * 2048, &[1, 0xef]),
        (18 * 2048 + 28, &[0xaa, 0x66, 0x55, 0xaa, 0x88, 0, 0, 0, 0, 0, 4, 0, 19]),
    ];
    vec![fat, behind_mbr, patched(24 * 2048, &cd)]
}

/// An IPSW with little in it, and property lists such as it and Apple's catalogue have.
pub fn archives() -> Vec<Vec<u8>> {
    let manifest = b"<plist version=\"1.0\"><dict><key>ProductVersion</key><string>15.1</string><key>ProductBuildVersion</key>\
        <string>24B83</string><key>SupportedProductTypes</key><array><string>VirtualMac2,1</string></array>\
        <key>BuildIdentities</key><array><dict><key>Info</key><dict><key>DeviceClass</key><string>vma2macosap</string>\
        <key>VirtualMachineMinCPUCount</key><integer>2</integer></dict></dict></array></dict></plist>";
    let catalogue = b"<plist><dict><key>MobileDeviceSoftwareVersionsByVersion</key><dict><key>1</key><dict>\
        <key>MobileDeviceSoftwareVersions</key><dict><key>VirtualMac2,1</key><dict><key>24B83</key><dict><key>Restore</key><dict>\
        <key>BuildVersion</key><string>24B83</string><key>FirmwareURL</key><string>https://h/x.ipsw</string>\
        <key>ProductVersion</key><string>15.1</string></dict></dict></dict></dict></dict></dict></dict></plist>";
    let mut crc = flate2::Crc::new();
    crc.update(manifest);
    let name = b"BuildManifest.plist";
    let size = u32::try_from(manifest.len()).unwrap_or_default().to_le_bytes();
    // Version, flags, method, time, then digest, sizes, and lengths of name and extra field.
    let common =
        [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc.sum().to_le_bytes(), &size, &size, &[19, 0, 0, 0]]
            .concat();
    let member = [b"PK\x03\x04", &common[..], name, manifest].concat();
    let entry = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name].concat();
    let number = |n: usize| u32::try_from(n).unwrap_or_default().to_le_bytes();
    let end = [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &number(entry.len())[..], &number(member.len()), &[0, 0]]
        .concat();
    vec![[member, entry, end].concat(), manifest.to_vec(), catalogue.to_vec()]
}

/// Files of virtual Macs.
pub fn virtual_macs() -> Vec<Vec<u8>> {
    let model =
        b"bplist00\xd3\x01\x02\x03\x04\x04\x05_\x10\x19DataRepresentationVersion_\x10\x0fPlatformVersion\
        _\x10\x12MinimumSupportedOS\x10\x02\xa3\x06\x07\x07\x10\x0d\x10\x00\x08\x0f+=RTXZ\0\0\0\0\0\0\x01\x01\
        \0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x5c";
    let auxiliary = b"\x30\x10\x16\x04ECID\x02\x08\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x04ECID\x02\x09\0\xff\x02\x03\x04\x05\x06\x07\x08";
    let identifiers =
        [17, u64::MAX].map(|ecid| tearless_bundle::mac::MachineIdentifier::from_ecid(ecid).data().to_vec());
    [identifiers.to_vec(), vec![model.to_vec(), auxiliary.to_vec()]].concat()
}

/// A packed piece of a disk with all kinds of blocks, and a manifest.
pub fn images() -> Vec<Vec<u8>> {
    // Stored text, then a block that is five letters and a reference to what was before them.
    let piece = b"bv4-\x06\0\0\0tearsbv41\x0a\0\0\0\x05\0\0\0\x20ab\x06\0bv4$";
    let digest = "0".repeat(64);
    let layer = |kind: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.{kind}","size":9,"digest":"sha256:{digest}","annotations":{{
            "org.cirruslabs.tart.uncompressed-size":"4096","org.cirruslabs.tart.uncompressed-content-digest":"sha256:{digest}",
            "org.opencontainers.image.title":"Disk-2.img"}}}}"#
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}]}}"#,
        layer("x"),
        layer("cirruslabs.tart.disk.v2"),
        layer("tearless.disk.v1")
    );
    vec![
        piece.to_vec(),
        manifest.into(),
        b"ghcr.io/me/vm:1".to_vec(),
        format!("[::1]:5000/a@sha256:{digest}").into(),
    ]
}

/// Descriptions of VMs of other programs.
pub fn foreigners() -> Vec<Vec<u8>> {
    let tart = r#"{"version":1,"os":"linux","arch":"arm64","cpuCountMin":1,"cpuCount":2,"memorySizeMin":1,
        "memorySize":4294967296,"macAddress":"52:54:00:12:34:56","display":{"width":1024,"height":768},"diskFormat":"raw"}"#;
    let utm = "<plist version=\"1.0\"><dict><key>ConfigurationVersion</key><integer>4</integer><key>Backend</key>\
        <string>QEMU</string><key>System</key><dict><key>CPUCount</key><integer>2</integer></dict><key>Drive</key><array><dict>\
        <key>ImageName</key><string>a.qcow2</string></dict></array></dict></plist>";
    let lume = r#"{"os":"linux","cpuCount":2,"memorySize":4294967296,"diskSize":1,"display":"1024x768"}"#;
    let vm = r#"{"version":1,"os":"linux","cpus":2,"ram":1,"storage":[{"type":"disk","file":"d"}],"bootInfo":{"kernel":"k"}}"#;
    let lima = "vmType: qemu\ncpus: 2\nmemory: 4GiB\nmounts:\n- location: /srv\n  writable: true\n";
    let vfkit = "vfkit --cpus 2 --memory 512 --bootloader 'linux,kernel=k,cmdline=\"a,b\"' --device virtio-blk,path=d";
    [tart, utm, lume, vm, lima, vfkit].map(Into::into).to_vec()
}

#[cfg(test)]
mod tests {
    use tearless_boot::kernel::{self, Shape};
    use tearless_config::VmConfig;
    use tearless_image::{deb, modules::ModInfo, modules::Module};

    use super::*;

    #[test]
    fn seeds_are_good_files() {
        let shapes: Vec<_> =
            kernels().into_iter().map(|bytes| kernel::load(bytes, "k").map(|k| k.shape().clone())).collect();
        for (n, shape) in shapes.iter().enumerate() {
            match n {
                0..=2 => assert!(matches!(shape, Ok(Shape::Image { size: 0x1_0000, .. })), "{n}: {shape:?}"),
                4 => assert!(matches!(shape, Ok(Shape::Elf { .. })), "{shape:?}"),
                5 => assert!(matches!(shape, Ok(Shape::Flat)), "{shape:?}"),
                _ => assert!(shape.is_err(), "text is no kernel"),
            }
        }
        for text in configs() {
            VmConfig::from_json(str::from_utf8(&text).unwrap()).unwrap();
        }
        let bytes = module("depends=b\0");
        let info = ModInfo::parse(&Module { name: "a".into(), path: "a.ko".into(), bytes }).unwrap();
        assert_eq!(info.depends, ["b"]);
    }

    #[test]
    fn the_package_shows_every_entry() {
        let mut paths = Vec::new();
        let package = &debs()[2];
        deb::read_from("seed", &package[..], &mut |_, entry, _| {
            paths.push(entry.path.clone());
            Ok(())
        })
        .unwrap();
        assert!(paths.iter().any(|path| path.starts_with("long/long")), "{paths:?}");
        assert!(
            paths.contains(&"other/name".to_owned()) && paths.contains(&"usr/bin/y".to_owned()),
            "{paths:?}"
        );
    }
}
