//! Lines on a stream that may go on as raw bytes.

use std::io::{self, Read};

use crate::protocol::MAX_LINE;

/// Reads up to the end of a line and not a byte further: what follows belongs to somebody else.
pub(crate) fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if line.len() == MAX_LINE => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            Ok(_) => line.extend(byte),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_line_and_leaves_the_rest() {
        let mut bytes = &b"{}\nrest"[..];
        assert_eq!(read_line(&mut bytes).unwrap(), "{}");
        assert_eq!(bytes, b"rest");
        assert!(read_line(&mut bytes).is_err());
        assert!(read_line(&mut &[b'x'; MAX_LINE + 2][..]).is_err());
        assert!(read_line(&mut &b"\xff\n"[..]).is_err());
    }
}
