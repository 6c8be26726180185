//! What is run, and what is asked of it.

use std::borrow::Cow;

use Class::{Atomics, Boot, Compression, Crypto, Floating, Integer, Kernel, Memory, Parallel, Scripts, Simd};

/// Kinds of work, each with a target of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Boot,
    Integer,
    Floating,
    Simd,
    Memory,
    Atomics,
    Kernel,
    Scripts,
    Compression,
    Crypto,
    Parallel,
}

impl Class {
    pub const ALL: [Self; 11] = [
        Self::Boot,
        Self::Integer,
        Self::Floating,
        Self::Simd,
        Self::Memory,
        Self::Atomics,
        Self::Kernel,
        Self::Scripts,
        Self::Compression,
        Self::Crypto,
        Self::Parallel,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Integer => "integer",
            Self::Floating => "fp",
            Self::Simd => "simd",
            Self::Memory => "memory",
            Self::Atomics => "atomics",
            Self::Kernel => "kernel",
            Self::Scripts => "scripts",
            Self::Compression => "compression",
            Self::Crypto => "crypto",
            Self::Parallel => "parallel",
        }
    }

    /// How many times faster than the best QEMU the class has to be, in geometric mean.
    pub fn target(self) -> Option<f64> {
        Some(match self {
            Self::Boot => 2.0,
            Self::Integer => 2.5,
            Self::Floating => 8.0,
            Self::Simd => 4.0,
            Self::Memory => 1.4,
            Self::Atomics => 3.0,
            Self::Kernel => 4.0,
            Self::Scripts => 5.0,
            Self::Compression => 2.3,
            Self::Crypto => 3.0,
            Self::Parallel => return None,
        })
    }
}

/// Over all workloads, against the best QEMU.
pub const OVERALL_TARGET: f64 = 3.0;
/// For each workload by itself.
pub const LEAST_TARGET: f64 = 1.2;
/// Over all workloads, slowdown against native: at most.
pub const NATIVE_TARGET: f64 = 3.0;
/// Two vCPUs against one: wall-clock time.
pub const SCALING_TARGET: f64 = 1.7;

/// A piece of work. Its amount is fixed; QEMU takes about a second for it.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub class: Class,
    /// A line for the shell.
    pub script: Cow<'static, str>,
    /// Whether the native result must be the same. Not for floating point: only ARM fuses multiplications with
    /// additions here.
    pub same_natively: bool,
}

impl Workload {
    /// A user's own.
    pub fn own(script: String) -> Self {
        Self { script: Cow::Owned(script), ..work("script", Scripts, "") }
    }

    pub fn vcpus(&self) -> u32 {
        if self.class == Parallel { 2 } else { 1 }
    }
}

const fn work(name: &'static str, class: Class, script: &'static str) -> Workload {
    Workload { name, class, script: Cow::Borrowed(script), same_natively: !matches!(class, Floating) }
}

