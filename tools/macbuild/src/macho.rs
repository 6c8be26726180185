//! The parts of a Mach-O file that a signature is about.

use anyhow::{Context, Result, bail};

const MAGIC_64: u32 = 0xfeed_facf;
const LC_SEGMENT_64: u32 = 0x19;
const LC_CODE_SIGNATURE: u32 = 0x1d;
const HEADER: usize = 32;

/// Where things are in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The end of what is signed: where the signature begins.
    pub code_end: usize,
    /// The size of the signature that the file has.
    pub signature: usize,
    /// The load command `LC_CODE_SIGNATURE`.
    pub signature_command: usize,
    /// The load command of `__LINKEDIT`, and where that begins in the file.
    pub linkedit: (usize, usize),
    /// The size of `__TEXT` in the file.
    pub text: usize,
}

/// The 32-bit number at `at`.
pub fn u32_at(file: &[u8], at: usize) -> Result<u32> {
    let bytes = at.checked_add(4).and_then(|end| file.get(at..end)).context("the file is cut short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

fn u64_at(file: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from(u32_at(file, at)?) | u64::from(u32_at(file, at + 4)?) << 32)
}

impl Layout {
    /// Reads the load commands of `file`.
    ///
    /// # Errors
    /// When it is no program of 64 bits with a place for a signature.
    pub fn of(file: &[u8]) -> Result<Self> {
        if u32_at(file, 0)? != MAGIC_64 {
            bail!("this is no Mach-O file of 64 bits");
        }
        let (mut signature, mut linkedit, mut text) = (None, None, None);
        let mut at = HEADER;
        for _ in 0..u32_at(file, 16)? {
            let (command, size) = (u32_at(file, at)?, u32_at(file, at + 4)? as usize);
            match command {
                LC_CODE_SIGNATURE => signature = Some(at),
                LC_SEGMENT_64 => {
                    let name = file.get(at + 8..at + 24).context("the file is cut short")?;
                    if name.starts_with(b"__LINKEDIT\0") {
                        linkedit = Some((at, usize::try_from(u64_at(file, at + 40)?)?));
                    } else if name.starts_with(b"__TEXT\0") {
                        text = Some(usize::try_from(u64_at(file, at + 48)?)?);
                    }
                }
                _ => {}
            }
            if size < 8 {
                bail!("a load command has no size");
            }
            at += size;
        }
        let command = signature.context("there is no place for a signature; link with ld64.lld")?;
        Ok(Self {
            code_end: u32_at(file, command + 8)? as usize,
            signature: u32_at(file, command + 12)? as usize,
            signature_command: command,
            linkedit: linkedit.context("there is no __LINKEDIT")?,
            text: text.context("there is no __TEXT")?,
        })
    }

    /// Makes room in `file` for a signature of `size` bytes, at its end.
    ///
    /// # Errors
    /// When the file is larger than such files can be.
    pub fn resize(&self, file: &mut Vec<u8>, size: usize) -> Result<()> {
        const PAGE: u64 = 0x4000;
        file.truncate(self.code_end);
        let (segment, begin) = self.linkedit;
        let length = (self.code_end + size - begin) as u64;
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(self.signature_command + 12, &u32::try_from(size)?.to_le_bytes());
        put(segment + 32, &length.next_multiple_of(PAGE).to_le_bytes());
        put(segment + 48, &length.to_le_bytes());
        Ok(())
    }
}
