//! Builds a Debian disk and says what it did: `debian DISK [SUITE [PACKAGE...]]`.

use std::path::Path;
use std::time::Instant;

use tearless_image::{DebianOptions, Progress, Result, build_debian};

/// Prints one line per stage with the time it took.
struct Lines(std::cell::Cell<Option<Instant>>);

impl Progress for Lines {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.0.set(Some(Instant::now()));
        print!("{what} ({} bytes) ", total.map_or("?".to_owned(), |t| t.to_string()));
    }
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {
        println!("{:.1} s", self.0.take().map_or(0.0, |t| t.elapsed().as_secs_f64()));
    }
    fn warn(&self, message: &str) {
        println!("note: {message}");
    }
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let disk = arguments.next().unwrap_or_else(|| "Disk.img".to_owned());
    let mut options = DebianOptions::new(8 << 30, "deb");
    if let Some(suite) = arguments.next() {
        options.suite = suite;
    }
    options.packages = arguments.collect();
    let start = Instant::now();
    let built = build_debian(Path::new(&disk), &options, &Lines(None.into()))?;
    println!(
        "{} packages, kernel {} at {}",
        built.packages.len(),
        built.kernel.release,
        built.kernel.image.display()
    );
    println!("took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
