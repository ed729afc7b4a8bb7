//! Two ends of a pipe in one process, which find each other as two stages do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::time::Duration;
use std::os::fd::OwnedFd;
use std::time::Instant;

use plumb_link::stage::{
    Ends, Link as _, LinkFrame, Needs, PipeLink, PipeOptions, Received, Sent, wait_alone,
};
use plumb_wire::frame::Port;

const STEP: Option<Duration> = Some(Duration::from_millis(20));
const BOTH: Needs = Needs {
    receive: true,
    send: true,
};
const SEND: Needs = Needs {
    receive: false,
    send: true,
};

/// The writer of a pipe and its reader, who share rings.
fn neighbours() -> (PipeLink, PipeLink) {
    let (reader, writer) = std::io::pipe().unwrap();
    let options = |port| PipeOptions {
        port,
        upgrade: true,
        keep_offload: true,
        is_capture: false,
    };
    let ends = Ends {
        output: Some(OwnedFd::from(writer)),
        ..Ends::default()
    };
    let mut writer = PipeLink::open(ends, options(Port::Right)).unwrap();
    let ends = Ends {
        input: Some(OwnedFd::from(reader)),
        ..Ends::default()
    };
    let mut reader = PipeLink::open(ends, options(Port::Left)).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let mut frame = LinkFrame::default();
    // Both send one, to see that both ways are rings.
    let (mut there, mut back) = (false, false);
    while !(there && back) {
        assert!(Instant::now() < until, "they do not meet");
        if writer.describe() == "ring" && !there {
            writer.send(numbered(0).as_outgoing()).unwrap();
        }
        writer.flush().unwrap();
        there |= reader.receive(&mut frame).unwrap() == Received::Frame;
        if reader.describe() == "ring" && there {
            reader.send(numbered(0).as_outgoing()).unwrap();
        }
        reader.flush().unwrap();
        back |= writer.receive(&mut frame).unwrap() == Received::Frame;
        wait_alone(&mut writer, Needs::default(), &[], STEP).unwrap();
        wait_alone(&mut reader, Needs::default(), &[], STEP).unwrap();
    }
    while writer.receive(&mut frame).unwrap() == Received::Frame {}
    while reader.receive(&mut frame).unwrap() == Received::Frame {}
    (writer, reader)
}

struct Numbered(LinkFrame);

impl Numbered {
    fn as_outgoing(&self) -> plumb_link::stage::Outgoing<'_> {
        (&self.0).into()
    }
}

fn numbered(number: u8) -> Numbered {
    Numbered(LinkFrame {
        bytes: vec![number; 1000],
        ..LinkFrame::default()
    })
}

fn fill(link: &mut PipeLink) {
    while link.send(numbered(1).as_outgoing()).unwrap() == Sent::Taken {}
    link.flush().unwrap();
}

/// Sends until it is not full any more, without receiving anything.
fn push_on(link: &mut PipeLink) -> Sent {
    for _ in 0..200 {
        match link.send(numbered(2).as_outgoing()).unwrap() {
            Sent::Full => {}
            Sent::Taken => link.flush().unwrap(),
            gone @ (Sent::Closed | Sent::NoWay | Sent::Refused) => return gone,
        }
        wait_alone(link, SEND, &[], STEP).unwrap();
    }
    Sent::Full
}

#[test]
fn who_only_sends_notices_that_its_neighbour_is_gone() {
    let (mut writer, reader) = neighbours();
    fill(&mut writer);
    drop(reader);
    assert_eq!(push_on(&mut writer), Sent::Closed);
}

#[test]
fn who_only_answers_notices_that_its_neighbour_is_gone() {
    let (writer, mut reader) = neighbours();
    fill(&mut reader);
    drop(writer);
    assert_eq!(push_on(&mut reader), Sent::NoWay);
}

#[test]
fn what_a_neighbour_sent_before_it_went_is_received_after_others_were_to_be_sent_to_it() {
    for writer_goes in [false, true] {
        let (writer, reader) = neighbours();
        let (mut stays, mut goes) = if writer_goes {
            (reader, writer)
        } else {
            (writer, reader)
        };
        for number in 10..13 {
            assert_eq!(
                goes.send(numbered(number).as_outgoing()).unwrap(),
                Sent::Taken
            );
        }
        goes.flush().unwrap();
        fill(&mut stays);
        drop(goes);
        assert_ne!(push_on(&mut stays), Sent::Full);
        let mut frame = LinkFrame::default();
        for number in 10..13 {
            wait_alone(&mut stays, BOTH, &[], STEP).unwrap();
            assert_eq!(stays.receive(&mut frame).unwrap(), Received::Frame);
            assert_eq!(frame.bytes, vec![number; 1000]);
        }
    }
}
