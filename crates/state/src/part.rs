//! Parts: what a piece of the machine says of itself.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::StateError;

/// A state with the version of its format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// The version; the first is 1.
    pub version: u32,
    /// What its owner wrote.
    pub state: Value,
}

impl Encoded {
    /// Encodes `state`, whose format has `version`.
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it cannot be encoded, which is a bug of its owner.
    pub fn new(version: u32, state: &impl Serialize) -> Result<Self, StateError> {
        let state = serde_json::to_value(state).map_err(|e| StateError::malformed(e.to_string()))?;
        Ok(Self { version, state })
    }

    /// Reads it back, where `known` is the newest version that the reader knows.
    ///
    /// # Errors
    /// [`StateError::Newer`], [`StateError::Malformed`].
    pub fn decode<T: DeserializeOwned>(&self, known: u32) -> Result<T, StateError> {
        if self.version == 0 || self.version > known {
            return Err(StateError::Newer { part: String::new(), version: self.version, known });
        }
        T::deserialize(&self.state).map_err(|e| StateError::malformed(e.to_string()))
    }
}

/// The state of one part of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which part; once in a machine.
    pub name: String,
    /// Its state.
    #[serde(flatten)]
    pub encoded: Encoded,
}

/// The parts of a machine, while they are handed out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// Adds what the part `name` says.
    pub fn put(&mut self, name: impl Into<String>, encoded: Encoded) {
        self.0.push(Part { name: name.into(), encoded });
    }

    /// Takes the part `name`, if it is there.
    pub fn find(&mut self, name: &str) -> Option<Encoded> {
        let at = self.0.iter().position(|part| part.name == name)?;
        Some(self.0.swap_remove(at).encoded)
    }

    /// Takes the part `name`.
    ///
    /// # Errors
    /// [`StateError::Missing`].
    pub fn take(&mut self, name: &str) -> Result<Encoded, StateError> {
        self.find(name).ok_or_else(|| StateError::Missing(name.to_owned()))
    }

    /// Ends the handing out: there must be nothing left.
    ///
    /// # Errors
    /// [`StateError::Unknown`], with one that is.
    pub fn finish(self) -> Result<(), StateError> {
        self.0.into_iter().next().map_or(Ok(()), |part| Err(StateError::Unknown(part.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_once_and_none_is_left() {
        let mut parts = Parts::default();
        parts.put("a", Encoded::new(1, &7).unwrap());
        parts.put("b", Encoded::new(2, &"x").unwrap());
        assert_eq!(parts.take("a").unwrap().decode::<u32>(1).unwrap(), 7);
        assert!(matches!(parts.take("a"), Err(StateError::Missing(name)) if name == "a"));
        assert!(matches!(parts.clone().finish(), Err(StateError::Unknown(name)) if name == "b"));
        let b = parts.take("b").unwrap();
        assert!(matches!(b.decode::<String>(1), Err(StateError::Newer { version: 2, known: 1, .. })));
        assert!(
            matches!(b.decode::<u32>(2).unwrap_err().of("b"), StateError::Malformed { part, .. } if part == "b")
        );
        parts.finish().unwrap();
    }

    #[test]
    fn a_part_without_version_is_refused() {
        let part: Part = serde_json::from_str(r#"{"name":"x","version":0,"state":1}"#).unwrap();
        assert!(part.encoded.decode::<u32>(1).is_err());
        assert!(serde_json::from_str::<Part>(r#"{"name":"x","state":1}"#).is_err());
    }
}
