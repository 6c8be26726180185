//! Whatever a guest writes, nothing panics and the outputs stay what the registers say.

use super::*;

/// A small generator of repeatable noise (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Often a small value, a single bit or a RAM address: what gets further than noise.
    fn value(&mut self) -> u64 {
        match self.below(5) {
            0 => self.below(64),
            1 => 1 << self.below(64),
            2 => gits::VALID | (RAM + self.below(RAM_LEN)) & !0xfff | self.below(3),
            3 => u64::MAX,
            _ => self.next(),
        }
    }
}

fn access(device: &dyn MmioDevice, size: u64, noise: &mut Noise) {
    let len = 1 << noise.below(4);
    let align = if noise.below(8) == 0 { 1 } else { len };
    let mut data = noise.value().to_le_bytes();
    let data = &mut data[..len as usize];
    // Registers crowd at the beginning of frames.
    let frame = noise.below(size / 0x1_0000) * 0x1_0000;
    let within = if noise.below(2) == 0 { noise.below(0x200) } else { noise.below(0x1_0000) };
    let offset = (frame + within).min(size - 8) / align * align;
    _ = if noise.below(3) == 0 { device.read(offset, data) } else { device.write(offset, data) };
}

const REGISTERS: [SysReg; 20] = [
    icc::PMR,
    icc::IAR0,
    icc::EOIR0,
    icc::HPPIR0,
    icc::BPR0,
    icc::AP0R0,
    icc::AP1R0,
    icc::DIR,
    icc::RPR,
    icc::SGI1R,
    icc::ASGI1R,
    icc::SGI0R,
    icc::IAR1,
    icc::EOIR1,
    icc::HPPIR1,
    icc::BPR1,
    icc::CTLR,
    icc::SRE,
    icc::IGRPEN0,
    icc::IGRPEN1,
];

#[test]
fn survives_noise() {
    const VCPUS: u32 = 3;
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let board = Board::new(VCPUS);
    for step in 0..300_000_u32 {
        let cpu = noise.below(VCPUS.into()) as u32;
        let line = noise.below(140) as u32;
        match noise.below(8) {
            0 => access(&*board.gicd, gicd::SIZE, &mut noise),
            1 => access(&*board.gicr, gicr::SIZE * u64::from(VCPUS), &mut noise),
            2 => access(&*board.gits, gits::SIZE, &mut noise),
            3 => board.gic.set_level(line, noise.below(2) == 0),
            4 => board.gic.set_ppi(cpu, line / 4, noise.below(2) == 0),
            5 => board.gic.signal(Msi {
                address: Gpa(ITS_BASE + gits::TRANSLATER),
                data: noise.below(4) as u32,
                device_id: noise.below(4) as u32,
            }),
            6 => {
                let words =
                    [noise.below(16) | noise.below(4) << 32, noise.value(), noise.value(), noise.value()];
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                _ = board.memory.write(Gpa(RAM + noise.below(RAM_LEN / 32) * 32), &bytes);
            }
            _ => {
                let register = REGISTERS[noise.below(20) as usize];
                if noise.below(2) == 0 {
                    _ = board.gic.icc_read(cpu, register);
                } else {
                    _ = board.gic.icc_write(cpu, register, noise.value());
                }
            }
        }
        if step % 16 == 0 {
            assert_outputs_are_right(&board, cpu);
        }
    }
}

/// The cached outputs are those that the state gives when it is looked at from scratch.
fn assert_outputs_are_right(board: &Board, cpu: u32) {
    let gic = &board.gic;
    let spis = lock(&gic.distributor);
    let mut state = lock(&gic.cpus[cpu as usize].state).clone();
    assert_eq!(state.spi, spis.best(cpu as usize));
    let outputs = state.outputs(&gic.lpi_config);
    assert_eq!(outputs & IRQ != 0, gic.irq_pending(cpu));
    assert_eq!(outputs & FIQ != 0, gic.fiq_pending(cpu));
}
