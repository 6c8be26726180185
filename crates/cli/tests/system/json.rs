//! What `--json` prints is what docs/json.md says, no more and no less.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    guest::Guest,
    mac,
    tool::{Tool, finish},
};

const DOCUMENT: &str = include_str!("../../../../docs/json.md");

/// The types of the members that the section about `command` lists, and those that may be left out.
fn documented(command: &str) -> BTreeMap<&'static str, (&'static str, bool)> {
    let heading = format!("`tearless {command}");
    let section = DOCUMENT.split("\n## ").find(|section| section.lines().next().unwrap().contains(&heading));
    let rows = section.unwrap_or_else(|| panic!("nothing about {command}")).lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let [name, kind, when] = row.split('|').take(3).map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("no row: {row}")
        };
        (name.trim_end_matches('`'), (kind, when == "sometimes"))
    })
    .collect()
}

/// All members of `value`, whose own name is `at`, with their types.
fn members(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(all) => {
            let (texts, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.is_string());
            others.iter().for_each(|one| members(one, &format!("{at}[]"), found));
            if texts.is_empty() { "array" } else { "array of strings" }
        }
        Value::Object(all) => {
            // What is in it is `config.json`, which is not described here.
            for (name, one) in all.iter().filter(|_| at != "config") {
                let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                members(one, &inner, found);
            }
            "object"
        }
    };
    if !at.is_empty() && !at.ends_with("[]") {
        found.insert(at.to_owned(), kind);
    }
}

/// Whether `value` is as the section about `command` says.
fn check(command: &str, value: &Value) {
    let documented = documented(command);
    let mut found = BTreeMap::new();
    members(value, "", &mut found);
    for (name, kind) in &found {
        let Some((said, _)) = documented.get(name.as_str()) else {
            panic!("{command}: {name} is not documented")
        };
        let fits = *kind == "null" || kind == said || (*kind == "array" && said.starts_with("array"));
        assert!(fits, "{command}: {name} is no {said}: {kind}");
    }
    for (name, (_, sometimes)) in &documented {
        let parent = name.rsplit_once('.').map(|(parent, _)| parent.trim_end_matches("[]"));
        let is_due = parent.is_none_or(|parent| found.get(parent).is_some_and(|kind| *kind != "null"));
        assert!(*sometimes || !is_due || found.contains_key(*name), "{command}: there is no {name}: {value}");
    }
}

fn printed(tool: &Tool, args: &[&str]) -> Value {
    serde_json::from_str(&tool.succeeds(&[args, &["--json"]].concat()).stdout).unwrap()
}

#[test]
fn what_is_printed_for_scripts_is_documented() {
    let Guest(tool) = &Guest::with(Tool::new(), &["--display", "web"]);
    tool.succeeds(&["snapshot", "take", "g", "first"]);
    let info = printed(tool, &["info", "g"]);
    assert!(info["live"]["display"].is_string() && info["live"]["balloon"].is_object(), "{info}");
    check("info", &info);
    tool.exec(&["sh", "-c", "ip link set lo up; ip address add 192.0.2.7/24 dev lo"]);
    for (command, args) in [("snapshot list", &["snapshot", "list", "g"][..]), ("ip", &["ip", "g"])] {
        let list = printed(tool, args);
        assert!(!list.as_array().unwrap().is_empty(), "{command}");
        list.as_array().unwrap().iter().for_each(|one| check(command, one));
    }
    let kernel = tool.file("kernel.bin", &[0x1f, 0x20, 0x03, 0xd5]);
    tool.succeeds(&["create", "hurt", "--kernel", kernel.to_str().unwrap()]);
    std::fs::write(tool.home().join("hurt.vm/config.json"), "{").unwrap();
    let list = printed(tool, &["list"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    list.as_array().unwrap().iter().for_each(|one| check("list", one));
    check("doctor", &printed(tool, &["doctor"]));
}

#[test]
fn what_is_printed_of_macs_is_documented() {
    let tool = mac::with_mac();
    let info = printed(&tool, &["info", "mac"]);
    assert!(info["platform"]["ecid"].is_string(), "{info}");
    check("info", &info);
    let ipsw = tool.file("x.ipsw", &mac::ipsw());
    let info = printed(&tool, &["ipsw", "info", ipsw.to_str().unwrap()]);
    assert!(info["virtual_mac"].is_object(), "{info}");
    check("ipsw info", &info);
    // Nobody is there to ask: what is in the cache is printed, if anything.
    let mut list = tool.command(["ipsw", "list", "--json"]);
    list.env("TEARLESS_IPSW_CATALOGUE", "http://127.0.0.1:9/catalogue");
    let list = finish(list);
    assert_eq!(list.status, Some(0), "{}", list.stderr);
    check("ipsw list", &serde_json::from_str(&list.stdout).unwrap());
}
