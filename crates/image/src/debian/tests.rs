use super::*;

fn refused(change: impl FnOnce(&mut DebianOptions)) -> String {
    let mut options = DebianOptions::new(1 << 30, "deb");
    change(&mut options);
    let error = check(Path::new("/nonexistent/disk"), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Request);
    error.to_string()
}

#[test]
fn bad_options_are_refused_before_any_download() {
    assert!(check(Path::new("/nonexistent/disk"), &DebianOptions::new(1 << 30, "deb.example.org")).is_ok());
    assert!(refused(|o| o.hostname = "a b".into()).contains("host name"));
    assert!(refused(|o| o.hostname = "-x".into()).contains("host name"));
    assert!(refused(|o| o.hostname = String::new()).contains("host name"));
    assert!(refused(|o| o.access.user = Some("Root:0".into())).contains("user name"));
    assert!(refused(|o| o.access.password_hash = Some("secret".into())).contains("openssl passwd"));
    assert!(
        refused(|o| o.access.ssh_keys = vec!["ssh-ed25519 AAA\nevil".into()]).contains("authorized_keys")
    );
    let existing = tempfile::NamedTempFile::new().unwrap();
    assert!(
        check(existing.path(), &DebianOptions::new(1 << 30, "deb")).unwrap_err().why().contains("exists")
    );
}
