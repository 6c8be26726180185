//! `media`: bootable media of Debian's packages.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tearless_image::Silent;
use tearless_media::{grub_disk, installer};

/// Makes bootable media of Debian's packages.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A CD with Debian's installer, which fetches all else from the network: shim and GRUB from an El Torito image.
    Installer {
        /// Where to write it.
        file: PathBuf,
        /// The Debian release.
        #[arg(long, default_value = "trixie")]
        suite: String,
        /// The installer with windows.
        #[arg(long)]
        graphical: bool,
    },
    /// How long it takes from the start of a machine to GRUB's first words: Tearless' EFI, and EDK2 on QEMU's software CPU.
    Race {
        /// The program `tearless`.
        tearless: PathBuf,
        /// EDK2 for QEMU's board.
        #[arg(long, default_value = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")]
        firmware: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

/// What GRUB says when it is up.
const UP: &str = "GRUB has come up";

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Race { tearless, firmware, rounds } => race(&tearless, &firmware, rounds),
        Command::Installer { file, suite, graphical } => {
            let image = installer(&suite, graphical, &Silent)?;
            std::fs::write(&file, image).with_context(|| format!("cannot write {}", file.display()))
        }
    }
}

/// One after the other in turns, so that both see the same load of the host.
fn race(tearless: &Path, firmware: &Path, rounds: usize) -> Result<()> {
    let disk = tempfile::NamedTempFile::new()?;
    std::fs::write(disk.path(), grub_disk("trixie", &format!("echo {UP}\nsleep 600\n"), &Silent)?)?;
    let drive = format!("if=virtio,format=raw,readonly=on,file={}", disk.path().display());
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..rounds {
        let mut own = Program::new(tearless);
        own.args(["run", "--efi", "--cpus", "1", "--memory", "512M", "--net", "none", "--disk"]);
        own.arg(format!("{}:ro", disk.path().display()));
        let mut other = Program::new("qemu-system-aarch64");
        other.args([
            "-M",
            "virt",
            "-cpu",
            "max",
            "-m",
            "512",
            "-nographic",
            "-nic",
            "none",
            "-drive",
            &drive,
        ]);
        other.arg("-bios").arg(firmware);
        for (program, times) in [own, other].iter_mut().zip(&mut times) {
            times.push(time(program)?);
        }
    }
    for times in &mut times {
        times.sort();
    }
    let [own, other] = times.map(|times| times.get(rounds / 2).copied().unwrap_or_default());
    println!("to GRUB, median of {rounds}: Tearless {own:.2?}, EDK2 under QEMU TCG {other:.2?}");
    println!("ratio: {:.1}", other.as_secs_f64() / own.as_secs_f64());
    Ok(())
}

/// From the program's start until it says [`UP`].
fn time(program: &mut Program) -> Result<Duration> {
    let start = Instant::now();
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().context("a program without output")?;
    let mut took = None;
    for line in BufReader::new(output).split(b'\n') {
        if String::from_utf8_lossy(&line?).contains(UP) {
            took = Some(start.elapsed());
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    match took {
        Some(took) => Ok(took),
        None => bail!("{:?} ended before GRUB came up", program.get_program()),
    }
}
