//! A guest of the kit: its memory, its vCPU, and its exits as owned values.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tearless_arm64::{SysReg, pstate, sysreg::name as reg};
use tearless_memory::{Gpa, GuestMemory};

use crate::{Exit, Kicker, Region, TimerLines, Vcpu, VcpuSeed, VcpuState, Vm};

/// Where RAM starts; programs are loaded here.
pub(super) const RAM: u64 = 0x4000_0000;
/// Its length.
pub(super) const RAM_SIZE: u64 = 2 << 20;
/// The exception vectors.
pub(super) const VECTORS: u64 = RAM + 0x1_0000;
/// Translation tables: one page each for levels 1, 2 and 3.
pub(super) const TABLES: u64 = RAM + 0x2_0000;
/// Data of the programs.
pub(super) const DATA: u64 = RAM + 0x10_0000;
/// A page that cases unmap.
pub(super) const EXTRA: u64 = 0x5000_0000;
/// Unmapped addresses that stand for a device.
pub(super) const DEVICE: u64 = 0x0900_0000;
/// A store here ends a program.
pub(super) const DONE: u64 = 0x0a00_0000;
/// How large the read-only and the extra memory are.
pub(super) const PAGE: u64 = 0x1000;
/// How long a program may run; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Read {
        gpa: u64,
        size: u8,
    },
    Write {
        gpa: u64,
        size: u8,
        value: u64,
    },
    SysReg {
        reg: SysReg,
        write: Option<u64>,
    },
    Smccc {
        x: [u64; 18],
    },
    Wfi {
        deadline: Option<Instant>,
    },
    Timer(TimerLines),
    Kicked,
    /// The program stored this to [`DONE`].
    Done(u64),
    /// The default handler of the vector at this offset ran.
    Vector(u64),
}

/// The vCPU type of a VM type.
pub(super) type VcpuOf<V> = <<V as Vm>::Seed as VcpuSeed>::Vcpu;

/// Memory mapped into a VM.
pub(super) struct Guest<V: Vm> {
    pub vm: V,
    pub memory: GuestMemory,
}

/// One vCPU of a guest.
pub(super) struct Running<V: Vm> {
    pub vcpu: VcpuOf<V>,
    pub kicker: Kicker,
    /// What reads of MMIO and system registers get.
    pub answer: u64,
    /// Whether system registers exist.
    pub has_sysregs: bool,
    watchdog: Watchdog,
}

pub(super) fn fail(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Fails unless both are equal.
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what} is {got:x?}, expected {expected:x?}")) }
}

/// The word STR Xt, [Xn, #8 * `offset`].
const fn store_word(t: u32, n: u32, offset: u32) -> u32 {
    0xf900_0000 | offset << 10 | n << 5 | t
}

