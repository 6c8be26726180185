//! The QEMU side: one long-running `qemu-aarch64` process that runs the driver program.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use zerocopy::IntoBytes as _;

use crate::driver::{self, Driver, Host};
use crate::layout::{Batch, Record};
use crate::side::Side;

/// The CPU that QEMU presents: everything, less the extensions that Tearless does not have and that can be left out.
pub const DEFAULT_CPU: &str = "max,pauth=off,sve=off,sme=off";

/// The driver under QEMU.
pub struct Qemu {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    driver: Driver,
    /// Holds the ELF file as long as the process may read it.
    _elf: tempfile::TempPath,
}

impl Qemu {
    /// Starts QEMU.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &str, cpu: &str) -> Result<Self> {
        let driver = driver::assemble(Host::Linux);
        let mut file = tempfile::Builder::new()
            .prefix("difftest-")
            .tempfile()
            .context("cannot create the driver's ELF file")?;
        file.write_all(&driver::elf(&driver)).context("cannot write the driver's ELF file")?;
        let path = file.into_temp_path();
        let mut permissions = std::fs::metadata(&path)?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o700);
        std::fs::set_permissions(&path, permissions)?;
        let mut child = Command::new(program)
            .args(["-cpu", cpu])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("cannot start {program}: install QEMU's user-mode emulators (Debian: qemu-user)")
            })?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self { child, input, output, driver, _elf: path })
    }
}

impl Side for Qemu {
    fn submit(&mut self, batch: &Batch) -> Result<()> {
        let input = self.input.as_mut().context("QEMU's input is closed")?;
        let mut bytes = (batch.records.len() as u64).to_le_bytes().to_vec();
        let code = batch.code_bytes(self.driver.exit, false);
        bytes.extend((code.len() as u64).to_le_bytes());
        bytes.extend(code);
        input.write_all(&bytes).context("qemu-aarch64 ended")?;
        input.write_all(batch.records.as_bytes()).context("qemu-aarch64 ended")
    }

    fn collect(&mut self, batch: &Batch, records: &mut Vec<Record>) -> Result<()> {
        records.resize(batch.records.len(), Record::zero());
        self.output.read_exact(records.as_mut_bytes()).context("qemu-aarch64 ended in the middle of a batch")
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // End of file ends the driver; kill covers a driver that hangs in a sequence.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
