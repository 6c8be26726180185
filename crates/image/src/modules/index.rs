//! The files that `depmod` makes when a kernel is installed, made on the host: reading a thousand modules is seconds here
//! and minutes on a software CPU.
//!
//! libkmod reads only the binary form: a trie of keys with values (kmod, `libkmod-index.c`). Nodes hold an optional
//! prefix, optional children by first byte, and optional values; all numbers are big-endian.

use std::collections::{BTreeMap, BTreeSet};

use super::{ModInfo, ModuleTree};
use crate::error::Result;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// Name and content of each index file of a kernel's modules; they go beside the folder `kernel`.
///
/// # Errors
/// A module is damaged.
pub fn build(tree: &ModuleTree) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut infos = BTreeMap::new();
    for (name, _) in tree.paths() {
        if let Some(module) = tree.load(name)? {
            infos.insert(name, ModInfo::parse(&module)?);
        }
    }
    let paths: BTreeMap<&str, &str> = tree.paths().collect();
    let (mut dep, mut alias, mut builtin) = (Trie::default(), Trie::default(), Trie::default());
    let (mut dep_text, mut alias_text, mut soft_text) = (String::new(), String::new(), String::new());
    let mut nodes = String::from("# Device nodes to trigger on-demand module loading.\n");
    for (name, info) in &infos {
        let mut needed = Vec::new();
        collect(name, &infos, &mut needed);
        let needed: Vec<&str> = needed.iter().filter_map(|n| paths.get(n.as_str()).copied()).collect();
        let line = format!("{}: {}", paths.get(name).copied().unwrap_or_default(), needed.join(" "));
        dep.insert(name, line.trim_end());
        dep_text += &format!("{}\n", line.trim_end());
        for pattern in &info.aliases {
            alias.insert(&canonical_pattern(pattern), name);
            alias_text += &format!("alias {pattern} {name}\n");
        }
        if let Some(node) = device_node(&info.aliases) {
            nodes += &format!("{name} {node}\n");
        }
        if !info.soft.is_empty() {
            soft_text += &format!("softdep {name} pre: {}\n", info.soft.join(" "));
        }
    }
    for name in &tree.builtin {
        builtin.insert(name, "");
    }
    Ok(vec![
        ("modules.dep", dep_text.into_bytes()),
        ("modules.dep.bin", dep.serialize()),
        ("modules.alias", alias_text.into_bytes()),
        ("modules.alias.bin", alias.serialize()),
        ("modules.softdep", soft_text.into_bytes()),
        ("modules.devname", nodes.into_bytes()),
        ("modules.builtin.bin", builtin.serialize()),
    ])
}

/// What a module needs, directly and indirectly, nearest first: the order of modules.dep, which is loaded from its end.
fn collect(name: &str, infos: &BTreeMap<&str, ModInfo>, out: &mut Vec<String>) {
    let mut order = Vec::new();
    postorder(name, infos, &mut BTreeSet::new(), &mut order);
    out.extend(order.into_iter().rev().filter(|n| n != name));
}

fn postorder(
    name: &str,
    infos: &BTreeMap<&str, ModInfo>,
    seen: &mut BTreeSet<String>,
    out: &mut Vec<String>,
) {
    if seen.insert(name.to_owned()) {
        for needed in infos.get(name).map(|i| i.depends.as_slice()).unwrap_or_default() {
            postorder(needed, infos, seen, out);
        }
        out.push(name.to_owned());
    }
}

/// The device node that has a module loaded when it is opened, such as `net/tun c10:200`.
fn device_node(aliases: &[String]) -> Option<String> {
    let name = aliases.iter().find_map(|alias| alias.strip_prefix("devname:"))?;
    let number = |kind: &str, letter: char| {
        let number = aliases.iter().find_map(|alias| alias.strip_prefix(kind)?.strip_prefix("-major-"))?;
        let (major, minor) = number.split_once('-')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        Some(format!("{name} {letter}{major}:{minor}"))
    };
    number("char", 'c').or_else(|| number("block", 'b'))
}

/// `-` is `_` in an alias, except inside brackets, where it makes a range.
fn canonical_pattern(pattern: &str) -> String {
    let mut depth = 0;
    pattern
        .chars()
        .map(|c| match c {
            '[' => {
                depth += 1;
                c
            }
            ']' => {
                depth -= 1;
                c
            }
            '-' if depth == 0 => '_',
            _ => c,
        })
        .collect()
}

#[derive(Default)]
struct Trie {
    values: Vec<String>,
    children: BTreeMap<u8, Trie>,
}

impl Trie {
    fn insert(&mut self, key: &str, value: &str) {
        let mut node = self;
        // Keys beyond ASCII do not exist; the format has no place for them.
        for byte in key.bytes().filter(|b| (1..128).contains(b)) {
            node = node.children.entry(byte).or_default();
        }
        node.values.push(value.to_owned());
    }

