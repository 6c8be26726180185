//! Kernel modules: what a module says about itself in its `.modinfo` section, and which modules a set of wanted ones
//! needs, in load order. The dependency file `modules.dep` is not in the package (it is made when it is installed), so
//! the dependencies come from the modules.

pub mod index;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use object::{Object, ObjectSection};

use crate::compression;
use crate::error::{Error, Result};

/// Debian's largest module is some 30 MB with all GPU drivers.
const MODULE_LIMIT: u64 = 256 << 20;

/// The modules of one kernel as its package has them.
#[derive(Debug, Default)]
pub struct ModuleTree {
    /// Kernel release, the name of the folder under `lib/modules`.
    pub release: String,
    /// Names of what is built into the kernel.
    pub builtin: BTreeSet<String>,
    files: BTreeMap<String, (String, Vec<u8>)>,
}

/// A module ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name as `lsmod` shows it.
    pub name: String,
    /// Path under `lib/modules/RELEASE/`, without the suffix of a compression.
    pub path: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// Modules in load order, and the wanted names that the kernel has in no form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Each comes after those it needs.
    pub modules: Vec<Module>,
    /// Neither a module nor built in.
    pub unknown: Vec<String>,
}

/// What a module says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModInfo {
    /// Modules it needs.
    pub depends: Vec<String>,
    /// Modules it would like loaded before.
    pub soft: Vec<String>,
    /// Patterns of device names it serves.
    pub aliases: Vec<String>,
}

impl ModuleTree {
    /// Takes a file of a package, if it belongs to the modules of a kernel; `path` as in the package.
    ///
    /// # Errors
    /// The content cannot be read.
    pub fn take(&mut self, path: &str, content: &mut dyn std::io::Read) -> Result<bool> {
        let Some((release, inner)) = split_path(path) else { return Ok(false) };
        let name = module_name(inner);
        if name.is_none() && inner != "modules.builtin" {
            return Ok(false);
        }
        let bytes = compression::read_all(path, content, MODULE_LIMIT)?;
        release.clone_into(&mut self.release);
        match name {
            Some(name) => {
                self.files.insert(name, (inner.to_owned(), bytes));
            }
            None => self.builtin.extend(String::from_utf8_lossy(&bytes).lines().filter_map(module_name)),
        }
        Ok(true)
    }

    /// Every module's name and path.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(name, (path, _))| (name.as_str(), path.as_str()))
    }

    /// Every module's path and content, still compressed.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.values().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

    /// One module, decompressed.
    ///
    /// # Errors
    /// It is damaged.
    pub fn load(&self, name: &str) -> Result<Option<Module>> {
        let Some((path, packed)) = self.files.get(name) else { return Ok(None) };
        let bytes = compression::bytes(path, packed, MODULE_LIMIT)?;
        Ok(Some(Module { name: name.to_owned(), path: plain_path(path).to_owned(), bytes }))
    }

    /// The wanted modules and all they need, in load order.
    ///
    /// # Errors
    /// A module is damaged or needs one that the kernel has not.
    pub fn select<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Result<Selection> {
        let mut selection = Selection::default();
        let mut seen = HashSet::new();
        for name in wanted {
            let name = canonical(name);
            if !self.builtin.contains(&name) && !self.files.contains_key(&name) {
                selection.unknown.push(name);
            } else {
                self.visit(&name, &mut seen, &mut selection.modules)?;
            }
        }
        Ok(selection)
    }

    /// Depth first: what a module needs goes before it. `seen` also ends cycles of soft dependencies.
    fn visit(&self, name: &str, seen: &mut HashSet<String>, out: &mut Vec<Module>) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let module = self.load(name)?.ok_or_else(|| {
            Error::format(
                format!("the kernel {} is incomplete", self.release),
                format!("it has no module {name}"),
            )
        })?;
        let info = ModInfo::parse(&module)?;
        for soft in info.soft.iter().filter(|n| self.files.contains_key(*n)) {
            self.visit(soft, seen, out)?;
        }
        for needed in &info.depends {
            self.visit(needed, seen, out)?;
        }
        out.push(module);
        Ok(())
    }
}

impl ModInfo {
    /// Reads the `.modinfo` section: zero-terminated `key=value` strings.
    ///
    /// # Errors
    /// Not an ELF file with such a section.
    pub fn parse(module: &Module) -> Result<Self> {
        let bad = |why: &dyn std::fmt::Display| {
            Error::format(format!("the module {} is malformed", module.path), why)
        };
        let elf = object::File::parse(&*module.bytes).map_err(|e| bad(&e))?;
        let section = elf.section_by_name(".modinfo").ok_or_else(|| bad(&"it has no .modinfo section"))?;
        Ok(Self::parse_section(section.data().map_err(|e| bad(&e))?))
    }

