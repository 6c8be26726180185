use std::io::{self, Read};

/// The version of the messages. A change that an older side cannot read raises it.
pub const VERSION: u32 = 1;
/// Length of a hello.
pub const HELLO_SIZE: usize = 12;

const MAGIC: [u8; 8] = *b"tearless";

/// What each side says first.
pub fn hello() -> [u8; HELLO_SIZE] {
    let mut bytes = [0; HELLO_SIZE];
    let parts = MAGIC.into_iter().chain(VERSION.to_le_bytes());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

/// Reads the other side's hello and returns its version.
///
/// # Errors
/// When the connection ends, or what is there does not speak this protocol.
pub fn read_hello(from: &mut impl Read) -> io::Result<u32> {
    let mut magic = [0; MAGIC.len()];
    let mut version = [0; 4];
    from.read_exact(&mut magic)?;
    from.read_exact(&mut version)?;
    if magic != MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "something else than a Tearless agent answers",
        ));
    }
    Ok(u32::from_le_bytes(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knows_the_other() {
        assert_eq!(read_hello(&mut hello().as_slice()).unwrap(), VERSION);
        assert!(read_hello(&mut &b"SSH-2.0-OpenSSH"[..]).is_err());
        assert!(read_hello(&mut &hello()[..11]).is_err());
    }
}
