//! Fetches the payload of `tearless run` and says what it did: `fetch [SUITE [FLAVOUR [refresh]]]`.

use std::time::Instant;

use tearless_image::{Progress, QuickOptions, Result, quick_boot};

/// Prints one line per stage.
struct Lines;

impl Progress for Lines {
    fn begin(&self, what: &str, total: Option<u64>) {
        println!("{what} ({} bytes)", total.map_or("?".to_owned(), |t| t.to_string()));
    }
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
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
    let mut options = QuickOptions::default();
    if let Some(suite) = arguments.next() {
        options.suite = suite;
    }
    if let Some(flavour) = arguments.next() {
        options.flavour = flavour.parse()?;
    }
    options.refresh = arguments.next().as_deref() == Some("refresh");
    let start = Instant::now();
    let payload = quick_boot(&options, &Lines)?;
    println!(
        "kernel {} ({}) at {}",
        payload.kernel.release,
        payload.kernel.version,
        payload.kernel.image.display()
    );
    println!("busybox {}: {} bytes", payload.busybox_version, payload.busybox.len());
    for module in &payload.kernel.modules {
        println!("module {:28} {:8} bytes  {}", module.name, module.bytes.len(), module.path);
    }
    println!("not in this kernel: {}", payload.kernel.unknown_modules.join(" "));
    println!("took {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
