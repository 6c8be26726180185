//! Bare metal loops: flat binaries of a few instructions that count down and power off.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{
    Workload,
    measure::{Sample, Sides, run},
};

/// `mov x19, #count` in two halves; the loop's counter.
fn set_counter(count: u32) -> [u32; 2] {
    [0xd280_0013 | (count & 0xffff) << 5, 0xf2a0_0013 | (count >> 16) << 5]
}

/// `subs x19, x19, #1; b.ne body`
fn count_down(body: usize) -> [u32; 2] {
    let back = -((body + 1) as i32);
    [0xf100_0673, 0x5400_0001 | ((back as u32 & 0x7_ffff) << 5)]
}

/// PSCI `SYSTEM_OFF` by HVC.
const POWER_OFF: [u32; 3] = [0x5280_0100, 0x72b0_8000, 0xd400_0002];

struct Loop {
    name: &'static str,
    setup: &'static [u32],
    body: &'static [u32],
    /// Instructions that one round of the body executes: called functions count, skipped code does not.
    executed: u64,
    rounds: u32,
}

const LOOPS: [Loop; 4] = [
    Loop {
        name: "bare:alu",
        setup: &[],
        // add x1,x1,x19; eor x2,x2,x1; lsr x3,x2,#7; orr x4,x3,x1; sub x5,x4,x2; and x6,x5,#0xff
        body: &[0x8b13_0021, 0xca01_0042, 0xd347_fc43, 0xaa01_0064, 0xcb02_0085, 0x9240_1ca6],
        executed: 6,
        rounds: 60_000_000,
    },
    Loop {
        name: "bare:memory",
        // mov x10, #0x50000000
        setup: &[0xd2aa_000a],
        // str x1,[x10]; ldr x2,[x10,#8]; ldp x3,x4,[x10,#16]; stp x3,x2,[x10,#32]; ldrb w5,[x10,#3]; add x1,x1,x5
        body: &[0xf900_0141, 0xf940_0542, 0xa941_1143, 0xa902_0943, 0x3940_0d45, 0x8b05_0021],
        executed: 6,
        rounds: 40_000_000,
    },
    Loop {
        name: "bare:call",
        setup: &[],
        // bl +12; bl +8; b +12; add x1,x1,#1; ret
        body: &[0x9400_0003, 0x9400_0002, 0x1400_0003, 0x9100_0421, 0xd65f_03c0],
        executed: 7,
        rounds: 25_000_000,
    },
    Loop {
        name: "bare:branch",
        setup: &[],
        // tbz x19,#0,+8; add x1,x1,#1; cmp x1,x19; b.hi +8; add x2,x2,#1; cbz x2,+8; add x3,x3,#1 (about 6 of 7 run)
        body: &[0x3600_0053, 0x9100_0421, 0xeb13_003f, 0x5400_0048, 0x9100_0442, 0xb400_0042, 0x9100_0463],
        executed: 6,
        rounds: 40_000_000,
    },
];

struct Bare {
    sides: Sides,
    what: &'static Loop,
    file: PathBuf,
}

/// The loops, written to `folder`.
pub fn workloads(sides: &Sides, folder: &Path) -> Result<Vec<Box<dyn Workload>>> {
    let mut list: Vec<Box<dyn Workload>> = Vec::new();
    for what in &LOOPS {
        let file = folder.join(what.name.replace(':', "-"));
        let words =
            [what.setup, &set_counter(what.rounds), what.body, &count_down(what.body.len()), &POWER_OFF]
                .concat();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&file, bytes)?;
        list.push(Box::new(Bare { sides: sides.clone(), what, file }));
    }
    Ok(list)
}

impl Workload for Bare {
    fn name(&self) -> String {
        self.what.name.to_owned()
    }

    fn instructions(&self) -> Option<u64> {
        Some(u64::from(self.what.rounds) * (self.what.executed + 2))
    }

    fn on_tearless(&self) -> Result<Sample> {
        let mut command = Command::new(&self.sides.tearless);
        command.args(["run", "--engine", "soft", "--cpus", "1", "--kernel"]).arg(&self.file);
        finish(command)
    }

    fn on_qemu(&self) -> Result<Sample> {
        let mut command = Command::new(&self.sides.qemu);
        command.args([
            "-M",
            "virt",
            "-accel",
            "tcg",
            "-nographic",
            "-m",
            "2048",
            "-cpu",
            &self.sides.qemu_cpu,
        ]);
        command.arg("-kernel").arg(&self.file);
        finish(command)
    }
}

fn finish(mut command: Command) -> Result<Sample> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (sample, status, ()) = run(command, || Ok(()))?;
    ensure!(status.success(), "it failed: {status}");
    Ok(sample)
}