/// The default vectors: each reports its offset through X29 and returns.
fn vectors() -> Vec<u8> {
    const ERET: u32 = 0xd69f_03e0;
    let mut bytes = vec![0; 0x800];
    for offset in (0..0x800_u32).step_by(0x80) {
        // MOVZ X29, #offset
        let code = [0xd280_001d | offset << 5, store_word(29, 28, 1), ERET];
        for (i, word) in code.iter().enumerate() {
            let at = offset as usize + 4 * i;
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// A program as bytes.
fn bytes(code: &[u32]) -> Vec<u8> {
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl<V: Vm> Guest<V> {
    /// Maps the kit's memory and loads `code` at [`RAM`].
    pub fn new(vm: V, code: &[u32]) -> Result<Self, String> {
        let ranges: [Range<Gpa>; 3] =
            [Gpa(0)..Gpa(PAGE), Gpa(RAM)..Gpa(RAM + RAM_SIZE), Gpa(EXTRA)..Gpa(EXTRA + PAGE)];
        let memory = GuestMemory::new(&ranges).map_err(fail)?;
        for range in ranges {
            let region = Region { writable: range.start.0 != 0, range, memory: memory.clone() };
            vm.map(&region).map_err(fail)?;
        }
        let guest = Self { vm, memory };
        guest.put(RAM, &bytes(code))?;
        guest.put(VECTORS, &vectors())?;
        Ok(guest)
    }

    /// Writes guest memory.
    pub fn put(&self, gpa: u64, data: &[u8]) -> Result<(), String> {
        self.memory.write(Gpa(gpa), data).map_err(fail)
    }

    /// Loads a program elsewhere than at [`RAM`].
    pub fn put_code(&self, gpa: u64, code: &[u32]) -> Result<(), String> {
        self.put(gpa, &bytes(code))
    }

    /// Writes a doubleword of guest memory.
    pub fn put_u64(&self, gpa: u64, value: u64) -> Result<(), String> {
        self.put(gpa, &value.to_le_bytes())
    }

    /// Reads a doubleword of guest memory.
    pub fn u64(&self, gpa: u64) -> Result<u64, String> {
        let mut data = [0; 8];
        self.memory.read(Gpa(gpa), &mut data).map_err(fail)?;
        Ok(u64::from_le_bytes(data))
    }

    /// vCPU `index`, about to run the code at [`RAM`]; it belongs to the calling thread.
    pub fn vcpu(&self, index: u32) -> Result<Running<V>, String> {
        let seed = self.vm.vcpu(index).map_err(fail)?;
        Running::new(seed)
    }
}

/// The state in which programs start.
pub(super) fn start() -> VcpuState {
    let mut state = VcpuState::entry(RAM, 0);
    state.x[24..29].copy_from_slice(&[EXTRA, 0, DATA, DEVICE, DONE]);
    state.sp_el1 = DATA;
    state.sys = vec![(reg::CPACR_EL1, 3 << 20), (reg::VBAR_EL1, VECTORS)];
    state
}

impl<V: Vm> Running<V> {
    pub fn new(seed: V::Seed) -> Result<Self, String> {
        let kicker = seed.kicker();
        let mut vcpu = seed.bind().map_err(fail)?;
        vcpu.set_state(&start()).map_err(fail)?;
        let watchdog = Watchdog::new(kicker.clone());
        Ok(Self { vcpu, kicker, answer: 0, has_sysregs: true, watchdog })
    }

    /// Changes the state.
    pub fn change(&mut self, change: impl FnOnce(&mut VcpuState)) -> Result<(), String> {
        let mut state = self.state()?;
        change(&mut state);
        self.vcpu.set_state(&state).map_err(fail)
    }

    /// Sets PSTATE.
    pub fn set_pstate(&mut self, value: u32) -> Result<(), String> {
        self.change(|state| state.pstate = value)
    }

    /// The whole state.
    pub fn state(&self) -> Result<VcpuState, String> {
        self.vcpu.state().map_err(fail)
    }

    /// General register `index`.
    pub fn x(&self, index: usize) -> Result<u64, String> {
        Ok(self.state()?.x[index])
    }

    /// A system register of the saved state.
    pub fn sys(&self, wanted: SysReg) -> Result<u64, String> {
        let state = self.state()?;
        let found = state.sys.iter().find(|(reg, _)| *reg == wanted);
        found.map(|(_, value)| *value).ok_or_else(|| format!("the state lacks {wanted}"))
    }

    /// Runs up to the next event.
    pub fn next(&mut self) -> Result<Event, String> {
        let exit = self.vcpu.run().map_err(fail)?;
        let event = match exit {
            Exit::MmioRead { gpa, size, value } => {
                *value = self.answer;
                Event::Read { gpa: gpa.0, size }
            }
            Exit::MmioWrite { gpa: Gpa(DONE), size: 8, value } => Event::Done(value),
            Exit::MmioWrite { gpa, size: 8, value } if gpa.0 == DONE + 8 => Event::Vector(value),
            Exit::MmioWrite { gpa, size, value } => Event::Write { gpa: gpa.0, size, value },
            Exit::SysReg(access) => {
                *access.handled = self.has_sysregs;
                *access.value = self.answer;
                Event::SysReg { reg: access.reg, write: access.write }
            }
            Exit::Smccc(call) => {
                let x = *call.x;
                for (i, register) in call.x[..4].iter_mut().enumerate() {
                    *register = self.answer + i as u64;
                }
                Event::Smccc { x }
            }
            Exit::Wfi { deadline } => Event::Wfi { deadline },
            Exit::Timer(lines) => Event::Timer(lines),
            Exit::Kicked => Event::Kicked,
        };
        if self.watchdog.has_barked() {
            return Err(format!("no end after {PATIENCE:?}, pc {:#x}", self.state()?.pc));
        }
        Ok(event)
    }

    /// Runs up to the next event, which must be this one.
    pub fn expect(&mut self, expected: Event) -> Result<(), String> {
        let got = self.next()?;
        same("the next exit", got, expected)
    }

    /// Runs to the end of the program: what it stored to [`DONE`].
    pub fn finish(&mut self) -> Result<u64, String> {
        match self.next()? {
            Event::Done(value) => Ok(value),
            other => Err(format!("expected the program's end, got {other:x?}")),
        }
    }
}

/// EL1h with everything masked but what `unmasked` names.
pub(super) fn kernel_with(unmasked: u32) -> u32 {
    pstate::EL1H | pstate::DAIF & !unmasked
}

/// Kicks a vCPU that does not come to its end.
struct Watchdog {
    barked: Arc<AtomicBool>,
    /// Dropped, it ends the watch.
    _leash: mpsc::Sender<()>,
}

impl Watchdog {
    fn new(kicker: Kicker) -> Self {
        let (leash, end) = mpsc::channel::<()>();
        let barked = Arc::new(AtomicBool::new(false));
        let flag = barked.clone();
        thread::spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::SeqCst);
                kicker.kick();
            }
        });
        Self { barked, _leash: leash }
    }

    fn has_barked(&self) -> bool {
        self.barked.load(Ordering::SeqCst)
    }
}
