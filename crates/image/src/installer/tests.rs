use std::io::{Cursor, Write};

use super::*;
use crate::mirror::Mirror;

fn answers() -> Answers {
    Answers {
        hostname: "box".into(),
        user: "ada".into(),
        password_hash: Some("$6$salt$hash".into()),
        ssh_keys: vec!["ssh-ed25519 AAAA it's me".into()],
        locale: "de_DE.UTF-8".into(),
        keyboard: "de".into(),
        timezone: "Europe/Berlin".into(),
        suite: None,
        mirror: Mirror::choose(Some("https://mirror.example:8080/pub/debian/")).unwrap(),
        has_security: true,
        packages: vec!["vim".into()],
        program: "agent".into(),
        done: "Done-8c2d51f3".into(),
    }
}

#[test]
fn debians_installer_is_told_all() {
    let text = answers().preseed();
    for line in [
        "d-i debian-installer/locale string de_DE.UTF-8",
        "d-i netcfg/get_hostname string box",
        "d-i mirror/protocol string https",
        "d-i mirror/https/hostname string mirror.example:8080",
        "d-i mirror/https/directory string /pub/debian",
        "d-i apt-setup/security_host string mirror.example:8080",
        "d-i passwd/username string ada",
        "d-i passwd/user-password-crypted password $6$salt$hash",
        "d-i time/zone string Europe/Berlin",
        "d-i partman-auto/disk string /dev/vda",
        "d-i partman-auto/choose_recipe select tearless",
        "d-i pkgsel/include string vim openssh-server",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("mirror/suite") && !text.contains("NOPASSWD"), "{text}");
    let late = text.lines().find(|l| l.starts_with("d-i preseed/late_command")).unwrap();
    assert!(
        late.contains(r"echo 'ssh-ed25519 AAAA it'\''s me' >> /target/home/ada/.ssh/authorized_keys"),
        "{late}"
    );
    assert!(
        late.contains("cp /agent /target/tmp/tearless-agent && in-target /tmp/tearless-agent install;"),
        "{late}"
    );
    assert!(late.ends_with("> /sys/firmware/efi/efivars/Done-8c2d51f3"), "{late}");
    let by_key =
        Answers { password_hash: None, suite: Some("forky".into()), has_security: false, ..answers() };
    let text = by_key.preseed();
    assert!(text.contains("password-crypted password !\n") && text.contains("NOPASSWD"), "{text}");
    assert!(text.contains("d-i mirror/suite string forky\n") && !text.contains("security_host"), "{text}");
}

#[test]
fn ubuntus_installer_is_told_all() {
    let text = answers().autoinstall();
    let body = text.strip_prefix("#cloud-config\n").unwrap();
    let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
    let answers = &parsed["autoinstall"];
    assert_eq!(answers["version"], 1);
    assert_eq!(answers["identity"]["username"], "ada");
    assert_eq!(answers["ssh"]["authorized-keys"][0], "ssh-ed25519 AAAA it's me");
    assert!(answers["late-commands"][0].as_str().unwrap().contains("curtin in-target -- chown -R ada:ada"));
}

#[test]
fn anaconda_is_told_all() {
    let text = answers().kickstart();
    for line in [
        "lang de_DE.UTF-8",
        "keyboard --xlayouts=de",
        "timezone Europe/Berlin --utc",
        "network --bootproto=dhcp --device=link --activate --hostname=box",
        "user --name=ada --gecos=ada --groups=wheel --iscrypted --password=$6$salt$hash",
        r#"sshkey --username=ada "ssh-ed25519 AAAA it's me""#,
        "ignoredisk --only-use=vda",
        "vim",
        "reboot",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert_eq!(text.matches("%end").count(), 2);
    assert!(
        text.contains("cp /run/tearless/agent /mnt/sysroot/tmp/tearless-agent && chroot /mnt/sysroot"),
        "{text}"
    );
    assert!(
        text.contains("> /sys/firmware/efi/efivars/Done-8c2d51f3\n") && !text.contains("NOPASSWD"),
        "{text}"
    );
    let by_key = Answers { password_hash: None, ..answers() }.kickstart();
    assert!(by_key.contains("--groups=wheel --lock\n") && by_key.contains("NOPASSWD"), "{by_key}");
}

#[test]
fn an_answer_cannot_be_more_than_a_value() {
    answers().check().unwrap();
    type Change = fn(&mut Answers);
    let changes: [Change; 10] = [
        |a| a.user = "root".into(),
        |a| a.user = "a\nd-i x".into(),
        |a| a.user = "Ada".into(),
        |a| a.user = "x;reboot".into(),
        |a| a.hostname = "-box".into(),
        |a| a.locale = "de DE".into(),
        |a| a.timezone = String::new(),
        |a| a.suite = Some("a b".into()),
        |a| a.packages = vec!["vim\nd-i".into()],
        |a| a.ssh_keys = vec!["ssh\n".into()],
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut answers = answers();
        change(&mut answers);
        assert!(answers.check().is_err(), "change {i}");
    }
}

#[test]
fn passwords_are_hashed_with_salt() {
    let (one, two) = (hash_password("secret").unwrap(), hash_password("secret").unwrap());
    assert!(one.starts_with("$6$") && one != two, "{one}");
    assert!(hash_password("").is_err() && hash_password("a\tb").is_err());
    assert_eq!(one.split('$').nth(3).map(str::len), Some(16), "crypt(3) cuts off what is longer: {one}");
}

/// The second opinion is the C library's, which checks logins.
#[cfg(target_os = "linux")]
#[test]
fn a_password_is_the_one_that_was_hashed() {
    let hash = hash_password("secret \u{e9}").unwrap();
    let mut perl = std::process::Command::new("perl");
    let output =
        perl.args(["-e", "print crypt($ARGV[0], $ARGV[1])", "secret \u{e9}", &hash]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), hash);
}

