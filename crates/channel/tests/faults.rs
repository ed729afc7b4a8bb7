//! An end that says what it may not say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;

use core::time::Duration;

use plumb_channel::{Fault, Guest, Host, INBOX, Limits};
use plumb_probe::{Event, Stats, TraceOptions};

use ends::{NOW, begun, configure, events, ready, says, to_guest, to_host, trace_job};

/// Tells of the trace of job 1 as it was, but for what `lie` does to it.
fn tell(guest: &mut Guest, event: &Event, lie: impl FnOnce(&mut plumb_record::Trace)) {
    let mut event = event.clone();
    if let Event::Trace { trace, .. } = &mut event {
        lie(trace);
    }
    guest.event(1, &event, NOW);
}

#[test]
fn a_guest_that_says_what_it_may_not_say_is_found_out() {
    type Misdeed = fn(&mut Guest, &Event);
    let job = trace_job([5, 0, 8, 2].into(), TraceOptions::default());
    let event = events("php", job.clone()).pop().unwrap();
    let cases: &[(&str, Misdeed)] = &[
        ("an event of job 9", |guest, event| {
            guest.event(9, event, NOW);
        }),
        ("an event of job 1", |guest, event| {
            guest.event(1, event, NOW);
            guest.event(1, event, NOW);
        }),
        (
            "a record that job 1 cannot have, in its addresses",
            |guest, event| tell(guest, event, |trace| trace.dst = [9, 9, 9, 9].into()),
        ),
        (
            "a record that job 1 cannot have, in its hops",
            |guest, event| {
                // What a terminal would obey.
                let vendor = vec!["\u{1b}[2J".to_owned()];
                tell(guest, event, |trace| trace.hops[0].vendor = vendor);
            },
        ),
        (
            "a record that job 1 cannot have, in its tunnels",
            |guest, event| tell(guest, event, |trace| trace.tunnels.clear()),
        ),
        ("a Ready frame out of turn", |guest, _| {
            guest.ready(ready(1))
        }),
        ("a Finished frame out of turn", |guest, _| guest.finished()),
        ("a malformed Stats frame, in its counters", |guest, _| {
            let stats = Stats {
                sent: 5,
                ..Stats::default()
            };
            guest.stats(NOW, stats, 0, 0);
            guest.stats(NOW, Stats::default(), 0, 0);
        }),
        ("more than 65536 bytes", |guest, _| {
            for _ in 0..1000 {
                guest.text(&"x".repeat(100));
            }
        }),
        ("a malformed Taken frame", |guest, _| {
            for _ in 0..INBOX {
                guest.took();
            }
        }),
    ];
    for (said, misdeed) in cases {
        let (mut host, mut guest) = begun();
        host.start(&job).unwrap();
        to_guest(&mut host, &mut guest);
        misdeed(&mut guest, &event);
        let fault = to_host(&mut guest, &mut host).unwrap_err();
        assert!(fault.to_string().contains(said), "{said}: {fault}");
        let again = host.handle_bytes(&[], NOW);
        assert_eq!(again, Err(fault), "a fault stays");
    }
}

#[test]
fn a_flood_is_stopped_however_well_formed() {
    let limits = Limits {
        bytes: 1 << 20,
        bytes_per_job: 1000,
        bytes_per_second: 1000,
        text: 100,
    };
    let mut host = Host::new(&configure(1), limits, NOW);
    let mut guest = Guest::default();
    guest.ready(ready(1));
    to_host(&mut guest, &mut host).unwrap();
    let mut came = 0;
    let fault = loop {
        guest.stats(NOW, Stats::default(), 0, 0);
        let bytes = says(&mut guest);
        came += bytes.len() as u64;
        if let Err(fault) = host.handle_bytes(&bytes, NOW + Duration::from_secs(2)) {
            break fault;
        }
    };
    let allowed = (1 << 20) + 2000;
    assert_eq!(fault, Fault::Flood { allowed });
    assert!(came > allowed - 200 && came < allowed + 200, "{came}");
}

#[test]
fn orders_that_are_none_are_refused() {
    for (bytes, said) in [
        (&[0, 0, 0, 0][..], "an empty frame"),
        (&[1, 16, 0, 0, 1], "a frame of 4097 bytes"),
        (&[1, 0, 0, 0, 77], "a frame of unknown kind 77"),
        (&[2, 0, 0, 0, 6, 1], "a malformed Finish frame, in its end"),
        (&[1, 0, 0, 0, 4], "a malformed Stop frame, in its job"),
        (&[3, 0, 0, 0, 1, 9, 0], "version 9 of the job channel"),
    ] {
        let mut guest = Guest::default();
        guest.handle_bytes(bytes);
        let fault = guest.poll_order().unwrap_err();
        assert_eq!(fault.to_string(), said);
    }
}
