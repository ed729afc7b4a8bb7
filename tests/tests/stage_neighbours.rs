//! Neighbours that this process plays itself, ring and pipe included: what becomes of packets, and
//! of who has them, when a neighbour goes.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::io::{PipeReader, PipeWriter, pipe};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use plumb_link::stage::{
    Ends, Link as _, LinkFrame, Needs, PipeLink, PipeOptions, Received, Sent, wait_alone,
};
use plumb_tests::plumb;
use plumb_wire::frame::Port;

const STEP: Option<Duration> = Some(Duration::from_millis(10));
const LIMIT: Duration = Duration::from_secs(30);
const SEND: Needs = Needs {
    receive: false,
    send: true,
};
const RECEIVE: Needs = Needs {
    receive: true,
    send: false,
};

fn open(ends: Ends, port: Port) -> PipeLink {
    let options = PipeOptions {
        port,
        upgrade: true,
        keep_offload: true,
        is_capture: false,
    };
    PipeLink::open(ends, options).unwrap()
}

fn writer(to: PipeWriter) -> PipeLink {
    let ends = Ends {
        output: Some(to.into()),
        ..Ends::default()
    };
    open(ends, Port::Right)
}

fn reader(from: PipeReader) -> PipeLink {
    let ends = Ends {
        input: Some(from.into()),
        ..Ends::default()
    };
    open(ends, Port::Left)
}

/// Both ends of one pipe.
fn neighbours() -> (PipeLink, PipeLink) {
    let (from, to) = pipe().unwrap();
    (writer(to), reader(from))
}

/// Sends a frame whose bytes are this number.
fn send(link: &mut PipeLink, number: u8) -> Sent {
    let frame = LinkFrame {
        bytes: vec![number; 1000],
        ..LinkFrame::default()
    };
    link.send((&frame).into()).unwrap()
}

fn sleep(link: &mut PipeLink, needs: Needs) {
    link.flush().unwrap();
    wait_alone(link, needs, &[], STEP).unwrap();
}

/// Lets the rings come about, for both ways, of who writes and who reads: one pipe's, or those of a
/// stage between.
fn meet(left: &mut PipeLink, right: &mut PipeLink) {
    let until = Instant::now() + LIMIT;
    let mut frame = LinkFrame::default();
    let (mut there, mut back) = (false, false);
    let is_ring = |link: &PipeLink| link.describe() == "ring";
    while !(there && back && is_ring(left) && is_ring(right)) {
        assert!(Instant::now() < until, "they do not meet");
        send(left, 0);
        there |= right.receive(&mut frame).unwrap() == Received::Frame;
        if there {
            send(right, 0);
        }
        back |= left.receive(&mut frame).unwrap() == Received::Frame;
        sleep(left, Needs::default());
        sleep(right, Needs::default());
    }
}

/// Receives until nothing comes for a while.
fn drain(link: &mut PipeLink) {
    let mut frame = LinkFrame::default();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(50) {
        while link.receive(&mut frame).unwrap() == Received::Frame {
            since = Instant::now();
        }
        sleep(link, RECEIVE);
    }
}

/// Both ends of one pipe, with rings that are empty.
fn met() -> (PipeLink, PipeLink) {
    let (mut writer, mut reader) = neighbours();
    meet(&mut writer, &mut reader);
    drain(&mut writer);
    drain(&mut reader);
    (writer, reader)
}

fn fill(link: &mut PipeLink) {
    while send(link, 1) == Sent::Taken {}
    link.flush().unwrap();
}

/// Sends until nothing can be sent any more, without receiving anything, and says why.
fn push_on(link: &mut PipeLink) -> Sent {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if let gone @ (Sent::Closed | Sent::NoWay | Sent::Refused) = send(link, 2) {
            return gone;
        }
        sleep(link, SEND);
    }
    Sent::Full
}

