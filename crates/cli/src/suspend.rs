//! `suspend` and `resume`: VMs that go on where they were.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tearless_bundle::Bundle;
use tearless_control::{Reply, Request};
use tearless_image::Progress as _;

use crate::{
    args::{NamesArgs, ResumeArgs, StateArgs},
    life::{self, Starting, client},
    progress::Bars,
};

/// Less memory than this is saved before anybody would look at a bar.
const WORTH_A_BAR: u64 = 1 << 30;

/// A bar that shows how much of a memory is saved, if it is much.
pub struct Bar {
    title: String,
    bars: Bars,
    shown: Option<u64>,
}

impl Bar {
    pub fn new(title: String) -> Self {
        Self { title, bars: Bars::new(), shown: None }
    }

    pub fn show(&mut self, done: u64, all: u64) {
        if all < WORTH_A_BAR {
            return;
        }
        if self.shown.is_none() {
            self.bars.begin(&self.title, Some(all));
        }
        self.bars.advance(done.saturating_sub(self.shown.unwrap_or(0)));
        self.shown = Some(done);
    }

    pub fn end(self) {
        if self.shown.is_some() {
            self.bars.end();
        }
    }
}

pub fn suspend(args: &NamesArgs) -> Result<ExitCode> {
    let bundles = life::find(&args.names)?;
    life::report(bundles.iter().map(suspend_one))
}

fn suspend_one(bundle: &Bundle) -> Result<String> {
    let name = bundle.name();
    if bundle.running().is_none() {
        match bundle.suspended() {
            Some(_) => return Ok(format!("{name} is suspended already")),
            None => {
                bail!("cannot suspend VM {name}\n  because: it does not run\n  try: tearless start {name}")
            }
        }
    }
    let mut bar = Bar::new(format!("Saving {name}"));
    let reply = client(bundle).follow(&Request::Suspend, |done, all| bar.show(done, all));
    bar.end();
    match reply? {
        Reply::Suspended { bytes } => {
            life::wait_gone(bundle)?;
            Ok(format!(
                "suspended {name}: {} MiB of memory saved; it goes on with: tearless resume {name}",
                bytes >> 20
            ))
        }
        other => bail!("VM {name} answered something else: {other:?}"),
    }
}

pub fn resume(args: &ResumeArgs, verbose: u8) -> Result<ExitCode> {
    let bundles = life::find(&args.names)?;
    life::report(bundles.iter().map(|bundle| {
        let name = bundle.name();
        if bundle.running().is_some() {
            client(bundle).call(&Request::Resume)?;
            return Ok(format!("resumed {name}"));
        }
        if bundle.suspended().is_none() {
            bail!("cannot resume VM {name}\n  because: it is not running, and it was not suspended\n  try: tearless start {name}");
        }
        let pid = Starting::spawn(bundle, &StateArgs::default(), &args.confinement, verbose)?.wait()?.id();
        Ok(format!("resumed {name} (pid {pid})"))
    }))
}
