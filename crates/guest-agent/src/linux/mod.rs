//! The agent for Linux guests.

mod copy;
mod exec;
mod failure;
mod freeze;
mod install;
mod launch;
mod network;
mod power;
mod server;
mod system;
mod users;

use std::{env, process::ExitCode};

use failure::Outcome;

const USAGE: &str = "\
usage: tearless-agent            serve the host
       tearless-agent --stdin    serve one connection, the socket at standard input
       tearless-agent install    have systemd start it at each boot
       tearless-agent --version";

pub fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next();
    let result: Outcome<()> = match first.as_ref().and_then(|first| first.to_str()) {
        None if first.is_none() => server::serve(),
        Some(launch::COMMAND) => return launch::launch(arguments.collect()),
        Some("--stdin") => server::serve_stdin(),
        Some("install") => install::install(),
        Some("--version") => {
            println!("tearless-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tearless-agent: {failure}");
            ExitCode::FAILURE
        }
    }
}
