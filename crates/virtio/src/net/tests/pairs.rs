//! Several pairs of queues, and the control queue.

use super::*;

const SEVERAL: u64 = feature::MQ | feature::CTRL_VQ;
const CONTROL_OF_TWO: usize = 4;

/// A frame of the TCP connection from the guest's `port`, to the guest or from it.
fn segment(port: u16, from_guest: bool) -> Vec<u8> {
    let (source, ports) = if from_guest { (MAC, [port, 80]) } else { (OTHER, [80, port]) };
    let mut frame = vec![0x33; 6];
    frame.extend(source);
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 15]);
    ports.iter().for_each(|port| frame.extend(port.to_be_bytes()));
    frame.resize(60, 0);
    frame
}

fn give(bench: &Bench, frame: &[u8]) -> bool {
    bench.card().give(&Frame::whole(frame, Offload::default()))
}

/// The guest sends a segment by `queue`, and it is taken.
fn sends(bench: &Bench, driver: &mut Driver, queue: &mut Queue, port: u16) {
    let frame = segment(port, true);
    send(driver, queue, &header(0, 0, [0; 5]), &frame);
    assert_eq!(bench.take(), Some((Offload::default(), frame)));
}

fn offer(driver: &mut Driver, queue: &mut Queue, count: usize) {
    for _ in 0..count {
        let at = driver.alloc(100);
        queue.offer(driver, &[writable(at, 100)]);
    }
}

/// The answer to a command.
fn command(driver: &mut Driver, queue: &mut Queue, bytes: &[u8]) -> u8 {
    let (request, answer) = (driver.alloc_with(bytes), driver.alloc_with(&[0xee]));
    queue.offer(driver, &[readable(request, bytes.len()), writable(answer, 1)]);
    // Its driver may wait without interrupts.
    assert_eq!(queue.used(driver).unwrap().1, 1);
    driver.bytes(answer, 1)[0]
}

fn activate(driver: &mut Driver, queues: &mut VecDeque<Queue>, pairs: u8) {
    assert_eq!(command(driver, &mut queues[CONTROL_OF_TWO], &[4, 0, pairs, 0]), 0);
}

#[test]
fn there_are_as_many_pairs_as_vcpus_within_bounds() {
    for (vcpus, queues, pairs) in [(1, 2, 0), (2, 5, 2), (7, 15, 7), (8, 17, 8), (123, 17, 8)] {
        let (_, driver, _) = set_up_for(vcpus, 0);
        assert_eq!(driver.common(0x12, 2), queues);
        assert_eq!(driver.device_config(8, 2), pairs);
        assert_eq!(driver.offered() & SEVERAL, if vcpus > 1 { SEVERAL } else { 0 });
    }
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let (_, mut driver, mut queues) = set_up_for(2, SEVERAL);
    let control = &mut queues[CONTROL_OF_TWO];
    for pairs in [1, 2, 1] {
        assert_eq!(command(&mut driver, control, &[4, 0, pairs, 0]), 0);
    }
    let wrong: [&[u8]; 9] = [
        &[4, 0, 0, 0],
        &[4, 0, 3, 0],
        &[4, 0, 1, 1],
        &[4, 1, 1, 0],
        &[4, 0, 1],
        &[4],
        &[0, 0, 1],
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xff; 64],
    ];
    for bytes in wrong {
        assert_eq!(command(&mut driver, control, bytes), 1, "{bytes:?}");
    }
    assert!(driver.interrupted(5));
    let at = driver.alloc_with(&[4, 0, 2, 0]);
    control.offer(&driver, &[readable(at, 4)]);
    assert!(driver.broken(), "there is no room for an answer");
}

#[test]
fn without_several_pairs_the_control_queue_is_the_third() {
    let (bench, mut driver, mut queues) = set_up_for(2, feature::CTRL_VQ);
    assert_eq!(command(&mut driver, &mut queues[2], &[4, 0, 1, 0]), 1);
    offer(&mut driver, &mut queues[RECEIVE], 1);
    assert!(give(&bench, &segment(1000, false)));
    let (request, answer) = (driver.alloc_with(&[4, 0, 1, 0]), driver.alloc_with(&[0xee]));
    queues[4].offer(&driver, &[readable(request, 4), writable(answer, 1)]);
    assert_eq!(queues[4].used(&driver), None, "that is nothing then");

    let (bench, mut driver, mut queues) = set_up_for(2, 0);
    offer(&mut driver, &mut queues[RECEIVE], 1);
    offer(&mut driver, &mut queues[2], 1);
    sends(&bench, &mut driver, &mut queues[TRANSMIT], 1000);
    assert!(give(&bench, &segment(1000, false)));
    assert!(queues[RECEIVE].used(&driver).is_some());
    assert_eq!(queues[2].used(&driver), None);
}

