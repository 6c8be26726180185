//! Progress on standard error: a bar on a terminal, a line per stage elsewhere.

use std::{
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tearless_image::Progress;

/// Shows the stages of long work.
pub struct Bars {
    on_terminal: bool,
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    /// Bars or lines, whichever standard error is good for.
    pub fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), current: Mutex::default() }
    }

    fn with_bar(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        if !self.on_terminal {
            eprintln!("tearless: {what}");
            return;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = match total {
            Some(_) => "{msg:<40!} {bar:25.green} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4}",
            None => "{msg:<40!} {spinner} {bytes:>10}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, bytes: u64) {
        self.with_bar(|bar| bar.inc(bytes));
    }

    fn end(&self) {
        if let Some(bar) = self.current.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        match &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.println(format!("tearless: {message}")),
            None => eprintln!("tearless: {message}"),
        }
    }
}
