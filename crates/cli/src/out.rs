//! Standard output of commands that print something.

use std::{
    fmt::Arguments,
    io::{self, Write},
    process,
};

/// Prints a line, as `println!`, but ends the program quietly when nobody reads it any more.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::out::print(format_args!("{}\n", format_args!($($arg)*)))
    };
}
pub(crate) use say;

/// What a shell says of a program that ended by SIGPIPE.
const NOBODY_READS: i32 = 128 + 13;

/// Prints `text`. Without a reader (`tearless list | head -1`) the program ends, as others do; with a full disk it ends
/// with an error.
pub fn print(text: Arguments) {
    if let Err(error) = io::stdout().write_fmt(text).and_then(|()| io::stdout().flush()) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(NOBODY_READS);
        }
        eprintln!("tearless: cannot write to standard output\n  because: {error}");
        process::exit(1);
    }
}
