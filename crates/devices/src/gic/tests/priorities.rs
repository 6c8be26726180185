//! Masking, preemption and the two ways to end an interrupt.

use super::*;

#[test]
fn more_urgent_first_then_lower_intid() {
    let board = Board::new(1);
    for (intid, priority) in [(33, 0xa0), (34, 0x80), (35, 0xa0), (36, 0x98)] {
        board.priority(intid, priority);
        board.edge_spi(intid);
        board.enable_spi(intid);
        board.gic.set_level(intid as u32, true);
    }
    let order: Vec<u64> = std::iter::from_fn(|| {
        let intid = board.get(0, icc::IAR1);
        board.set(0, icc::EOIR1, intid);
        (intid != 1023).then_some(intid)
    })
    .collect();
    assert_eq!(order, [34, 36, 33, 35]);
}

#[test]
fn the_mask_hides_what_is_not_more_urgent() {
    let board = Board::new(1);
    board.enable_spi(33);
    board.gic.set_level(33, true);
    for (mask, pending) in [(0xa0, false), (0xa7, false), (0xa8, true), (0xff, true), (0, false)] {
        board.set(0, icc::PMR, mask);
        assert_eq!(board.gic.irq_pending(0), pending, "{mask:#x}");
        assert_eq!(board.get(0, icc::PMR), mask & 0xf8);
        assert_eq!(board.get(0, icc::HPPIR1), 33, "pending all the same");
    }
    assert_eq!(board.get(0, icc::IAR1), 1023);
}

#[test]
fn nests_and_unwinds() {
    let board = Board::new(1);
    for (intid, priority) in [(33, 0xa0), (34, 0x80), (35, 0x40)] {
        board.priority(intid, priority);
        board.enable_spi(intid);
        board.gic.set_level(intid as u32, true);
        assert_eq!(board.get(0, icc::IAR1), intid);
        assert_eq!(board.get(0, icc::RPR), u64::from(priority));
    }
    assert_eq!(board.get(0, icc::AP1R0), 1 << 20 | 1 << 16 | 1 << 8);
    for (intid, running) in [(35, 0x80), (34, 0xa0), (33, 0xff)] {
        board.gic.set_level(intid, false);
        board.set(0, icc::EOIR1, intid.into());
        assert_eq!(board.get(0, icc::RPR), running);
    }
}

#[test]
fn the_binary_point_groups_priorities() {
    let board = Board::new(1);
    assert_eq!((board.get(0, icc::BPR0), board.get(0, icc::BPR1)), (2, 3));
    board.set(0, icc::BPR1, 0);
    board.set(0, icc::BPR0, 0);
    assert_eq!((board.get(0, icc::BPR0), board.get(0, icc::BPR1)), (2, 3), "the least");
    board.set(0, icc::BPR1, 5);
    for (intid, priority) in [(33, 0xb8), (34, 0xa0)] {
        board.priority(intid, priority);
        board.enable_spi(intid);
        board.gic.set_level(intid as u32, true);
        if intid == 33 {
            assert_eq!(board.get(0, icc::IAR1), 33);
            assert_eq!(board.get(0, icc::RPR), 0xa0, "the group's priority");
        }
    }
    assert!(!board.gic.irq_pending(0), "same group priority: no preemption");
    board.set(0, icc::BPR1, 3);
    assert!(!board.gic.irq_pending(0), "the active priority stays as it was");
    board.set(0, icc::EOIR1, 33);
    assert_eq!(board.get(0, icc::IAR1), 34);
    board.set(0, icc::BPR0, 4);
    board.set(0, icc::CTLR, icc::CTLR_CBPR);
    board.set(0, icc::BPR1, 7);
    assert_eq!(board.get(0, icc::BPR1), 5, "BPR0 plus one");
}

#[test]
fn split_end_of_interrupt_deactivates_on_its_own() {
    let board = Board::new(2);
    board.set(0, icc::CTLR, icc::CTLR_EOIMODE);
    assert_eq!(board.get(0, icc::CTLR), icc::CTLR_EOIMODE | 4 << 8);
    board.enable_spi(33);
    board.write_sgi(0, irq::ISENABLER, 1 << 27);
    board.gic.set_level(33, true);
    board.gic.set_ppi(0, 27, true);
    for intid in [27, 33] {
        assert_eq!(board.get(0, icc::IAR1), intid);
        board.set(0, icc::EOIR1, intid);
        assert_eq!(board.get(0, icc::RPR), 0xff);
    }
    assert!(!board.gic.irq_pending(0), "both active");
    board.set(0, icc::DIR, 27);
    assert_eq!(board.get(0, icc::HPPIR1), 27);
    board.set(0, icc::DIR, 33);
    board.gic.set_ppi(0, 27, false);
    assert_eq!(board.get(0, icc::IAR1), 33);
    board.set(1, icc::DIR, 33);
    assert_eq!(read(&*board.gicd, irq::ISACTIVER + 4), 2, "DIR without the mode does nothing");
}

