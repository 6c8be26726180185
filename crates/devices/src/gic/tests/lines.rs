//! Wired interrupts: SPIs and PPIs.

use super::*;

#[test]
fn a_level_interrupts_until_it_falls() {
    let board = Board::new(1);
    board.enable_spi(33);
    board.gic.set_level(33, true);
    assert!(board.gic.irq_pending(0));
    assert_eq!(board.woken(0), 1);
    assert_eq!(board.get(0, icc::HPPIR1), 33);
    assert_eq!(board.get(0, icc::IAR1), 33);
    assert!(!board.gic.irq_pending(0), "active");
    assert_eq!(board.get(0, icc::IAR1), 1023);
    board.set(0, icc::EOIR1, 33);
    assert!(board.gic.irq_pending(0), "still asserted");
    assert_eq!(board.get(0, icc::IAR1), 33);
    board.gic.set_level(33, false);
    board.set(0, icc::EOIR1, 33);
    assert!(!board.gic.irq_pending(0));
}

#[test]
fn an_edge_during_handling_interrupts_once_more() {
    let board = Board::new(1);
    board.edge_spi(40);
    board.enable_spi(40);
    let pulse = || {
        board.gic.set_level(40, true);
        board.gic.set_level(40, false);
    };
    pulse();
    assert_eq!(board.get(0, icc::IAR1), 40);
    (0..3).for_each(|_| pulse());
    assert!(!board.gic.irq_pending(0));
    board.set(0, icc::EOIR1, 40);
    assert_eq!(board.get(0, icc::IAR1), 40);
    board.set(0, icc::EOIR1, 40);
    assert_eq!(board.get(0, icc::IAR1), 1023);
}

#[test]
fn a_timer_ticks_on_its_own_vcpu_only() {
    let board = Board::new(2);
    for cpu in 0..2 {
        board.write_sgi(cpu, irq::ISENABLER, 1 << 27);
    }
    board.gic.set_ppi(1, 27, true);
    assert!(!board.gic.irq_pending(0) && board.gic.irq_pending(1));
    assert_eq!((board.woken(0), board.woken(1)), (0, 1));
    assert_eq!(board.get(1, icc::IAR1), 27);
    assert_eq!(board.woken(1), 0, "its own acknowledge is no news");
    board.gic.set_ppi(1, 27, false);
    board.set(1, icc::EOIR1, 27);
    assert!(!board.gic.irq_pending(1));
    board.gic.set_ppi(1, 27, true);
    board.woken(1);
    board.gic.set_ppi(1, 27, false);
    assert_eq!(board.woken(1), 1, "another thread withdrew it");
}

#[test]
fn lines_that_do_not_exist_are_nothing() {
    let board = Board::new(1);
    for line in [0, 31, 128, 1019, 1020, 8192, u32::MAX] {
        board.gic.set_level(line, true);
    }
    board.gic.set_ppi(0, 15, true);
    board.gic.set_ppi(0, 32, true);
    board.gic.set_ppi(1, 27, true);
    assert!(!board.gic.irq_pending(0) && !board.gic.irq_pending(1) && !board.gic.irq_pending(u32::MAX));
    assert_eq!(board.gic.icc_read(1, icc::IAR1), None);
    assert!(!board.gic.icc_write(1, icc::PMR, 0));
}

#[test]
fn routes_by_affinity_and_follows_a_new_route() {
    let board = Board::new(20);
    board.enable_spi(50);
    board.route(50, 0x103);
    board.gic.set_level(50, true);
    assert!(board.gic.irq_pending(19), "Aff1 = 1, Aff0 = 3");
    board.woken(19);
    board.route(50, 2);
    assert!(!board.gic.irq_pending(19) && board.gic.irq_pending(2));
    assert_eq!(board.woken(19), 1);
    for nowhere in [0x104, 0x10, 0x200, 0x1_0000] {
        board.route(50, nowhere);
        assert!((0..20).all(|cpu| !board.gic.irq_pending(cpu)), "{nowhere:#x}");
    }
    write(&*board.gicd, gicd::IROUTER + 8 * 50, 7);
    assert!(board.gic.irq_pending(7));
    assert_eq!(read64(&*board.gicd, gicd::IROUTER + 8 * 50), 7);
}

#[test]
fn one_of_n_goes_to_a_vcpu_that_takes_it() {
    let board = Board::new(4);
    board.enable_spi(34);
    board.route(34, gicd::IROUTER_IRM);
    board.gic.set_level(34, true);
    let holders = |board: &Board| (0..4).filter(|cpu| board.gic.irq_pending(*cpu)).collect::<Vec<_>>();
    let first = holders(&board);
    assert_eq!(first.len(), 1);
    board.write_gicr(first[0], gicr::CTLR, gicr::CTLR_DPG1);
    let second = holders(&board);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    board.set(second[0], icc::IGRPEN1, 0);
    let third = holders(&board);
    assert!(third.len() == 1 && third != first && third != second);
    assert_eq!(board.get(third[0], icc::IAR1), 34);
    assert!(holders(&board).is_empty());
}

