//! The program sees each kind of failure, keeps the input, and says so.

use std::process::Command;

use anyhow::Result;

/// Runs a target that fails on purpose; returns what was printed and the inputs that were kept.
fn run(target: &str) -> Result<(bool, String, usize)> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(env!("CARGO_BIN_EXE_tearless-fuzz"))
        .args(["--target", target, "--executions", "100", "--timeout", "1", "--artifacts"])
        .arg(folder.path())
        .output()?;
    let kept = std::fs::read_dir(folder.path().join(target)).map_or(0, Iterator::count);
    Ok((output.status.success(), String::from_utf8(output.stdout)?, kept))
}

#[test]
fn failures_are_seen() -> Result<()> {
    for (target, why) in [
        ("self-test-panic", "bytes are too many"),
        ("self-test-hang", "does not end"),
        ("self-test-memory", "takes more than 32 MiB"),
        ("self-test-stack", "stack"),
    ] {
        let (success, text, kept) = run(target)?;
        assert!(!success && text.contains(why) && text.contains(&format!("--target {target}")), "{text}");
        assert!(text.ends_with("0 passed, 1 failed\n") && kept == 1, "{text}");
    }
    Ok(())
}

#[test]
fn a_good_target_passes() -> Result<()> {
    let (success, text, kept) = run("pl061")?;
    assert!(success && text.ends_with("1 passed, 0 failed\n") && text.contains("100 executions"), "{text}");
    assert_eq!(kept, 0);
    Ok(())
}
