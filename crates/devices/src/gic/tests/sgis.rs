//! Software generated interrupts between vCPUs.

use super::*;

fn pending(board: &Board, vcpus: u32) -> Vec<u32> {
    (0..vcpus).filter(|cpu| board.gic.irq_pending(*cpu)).collect()
}

#[test]
fn reach_the_listed_vcpus() {
    let board = Board::new(20);
    board.set(0, icc::SGI1R, 3 << 24 | 0b1010);
    assert_eq!(pending(&board, 20), [1, 3]);
    assert_eq!((board.woken(1), board.woken(3), board.woken(2)), (1, 1, 0));
    assert_eq!(board.get(3, icc::IAR1), 3);
    assert_eq!(pending(&board, 20), [1]);
    board.set(1, icc::SGI1R, 5 << 24 | 1 << 16 | 0x8001);
    assert_eq!(pending(&board, 20), [1, 16], "Aff1 = 1; there is no vCPU 31");
    for elsewhere in [1_u64 << 32, 1 << 44, 1 << 48, 2 << 16, 0xff << 16] {
        board.set(0, icc::SGI1R, elsewhere | 0xffff);
    }
    assert_eq!(pending(&board, 20), [1, 16]);
}

#[test]
fn reach_all_others() {
    let board = Board::new(20);
    board.set(7, icc::SGI1R, icc::SGI_IRM | 2 << 24);
    assert_eq!(pending(&board, 20), (0..20).filter(|cpu| *cpu != 7).collect::<Vec<_>>());
}

#[test]
fn reach_the_sender_itself() {
    let board = Board::new(1);
    board.set(0, icc::SGI1R, 1);
    assert_eq!(board.get(0, icc::IAR1), 0);
    board.set(0, icc::SGI1R, 1);
    assert!(!board.gic.irq_pending(0));
    board.set(0, icc::EOIR1, 0);
    assert_eq!(board.get(0, icc::IAR1), 0, "sent again while active");
}

#[test]
fn respect_the_group_of_the_interrupt() {
    let board = Board::new(1);
    board.set(0, icc::IGRPEN0, 1);
    board.write_sgi(0, irq::IGROUPR, !(1 << 4));
    for register in [icc::SGI0R, icc::ASGI1R] {
        board.set(0, register, 3 << 24 | 1);
        assert_eq!(board.read_sgi(0, irq::ISPENDR), 0);
    }
    board.set(0, icc::SGI0R, 4 << 24 | 1);
    assert!(board.gic.fiq_pending(0));
    assert_eq!(board.get(0, icc::IAR0), 4);
    board.set(0, icc::EOIR0, 4);
    board.set(0, icc::SGI1R, 4 << 24 | 1);
    assert_eq!(board.get(0, icc::IAR0), 4);
}

#[test]
fn none_is_lost_between_threads() {
    const ROUNDS: u32 = 20_000;
    let board = Board::new(2);
    board.enable_spi(40);
    board.edge_spi(40);
    board.route(40, 1);
    let ping_pong = |own: u32, start: bool| {
        let send = || board.set(own, icc::SGI1R, 1 << (1 - own));
        if start {
            send();
        }
        for round in 0..ROUNDS {
            loop {
                if board.gic.irq_pending(own) {
                    let intid = board.get(own, icc::IAR1);
                    if intid != 1023 {
                        board.set(own, icc::EOIR1, intid);
                    }
                    if intid == 0 {
                        break;
                    }
                } else {
                    std::thread::yield_now();
                }
            }
            if !(start && round + 1 == ROUNDS) {
                send();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ping_pong(1, false));
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                board.gic.set_level(40, true);
                board.gic.set_level(40, false);
            }
        });
        ping_pong(0, true);
    });
    while board.get(1, icc::IAR1) != 1023 {
        board.set(1, icc::EOIR1, 40);
    }
    assert!(pending(&board, 2).is_empty());
}