    fn parse_section(data: &[u8]) -> Self {
        let mut info = Self::default();
        for text in data.split(|&b| b == 0).filter_map(|s| str::from_utf8(s).ok()) {
            match text.split_once('=') {
                Some(("depends", list)) => {
                    info.depends.extend(list.split(',').filter(|n| !n.is_empty()).map(canonical));
                }
                Some(("softdep", rule)) => {
                    let before = rule.split_whitespace().skip_while(|w| *w != "pre:").skip(1);
                    info.soft.extend(before.take_while(|w| !w.ends_with(':')).map(canonical));
                }
                Some(("alias", pattern)) => info.aliases.push(pattern.to_owned()),
                _ => {}
            }
        }
        info
    }
}

/// Splits `usr/lib/modules/RELEASE/REST`.
pub(crate) fn split_path(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/")?.split_once('/')
}

/// `kernel/x/virtio-rng.ko.xz` is the module `virtio_rng`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    plain_path(file).strip_suffix(".ko").map(canonical)
}

/// The path without the suffix of a compression.
fn plain_path(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path)
}

/// The kernel sees no difference between `-` and `_` in names and shows `_`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal little-endian ELF64 relocatable file with one section `.modinfo`.
    fn elf(modinfo: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let (info_at, names_at) = (64, 64 + modinfo.len());
        let sections_at = (names_at + names.len()).next_multiple_of(8);
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        let mut put16 = |v: u16| out.extend(v.to_le_bytes());
        put16(1);
        put16(183);
        out.extend(1u32.to_le_bytes());
        out.extend([0; 16]);
        out.extend((sections_at as u64).to_le_bytes());
        out.extend(0u32.to_le_bytes());
        for v in [64u16, 0, 0, 64, 3, 2] {
            out.extend(v.to_le_bytes());
        }
        out.extend(modinfo.bytes());
        out.extend(names);
        out.resize(sections_at + 64, 0);
        for (name, kind, at, size) in [(1u32, 1u32, info_at, modinfo.len()), (10, 3, names_at, names.len())] {
            out.extend(name.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend([0; 16]);
            out.extend((at as u64).to_le_bytes());
            out.extend((size as u64).to_le_bytes());
            out.extend([0; 8]);
            out.extend(1u64.to_le_bytes());
            out.extend([0; 8]);
        }
        out
    }

    fn tree(files: &[(&str, &str)]) -> ModuleTree {
        let mut tree = ModuleTree::default();
        tree.take("usr/lib/modules/6.1/modules.builtin", &mut &b"kernel/fs/ext4/ext4.ko\n"[..]).unwrap();
        for (path, info) in files {
            assert!(tree.take(&format!("usr/lib/modules/6.1/kernel/{path}"), &mut &elf(info)[..]).unwrap());
        }
        tree
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let tree = tree(&[
            ("net/virtio_net.ko", "depends=net_failover\0alias=virtio:d00000001v*\0"),
            ("net/net_failover.ko", "depends=failover\0"),
            ("net/failover.ko", "depends=\0"),
            ("char/virtio-rng.ko", "depends=failover,ext4\0softdep=pre: soft-one absent post: other\0"),
            ("lib/soft-one.ko", "softdep=pre: virtio_rng\0"),
        ]);
        assert_eq!(tree.release, "6.1");
        let selection = tree.select(["virtio_net", "virtio-rng", "ext4", "nosuch"]).unwrap();
        let names: Vec<_> = selection.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net", "soft_one", "virtio_rng"]);
        assert_eq!(selection.unknown, ["nosuch"]);
        assert_eq!(selection.modules[4].path, "kernel/char/virtio-rng.ko");
    }

    #[test]
    fn a_missing_dependency_is_an_error() {
        let tree = tree(&[("a.ko", "depends=b\0")]);
        assert!(tree.select(["a"]).unwrap_err().why().contains("module b"));
    }

    #[test]
    fn damaged_modules_are_errors() {
        let mut tree = tree(&[]);
        tree.take("lib/modules/6.1/kernel/x.ko", &mut &b"no elf"[..]).unwrap();
        tree.take("lib/modules/6.1/kernel/y.ko.xz", &mut &b"no xz"[..]).unwrap();
        assert!(tree.select(["x"]).is_err());
        assert!(tree.select(["y"]).is_err());
        assert!(!tree.take("usr/share/doc/x.ko", &mut &b""[..]).unwrap());
    }
}