    fn serialize(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [MAGIC, VERSION, 0] {
            out.extend(word.to_be_bytes());
        }
        let root = self.write(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }

    /// Writes the node and all below it; returns its offset with flags.
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        // A chain of nodes with one child and no value becomes a prefix.
        let mut prefix = Vec::new();
        let mut node = self;
        while node.values.is_empty() && node.children.len() == 1 {
            let Some((&byte, child)) = node.children.iter().next() else { break };
            prefix.push(byte);
            node = child;
        }
        let children: BTreeMap<u8, u32> =
            node.children.iter().map(|(&byte, child)| (byte, child.write(out))).collect();
        let mut offset = out.len() as u32;
        if !prefix.is_empty() {
            offset |= HAS_PREFIX;
            out.extend(prefix);
            out.push(0);
        }
        if let (Some((&first, _)), Some((&last, _))) = (children.first_key_value(), children.last_key_value())
        {
            offset |= HAS_CHILDREN;
            out.extend([first, last]);
            for byte in first..=last {
                out.extend(children.get(&byte).copied().unwrap_or(0).to_be_bytes());
            }
        }
        if !node.values.is_empty() {
            offset |= HAS_VALUES;
            out.extend((node.values.len() as u32).to_be_bytes());
            for (priority, value) in node.values.iter().enumerate() {
                out.extend((priority as u32).to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a key up the way libkmod does.
    fn lookup(index: &[u8], key: &str) -> Option<Vec<String>> {
        let word = |at: usize| u32::from_be_bytes(index[at..at + 4].try_into().unwrap());
        let text = |at: usize| {
            let end = index[at..].iter().position(|&b| b == 0).unwrap();
            (String::from_utf8(index[at..at + end].to_vec()).unwrap(), at + end + 1)
        };
        assert_eq!((word(0), word(4)), (MAGIC, VERSION));
        let (mut node, mut key) = (word(8), key);
        loop {
            let mut at = (node & 0x0fff_ffff) as usize;
            if node & HAS_PREFIX != 0 {
                let (prefix, next) = text(at);
                key = key.strip_prefix(&prefix)?;
                at = next;
            }
            let mut child = 0;
            if node & HAS_CHILDREN != 0 {
                let (first, last) = (index[at], index[at + 1]);
                let byte = key.bytes().next();
                if let Some(byte) = byte.filter(|b| (first..=last).contains(b)) {
                    child = word(at + 2 + usize::from(byte - first) * 4);
                }
                at += 2 + usize::from(last - first + 1) * 4;
            }
            if key.is_empty() {
                let count = if node & HAS_VALUES != 0 { word(at) } else { return None };
                at += 4;
                return Some(
                    (0..count)
                        .map(|_| {
                            let (value, next) = text(at + 4);
                            at = next;
                            value
                        })
                        .collect(),
                );
            }
            if child == 0 {
                return None;
            }
            (node, key) = (child, &key[1..]);
        }
    }

    #[test]
    fn keys_lead_to_their_values() {
        let mut trie = Trie::default();
        for (key, value) in
            [("virtio_net", "a"), ("virtio_blk", "b"), ("virtio", "c"), ("x", "d"), ("virtio_blk", "e")]
        {
            trie.insert(key, value);
        }
        let index = trie.serialize();
        assert_eq!(lookup(&index, "virtio_net").unwrap(), ["a"]);
        assert_eq!(lookup(&index, "virtio_blk").unwrap(), ["b", "e"]);
        assert_eq!(lookup(&index, "virtio").unwrap(), ["c"]);
        assert_eq!(lookup(&index, "x").unwrap(), ["d"]);
        assert_eq!(lookup(&index, "virtio_"), None);
        assert_eq!(lookup(&index, "y"), None);
    }

    #[test]
    fn patterns_keep_ranges() {
        assert_eq!(canonical_pattern("of:N*T*Cx-y,[a-z]-"), "of:N*T*Cx_y,[a-z]_");
    }

    #[test]
    fn nodes_are_named_with_their_numbers() {
        let node = |aliases: &[&str]| device_node(&aliases.iter().map(|&a| a.into()).collect::<Vec<_>>());
        assert_eq!(node(&["char-major-10-200", "devname:net/tun"]).as_deref(), Some("net/tun c10:200"));
        assert_eq!(
            node(&["devname:loop-control", "char-major-10-237", "block-major-7-*"]).as_deref(),
            Some("loop-control c10:237")
        );
        assert_eq!(node(&["devname:x", "block-major-7-1"]).as_deref(), Some("x b7:1"));
        for none in [&["devname:x"][..], &["char-major-10-200"], &["devname:x", "char-major-10-*"], &[]] {
            assert_eq!(node(none), None);
        }
    }

    #[test]
    fn dependencies_of_dependencies() {
        let info = |depends: &[&str]| ModInfo {
            depends: depends.iter().map(|&d| d.into()).collect(),
            ..ModInfo::default()
        };
        let infos = BTreeMap::from([("a", info(&["b", "c"])), ("b", info(&["c"])), ("c", info(&["a"]))]);
        let mut out = Vec::new();
        collect("a", &infos, &mut out);
        assert_eq!(out, ["b", "c"]);
    }
}
