//! A controller that goes on where another was.

use super::{its::Rig, *};

const SPI: u64 = 40;

#[test]
fn what_is_pending_and_active_stays_so() {
    let rig = Rig::mapped(2);
    let board = &rig.board;
    board.enable_spi(SPI);
    board.priority(SPI, 0x80);
    board.route(SPI, 1);
    board.gic.set_level(SPI as u32, true);
    assert_eq!(board.get(1, icc::IAR1), SPI, "active at vCPU 1");
    board.set(0, icc::SGI1R, 3 << 24 | 1);
    board.gic.set_ppi(1, 27, true);
    board.write_sgi(1, irq::ISENABLER, 1 << 27);
    rig.message(1);

    let now = Rig::on(board.saved_and_restored());
    assert!(now.board.gic.irq_pending(0), "the SGI and the LPI");
    assert!(!now.board.gic.irq_pending(1), "the active SPI holds the timer back");
    assert_eq!(now.take(0), 3);
    assert_eq!(now.take(0), its::LPI);
    now.board.set(1, icc::EOIR1, SPI);
    assert_eq!(now.board.get(1, icc::IAR1), SPI, "its line is still high");
    now.board.gic.set_level(SPI as u32, false);
    now.board.set(1, icc::EOIR1, SPI);
    assert_eq!(now.take(1), 27);
    // Its ITS has the same mappings.
    now.message(1);
    assert_eq!(now.take(0), its::LPI);
}

#[test]
fn states_that_no_guest_brings_about_are_refused() {
    let rig = Rig::mapped(2);
    let state = serde_json::to_string(&rig.board.gic.save().unwrap()).unwrap();
    let restore = |text: &str| Board::cold(2, 96).gic.restore(&serde_json::from_str(text).unwrap());
    restore(&state).unwrap();
    let cwriter = format!(r#""cwriter":{}"#, read64(&*rig.board.gits, gits::CWRITER));
    let lpi = format!(r#""events":[[1,{},0]]"#, its::LPI);
    for (from, to) in [
        (cwriter.as_str(), r#""cwriter":16"#),
        (cwriter.as_str(), r#""cwriter":4096"#),
        (lpi.as_str(), r#""events":[[1,5,0]]"#),
        (lpi.as_str(), r#""events":[[99,8193,0]]"#),
        (r#""event_bits":5"#, r#""event_bits":64"#),
        (r#""collections":[[0,0]"#, r#""collections":[[0,2]"#),
        (r#""version":1"#, r#""version":7"#),
        (r#""groups""#, r#""troops""#),
    ] {
        let changed = state.replace(from, to);
        assert_ne!(changed, state, "{from}");
        assert!(restore(&changed).is_err(), "{to}");
    }
    assert!(Board::cold(3, 96).gic.restore(&serde_json::from_str(&state).unwrap()).is_err());
    assert!(Board::cold(2, 64).gic.restore(&serde_json::from_str(&state).unwrap()).is_err());
}
