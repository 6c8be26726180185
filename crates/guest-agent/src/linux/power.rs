//! How the guest ends cleanly.

use std::{env, path::Path, process::Command};

use tearless_guest_proto::{FailureKind, Power, Reply};

use super::{
    failure::{Explain, Outcome, failure},
    server::{Gone, Host},
};

/// Asks whatever is the guest's first process to end.
pub fn end(host: &Host, how: Power) -> Result<(), Gone> {
    let word = match how {
        Power::Off => "poweroff",
        Power::Reboot => "reboot",
    };
    if Path::new("/run/systemd/system").exists() {
        run(Command::new("systemctl").args(["--no-block", word]), word)?;
        return Ok(host.send(&Reply::Done)?);
    }
    let mut command = if Path::new("/tearless/off").exists() {
        let mut command = Command::new("/tearless/off");
        command.arg(word);
        command
    } else if is_there(word) {
        Command::new(word)
    } else {
        let why = format!("there is neither systemd nor a command {word}");
        return Err(failure(FailureKind::NotFound, format!("cannot {word} the guest"), why).into());
    };
    // The guest may be gone when the command has done its work: the host hears of it before.
    host.send(&Reply::Done)?;
    if let Err(failure) = run(&mut command, word) {
        eprintln!("tearless-agent: {failure}");
    }
    Ok(())
}

fn is_there(word: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    env::split_paths(&path).any(|folder| folder.join(word).exists())
}

fn run(command: &mut Command, word: &str) -> Outcome<()> {
    let what = || format!("cannot {word} the guest");
    let status = command.status().explain(what)?;
    if !status.success() {
        return Err(failure(FailureKind::System, what(), format!("its command failed: {status}")));
    }
    Ok(())
}
