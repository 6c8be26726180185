//! Files of Debian's packages.

use anyhow::{Context, Result};
use tearless_image::{
    Progress,
    cache::Cache,
    deb::{self, EntryKind, Part},
    error::Error,
    fetch::Fetcher,
    mirror::Mirror,
    packages::{Index, fetch_index},
};

/// The files of `suite` that `wanted` names, each by what its package's name begins and ends with, and by the end of its path;
/// in the same order. A package is downloaded once and kept in the cache.
///
/// # Errors
/// When the mirror has not all of them.
pub fn files(suite: &str, wanted: &[([&str; 2], &str)], progress: &dyn Progress) -> Result<Vec<Vec<u8>>> {
    let fetcher = Fetcher::new(Mirror::choose(None)?, Cache::open()?, progress);
    let index = fetch_index(&fetcher, suite, false)?;
    let mut found: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
    for (i, (package, _)) in wanted.iter().enumerate() {
        if wanted.iter().position(|(other, _)| other == package) != Some(i) {
            continue;
        }
        let name = name_of(&index, package)?;
        let path = fetcher.object(&name, &index.require(&name)?.remote)?;
        deb::read(&path, &mut |part, entry, content| {
            let slots = wanted.iter().zip(&mut found).filter(|((of, end), _)| {
                of == package
                    && part == Part::Data
                    && entry.kind == EntryKind::File
                    && entry.path.ends_with(end)
            });
            let slots: Vec<_> = slots.map(|(_, slot)| slot).collect();
            if !slots.is_empty() {
                let mut bytes = Vec::new();
                content
                    .read_to_end(&mut bytes)
                    .map_err(|e| Error::format(format!("cannot read {}", entry.path), e))?;
                slots.into_iter().for_each(|slot| *slot = Some(bytes.clone()));
            }
            Ok(())
        })?;
    }
    let named = found.into_iter().zip(wanted);
    named.map(|(file, (package, end))| file.with_context(|| format!("{package:?} has no {end}"))).collect()
}

fn name_of(index: &Index, [start, end]: &[&str; 2]) -> Result<String> {
    let fits =
        |name: &str| name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end);
    let package = index.iter().find(|package| fits(&package.name));
    Ok(package.with_context(|| format!("there is no package {start}*{end}"))?.name.clone())
}
