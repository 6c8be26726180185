//! Reads classes, methods and constants of the framework out of the bindings, and makes empty libraries in the place of those that
//! objc2 links: the symbols are in this crate.

use std::{collections::BTreeSet, env, error::Error, fmt::Write as _, fs, path::Path};

/// Classes of Foundation and AppKit that the bindings or their callers name, each a child of the one before the colon.
const OTHERS: &[&str] = &[
    ":NSObject",
    "NSObject:NSArray",
    "NSObject:NSData",
    "NSObject:NSDictionary",
    "NSObject:NSError",
    "NSObject:NSFileHandle",
    "NSObject:NSProcessInfo",
    "NSObject:NSProgress",
    "NSObject:NSResponder",
    "NSObject:NSString",
    "NSObject:NSURL",
    "NSResponder:NSView",
];

/// What macOS 27 has and the bindings have not, as Apple's headers declare it.
const NEWER: &str = r#"
#[unsafe(super(NSObject))]
pub struct VZGuestProvisioningOptions;
#[unsafe(super(VZGuestProvisioningOptions))]
pub struct VZMacGuestProvisioningOptions;
impl VZMacGuestProvisioningOptions {
#[unsafe(method(setFullName:))]
pub unsafe fn setFullName(&self, full_name: &NSString);
#[unsafe(method(setUsername:))]
pub unsafe fn setUsername(&self, username: &NSString);
#[unsafe(method(setPassword:))]
pub unsafe fn setPassword(&self, password: &NSString);
#[unsafe(method(setLogsInAutomatically:))]
pub unsafe fn setLogsInAutomatically(&self, logs_in_automatically: bool);
#[unsafe(method(setEnablesRemoteLogin:))]
pub unsafe fn setEnablesRemoteLogin(&self, enables_remote_login: bool);
}
impl VZMacOSVirtualMachineStartOptions {
#[unsafe(method(setGuestProvisioningOptions:error:_))]
pub unsafe fn setGuestProvisioningOptions_error(&self, options: Option<&VZMacGuestProvisioningOptions>) -> Result<(), Retained<NSError>>;
}
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    for library in ["objc", "gnustep-base", "dispatch"] {
        fs::write(Path::new(&out).join(format!("lib{library}.a")), "!<arch>\n")?;
    }
    println!("cargo:rustc-link-search=native={out}");
    let bindings = Path::new("bindings/src/generated");
    println!("cargo:rerun-if-changed={}", bindings.display());
    let mut files = fs::read_dir(bindings)?.map(|f| f.map(|f| f.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    let mut found = Found::default();
    for other in OTHERS {
        let (parent, name) = other.split_once(':').unwrap_or_default();
        found.classes.push(Class { name: name.into(), parent: parent.into(), methods: Vec::new() });
    }
    for file in files {
        found.read(&fs::read_to_string(&file)?);
    }
    found.read(NEWER);
    fs::write(Path::new(&out).join("classes.rs"), found.write()?)?;
    Ok(())
}

#[derive(Default)]
struct Found {
    classes: Vec<Class>,
    /// Type, name, number.
    constants: Vec<(String, String, String)>,
}

struct Class {
    name: String,
    parent: String,
    methods: Vec<Method>,
}

struct Method {
    selector: String,
    of_class: bool,
    arguments: Vec<String>,
    answer: String,
}

impl Found {
    fn read(&mut self, text: &str) {
        let mut parent = String::new();
        let mut inside = String::new();
        let mut selector = String::new();
        let mut alias = String::new();
        let mut function: Option<String> = None;
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            if let Some(list) = between(line, "#[unsafe(super(", ")") {
                parent = list.split(',').next().unwrap_or_default().trim().into();
            } else if let Some(name) = between(line, "pub struct ", ";")
                && !parent.is_empty()
            {
                let (name, parent) = (word(name), std::mem::take(&mut parent));
                if name.starts_with("VZ") {
                    self.classes.push(Class { name, parent, methods: Vec::new() });
                }
            } else if let Some(name) = line.strip_prefix("impl ") {
                inside = word(name);
            } else if let Some(name) = between(line, "#[unsafe(method(", ")") {
                selector = name.replace(":_", ":");
            } else if let Some(name) = between(line, "#[doc(alias = \"", "\"") {
                alias = name.into();
            } else if let Some(number) = between(line, ": Self = Self(", ")") {
                self.constants.push((inside.clone(), std::mem::take(&mut alias), number.into()));
            }
            if line.contains("fn ") && !selector.is_empty() {
                function = Some(String::new());
            }
            if let Some(whole) = &mut function {
                whole.push_str(line);
                if line.ends_with(';') {
                    self.method(&inside, std::mem::take(&mut selector), whole);
                    function = None;
                }
            }
        }
    }

    fn method(&mut self, class: &str, selector: String, function: &str) {
        let Some(class) = self.classes.iter_mut().find(|known| known.name == class) else { return };
        let Some((_, rest)) = function.split_once('(') else { return };
        let (arguments, answer) = match rest.rsplit_once("->") {
            Some((arguments, answer)) => (arguments, answer.trim_end_matches(';').trim()),
            None => (rest, ""),
        };
        let arguments = arguments.trim_end_matches(';').trim().trim_end_matches(')');
        let mut types = split(arguments);
        let of_class = !types.first().is_some_and(|t| t == "&self" || t.starts_with("this:"));
        if !of_class {
            types.remove(0);
        }
        let types = types.iter().filter_map(|t| t.split_once(':')).map(|(_, t)| kind(t.trim())).collect();
        class.methods.push(Method { selector, of_class, arguments: types, answer: kind(answer) });
    }

    fn write(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for class in &self.classes {
            let Class { name, parent, .. } = class;
            for (prefix, of_class) in [("CLASS", false), ("META", true)] {
                write!(text, "static METHODS_{prefix}_{name}: &[Method] = &[")?;
                for m in class.methods.iter().filter(|m| m.of_class == of_class) {
                    let arguments = m.arguments.join(", ");
                    write!(
                        text,
                        "Method {{ selector: {:?}, arguments: &[{arguments}], answer: {} }}, ",
                        m.selector, m.answer
                    )?;
                }
                writeln!(text, "];")?;
            }
            let above = |prefix| {
                if parent.is_empty() { "None".to_owned() } else { format!("Some(&{prefix}_{parent})") }
            };
            writeln!(
                text,
                "static META_{name}: Class = Class::framework(None, {}, c{name:?}, METHODS_META_{name});",
                above("META")
            )?;
            writeln!(text, "#[unsafe(export_name = \"_OBJC_CLASS_{name}\")]")?;
            writeln!(
                text,
                "pub static CLASS_{name}: Class = Class::framework(Some(&META_{name}), {}, c{name:?}, METHODS_CLASS_{name});",
                above("CLASS")
            )?;
        }
        writeln!(text, "pub static CLASSES: &[&Class] = &[")?;
        self.classes.iter().try_for_each(|c| writeln!(text, "    &CLASS_{},", c.name))?;
        writeln!(text, "];\npub static CONSTANTS: &[(&str, &str, i64)] = &[")?;
        let mut seen = BTreeSet::new();
        for (of, name, number) in &self.constants {
            if number.parse::<i64>().is_ok() && seen.insert(name) {
                writeln!(text, "    ({of:?}, {name:?}, {number}),")?;
            }
        }
        writeln!(text, "];")?;
        Ok(text)
    }
}

fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split_once(after).map(|(inner, _)| inner)
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Arguments are parted by commas that are in no brackets.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts.iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

/// How a type is passed.
fn kind(of: &str) -> String {
    let plain = match of {
        "" | "()" => "Kind::Nothing",
        "bool" => "Kind::Flag",
        "u32" | "c_int" => "Kind::Short",
        "u64" | "NSInteger" | "NSUInteger" => "Kind::Word",
        "NSTimeInterval" => "Kind::Float",
        "NSOperatingSystemVersion" => "Kind::Version",
        _ if of.starts_with("Result<()") => "Kind::Verdict",
        _ if of.starts_with("Result<") => "Kind::Fallible",
        _ if of.contains("DynBlock") => "Kind::Block",
        _ if of.contains("DispatchQueue") || of.contains("*mut") || of.contains("NonNull") => "Kind::Pointer",
        _ if of.contains("Retained<") || of.contains('&') => "Kind::Object",
        _ if of.starts_with("VZ") => return format!("Kind::Constant({of:?})"),
        _ => "Kind::Pointer",
    };
    plain.into()
}
