//! A chain does what its functions would do beside each other.

use core::convert::Infallible;
use core::time::Duration;

use super::*;
use crate::impair::{Distribution, Impair, Impairment, Loss};
use crate::{Count, Player, Probability};
use alloc::boxed::Box;
use proptest::prelude::*;

type Seen = Vec<(Port, u64, Vec<u8>)>;

/// What leaves a function that plays these frames, all from the left.
fn play<F: Function>(function: F, frames: &[(u64, Vec<u8>)]) -> Seen {
    let mut player = Player::new(function);
    let mut seen = Vec::new();
    let mut sink = |_: &mut F, port, frame: &Frame| {
        seen.push((port, frame.at.as_nanos(), frame.bytes.clone()));
        Ok::<_, Infallible>(())
    };
    for (at, bytes) in frames {
        let frame = Frame::new(Instant::from_nanos(*at), bytes);
        player.frame(Port::Left, frame, &mut sink).unwrap();
    }
    player.finish(&mut sink).unwrap();
    seen
}

fn impairments() -> impl Strategy<Value = (Impairment, u64)> {
    let times = (
        0..60u64,
        0..40u64,
        any::<bool>(),
        proptest::option::of(1..2000u64),
    );
    (times, 0..4u64, 0..4u64, any::<u64>()).prop_map(|(times, tenths, twice, seed)| {
        let (delay, jitter, keep_order, rate) = times;
        let impairment = Impairment {
            delay: Duration::from_nanos(delay),
            jitter: Duration::from_nanos(jitter),
            distribution: Distribution::Uniform,
            keep_order,
            loss: Loss::Random(Probability::ratio(tenths, 10)),
            duplicate: Probability::ratio(twice, 10),
            reorder: Probability::ratio(tenths, 20),
            // A frame of a few bytes takes some nanoseconds.
            rate: rate.map(|rate| rate * 10_000_000),
            limit: 50,
            ..Impairment::default()
        };
        (impairment, seed)
    })
}

