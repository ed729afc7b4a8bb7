//! Pings that a user asks for, and refusals.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use core::time::Duration;
use std::sync::Arc;

use plumb_probe::{Engine, Event, Job, Ping, PingOptions, Refused, TraceOptions};
use plumb_wire::{Engine as _, Instant};
use world::*;

fn job(options: PingOptions) -> Job {
    Job::Ping(Ping {
        src: SOURCE.into(),
        dst: [5, 9, 0, 1].into(),
        options: Arc::new(options),
    })
}

fn ping(
    world: &mut World,
    options: PingOptions,
) -> (Vec<plumb_record::PingReply>, plumb_record::Ping) {
    let mut engine = Engine::new(unlimited(), 1);
    engine.start(job(options), Instant::ZERO).unwrap();
    let (events, _) = drive(
        &mut engine,
        world,
        Instant::ZERO,
        Duration::from_secs(100_000),
    );
    let mut replies = Vec::new();
    for event in events {
        match event {
            Event::PingReply { reply, .. } => replies.push(reply),
            Event::Ping { ping, .. } => return (replies, *ping),
            Event::Hop { .. } | Event::Trace { .. } => {}
        }
    }
    panic!("no end of the ping");
}

#[test]
fn requests_leave_on_the_grid_of_the_interval_and_the_summary_counts_them() {
    let mut world = World::new("5.9.0.1", vec![]);
    let (replies, ping) = ping(&mut world, PingOptions::default());
    assert_eq!((ping.sent, ping.received, replies.len()), (4, 4, 4));
    assert_eq!(
        (ping.rtt_min_ns, ping.rtt_mean_ns, ping.rtt_stddev_ns),
        (Some(10_000_000), Some(10_000_000), Some(0))
    );
    let times: Vec<u64> = world
        .sent
        .iter()
        .map(|(at, _)| at.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(times, [0, 1000, 2000, 3000]);
    assert!(world.sent.iter().all(|(_, bytes)| bytes.len() == 84));
}

#[test]
fn what_does_not_answer_is_reported_request_by_request() {
    let mut world = World::new("5.1.1.1", vec![]);
    let (replies, ping) = ping(
        &mut world,
        PingOptions {
            count: Some(3),
            ..PingOptions::default()
        },
    );
    assert_eq!((ping.sent, ping.received, ping.rtt_mean_ns), (3, 0, None));
    assert_eq!(
        replies.iter().map(|r| (r.seq, r.addr)).collect::<Vec<_>>(),
        [(1, None), (2, None), (3, None)]
    );
}

#[test]
fn sequence_numbers_wrap_without_losing_a_reply() {
    let mut world = World::new("5.9.0.1", vec![]);
    let options = PingOptions {
        count: Some(200_000),
        interval: Duration::from_millis(1),
        report_replies: false,
        ..PingOptions::default()
    };
    let (_, ping) = ping(&mut world, options);
    assert_eq!(
        (ping.sent, ping.received, ping.duplicates),
        (200_000, 200_000, 0)
    );
}

#[test]
fn a_time_exceeded_reply_is_reported_but_not_counted_as_received() {
    let mut world = World::new("5.9.0.1", vec![router("5.1.0.1", 255)]);
    let (replies, ping) = ping(
        &mut world,
        PingOptions {
            ttl: 1,
            count: Some(1),
            ..PingOptions::default()
        },
    );
    assert_eq!((ping.sent, ping.received), (1, 0));
    assert_eq!(
        (replies[0].icmp_type, replies[0].addr),
        (Some(11), Some([5, 1, 0, 1].into()))
    );
}

#[test]
fn an_endless_ping_ends_when_it_is_stopped() {
    let mut world = World::new("5.9.0.1", vec![]);
    let mut engine = Engine::new(unlimited(), 1);
    let id = engine
        .start(
            job(PingOptions {
                count: None,
                ..PingOptions::default()
            }),
            Instant::ZERO,
        )
        .unwrap();
    let (events, now) = drive(
        &mut engine,
        &mut world,
        Instant::ZERO,
        Duration::from_secs(10),
    );
    assert_eq!(events.len(), 10);
    engine.stop(id, now);
    assert!(matches!(engine.poll_event(), Some(Event::Ping { ping, .. }) if ping.sent == 11));
    assert_eq!(engine.active(), 0);
}

#[test]
fn jobs_that_cannot_be_done_are_refused_with_the_reason() {
    let mut config = unlimited();
    config.window = 1;
    let mut engine = Engine::new(config, 1);
    let mut start = |target: &str, options| engine.start(trace_job(target, options), Instant::ZERO);
    let good = TraceOptions::default();
    assert_eq!(start("2a00::1", good), Err(Refused::FamilyMismatch));
    for target in ["0.0.0.0", "255.255.255.255", "224.0.0.1"] {
        assert_eq!(start(target, good), Err(Refused::NotATarget));
    }
    for bad in [
        TraceOptions {
            first_ttl: 0,
            ..good
        },
        TraceOptions {
            first_ttl: 9,
            max_ttl: 8,
            ..good
        },
        TraceOptions {
            attempts: 0,
            ..good
        },
        TraceOptions {
            attempts: 16,
            ..good
        },
        TraceOptions {
            parallel: 0,
            ..good
        },
        TraceOptions {
            gap_limit: 0,
            ..good
        },
        TraceOptions {
            flow: Some(0),
            ..good
        },
    ] {
        assert_eq!(start("5.9.0.1", bad), Err(Refused::BadOptions));
    }
    assert!(start("5.9.0.1", good).is_ok());
    assert_eq!(start("5.9.0.1", good), Err(Refused::Full));
}
