use super::*;
use crate::deb::tests as deb_tests;

fn unpack(database: &mut Database, tree: &mut Tree, control: &[(&str, &str)], files: &[(&str, &str)]) {
    let deb = deb_tests::build_with(control, |tar| {
        for (path, content) in files {
            deb_tests::append(tar, path, content.as_bytes());
        }
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), deb).unwrap();
    database.unpack(tree, file.path()).unwrap();
}

#[test]
fn the_database_is_what_dpkg_would_write() {
    let mut tree = Tree::new(&std::env::temp_dir(), 0).unwrap();
    let mut database = Database::default();
    let templates = "Template: a/question\nType: boolean\nDefault: true\nDescription: x\n\nTemplate: a/note\nType: note\n\n\
        Template: ../../evil\nType: string\nDefault: x\n";
    unpack(
        &mut database,
        &mut tree,
        &[
            (
                "./control",
                "Package: a\nVersion: 1\nArchitecture: arm64\nMulti-Arch: same\nDescription: first\n more\n",
            ),
            ("./conffiles", "/etc/a.conf\nremove-on-upgrade /etc/old\n"),
            ("./postinst", "#!/bin/sh\ndeb-systemd-helper enable 'a.service'\n"),
            ("./preinst", "#!/bin/sh\n"),
            ("./triggers", "interest-noawait /usr/share/a\ninterest named\nactivate-noawait ldconfig\n"),
            ("./templates", templates),
        ],
        &[("./etc/a.conf", "hello"), ("./usr/bin/a", "x")],
    );
    unpack(&mut database, &mut tree, &[("./control", "Package: b\nVersion: 2\n")], &[("./usr/b", "")]);
    database.write(&mut tree, &["a"], 0).unwrap();

    let status = tree.read_text("var/lib/dpkg/status").unwrap();
    assert_eq!(
        status,
        "Package: a\nStatus: install ok unpacked\nVersion: 1\nArchitecture: arm64\nMulti-Arch: same\n\
         Description: first\n more\nConffiles:\n /etc/a.conf 5d41402abc4b2a76b9719d911017c592\n\n\
         Package: b\nStatus: install ok installed\nVersion: 2\n\n"
    );
    let info = |tree: &mut Tree, name: &str| tree.read_text(&format!("var/lib/dpkg/{name}")).unwrap();
    assert_eq!(info(&mut tree, "info/a:arm64.list"), "/etc/a.conf\n/usr/bin/a\n");
    assert_eq!(info(&mut tree, "info/b.list"), "/usr/b\n");
    assert_eq!(info(&mut tree, "triggers/File"), "/usr/share/a a:arm64/noawait\n");
    assert_eq!(info(&mut tree, "triggers/named"), "a:arm64\n");
    assert!(!tree.exists("var/lib/dpkg/triggers/ldconfig"));
    assert!(!tree.exists("var/lib/dpkg/info/b.control"), "the control file is in the status");
    assert_eq!(tree.read_text("usr/lib/tearless/preinst").unwrap(), "a:arm64\n");
    assert_eq!(tree.read_text("usr/lib/tearless/count").unwrap(), "1\n");
    assert_eq!(tree.read_text("usr/lib/tearless/answers/a/question").unwrap(), "true\n");
    assert!(!tree.exists("usr/lib/tearless/answers/a/note") && !tree.exists("usr/evil"));
    assert!(tree.read_text("var/lib/apt/extended_states").unwrap().starts_with("Package: b\n"));
    assert_eq!(database.enabled_units(), BTreeSet::from(["a.service".to_owned()]));
}
