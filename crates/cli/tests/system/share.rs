//! Shared folders.

use std::{fs, os::unix::fs::symlink};

use crate::tool::Tool;

/// Runs `script` in a fresh guest with `shares`; returns what it printed.
fn guest(tool: &Tool, shares: &[&str], script: &str) -> String {
    let mut args = vec!["run"];
    shares.iter().for_each(|share| args.extend(["--share", share]));
    args.extend(["--", "sh", "-c", script]);
    let outcome = tool.run(&args);
    assert_eq!(outcome.status, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    // Should the test find something else than it wants.
    eprint!("{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn both_sides_see_each_others_files() {
    let tool = Tool::new();
    let (work, data) = (tool.home().join("work"), tool.home().join("some data"));
    fs::create_dir(&work).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), "from the host").unwrap();
    symlink("/etc/passwd", work.join("link")).unwrap();
    let read_only = format!("{}:d:ro", data.to_str().unwrap());
    let script = "cat /mnt/d/a; echo >/mnt/d/b; cd /mnt/work && mkdir -p x/y && echo guest >x/y/f && chmod 4755 x/y/f \
                  && mv x z && grep -c host link; ls -ln z/y/f";
    let out = guest(&tool, &[work.to_str().unwrap(), &read_only], script);
    // The link leads where it says in the guest, whose passwd has no such word.
    assert!(out.starts_with("from the host0\n-rwsr-xr-x    1 0        0 "), "{out}");
    assert_eq!(fs::read(work.join("z/y/f")).unwrap(), b"guest\n");
    assert!(!data.join("b").exists());
}

#[test]
fn mistakes_are_told_before_the_guest_starts() {
    let tool = Tool::new();
    let refused = |args: &[&str], hints: &[&str]| {
        let outcome = tool.run(&[&["run"], args].concat());
        assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
        hints.iter().for_each(|hint| assert!(outcome.stderr.contains(hint), "{hint}: {}", outcome.stderr));
    };
    let file = tool.file("file", b"");
    let folder = tool.home().join("folder");
    fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    refused(&["--share", "/no/such/folder"], &["/no/such/folder", "no such folder", "mkdir"]);
    refused(&["--share", file.to_str().unwrap()], &["not a folder"]);
    refused(
        &["--share", folder, "--share", &format!("{folder}:ro")],
        &["another shared folder has it", "DIR:TAG"],
    );
    refused(&["--share", &format!("{folder}:a b")], &["letters, digits"]);
    refused(&["--share", &format!("{folder}:{}", "x".repeat(37))], &["1 to 36"]);
    let nine: Vec<_> = (0..9).map(|i| format!("{folder}:t{i}")).collect();
    let nine: Vec<_> = nine.iter().flat_map(|share| ["--share", share]).collect();
    refused(&nine, &["9 shared folders", "room for 8"]);
}
