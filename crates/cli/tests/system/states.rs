//! Snapshots, clones and what else happens to a VM that does not run.

use crate::tool::Tool;

fn works(tool: &Tool, args: &[&str]) -> String {
    let outcome = tool.run(args);
    assert_eq!(outcome.status, Some(0), "{args:?}: {}", outcome.stderr);
    outcome.stdout
}

fn refused(tool: &Tool, args: &[&str], hints: &[&str]) {
    let outcome = tool.run(args);
    assert_eq!(outcome.status, Some(1), "{args:?}: {}", outcome.stdout);
    for hint in hints {
        assert!(outcome.stderr.contains(hint), "{args:?} does not say {hint:?}:\n{}", outcome.stderr);
    }
}

/// A VM "a" with a disk of 1 MiB and a kernel that branches to itself.
fn with_vm() -> Tool {
    let tool = Tool::new();
    let kernel = tool.file("kernel", &[0, 0, 0, 0x14]);
    works(&tool, &["create", "a", "--kernel", kernel.to_str().unwrap(), "--disk", "1M"]);
    tool
}

#[test]
fn a_vm_is_cloned_snapshotted_renamed_and_grown() {
    let tool = with_vm();
    works(&tool, &["clone", "a", "b"]);
    works(&tool, &["snapshot", "take", "b", "first"]);
    works(&tool, &["snapshot", "take", "b", "second"]);
    let listed = works(&tool, &["snapshot", "list", "b", "--json"]);
    assert!(listed.contains("\"parent\": \"first\"") && listed.contains("\"current\": true"), "{listed}");
    works(&tool, &["set", "b", "--disk-size", "2M"]);
    works(&tool, &["snapshot", "restore", "b", "first"]);
    works(&tool, &["snapshot", "delete", "b", "second"]);
    works(&tool, &["rename", "b", "c"]);
    works(&tool, &["delete", "a", "--force"]);
    assert!(works(&tool, &["snapshot", "list", "c"]).contains("(the VM is here)"));
    assert!(works(&tool, &["info", "c", "--json"]).contains("machine_id"));
}

#[test]
fn mistakes_are_told() {
    let tool = with_vm();
    refused(&tool, &["snapshot", "restore", "a", "none"], &["no snapshot none", "snapshot list a"]);
    refused(&tool, &["snapshot", "take", "a", "../x"], &["not a usable"]);
    refused(&tool, &["set", "a", "--disk-size", "512K"], &["smaller", "larger size"]);
    refused(&tool, &["set", "a", "--disk-size", "2M", "--disk", "2"], &["no disk 2"]);
    refused(&tool, &["clone", "a", "a"], &["already a VM a"]);
    refused(&tool, &["clone", "none", "b"], &["no VM none"]);
    works(&tool, &["snapshot", "take", "a", "s"]);
    refused(&tool, &["snapshot", "take", "a", "s"], &["already a snapshot s"]);
}

#[test]
fn what_an_ephemeral_guest_writes_is_gone() {
    let tool = Tool::new();
    let disk = tool.file("d.img", &[7; 1 << 20]);
    let script = "echo changed | dd of=/dev/vda conv=fsync 2>/dev/null; head -c 7 /dev/vda";
    let args = ["run", "--ephemeral", "--disk", disk.to_str().unwrap(), "--", "sh", "-c", script];
    assert_eq!(works(&tool, &args), "changed");
    assert_eq!(std::fs::read(&disk).unwrap(), vec![7; 1 << 20]);
}