pub const WORKLOADS: &[Workload] = &[
    work("boot", Boot, ""),
    work("core", Integer, "/work/integer core 25000"),
    work("records", Integer, "/work/integer records 5000000"),
    work("fib", Integer, "/work/integer fib 38"),
    work("interpreter", Integer, "/work/integer interpreter 3000000"),
    work("multiply", Integer, "/work/integer multiply 2000"),
    work("sort", Integer, "/work/integer sort 60"),
    work("hash", Integer, "/work/integer hash 80000000"),
    work("sieve", Integer, "/work/integer sieve 750"),
    work("wide", Integer, "/work/integer wide 80000000"),
    work("dgemm", Floating, "/work/floating dgemm 110"),
    work("fft", Floating, "/work/floating fft 2700"),
    work("saxpy", Floating, "/work/floating saxpy 24000"),
    work("nbody", Floating, "/work/floating nbody 600000"),
    work("mandelbrot", Floating, "/work/floating mandelbrot 900"),
    work("convert", Floating, "/work/floating convert 2500"),
    work("strlen", Simd, "/work/simd length 10000"),
    work("memchr", Simd, "/work/simd find 10000"),
    work("memcmp", Simd, "/work/simd compare 8000"),
    work("copy-small", Simd, "/work/simd copy-small 15000000"),
    work("copy-large", Simd, "/work/simd copy-large 300000"),
    work("sums", Simd, "/work/simd sums 18000"),
    work("blend", Simd, "/work/simd blend 20000"),
    work("stream", Memory, "/work/memory stream 30"),
    work("copy", Memory, "/work/memory copy 100"),
    work("scatter", Memory, "/work/memory scatter 10000000"),
    work("chase-large", Memory, "/work/memory chase-large 3000000"),
    work("chase-small", Memory, "/work/memory chase-small 100000000"),
    work("list", Memory, "/work/memory list 50000"),
    work("pages", Memory, "/work/memory pages 15000"),
    work("counter", Atomics, "/work/atomics count 40000000"),
    work("mutex", Atomics, "/work/atomics lock 15000000"),
    work("exchange", Atomics, "/work/atomics exchange 50000000"),
    work("order", Atomics, "/work/atomics order 40000000"),
    work("getppid", Kernel, "/work/kernel getppid 400000"),
    work("files", Kernel, "/work/kernel files 40000"),
    work("signals", Kernel, "/work/kernel signals 40000"),
    work("faults", Kernel, "/work/kernel faults 30000"),
    work("mappings", Kernel, "/work/kernel mappings 1100"),
    work("protections", Kernel, "/work/kernel protections 30000"),
    work("fork", Kernel, "/work/kernel fork 600"),
    work("exec-static", Kernel, "/work/kernel exec-static 200"),
    work("exec-dynamic", Kernel, "/work/kernel exec-dynamic 160"),
    work("ping-pong", Kernel, "/work/kernel ping-pong 8000"),
    work("pipe-bulk", Kernel, "/work/kernel bulk 4000"),
    work("switches", Kernel, "/work/kernel switches 20000"),
    work("dash", Scripts, "dash /work/loop.sh 15000"),
    work("bash", Scripts, "bash /work/loop.sh 3000"),
    work("tools", Scripts, "sh /work/tools.sh 15"),
    work("python", Scripts, "python3 -X pycache_prefix=/work/cache /work/script.py 3"),
    work("perl", Scripts, "perl /work/script.pl 8"),
    work("sqlite", Scripts, "sqlite3 :memory: </work/script.sql"),
    work("cc1", Scripts, "cc1 -quiet -O2 -fpreprocessed /work/compile.i -o - | md5sum"),
    work("gzip", Compression, "gzip -6 -n -c /work/corpus | md5sum"),
    work("gunzip", Compression, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do gzip -t /work/corpus.gz; done"),
    work("xz", Compression, "head -c 500000 /work/corpus | xz -6 | md5sum"),
    work("unxz", Compression, "for i in 1 2 3 4; do xz -t /work/corpus.xz; done"),
    work("zstd", Compression, "for i in 1 2; do zstd -q -c --single-thread -7 /work/corpus | md5sum; done"),
    work("unzstd", Compression, "i=0; while [ $i -lt 10 ]; do zstd -qt /work/corpus.zst; i=$((i+1)); done"),
    work("bzip2", Compression, "head -c 2000000 /work/corpus | bzip2 | md5sum"),
    work("aes-gcm", Crypto, "/work/crypto gcm 150"),
    work("sha256", Crypto, "/work/crypto sha256 8000"),
    work("rsa", Crypto, "/work/crypto rsa 150"),
    work("ecdsa", Crypto, "/work/crypto ecdsa 2500"),
    work("make", Parallel, "make -s -j2 -f /work/Makefile && md5sum </tmp/part1.s"),
    work("threads", Parallel, "/work/atomics threads 20000000"),
    work("contended", Parallel, "/work/atomics contended 1000000"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_named_and_typed() {
        for (i, workload) in WORKLOADS.iter().enumerate() {
            assert!(
                WORKLOADS[..i].iter().all(|w| w.name != workload.name),
                "{} is there twice",
                workload.name
            );
            assert!(!workload.script.contains('\n'), "{}: the guest reads one line", workload.name);
        }
        for class in Class::ALL {
            assert!(WORKLOADS.iter().any(|w| w.class == class), "nothing measures {}", class.name());
        }
    }
}
