//! The Cryptographic Extension: AES, SHA-1, SHA-256 and polynomial multiply (Arm ARM C4.1.96).

use super::{Encoding, any};

/// The encodings of this class.
pub fn table() -> Vec<Encoding> {
    let e = Encoding::new;
    vec![
        e("aese", "01001110 00 10100 00100 10 AAAAA VVVVV", any),
        e("aesd", "01001110 00 10100 00101 10 AAAAA VVVVV", any),
        e("aesmc", "01001110 00 10100 00110 10 AAAAA VVVVV", any),
        e("aesimc", "01001110 00 10100 00111 10 AAAAA VVVVV", any),
        e("sha1c", "01011110 00 0 BBBBB 0 000 00 AAAAA VVVVV", any),
        e("sha1p", "01011110 00 0 BBBBB 0 001 00 AAAAA VVVVV", any),
        e("sha1m", "01011110 00 0 BBBBB 0 010 00 AAAAA VVVVV", any),
        e("sha1su0", "01011110 00 0 BBBBB 0 011 00 AAAAA VVVVV", any),
        e("sha256h", "01011110 00 0 BBBBB 0 100 00 AAAAA VVVVV", any),
        e("sha256h2", "01011110 00 0 BBBBB 0 101 00 AAAAA VVVVV", any),
        e("sha256su1", "01011110 00 0 BBBBB 0 110 00 AAAAA VVVVV", any),
        e("sha1h", "01011110 00 10100 00000 10 AAAAA VVVVV", any),
        e("sha1su1", "01011110 00 10100 00001 10 AAAAA VVVVV", any),
        e("sha256su0", "01011110 00 10100 00010 10 AAAAA VVVVV", any),
        e("sha512h", "11001110 011 BBBBB 100000 AAAAA VVVVV", any),
        e("sha512h2", "11001110 011 BBBBB 100001 AAAAA VVVVV", any),
        e("sha512su1", "11001110 011 BBBBB 100010 AAAAA VVVVV", any),
        e("sha512su0", "11001110 110 00000 100000 AAAAA VVVVV", any),
        e("rax1", "11001110 011 BBBBB 100011 AAAAA VVVVV", any),
        e("eor3", "11001110 000 BBBBB 0 CCCCC AAAAA VVVVV", any),
        e("bcax", "11001110 001 BBBBB 0 CCCCC AAAAA VVVVV", any),
        e("xar", "11001110 100 BBBBB iiiiii AAAAA VVVVV", any),
        e("pmull 64", "0i001110 11 1 BBBBB 1110 00 AAAAA VVVVV", any),
    ]
}
