//! Objects of the framework, as data.

use std::{fmt, path::Path};

/// An object that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its class.
    pub class: &'static str,
    /// Its properties, in the order in which they are set; arguments of initialisers first.
    pub properties: Vec<(&'static str, Value)>,
}

/// What a property is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// A string, or the path of a file URL.
    Text(String),
    /// A constant of the framework.
    Constant(&'static str),
    /// `NSData`.
    Data(Vec<u8>),
    /// A file that the process has open.
    Stream(Stream),
    /// Another object.
    Object(Object),
    /// An array of objects.
    List(Vec<Object>),
    /// A dictionary of objects by name.
    Named(Vec<(String, Object)>),
}

/// What the host's end of a VM is open at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What is typed into the console.
    ConsoleInput,
    /// What the console says.
    ConsoleOutput,
    /// A datagram socket whose other end is a network of ours.
    Network,
}

impl Object {
    /// An object without properties.
    pub fn new(class: &'static str) -> Self {
        Self { class, properties: Vec::new() }
    }

    /// The same with one more property.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.properties.push((name, value.into()));
        self
    }

    /// The same with a list, unless that is empty, which is the framework's default.
    #[must_use]
    pub fn with_list(self, name: &'static str, list: Vec<Self>) -> Self {
        if list.is_empty() { self } else { self.with(name, Value::List(list)) }
    }

    /// What the property `name` is set to.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A property that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A property that is yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A property that is a string or a path.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A property that is a constant, by its name.
    pub fn constant(&self, name: &str) -> Option<&'static str> {
        match self.get(name)? {
            Value::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// A property that is data.
    pub fn data(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            Value::Data(data) => Some(data),
            _ => None,
        }
    }

    /// A property that is an object.
    pub fn object(&self, name: &str) -> Option<&Self> {
        match self.get(name)? {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A property that is an array.
    pub fn list(&self, name: &str) -> Option<&[Self]> {
        match self.get(name)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// A property that is a dictionary.
    pub fn named(&self, name: &str) -> Option<&[(String, Self)]> {
        match self.get(name)? {
            Value::Named(named) => Some(named),
            _ => None,
        }
    }

    /// All objects that are values of properties.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.properties.iter().flat_map(|(_, value)| -> Vec<&Self> {
            match value {
                Value::Object(object) => vec![object],
                Value::List(list) => list.iter().collect(),
                Value::Named(named) => named.iter().map(|(_, object)| object).collect(),
                _ => Vec::new(),
            }
        })
    }

    /// Whether one of its streams, or of its children's, is `stream`.
    pub fn uses(&self, stream: Stream) -> bool {
        self.properties.iter().any(|(_, value)| *value == Value::Stream(stream))
            || self.children().any(|child| child.uses(stream))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        writeln!(f, "{}", self.class)?;
        let indent = "  ".repeat(depth + 1);
        for (name, value) in &self.properties {
            write!(f, "{indent}{name} =")?;
            value.write(f, depth + 1)?;
        }
        Ok(())
    }
}

impl Value {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth + 1);
        match self {
            Self::Number(number) => writeln!(f, " {number}"),
            Self::Flag(flag) => writeln!(f, " {}", if *flag { "YES" } else { "NO" }),
            Self::Text(text) => writeln!(f, " {text:?}"),
            Self::Constant(name) => writeln!(f, " {name}"),
            Self::Data(bytes) => writeln!(f, " <{} bytes>", bytes.len()),
            Self::Stream(stream) => writeln!(f, " {stream:?}"),
            Self::Object(object) => {
                write!(f, " ")?;
                object.write(f, depth)
            }
            Self::List(list) => {
                writeln!(f)?;
                list.iter().try_for_each(|object| {
                    write!(f, "{indent}- ")?;
                    object.write(f, depth + 1)
                })
            }
            Self::Named(list) => {
                writeln!(f)?;
                list.iter().try_for_each(|(name, object)| {
                    write!(f, "{indent}{name:?}: ")?;
                    object.write(f, depth + 1)
                })
            }
        }
    }
}

/// The object and what hangs on it, indented, a property per line.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Self {
        Self::Text(path.display().to_string())
    }
}

impl From<Stream> for Value {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}