/// A directory record without extensions.
fn record(name: &[u8], block: u32, size: u32, flags: u8) -> Vec<u8> {
    let mut record = vec![0; 33];
    record[2..6].copy_from_slice(&block.to_le_bytes());
    record[10..14].copy_from_slice(&size.to_le_bytes());
    record[25] = flags;
    record[32] = name.len() as u8;
    record.extend(name);
    record.resize(record.len().next_multiple_of(2), 0);
    record[0] = record.len() as u8;
    record
}

/// An image without Rock Ridge, whose names are in capitals.
fn plain() -> Vec<u8> {
    let mut image = vec![0; 22 * 2048];
    let mut put =
        |block: usize, bytes: &[u8]| image[block * 2048..block * 2048 + bytes.len()].copy_from_slice(bytes);
    put(16, &[&b"\x01CD001\x01"[..], &[0; 149], &record(&[0], 18, 2048, 2)].concat());
    put(17, b"\xffCD001\x01");
    put(18, &[record(&[0], 18, 2048, 2), record(b"INSTALL.A64", 19, 2048, 2)].concat());
    put(19, &[record(b"VMLINUZ.;1", 20, 6, 0), record(b"INITRD.GZ;1", 21, 4, 0)].concat());
    put(20, b"kernel");
    put(21, b"disk");
    image
}

/// Where the names of the kernel and of the RAM disk begin.
const IMAGE_OF_ANOTHER: [usize; 2] = [19 * 2048 + 33, 19 * 2048 + 77];

fn medium(image: &[u8]) -> Result<Medium> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(image).unwrap();
    Medium::read(file.path())
}

#[test]
fn an_installer_is_found_by_its_kernel() {
    let found = medium(&plain()).unwrap();
    assert_eq!(
        (found.family, &found.kernel[..], &found.initrd[..]),
        (Family::Debian, &b"kernel"[..], &b"disk"[..])
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"unpacked").unwrap();
    let packed = packed.finish().unwrap();
    let mut image = plain();
    image[20 * 2048..20 * 2048 + packed.len()].copy_from_slice(&packed);
    image[19 * 2048 + 10..19 * 2048 + 14].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    assert_eq!(medium(&image).unwrap().kernel, b"unpacked");
}

#[test]
fn what_is_damaged_is_refused_and_nothing_panics() {
    let image = plain();
    for (len, why) in
        [(0, "no ISO 9660"), (18 * 2048, "middle of a file"), (21 * 2048 + 1, "middle of a file")]
    {
        let error = medium(&image[..len]).err().unwrap().to_string();
        assert!(error.contains(why) && error.contains("without --unattended"), "{error}");
    }
    let other = IMAGE_OF_ANOTHER.iter().fold(image.clone(), |mut image, at| {
        image[*at] = b'X';
        image
    });
    let error = medium(&other).err().unwrap().to_string();
    assert!(error.contains("no installer for ARM64"), "{error}");
    // Every byte of the structures, changed.
    for at in (16 * 2048..16 * 2048 + 200).chain(18 * 2048..18 * 2048 + 100).chain(19 * 2048..19 * 2048 + 100)
    {
        for value in [0, 0x7f, 0xff] {
            let mut image = image.clone();
            image[at] = value;
            let Ok(mut iso) = Iso::open(Cursor::new(&image)) else { continue };
            if let Ok(Some(node)) = iso.find("install.a64/vmlinuz") {
                let _ = iso.read(node, 1 << 20);
            }
        }
    }
}
