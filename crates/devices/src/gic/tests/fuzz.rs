//! Whatever a guest writes, nothing panics and the outputs stay what the registers say.

use super::*;
use crate::noise::Noise;

const INTERESTING: [u64; 3] = [gits::VALID | RAM, RAM, gits::VALID | (RAM + 0x1_0000)];

#[test]
fn survives_noise() {
    const VCPUS: u32 = 3;
    let mut noise = Noise::new(&INTERESTING);
    let board = Board::new(VCPUS);
    for step in 0..300_000_u32 {
        let cpu = noise.below(VCPUS.into()) as u32;
        let line = noise.below(140) as u32;
        match noise.below(8) {
            0 => noise.access(&*board.gicd, gicd::SIZE),
            1 => noise.access(&*board.gicr, gicr::SIZE * u64::from(VCPUS)),
            2 => noise.access(&*board.gits, gits::SIZE),
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
                let register = icc::ALL[noise.below(icc::ALL.len() as u64) as usize];
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
        if step % 4096 == 0 {
            assert_outputs_are_right(&board.saved_and_restored(), cpu);
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