#[test]
fn a_busy_transmit_queue_leaves_the_others_their_turn() {
    let (bench, mut driver, mut queues) = set_up_for(3, SEVERAL);
    let plain = header(0, 0, [0; 5]);
    let honest = frame(MAC, 100);
    let mut before = Vec::new();
    for _ in 0..40 {
        send(&mut driver, &mut queues[TRANSMIT], &plain, &frame(MAC, 60));
        if before.is_empty() {
            send(&mut driver, &mut queues[5], &plain, &honest);
        }
        let (_, taken) = bench.take().unwrap();
        before.push(taken == honest);
        bench.card().flush();
        while queues[TRANSMIT].used(&driver).is_some() {}
    }
    assert_eq!(before.iter().position(|seen| *seen), Some(16));
    assert!(driver.interrupted(6));
    assert!(bench.take().is_some(), "what the third pair's was instead of");
    assert_eq!(bench.take(), None);
}

#[test]
fn what_comes_follows_what_was_sent_but_overtakes_nothing() {
    let (bench, mut driver, mut queues) = set_up_for(2, SEVERAL);
    offer(&mut driver, &mut queues[RECEIVE], 4);
    offer(&mut driver, &mut queues[2], 4);
    let came = segment(1000, false);
    sends(&bench, &mut driver, &mut queues[3], 1000);
    assert!(give(&bench, &came));
    assert!(queues[RECEIVE].used(&driver).is_some(), "the second pair is not active yet");
    activate(&mut driver, &mut queues, 2);
    assert!(give(&bench, &came));
    sends(&bench, &mut driver, &mut queues[3], 1000);
    assert!(give(&bench, &came));
    assert_eq!(queues[2].used(&driver), None, "the guest has not seen what is in the first");
    assert!(queues[RECEIVE].used(&driver).is_some() && queues[RECEIVE].used(&driver).is_some());
    sends(&bench, &mut driver, &mut queues[3], 1000);
    assert!(give(&bench, &came) && give(&bench, &frame(OTHER, 60)));
    bench.card().flush();
    assert!(driver.interrupted(3));
    assert_eq!(queues[2].used(&driver).unwrap().1, 72);
    assert!(queues[RECEIVE].used(&driver).is_some(), "what is of no flow");
    // Another flow's frame that the guest has not seen is no reason to wait.
    offer(&mut driver, &mut queues[RECEIVE], 1);
    assert!(give(&bench, &frame(OTHER, 60)));
    sends(&bench, &mut driver, &mut queues[3], 1003);
    assert!(give(&bench, &segment(1003, false)));
    assert!(queues[2].used(&driver).is_some());
}

#[test]
fn what_waits_for_a_pair_goes_on_without_it() {
    let (bench, mut driver, mut queues) = set_up_for(2, SEVERAL);
    activate(&mut driver, &mut queues, 2);
    offer(&mut driver, &mut queues[RECEIVE], 1);
    sends(&bench, &mut driver, &mut queues[3], 1000);
    let came = segment(1000, false);
    assert!(!give(&bench, &came), "the second pair has no room");
    let before = *lock(&bench.kicks);
    offer(&mut driver, &mut queues[2], 1);
    assert!(*lock(&bench.kicks) > before);
    assert!(give(&bench, &came));
    assert!(queues[2].used(&driver).is_some());
    assert!(!give(&bench, &came));
    let before = *lock(&bench.kicks);
    activate(&mut driver, &mut queues, 1);
    assert!(*lock(&bench.kicks) > before);
    assert!(give(&bench, &came));
    assert!(queues[RECEIVE].used(&driver).is_some());
    send(&mut driver, &mut queues[3], &header(0, 0, [0; 5]), &frame(MAC, 60));
    assert!(bench.take().is_some(), "what it left there is sent");
}

#[test]
fn a_saved_card_has_its_active_pairs() {
    let (bench, mut driver, mut queues) = set_up_for(2, SEVERAL);
    activate(&mut driver, &mut queues, 2);
    let parts = driver.save();
    let elsewhere = || Net::new(MAC, Arc::new(Bench::default()), 3);
    assert!(driver.go_on(elsewhere(), parts.clone()).is_err(), "another number of queues");
    drop(bench);
    let bench = Arc::new(Bench::default());
    let mut driver = driver.go_on(Net::new(MAC, bench.clone(), 2), parts).unwrap();
    offer(&mut driver, &mut queues[RECEIVE], 1);
    offer(&mut driver, &mut queues[2], 1);
    assert!(give(&bench, &segment(1000, false)));
    assert!(queues[RECEIVE].used(&driver).is_some(), "until the guest sends");
    sends(&bench, &mut driver, &mut queues[3], 1000);
    assert!(give(&bench, &segment(1000, false)));
    assert!(queues[2].used(&driver).is_some());
    activate(&mut driver, &mut queues, 1);
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    use crate::VirtioDevice;
    let net = |vcpus| Net::new(MAC, Arc::new(Bench::default()), vcpus);
    let (one, two) = (net(1), net(2));
    assert_eq!(one.save().unwrap(), None);
    let saved = two.save().unwrap().unwrap();
    assert!(two.restore(Some(&saved)).is_ok());
    assert!(one.restore(None).is_ok());
    for refused in [two.restore(None), one.restore(Some(&saved))] {
        assert!(refused.unwrap_err().to_string().contains("another number of queues"));
    }
    for active in [0, 2, 3] {
        let odd = tearless_state::Encoded::new(1, &serde_json::json!({ "active": active })).unwrap();
        assert!(two.restore(Some(&odd)).is_err(), "no driver chose that");
    }
    assert!(one.outline() != two.outline());
}
