//! What commands do, apart from the bytes that are stored.

use serde::{Deserialize, Serialize};

use super::spec;

/// What reads show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum View {
    #[default]
    Array,
    Status,
    Id,
    Query,
}

/// What the next write is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Expects {
    #[default]
    Command,
    Word,
    EraseConfirmed,
    LockKind,
    BufferLength,
    /// So many words more.
    Buffer(u32, Vec<(u32, Vec<u8>)>),
    BufferConfirmed(Vec<(u32, Vec<u8>)>),
}

/// The two chips, which get the same commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chip {
    pub view: View,
    pub expects: Expects,
    errors: u8,
}

/// What becomes of the stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// Clears the bits that are clear in these bytes.
    Program(Vec<(u32, Vec<u8>)>),
    /// Sets all bits of the block that this is in.
    Erase(u32),
    /// What was changed must be safe now.
    Settle,
}

impl Chip {
    /// The status, as each chip shows it.
    pub fn status(&self) -> u8 {
        spec::STATUS_READY | self.errors
    }

    /// A write of `data` (1 to 4 bytes) at `offset`.
    pub fn write(&mut self, offset: u32, data: &[u8]) -> Change {
        let command = data.first().copied().unwrap_or_default();
        match std::mem::take(&mut self.expects) {
            Expects::Command => return self.command(command),
            Expects::Word => return Change::Program(vec![(offset, data.to_vec())]),
            Expects::EraseConfirmed if command == spec::CONFIRM => return Change::Erase(offset),
            Expects::LockKind if matches!(command, spec::CONFIRM | spec::LOCK_SET) => {}
            Expects::BufferLength => {
                let more = data.get(1).copied().unwrap_or_default();
                let words = u32::from(u16::from_le_bytes([command, more])) + 1;
                if words as usize <= spec::BUFFER_WORDS {
                    self.expects = Expects::Buffer(words, Vec::new());
                } else {
                    self.errors |= spec::STATUS_PROGRAM | spec::STATUS_ERASE;
                }
            }
            Expects::Buffer(words, mut buffer) => {
                buffer.push((offset, data.to_vec()));
                self.expects = match words - 1 {
                    0 => Expects::BufferConfirmed(buffer),
                    left => Expects::Buffer(left, buffer),
                };
            }
            Expects::BufferConfirmed(buffer) if command == spec::CONFIRM => return Change::Program(buffer),
            Expects::EraseConfirmed | Expects::LockKind | Expects::BufferConfirmed(_) => {
                if command == spec::READ_ARRAY {
                    return self.command(command);
                }
                self.errors |= spec::STATUS_PROGRAM | spec::STATUS_ERASE;
            }
        }
        Change::None
    }

    fn command(&mut self, command: u8) -> Change {
        self.view = View::Status;
        match command {
            spec::PROGRAM | spec::PROGRAM_OLD => self.expects = Expects::Word,
            spec::ERASE => self.expects = Expects::EraseConfirmed,
            spec::PROGRAM_BUFFER => self.expects = Expects::BufferLength,
            spec::LOCK => self.expects = Expects::LockKind,
            spec::CLEAR_STATUS => self.errors = 0,
            spec::READ_STATUS => {}
            spec::READ_ID => self.view = View::Id,
            spec::QUERY => self.view = View::Query,
            // Drivers of other flashes ask with what is unknown here, and then read what is stored.
            _ => {
                self.view = View::Array;
                return Change::Settle;
            }
        }
        Change::None
    }

    /// The host did not take the change.
    pub fn failed(&mut self, erasing: bool) {
        self.errors |= if erasing { spec::STATUS_ERASE } else { spec::STATUS_PROGRAM };
    }

    /// Whether a state that came from outside is one that commands lead to.
    pub fn is_sane(&self) -> bool {
        let (left, buffer) = match &self.expects {
            Expects::Buffer(left, buffer) => (*left as usize, buffer),
            Expects::BufferConfirmed(buffer) => (1, buffer),
            _ => return true,
        };
        left > 0
            && left <= spec::BUFFER_WORDS
            && buffer.len() <= spec::BUFFER_WORDS
            && buffer
                .iter()
                .all(|(offset, data)| data.len() <= spec::WORD && *offset as usize + data.len() <= spec::SIZE)
    }
}