/// What comes next, the numbers of its frames, until it ends or this many have come.
fn numbers(link: &mut PipeLink, most: usize) -> Vec<u8> {
    let until = Instant::now() + LIMIT;
    let mut frame = LinkFrame::default();
    let mut all = Vec::new();
    while all.len() < most && Instant::now() < until {
        match link.receive(&mut frame).unwrap() {
            Received::Frame => {
                assert_eq!(frame.bytes, vec![frame.bytes[0]; 1000]);
                all.push(frame.bytes[0]);
            }
            Received::End => break,
            Received::Nothing => sleep(link, RECEIVE),
        }
    }
    all
}

#[test]
fn who_only_sends_notices_that_its_neighbour_is_gone() {
    let (mut writer, reader) = met();
    fill(&mut writer);
    drop(reader);
    assert_eq!(push_on(&mut writer), Sent::Closed);
}

#[test]
fn who_only_answers_notices_that_its_neighbour_is_gone() {
    let (writer, mut reader) = met();
    fill(&mut reader);
    drop(writer);
    assert_eq!(push_on(&mut reader), Sent::NoWay);
}

#[test]
fn what_a_neighbour_sent_before_it_went_is_received_after_others_were_to_be_sent_to_it() {
    for writer_goes in [false, true] {
        let (writer, reader) = met();
        let (mut stays, mut goes) = if writer_goes {
            (reader, writer)
        } else {
            (writer, reader)
        };
        for number in 10..13 {
            assert_eq!(send(&mut goes, number), Sent::Taken);
        }
        goes.flush().unwrap();
        fill(&mut stays);
        drop(goes);
        assert_ne!(push_on(&mut stays), Sent::Full);
        assert_eq!(numbers(&mut stays, 3), [10, 11, 12]);
    }
}

#[test]
fn who_answers_a_neighbour_that_is_gone_still_receives_what_is_in_pipe_and_ring() {
    let (mut writer, mut reader) = neighbours();
    let until = Instant::now() + LIMIT;
    let mut sent = Vec::new();
    // Only what is read calls the writer: one frame is received, and the others stay in the pipe.
    for number in 1..=10 {
        assert_eq!(send(&mut writer, number), Sent::Taken);
        sent.push(number);
    }
    writer.flush().unwrap();
    assert_eq!(numbers(&mut reader, 1), [1]);
    while writer.describe() != "ring" || reader.describe() != "ring" {
        assert!(Instant::now() < until, "they do not meet");
        sleep(&mut reader, Needs::default());
        sleep(&mut writer, Needs::default());
    }
    for number in 11..=20 {
        assert_eq!(send(&mut writer, number), Sent::Taken);
        sent.push(number);
    }
    writer.flush().unwrap();
    drop(writer);
    assert_eq!(push_on(&mut reader), Sent::NoWay);
    assert_eq!(numbers(&mut reader, usize::MAX), sent[1..]);
}

/// Runs a stage between who writes to it and who reads from it.
fn between(verb: &str) -> (PipeLink, Child, PipeLink) {
    let (stage_reads, to) = pipe().unwrap();
    let (from, stage_writes) = pipe().unwrap();
    let stage = Command::new(plumb())
        .arg(verb)
        .stdin(Stdio::from(stage_reads))
        .stdout(Stdio::from(stage_writes))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (writer(to), stage, reader(from))
}

#[test]
fn a_stage_with_packets_for_both_neighbours_ends_when_both_are_gone() {
    let (mut left, mut stage, mut right) = between("count");
    meet(&mut left, &mut right);
    // Both ways without receiving anything, until nothing has found room for a while.
    let mut full_since = Instant::now();
    while full_since.elapsed() < Duration::from_millis(300) {
        for link in [&mut left, &mut right] {
            while send(link, 7) == Sent::Taken {
                full_since = Instant::now();
            }
            sleep(link, Needs::default());
        }
    }
    drop(left);
    drop(right);
    let until = Instant::now() + LIMIT;
    while stage.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            stage.kill().unwrap();
            stage.wait().unwrap();
            panic!("it waits for ever");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
