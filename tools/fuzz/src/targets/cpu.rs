//! The software CPU: the input is code, page tables, registers, and what the machine answers.

use std::{
    sync::{Mutex, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tearless_arm64::{pstate, sysreg::name as reg};
use tearless_engine::{Exit, Kicker, Region, Vcpu, VcpuSeed, VcpuState, Vm};
use tearless_engine_soft::SoftVm;
use tearless_memory::{Gpa, GuestMemory};

use crate::Input;

/// RAM: vectors, then code, data, and translation tables.
const RAM: Gpa = Gpa(0x4000_0000);
const RAM_SIZE: u64 = 0x8000;
const CODE: u64 = RAM.0 + 0x1000;
const DATA: u64 = RAM.0 + 0x4000;
const TABLES: u64 = RAM.0 + 0x6000;
/// Bytes of the input before the code.
pub(crate) const HEAD: usize = 512;
/// Below `CODE` and `DATA`, so that the program can overwrite itself and what comes after it.
const MAX_CODE: usize = 0x3000;
const MAX_EXITS: u32 = 300;
/// A program that makes no exit is stopped after this long.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long a kick may take to get through. An instruction cannot be interrupted; none should take a tenth of this.
const DEAF: Duration = Duration::from_secs(5);

/// A handler for every exception: go on behind the instruction, after a call that counts as an exit.
const HANDLER: [u32; 5] = [
    0xd538_403e, // mrs  x30, elr_el1
    0x9100_13de, // add  x30, x30, #4
    0xd518_403e, // msr  elr_el1, x30
    0xd400_0002, // hvc  #0
    0xd69f_03e0, // eret
];

/// Runs one or two vCPUs of a VM of their own. The first [`HEAD`] bytes are their state and the tables, the rest is code.
pub fn cpu(data: &[u8]) {
    let (head, code) = data.split_at(data.len().min(HEAD));
    let (mut input, answers) = (Input::new(head), Input::new(code));
    let shape = input.u8();
    let Ok(memory) = GuestMemory::new(&[RAM..RAM + RAM_SIZE]) else { return };
    let states = [state(&mut input, shape), state(&mut input, shape)];
    fill(&mut input, &memory, code);
    let Ok(vm) = SoftVm::new() else { return };
    let rom = shape & 4 != 0;
    let split = RAM + if rom { 0x1000 } else { RAM_SIZE };
    for (range, writable) in [(RAM..split, !rom), (split..RAM + RAM_SIZE, true)] {
        if range.start < range.end {
            let region = Region { range, memory: memory.clone(), writable };
            assert!(vm.map(&region).is_ok(), "a VM takes its RAM");
        }
    }
    let vcpus = if shape & 0x18 == 0 { 2 } else { 1 };
    thread::scope(|scope| {
        for (index, state) in (0..).zip(&states).take(vcpus).skip(1) {
            let (vm, answers) = (&vm, answers.clone());
            scope.spawn(move || run(vm, index, state, answers));
        }
        run(&vm, 0, &states[0], answers);
    });
}

fn run(vm: &SoftVm, index: u32, state: &VcpuState, mut answers: Input) {
    let Ok(seed) = vm.vcpu(index) else { panic!("vCPU {index} is new") };
    let kicker = seed.kicker();
    let Ok(mut vcpu) = seed.bind() else { panic!("a software vCPU needs nothing from the host") };
    if vcpu.set_state(state).is_err() {
        return;
    }
    let alarm = Alarm::set(kicker);
    for _ in 0..MAX_EXITS {
        vcpu.set_irq(answers.u8() & 7 == 0);
        let Ok(exit) = vcpu.run() else { panic!("nothing that a guest does is an error of the engine") };
        match exit {
            Exit::MmioRead { size, value, .. } => {
                assert!(matches!(size, 1 | 2 | 4 | 8));
                *value = answers.value();
            }
            Exit::MmioWrite { size, value, .. } => {
                assert!(size == 8 || value >> (8 * size) == 0, "excess bits are zero");
            }
            Exit::SysReg(access) => {
                *access.value = answers.value();
                *access.handled = answers.flag();
            }
            Exit::Smccc(call) => call.x[0] = answers.value(),
            Exit::Kicked => break,
            Exit::Wfi { .. } | Exit::Timer(_) => {}
        }
        if alarm.is_over() {
            break;
        }
    }
    let Ok(end) = vcpu.state() else { panic!("the state can be read at any time") };
    assert!(vcpu.set_state(&end).is_ok(), "a state that was read can be set");
}

/// Registers at the start: pointers to what is interesting, and values.
fn state(input: &mut Input, shape: u8) -> VcpuState {
    let mut state = VcpuState::entry(CODE + 4 * u64::from(input.u8()), 0);
    for x in &mut state.x {
        *x = match input.u8() % 8 {
            0 => DATA + u64::from(input.u8()),
            1 => RAM.0 + RAM_SIZE - u64::from(input.u8() % 32),
            2 => CODE + 4 * u64::from(input.u8()),
            3 => TABLES + 8 * u64::from(input.u8()),
            4 => 0x0900_0000,
            _ => input.value(),
        };
    }
    (state.sp_el0, state.sp_el1) = (DATA + 0x800, DATA + 0x1000);
    for v in &mut state.v {
        *v = u128::from(input.value()) | u128::from(input.value()) << 64;
    }
    (state.fpcr, state.fpsr) = (input.u32(), input.u32());
    let el0 = if shape & 3 == 0 { pstate::EL0T } else { pstate::EL1H };
    state.pstate = el0 | input.u32() & !(pstate::MODE | pstate::AARCH32 | pstate::IL);
    let mmu = u64::from(shape & 0x20 != 0);
    // 39-bit addresses, 4 KiB granule, both halves; then what the input makes of it.
    let tcr = 0x5_8019_0019 | u64::from(input.u8() & 0xc0) << 32;
    let twist = |input: &mut Input, value: u64| if input.u8() == 255 { value ^ input.value() } else { value };
    state.sys = vec![
        (reg::SCTLR_EL1, twist(input, 0x30d0_0980) | mmu),
        (reg::CPACR_EL1, if input.u8() < 240 { 3 << 20 } else { 0 }),
        (reg::TTBR0_EL1, twist(input, TABLES)),
        (reg::TTBR1_EL1, twist(input, TABLES)),
        (reg::TCR_EL1, twist(input, tcr)),
        (reg::MAIR_EL1, 0x00ff_4404),
        (reg::VBAR_EL1, twist(input, RAM.0)),
        (reg::CNTV_CTL_EL0, u64::from(input.u8() & 3)),
        (reg::CNTV_CVAL_EL0, input.value()),
    ];
    if shape & 0x40 != 0 {
        state.sys.push((reg::MDSCR_EL1, input.value()));
    }
    state
}

/// Vectors, code, data, and tables that map devices and RAM to themselves, with a few entries changed.
fn fill(input: &mut Input, memory: &GuestMemory, code: &[u8]) {
    let handler: Vec<u8> = HANDLER.iter().flat_map(|word| word.to_le_bytes()).collect();
    for vector in 0..16 {
        _ = memory.write(RAM + 0x80 * vector, &handler);
    }
    // Level 1: the devices' GiB as a block; RAM's through levels 2 and 3.
    let mut entries = vec![
        (TABLES, 0x0060_0000_0000_0401),
        (TABLES + 8, (TABLES + 0x800) | 3),
        (TABLES + 0x800, (TABLES + 0x1000) | 3),
    ];
    entries.extend(
        (0..8).map(|page| (TABLES + 0x1000 + 8 * page, (RAM.0 + 0x1000 * page) | 0x443 | 0x40 * (page & 1))),
    );
    for _ in 0..input.u8() % 4 {
        let target = input.below(0x2000 / 8);
        entries.push((TABLES + 8 * target, input.value()));
    }
    for (at, value) in entries {
        _ = memory.write(Gpa(at), &value.to_le_bytes());
    }
    let code = &code[..code.len().min(MAX_CODE)];
    _ = memory.write(Gpa(CODE), code);
    _ = memory.write(Gpa(DATA), &code[..code.len().min(0x1000)]);
}

/// Kicks a vCPU when its time is over.
struct Alarm {
    start: Instant,
}

static WAITING: Mutex<Vec<(Instant, Kicker)>> = Mutex::new(Vec::new());

impl Alarm {
    fn set(kicker: Kicker) -> Self {
        static CLOCK: Once = Once::new();
        CLOCK.call_once(|| drop(thread::spawn(keep_time)));
        let start = Instant::now();
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push((start, kicker));
        Self { start }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() > PATIENCE
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).retain(|(start, _)| *start != self.start);
        let late = self.start.elapsed();
        assert!(late < DEAF, "an instruction of {late:?}");
    }
}

/// Kicks again and again: the guest may have been about to leave for another reason.
fn keep_time() {
    loop {
        thread::sleep(PATIENCE / 4);
        let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.iter().filter(|(start, _)| start.elapsed() > PATIENCE).for_each(|(_, kicker)| kicker.kick());
    }
}