#[test]
fn groups_are_acknowledged_apart_and_signalled_apart() {
    let board = Board::new(1);
    board.set(0, icc::IGRPEN0, 1);
    write(&*board.gicd, irq::IGROUPR + 4, !2);
    board.enable_spi(33);
    board.enable_spi(34);
    board.gic.set_level(34, true);
    assert!(board.gic.irq_pending(0) && !board.gic.fiq_pending(0));
    board.priority(33, 0x40);
    board.gic.set_level(33, true);
    assert!(!board.gic.irq_pending(0) && board.gic.fiq_pending(0), "the most urgent is of group 0");
    assert_eq!(board.get(0, icc::IAR1), 1023);
    assert_eq!(board.get(0, icc::HPPIR1), 1023);
    assert_eq!(board.get(0, icc::IAR0), 33);
    assert_eq!(board.get(0, icc::AP0R0), 1 << 8);
    board.set(0, icc::EOIR1, 33);
    assert_eq!(board.get(0, icc::RPR), 0x40, "the wrong group's end does nothing");
    board.set(0, icc::EOIR0, 33);
    assert_eq!(board.get(0, icc::RPR), 0xff);
    board.set(0, icc::IGRPEN0, 0);
    assert!(board.gic.irq_pending(0), "a disabled group does not stand in the way");
    assert_eq!(board.get(0, icc::IAR1), 34);
}

#[test]
fn disabling_anywhere_withdraws() {
    let board = Board::new(1);
    board.enable_spi(33);
    board.gic.set_level(33, true);
    board.set(0, icc::IGRPEN1, 0);
    assert!(!board.gic.irq_pending(0));
    board.set(0, icc::IGRPEN1, 1);
    assert!(board.gic.irq_pending(0));
    write(&*board.gicd, gicd::CTLR, gicd::CTLR_ARE);
    assert!(!board.gic.irq_pending(0));
    write(&*board.gicd, gicd::CTLR, gicd::CTLR_ENABLE_GRP1);
    assert!(board.gic.irq_pending(0));
    write(&*board.gicd, irq::ICENABLER + 4, 2);
    assert!(!board.gic.irq_pending(0));
}

#[test]
fn special_and_unknown_intids_end_nothing() {
    let board = Board::new(1);
    board.enable_spi(33);
    board.gic.set_level(33, true);
    board.get(0, icc::IAR1);
    for intid in [1020, 1023, 1024, 8191] {
        board.set(0, icc::EOIR1, intid);
        assert_eq!(board.get(0, icc::RPR), 0xa0, "{intid}");
    }
    board.set(0, icc::DIR, u64::MAX);
    board.set(0, icc::EOIR1, u64::MAX);
    assert_eq!(board.get(0, icc::RPR), 0xff, "an LPI's number drops the priority");
    board.set(0, icc::EOIR1, 33);
    assert_eq!(read(&*board.gicd, irq::ISACTIVER + 4), 2, "nothing runs, so nothing ends");
}

#[test]
fn registers_exist_in_one_direction() {
    let board = Board::new(1);
    for register in [icc::IAR0, icc::IAR1, icc::HPPIR0, icc::HPPIR1, icc::RPR] {
        assert!(board.gic.icc_read(0, register).is_some());
        assert!(!board.gic.icc_write(0, register, 0));
    }
    for register in [icc::EOIR0, icc::EOIR1, icc::DIR, icc::SGI0R, icc::SGI1R, icc::ASGI1R] {
        assert_eq!(board.gic.icc_read(0, register), None);
        assert!(board.gic.icc_write(0, register, 1023));
    }
    for missing in [SysReg::new(3, 0, 12, 8, 5), SysReg::new(3, 0, 12, 9, 1), SysReg::new(3, 4, 12, 9, 5)] {
        assert_eq!(board.gic.icc_read(0, missing), None);
        assert!(!board.gic.icc_write(0, missing, 0));
    }
    assert_eq!(board.get(0, icc::SRE), 7);
    board.set(0, icc::SRE, 0);
    assert_eq!(board.get(0, icc::SRE), 7);
}

#[test]
fn active_priorities_can_be_written() {
    let board = Board::new(1);
    board.set(0, icc::AP1R0, 1 << 4);
    assert_eq!(board.get(0, icc::RPR), 0x20);
    board.enable_spi(33);
    board.gic.set_level(33, true);
    assert!(!board.gic.irq_pending(0));
    board.set(0, icc::AP1R0, 0);
    assert!(board.gic.irq_pending(0));
}