#[test]
fn software_sets_and_clears_pending_and_active() {
    let board = Board::new(1);
    board.enable_spi(64);
    write(&*board.gicd, irq::ISPENDR + 8, 1);
    assert!(board.gic.irq_pending(0));
    write(&*board.gicd, irq::ICPENDR + 8, 1);
    assert!(!board.gic.irq_pending(0));
    write(&*board.gicd, irq::ISPENDR + 8, 1);
    write(&*board.gicd, irq::ISACTIVER + 8, 1);
    assert!(!board.gic.irq_pending(0));
    assert_eq!(read(&*board.gicd, irq::ICACTIVER + 8), 1);
    write(&*board.gicd, irq::ICACTIVER + 8, 1);
    assert_eq!(board.get(0, icc::IAR1), 64);
}

#[test]
fn messages_raise_spis() {
    let board = Board::new(1);
    board.edge_spi(70);
    board.enable_spi(70);
    write(&*board.gicd, gicd::SETSPI_NSR, 70);
    assert_eq!(board.get(0, icc::IAR1), 70);
    board.set(0, icc::EOIR1, 70);
    write(&*board.gicd, gicd::SETSPI_NSR, 70);
    write(&*board.gicd, gicd::CLRSPI_NSR, 70);
    write(&*board.gicd, gicd::SETSPI_SR, 70);
    write(&*board.gicd, gicd::SETSPI_NSR, u32::MAX);
    assert_eq!(board.get(0, icc::IAR1), 1023);
}

#[test]
fn describes_itself() {
    let board = Board::cold(18, 96);
    let typer = read(&*board.gicd, gicd::TYPER);
    assert_eq!(typer & 0x1f, 3);
    assert_eq!(typer >> 19 & 0x1f, 15);
    assert_ne!(typer & gicd::TYPER_LPIS, 0);
    assert_eq!(read(&*board.gicd, gicd::CTLR), gicd::CTLR_ARE | gicd::CTLR_DS);
    for (device, base) in [(&board.gicd, 0), (&board.gicr, 0), (&board.gicr, gicr::SIZE), (&board.gits, 0)] {
        assert_eq!(read(&**device, base + 0xffe8) >> 4 & 15, 3, "architecture revision");
    }
    for cpu in 0..18 {
        let typer = read64(&*board.gicr, cpu * gicr::SIZE + gicr::TYPER);
        assert_eq!(typer >> 32, ((cpu / 16) << 8) | (cpu % 16));
        assert_eq!(typer >> 8 & 0xffff, cpu);
        assert_eq!(typer & gicr::TYPER_LAST != 0, cpu == 17);
    }
    assert_eq!(board.read_gicr(0, gicr::WAKER), gicr::WAKER_SLEEP | gicr::WAKER_ASLEEP);
    board.write_gicr(0, gicr::WAKER, 0);
    assert_eq!(board.read_gicr(0, gicr::WAKER), 0);
    assert_eq!(board.gicr.read(18 * gicr::SIZE, &mut [0; 4]), Err(AccessError::NoRegister));
}

#[test]
fn the_largest_has_988_spis() {
    let board = Board::cold(1, 988);
    assert_eq!(read(&*board.gicd, gicd::TYPER) & 0x1f, 31);
    write(&*board.gicd, irq::ISENABLER + 4 * 31, u32::MAX);
    assert_eq!(read(&*board.gicd, irq::ISENABLER + 4 * 31), 0x0fff_ffff);
    board.route(1019, 0);
    assert_eq!(board.gicd.read(gicd::IROUTER + 8 * 1020, &mut [0; 8]), Err(AccessError::NoRegister));
}

#[test]
fn registers_without_function_read_as_zero() {
    let board = Board::new(1);
    for offset in [irq::ITARGETSR + 32, irq::IGRPMODR + 4, irq::NSACR + 8, gicd::SGIR, irq::ISENABLER] {
        write(&*board.gicd, offset, u32::MAX);
        assert_eq!(read(&*board.gicd, offset), 0, "{offset:#x}");
    }
    assert_eq!(board.gicd.read(gicd::CTLR, &mut [0; 8]), Err(AccessError::Width));
    assert_eq!(board.gicd.read(0xe000, &mut [0; 4]), Err(AccessError::NoRegister));
}
