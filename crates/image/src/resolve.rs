//! Which packages a set of wanted ones needs: Debian's dependencies without Recommends.
//!
//! Not a full solver. The wanted packages come first, so that they satisfy alternatives before anything else is chosen;
//! then each open dependency takes its first alternative that exists and conflicts with nothing chosen. That is how the
//! minimal systems of Debian's own bootstrap tools come about; a set that needs backtracking ends in an error that names
//! the chain.

use std::collections::{BTreeMap, VecDeque};

use crate::error::{Error, Kind, Result};
use crate::packages::{Dependency, Index, Package};

/// The wanted packages with all they need, sorted by name.
///
/// # Errors
/// [`Kind::Request`] when a package is unknown, or a dependency cannot be met without a conflict.
pub fn resolve<'a>(index: &'a Index, wanted: &[String]) -> Result<Vec<&'a Package>> {
    let mut choice = Choice { index, chosen: BTreeMap::new(), queue: VecDeque::new() };
    for name in wanted {
        choice.take_wanted(name)?;
    }
    while let Some(package) = choice.queue.pop_front() {
        for alternatives in &package.depends {
            choice.satisfy(package, alternatives)?;
        }
    }
    Ok(choice.chosen.into_values().collect())
}

/// The names of what every Debian system has: Essential packages and those of priority `required`.
pub fn base_system(index: &Index) -> Vec<String> {
    let base = index.iter().filter(|p| p.essential || p.priority == "required");
    let mut names: Vec<String> = base.map(|p| p.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

struct Choice<'a> {
    index: &'a Index,
    chosen: BTreeMap<&'a str, &'a Package>,
    queue: VecDeque<&'a Package>,
}

impl<'a> Choice<'a> {
    fn take_wanted(&mut self, name: &str) -> Result<()> {
        let package = self.index.require(name)?;
        if let Some(enemy) = self.enemy(package) {
            let why = format!("{name} cannot be installed together with {}", enemy.name);
            return Err(Error::new(
                Kind::Request,
                "the packages contradict each other",
                why,
                "leave out one of them",
            ));
        }
        self.take(package);
        Ok(())
    }

    fn take(&mut self, package: &'a Package) {
        if self.chosen.insert(&package.name, package).is_none() {
            self.queue.push_back(package);
        }
    }

    fn satisfy(&mut self, package: &Package, alternatives: &[Dependency]) -> Result<()> {
        if alternatives.iter().any(|d| self.chosen.values().any(|p| p.satisfies(d))) {
            return Ok(());
        }
        let found = alternatives
            .iter()
            .find_map(|d| self.candidates(d).into_iter().find(|p| self.enemy(p).is_none()));
        match found {
            Some(found) => {
                self.take(found);
                Ok(())
            }
            None => Err(Error::new(
                Kind::Request,
                format!("cannot install {}", package.name),
                format!("nothing that fits satisfies its dependency on {}", describe(alternatives)),
                "leave it out, or choose another suite",
            )),
        }
    }

    /// What satisfies a dependency, best first: the package of that name, then providers by priority and name. A name
    /// that is already chosen in another version cannot be chosen again.
    fn candidates(&self, wanted: &Dependency) -> Vec<&'a Package> {
        let free = |p: &&Package| p.satisfies(wanted) && !self.chosen.contains_key(p.name.as_str());
        let own = self.index.get(&wanted.name).filter(free);
        let mut providers: Vec<_> = self.index.providers(&wanted.name).filter(free).collect();
        providers.sort_by_key(|p| (rank(&p.priority), p.name.as_str()));
        own.into_iter().chain(providers).collect()
    }

    /// A chosen package that cannot live with `package`. A package may conflict with what it provides itself.
    fn enemy(&self, package: &Package) -> Option<&'a Package> {
        let against = |a: &Package, b: &Package| a.conflicts.iter().any(|d| b.satisfies(d));
        self.chosen
            .values()
            .filter(|other| other.name != package.name)
            .find(|other| against(package, other) || against(other, package))
            .copied()
    }
}

fn rank(priority: &str) -> usize {
    ["required", "important", "standard"].iter().position(|p| *p == priority).unwrap_or(3)
}

fn describe(alternatives: &[Dependency]) -> String {
    alternatives.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: `name version fields`, fields separated by `;`.
    fn index(lines: &[(&str, &str, &str)]) -> Index {
        let mirror = crate::mirror::Mirror::choose(Some("http://m.example/debian")).unwrap();
        let mut index = Index::default();
        for (name, version, fields) in lines {
            let fields = fields
                .split(';')
                .filter(|f| !f.is_empty())
                .fold(String::new(), |all, f| all + f.trim() + "\n");
            index.add(&format!(
                "Package: {name}\nVersion: {version}\nArchitecture: arm64\n{fields}Filename: x\nSize: 1\nSHA256: {}\n",
                "0".repeat(64)
            ), &mirror);
        }
        index
    }

    fn names(index: &Index, wanted: &[&str]) -> Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|&s| s.to_owned()).collect();
        Ok(resolve(index, &wanted)?.iter().map(|p| p.name.clone()).collect())
    }

    #[test]
    fn follows_dependencies_and_ends_cycles() {
        let index = index(&[
            ("a", "1", "Pre-Depends: b (>= 2); Recommends: z"),
            ("b", "2", "Depends: c"),
            ("c", "1", "Depends: a"),
            ("z", "1", ""),
        ]);
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn wanted_packages_decide_alternatives() {
        let index = index(&[
            ("a", "1", "Depends: first | second, virtual"),
            ("first", "1", ""),
            ("second", "1", ""),
            ("p-optional", "1", "Priority: optional; Provides: virtual"),
            ("q-important", "1", "Priority: important; Provides: virtual"),
        ]);
        assert_eq!(names(&index, &["a"]).unwrap(), ["a", "first", "q-important"]);
        assert_eq!(names(&index, &["a", "second", "p-optional"]).unwrap(), ["a", "p-optional", "second"]);
    }

    #[test]
    fn conflicts_exclude_alternatives() {
        let index = index(&[
            ("a", "1", "Depends: mta-one | mta-two"),
            ("mta-one", "1", "Provides: mta; Conflicts: mta"),
            ("mta-two", "1", "Provides: mta; Conflicts: mta"),
            ("hater", "1", "Conflicts: mta-one"),
        ]);
        assert_eq!(names(&index, &["a", "hater"]).unwrap(), ["a", "hater", "mta-two"]);
        assert!(names(&index, &["mta-one", "mta-two"]).unwrap_err().why().contains("together"));
    }

    #[test]
    fn unmet_dependencies_are_named() {
        let index = index(&[("a", "1", "Depends: b (>= 3) | c"), ("b", "2", "")]);
        let error = names(&index, &["a"]).unwrap_err();
        assert!(error.what().contains("install a") && error.why().contains("b or c"), "{error}");
        assert!(names(&index, &["nope"]).unwrap_err().what().contains("nope"));
    }

    #[test]
    fn the_base_system() {
        let index = index(&[
            ("a", "1", "Essential: yes"),
            ("b", "1", "Priority: required"),
            ("c", "1", "Priority: important"),
        ]);
        assert_eq!(base_system(&index), ["a", "b"]);
    }
}