proptest! {
    #[test]
    fn in_virtual_time_a_chain_gives_what_its_functions_give_one_behind_the_other(
        links in proptest::collection::vec(impairments(), 0..4),
        steps in proptest::collection::vec((0..30u64, 1..20usize), 0..60),
    ) {
        let mut at = 0;
        let frames: Vec<(u64, Vec<u8>)> = steps
            .iter()
            .enumerate()
            .map(|(n, (step, len))| {
                at += step;
                (at, alloc::vec![u8::try_from(n).unwrap(); *len])
            })
            .collect();
        let mut chain = Chain::new().in_virtual_time();
        let mut expected = frames.clone();
        for (impairment, seed) in links {
            let make = || Impair::new(Impairment::default(), impairment, seed);
            chain.push("impair", make());
            expected = play(make(), &expected)
                .into_iter()
                .map(|(_, at, bytes)| (at, bytes))
                .collect();
        }
        let found: Vec<_> = play(chain, &frames)
            .into_iter()
            .map(|(port, at, bytes)| {
                assert_eq!(port, Port::Right);
                (at, bytes)
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}

/// Sends what comes back where it came from, forever.
#[derive(Debug)]
struct Bounce;

impl Function for Bounce {
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, _: Instant, out: &mut Output) {
        for frame in batch.drain(..) {
            out.send(from, frame);
        }
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
}

fn through<F: Function>(chain: &mut Chain<F>, from: Port, byte: u8) -> Vec<(Port, Frame)> {
    let mut out = Output::default();
    let mut batch = alloc::vec![Frame::new(Instant::ZERO, &[byte; 60])];
    chain.handle_frames(from, &mut batch, Instant::ZERO, &mut out);
    core::mem::take(out.sent())
}

#[test]
fn frames_go_both_ways_in_the_same_buffer() {
    let mut chain = Chain::new();
    for _ in 0..3 {
        chain.push("count", Count::new());
    }
    for from in [Port::Left, Port::Right] {
        let mut out = Output::default();
        let mut batch: Vec<_> = (0..3)
            .map(|n| Frame::new(Instant::ZERO, &[n; 60]))
            .collect();
        let buffers: Vec<_> = batch.iter().map(|f| f.bytes.as_ptr()).collect();
        chain.handle_frames(from, &mut batch, Instant::ZERO, &mut out);
        let sent = out.sent();
        let found: Vec<_> = sent.iter().map(|(_, f)| f.bytes.as_ptr()).collect();
        assert_eq!(found, buffers);
        assert!(sent.iter().all(|(port, _)| *port == from.opposite()));
    }
    for (_, counters) in chain.parts() {
        let value = |name| counters.iter().find(|c| c.name == name).unwrap().value;
        assert_eq!((value("left_frames"), value("right_frames")), (3, 3));
    }
}

#[test]
fn a_chain_of_nothing_passes_everything_on() {
    let sent = through(&mut Chain::<Count>::new(), Port::Right, 7);
    assert_eq!(sent, [(Port::Left, Frame::new(Instant::ZERO, &[7; 60]))]);
}

#[test]
fn what_goes_to_and_fro_for_ever_is_dropped_and_counted() {
    let mut chain: Chain<Box<dyn Function>> = Chain::new();
    chain.push("count", Box::new(Count::new()));
    chain.push("bounce", Box::new(Bounce));
    // Comes back out where it came in.
    assert_eq!(through(&mut chain, Port::Left, 1).len(), 1);
    // Between two that send everything back there is no way out.
    let a = chain.insert(0, "bounce", Box::new(Bounce));
    let mut late: Chain<Box<dyn Function>> = Chain::new();
    let slow = Impairment {
        delay: Duration::from_nanos(5),
        ..Impairment::default()
    };
    late.push("bounce", Box::new(Bounce));
    late.push("impair", Box::new(Impair::new(slow, slow, 1)));
    late.push("bounce", Box::new(Bounce));
    // A frame within: it goes to and fro as long as somebody looks, and nobody hangs.
    late.members[1].arriving[0].push(Frame::new(Instant::ZERO, &[1; 60]));
    let mut out = Output::default();
    late.settle(Instant::ZERO, &mut out);
    for step in 1..100 {
        assert_eq!(late.poll_timeout(), Some(Instant::from_nanos(step * 5)));
        late.handle_timeout(Instant::from_nanos(step * 5), &mut out);
        assert!(out.sent().is_empty());
    }
    assert_eq!(late.counters()[0].value, 0);
    chain.members[1].arriving[0].push(Frame::new(Instant::ZERO, &[1; 60]));
    chain.settle(Instant::ZERO, &mut out);
    assert!(out.sent().is_empty());
    assert_eq!(chain.counters()[0].value, 1);
    assert!(chain.remove(a).is_some());
}

#[test]
fn functions_come_and_go_between_frames() {
    let mut chain = Chain::new();
    let first = chain.push("first", Count::new());
    through(&mut chain, Port::Left, 1);
    let second = chain.insert(0, "second", Count::new());
    assert_ne!(first, second);
    assert_eq!(
        (chain.position(second), chain.position(first)),
        (Some(0), Some(1))
    );
    through(&mut chain, Port::Left, 2);
    let frames = |count: &Count| count.counters()[0].value;
    let replaced = chain.replace(first, Count::new()).unwrap();
    assert_eq!(frames(&replaced), 2);
    through(&mut chain, Port::Left, 3);
    assert_eq!(frames(&chain.remove(second).unwrap()), 2);
    assert!(chain.remove(second).is_none());
    assert_eq!(chain.len(), 1);
    let names: Vec<_> = chain
        .functions()
        .map(|(_, name, f)| (name, frames(f)))
        .collect();
    assert_eq!(names, [("first", 1)]);
}
