//! The `tearless` command.
//!
//! `args` is what was typed; a module per command turns it into what it means and calls the library below.

// Their own macro, see `out`.
#![deny(clippy::print_stdout)]

mod args;
mod attendant;
mod beside;
mod console;
mod disks;
mod display;
mod doctor;
mod ephemeral;
mod firmware;
mod first;
mod guest;
mod install;
mod ipsw;
mod life;
mod login;
mod mac;
mod out;
mod progress;
mod qos;
mod registry;
mod run;
mod seed;
mod serve;
mod session;
mod set;
mod share;
mod states;
mod store;
mod suspend;
mod terminal;
mod whole;

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use args::{Cli, Command};

/// What `run -- CMD` and `exec` exit with when Tearless itself fails, so that it is no status of CMD's.
const OWN_FAILURE: u8 = 125;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let detached = matches!(&cli.command, Command::Run(args) if args.detached);
    if detached && let Err(error) = serve::detach() {
        eprintln!("tearless: {}", explain(&error));
        return ExitCode::FAILURE;
    }
    let window = matches!(&cli.command, Command::Window(_) | Command::Open(_));
    start_log(cli.verbose, detached, window);
    let failure = match &cli.command {
        Command::Run(args) if !args.command.is_empty() => OWN_FAILURE,
        Command::Exec(_) => OWN_FAILURE,
        _ => 1,
    };
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Create(args) => store::create(*args),
        Command::Start(args) => life::start(&args, cli.verbose),
        Command::Stop(args) => life::stop(&args),
        Command::Restart(args) => life::restart(args, cli.verbose),
        Command::Pause(args) => life::pause(&args),
        Command::Suspend(args) => suspend::suspend(&args),
        Command::Resume(args) => suspend::resume(&args, cli.verbose),
        Command::Console(args) => console::console(&args),
        Command::Screenshot(args) => display::screenshot(&args),
        Command::Open(args) => display::open(&args),
        Command::Window(args) => display::window(&args),
        Command::Logs(args) => console::logs(&args),
        Command::Exec(args) => guest::exec(&args),
        Command::Cp(args) => guest::copy(&args),
        Command::Ip(args) => guest::ip(&args),
        Command::Ssh(args) => guest::ssh(&args),
        Command::Forward(args) => guest::forward(&args),
        Command::Agent(args) => guest::agent_program(&args),
        Command::Proxy(args) => guest::proxy(&args),
        Command::Set(args) => set::set(&args),
        Command::List(args) => store::list(&args),
        Command::Info(args) => store::info(&args),
        Command::Snapshot(command) => states::snapshot(&command),
        Command::Attendant(args) => attendant::run(&args),
        Command::Clone(args) => states::clone(&args),
        Command::Ipsw(command) => ipsw::ipsw(&command),
        Command::Import(args) => mac::import(&args),
        Command::Export(args) => mac::export(&args),
        Command::Push(args) => registry::push(&args),
        Command::Pull(args) => registry::pull(&args),
        Command::Rename(args) => states::rename(&args),
        Command::Delete(args) => store::delete(args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tearless", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    terminal::restore();
    result.unwrap_or_else(|error| {
        eprintln!("tearless: {}", explain(&error));
        ExitCode::from(failure)
    })
}

/// The error with its causes, each said once: many of our messages quote their cause already.
fn explain(error: &anyhow::Error) -> String {
    let text =
        error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
            "" => cause,
            _ if said.contains(&cause) => said,
            _ => format!("{said}\n  because: {cause}"),
        });
    // Names of files may be a guest's, and have control sequences in them.
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

fn start_log(verbose: u8, detached: bool, window: bool) {
    let level = match verbose {
        // Libraries warn of whatever a desktop lacks.
        0 if window => LevelFilter::ERROR,
        // A log file can be told what a terminal need not.
        0 if detached => LevelFilter::INFO,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("TEARLESS_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    if detached {
        log.with_writer(|| serve::LogWriter).with_ansi(false).init();
    } else {
        log.with_writer(io::stderr).without_time().init();
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    #[test]
    fn each_cause_is_said_once() {
        let io = || Err::<(), _>(anyhow!("no such file"));
        let plain = io().context("cannot read x").unwrap_err();
        assert_eq!(super::explain(&plain), "cannot read x\n  because: no such file");
        let quoting = io().context("cannot read x: no such file").unwrap_err();
        assert_eq!(super::explain(&quoting), "cannot read x: no such file");
        assert_eq!(
            super::explain(&anyhow!("cannot write \x1b[2Jx\r\n  try: y")),
            "cannot write \u{fffd}[2Jx\u{fffd}\n  try: y"
        );
    }
}
