//! `media`: bootable media of Debian's packages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tearless_image::Silent;
use tearless_media::installer;

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
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Installer { file, suite, graphical } => {
            let image = installer(&suite, graphical, &Silent)?;
            std::fs::write(&file, image).with_context(|| format!("cannot write {}", file.display()))
        }
    }
}
