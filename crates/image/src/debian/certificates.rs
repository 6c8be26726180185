//! The trusted certificates of the package ca-certificates, laid out as its script would: a list, a link for each, and
//! all in one file. Only the links by hash are left to the guest, because their names need OpenSSL.

use crate::error::Result;
use crate::tree::{Meta, Tree};

const SHARE: &str = "usr/share/ca-certificates";
const CERTS: &str = "etc/ssl/certs";

/// Writes the files; nothing when the package is not there.
pub(super) fn write(tree: &mut Tree, time: u64) -> Result<()> {
    let (mut list, mut bundle) = (String::new(), Vec::new());
    for folder in tree.list(SHARE) {
        for file in tree.list(&format!("{SHARE}/{folder}")) {
            let Some(name) = file.strip_suffix(".crt") else { continue };
            let path = format!("{SHARE}/{folder}/{file}");
            let Some(content) = tree.read(&path)? else { continue };
            list += &format!("{folder}/{file}\n");
            bundle.extend(&content);
            if content.last() != Some(&b'\n') {
                bundle.push(b'\n');
            }
            let name: String = name
                .chars()
                .map(|c| {
                    if " ,".contains(c) {
                        '_'
                    } else if "()".contains(c) {
                        '='
                    } else {
                        c
                    }
                })
                .collect();
            tree.symlink(&format!("{CERTS}/{name}.pem"), &format!("/{path}"), time)?;
        }
    }
    if list.is_empty() {
        return Ok(());
    }
    tree.write("etc/ca-certificates.conf", list.as_bytes(), Meta::root(0o644, time))?;
    tree.write(&format!("{CERTS}/ca-certificates.crt"), &bundle, Meta::root(0o644, time))?;
    tree.directory("usr/local/share/ca-certificates", Meta::root(0o755, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_links_and_bundles() {
        let mut tree = Tree::new(&std::env::temp_dir(), 0).unwrap();
        write(&mut tree, 0).unwrap();
        assert!(!tree.exists("etc/ca-certificates.conf"));
        let mut put = |name: &str, text: &str| {
            tree.write(&format!("{SHARE}/mozilla/{name}"), text.as_bytes(), Meta::root(0o644, 0)).unwrap();
        };
        put("B (x), y.crt", "two");
        put("A.crt", "one\n");
        put("notes.txt", "no");
        write(&mut tree, 0).unwrap();
        assert_eq!(
            tree.read_text("etc/ca-certificates.conf").unwrap(),
            "mozilla/A.crt\nmozilla/B (x), y.crt\n"
        );
        assert_eq!(tree.read_text(&format!("{CERTS}/ca-certificates.crt")).unwrap(), "one\ntwo\n");
        assert_eq!(
            tree.link_target(&format!("{CERTS}/B_=x=__y.pem")),
            Some("/usr/share/ca-certificates/mozilla/B (x), y.crt")
        );
    }
}
