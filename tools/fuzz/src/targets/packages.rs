//! Package indices.

use std::cmp::Ordering;

use tearless_image::{
    mirror::Mirror,
    packages::{Index, parse_dependencies},
    resolve::{base_system, resolve},
    version,
};

/// Most packages to resolve for: each walks through all others.
const WANTED: usize = 8;

/// Reads an index, compares its versions, and resolves the dependencies of its first packages.
pub fn packages(data: &[u8]) {
    let (Ok(text), Ok(mirror)) = (str::from_utf8(data), Mirror::choose(Some("http://mirror.invalid/debian")))
    else {
        return;
    };
    let mut index = Index::default();
    index.add(text, &mirror);
    let all: Vec<_> = index.iter().collect();
    for pair in all.windows(2) {
        let order = version::compare(&pair[0].version, &pair[1].version);
        assert_eq!(order, version::compare(&pair[1].version, &pair[0].version).reverse());
        assert_eq!(version::compare(&pair[0].version, &pair[0].version), Ordering::Equal);
    }
    let mut wanted = base_system(&index);
    wanted.extend(all.iter().map(|package| package.name.clone()));
    wanted.truncate(WANTED);
    if let Ok(chosen) = resolve(&index, &wanted) {
        assert!(wanted.iter().all(|name| chosen.iter().any(|package| package.name == *name)));
    }
    _ = parse_dependencies(text);
}
