//! Commands in the fresh Debian: one kernel, one RAM disk, two machines.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, ensure};
use tearless_boot::quick::Mode;
use tearless_image::{QuickOptions, Silent};
use tearless_vm::debian;

use crate::{
    Workload,
    measure::{Sample, Sides, run},
};

/// Name and shell script. Each script does one thing, for some seconds on a software CPU.
const SCRIPTS: [(&str, &str); 6] = [
    ("linux:boot", "true"),
    ("linux:sh-loop", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"),
    ("linux:fork-exec", "i=0; while [ $i -lt 250 ]; do /bin/busybox true; i=$((i+1)); done"),
    ("linux:sha256", "head -c 12000000 /dev/zero | sha256sum"),
    ("linux:gzip", "head -c 400000 /bin/busybox | gzip -9 | gunzip | md5sum"),
    ("linux:sort", "seq 1 20000 | awk '{print ($1*7919)%20011}' | sort -n | md5sum"),
];

struct Linux {
    sides: Sides,
    name: &'static str,
    script: &'static str,
    files: Arc<Files>,
}

struct Files {
    folder: PathBuf,
    kernel: PathBuf,
    cmdline: String,
}

/// The commands; fetches Debian's kernel unless it is cached.
pub fn workloads(sides: &Sides, folder: &Path) -> Result<Vec<Box<dyn Workload>>> {
    let options = QuickOptions::default();
    let quick = tearless_image::quick_boot(&options, &Silent)?;
    let cmdline = debian::quick(&options, Mode::Shell, "", &Silent)?.cmdline;
    let files = Arc::new(Files { folder: folder.to_owned(), kernel: quick.kernel.image, cmdline });
    Ok(SCRIPTS
        .iter()
        .map(|&(name, script)| {
            Box::new(Linux { sides: sides.clone(), name, script, files: Arc::clone(&files) })
                as Box<dyn Workload>
        })
        .collect())
}

impl Linux {
    fn mode(&self) -> Mode {
        let argv = ["sh", "-c", self.script].map(|arg| arg.as_bytes().to_vec()).to_vec();
        Mode::Command { argv, tty: false }
    }
}

impl Workload for Linux {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn instructions(&self) -> Option<u64> {
        None
    }

    fn on_tearless(&self) -> Result<Sample> {
        let mut command = Command::new(&self.sides.tearless);
        command.args(["run", "--engine", "soft", "--cpus", "1", "--", "sh", "-c", self.script]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let (sample, status, ()) = run(command, || Ok(()))?;
        ensure!(status.success(), "Tearless failed: {status}");
        Ok(sample)
    }

    fn on_qemu(&self) -> Result<Sample> {
        let initrd = self.files.folder.join("initrd");
        let payload = debian::quick(&QuickOptions::default(), self.mode(), "", &Silent)?;
        std::fs::write(&initrd, payload.initrd)?;
        let control = self.files.folder.join("control");
        // What is left of the run before.
        let _ = std::fs::remove_file(&control);
        let listener = UnixListener::bind(&control).context("cannot make a socket")?;

        let mut command = Command::new(&self.sides.qemu);
        command.args(["-M", "virt,gic-version=3", "-accel", "tcg,thread=multi", "-m", "512", "-smp", "1"]);
        command.args([
            "-cpu",
            &self.sides.qemu_cpu,
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-serial",
            "null",
        ]);
        command.arg("-kernel").arg(&self.files.kernel).arg("-initrd").arg(&initrd);
        command.args(["-append", &self.files.cmdline, "-device", "virtio-serial-pci"]);
        command.args(["-chardev", "null,id=none", "-device", "virtconsole,chardev=none"]);
        for name in ["stdin", "stdout", "stderr"] {
            // Not `null`, which counts as not connected: the guest's writes would wait for ever.
            command.arg("-chardev").arg(format!("file,id={name},path=/dev/null"));
            command.arg("-device").arg(format!("virtserialport,chardev={name},name=tearless.{name}"));
        }
        command.arg("-chardev").arg(format!("socket,id=control,path={}", control.display()));
        command.args(["-device", "virtserialport,chardev=control,name=tearless.control"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());

        // The guest reports its status and goes down when it is answered.
        let answer = thread::spawn(move || -> std::io::Result<String> {
            let (mut stream, _) = listener.accept()?;
            let mut report = [0; 16];
            let n = stream.read(&mut report)?;
            stream.write_all(b"ok\n")?;
            Ok(String::from_utf8_lossy(&report[..n]).trim().to_owned())
        });
        let (sample, _, report) =
            run(command, || answer.join().map_err(|_| anyhow::anyhow!("no answer"))?.context("no report"))?;
        ensure!(report == "0", "the command failed on QEMU: {report}");
        Ok(sample)
    }
}
