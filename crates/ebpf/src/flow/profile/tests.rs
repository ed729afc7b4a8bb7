use plumb_record::FlowEvent as E;

use super::*;
use crate::flow::event::Opening;

const MS: u64 = 1_000_000;

/// An event with nothing counted.
fn event(kind: EventKind, at_ms: u64) -> Event {
    let mut event = Event::blank(kind);
    event.at = at_ms * MS;
    event.cookie = 7;
    event.old_state = 1;
    event.flags = flag::ACTIVE;
    event
}

fn profiler() -> Profiler {
    Profiler::new(Config {
        live: Live::ALL,
        max_connections: 100,
    })
}

fn run(events: &[Event]) -> Vec<FlowProfile> {
    let mut profiler = profiler();
    for event in events {
        profiler.handle(event);
    }
    core::iter::from_fn(|| profiler.poll_profile().map(|profile| *profile)).collect()
}

fn established(at_ms: u64, syn_ms: u64) -> Event {
    let mut event = event(EventKind::Established, at_ms);
    event.old_state = state::SYN_SENT;
    event.syn_at = syn_ms * MS;
    // What the kernel counts of a SYN.
    event.bytes_acked = 1;
    event.segs_out = 1;
    event
}

fn closed(at_ms: u64, old_state: u8) -> Event {
    let mut event = event(EventKind::Closed, at_ms);
    event.old_state = old_state;
    event.sequence = 1;
    event
}

#[test]
fn a_clean_connection_gives_two_profiles_of_its_payload() {
    let mut end = closed(150, state::FIN_WAIT2);
    end.flags |= flag::FIN_RECEIVED | flag::FIN_ACKED;
    // SYN, FIN and 1000 bytes; FIN and 500 bytes.
    (end.bytes_sent, end.bytes_acked, end.bytes_received) = (1000, 1002, 501);
    end.segs_out = 5;
    let profiles = run(&[established(100, 90), end]);
    let [first, second] = profiles.as_slice() else {
        panic!("{profiles:?}");
    };
    assert_eq!(first.establishment_ns, Some(10 * MS));
    assert_eq!(
        (first.start, first.end),
        (WallTime(90 * MS), WallTime(100 * MS))
    );
    assert_eq!(
        (first.state_before, first.state),
        (FlowState::New, FlowState::Established)
    );
    assert_eq!((first.bytes_acked, first.rtos), (Some(0), None));
    assert_eq!(
        (second.start, second.end),
        (WallTime(100 * MS), WallTime(150 * MS))
    );
    assert_eq!(second.state, FlowState::Finished);
    assert_eq!(second.end_reason, Some(FlowEnd::Closed));
    assert_eq!(
        (second.bytes_sent, second.bytes_acked, second.bytes_received),
        (1000, Some(1000), 500)
    );
    assert_eq!(second.packets_sent, Some(4));
    assert_eq!((first.profile, second.profile), (0, 1));
}

#[test]
fn a_handshake_that_is_told_with_the_end_is_a_profile_of_its_own() {
    let mut end = closed(150, state::FIN_WAIT2);
    end.flags |= flag::FIN_RECEIVED | flag::FIN_ACKED;
    (end.bytes_sent, end.bytes_acked, end.bytes_received) = (1000, 1002, 501);
    (end.segs_out, end.segs_in, end.srtt_us8) = (5, 4, 800);
    end.syn_at = 90 * MS;
    let apart = run(&[established(100, 90), end.clone()]);
    let opening = Opening {
        at: 100 * MS,
        segs_out: 1,
        segs_in: 1,
        srtt_us8: 400,
        mdev_us4: 200,
        min_rtt_us: 50,
        cwnd: 10,
        mss: 1448,
        snd_wnd: 65_536,
        rcvbuf: 131_072,
    };
    end.opening = Some(opening);
    let together = run(&[end.clone()]);
    let windows = |profiles: &[FlowProfile]| -> Vec<_> {
        let of = |p: &FlowProfile| (p.start, p.end, p.event, p.profile, p.bytes_acked, p.phase);
        profiles.iter().map(of).collect()
    };
    assert_eq!(windows(&together), windows(&apart));
    assert_eq!(together[0].establishment_ns, Some(10 * MS));
    assert_eq!(together[0].rtt_ns, Some(50_000));
    assert_eq!(together[0].congestion_window_packets, Some(10));
    assert_eq!(together[0].end_reason, None);
    assert_eq!(together[1].packets_sent, Some(4));

    // Or by a pass over the connections, once and not twice.
    let mut pass = end.clone();
    pass.kind = EventKind::Opened;
    pass.at = 120 * MS;
    let mut later = end.clone();
    later.opening = None;
    for events in [[pass.clone(), end], [pass, later]] {
        assert_eq!(windows(&run(&events)), windows(&apart));
    }
}

#[test]
fn a_timeout_makes_four_windows_and_each_counts_its_own() {
    let mut enter = event(EventKind::LossyEntered, 200);
    (enter.bytes_sent, enter.total_retrans, enter.sequence) = (3000, 1, 1);
    let mut leave = event(EventKind::LossyLeft, 500);
    leave.flags |= flag::LOSSY;
    (
        leave.bytes_sent,
        leave.total_retrans,
        leave.rtos,
        leave.sequence,
    ) = (4000, 3, 2, 2);
    let mut end = closed(600, state::LAST_ACK);
    (end.bytes_sent, end.total_retrans, end.rtos, end.sequence) = (9000, 3, 2, 3);
    let profiles = run(&[established(100, 90), enter, leave, end]);
    let seen: Vec<_> = profiles
        .iter()
        .map(|p| {
            (
                p.phase,
                p.event,
                p.bytes_sent,
                p.rtos,
                p.packets_retransmitted,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (FlowPhase::Establishing, E::Established, 0, None, Some(0)),
            (FlowPhase::Open, E::LossyEntered, 3000, Some(0), Some(1)),
            (FlowPhase::Lossy, E::LossyLeft, 1000, Some(2), Some(2)),
            (FlowPhase::Open, E::Ended, 5000, Some(0), Some(0)),
        ]
    );
    for pair in profiles.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
    }
}

#[test]
fn the_end_is_told_by_error_state_and_resets_together() {
    let cases = [
        // Old state, error, resets received, and what they mean.
        (state::SYN_SENT, 111, 1, FlowEnd::Refused),
        (state::SYN_SENT, 110, 0, FlowEnd::TimedOut),
        (state::SYN_SENT, 113, 0, FlowEnd::Unreachable),
        (state::SYN_SENT, 0, 0, FlowEnd::Aborted),
        (1, 104, 1, FlowEnd::ResetReceived),
        // Waiting to close, a reset is a broken pipe.
        (8, 32, 1, FlowEnd::ResetReceived),
        // A local abort has no error yet.
        (1, 0, 0, FlowEnd::ResetSent),
        (8, 0, 0, FlowEnd::ResetSent),
        (4, 0, 0, FlowEnd::ResetSent),
        (1, 103, 0, FlowEnd::ResetSent),
        (1, 110, 0, FlowEnd::TimedOut),
        (1, 101, 0, FlowEnd::Unreachable),
        (state::FIN_WAIT2, 0, 0, FlowEnd::Closed),
        (state::LAST_ACK, 0, 0, FlowEnd::Closed),
        (state::CLOSING, 0, 0, FlowEnd::Closed),
        (1, 71, 0, FlowEnd::Error),
    ];
    for (old_state, error, resets, end) in cases {
        let mut event = closed(10, old_state);
        (event.error, event.resets_received) = (error, resets);
        let profiles = run(&[event]);
        assert_eq!(profiles[0].end_reason, Some(end), "{old_state} {error}");
        assert_eq!(profiles[0].errno, (error != 0).then_some(error));
        let sent = u32::from(end == FlowEnd::ResetSent);
        assert_eq!(profiles[0].resets_sent, Some(sent), "{old_state} {error}");
    }
}

#[test]
fn a_connection_of_before_begins_with_what_it_had_then() {
    let mut before = event(EventKind::Baseline, 100);
    before.flags = 0;
    (before.bytes_sent, before.segs_in) = (1_000_000, u32::MAX - 1);
    let mut end = closed(200, state::LAST_ACK);
    (end.flags, end.bytes_sent, end.sequence) = (0, 1_000_700, 0);
    // The counter wrapped.
    end.segs_in = 3;
    let profiles = run(&[before, end]);
    assert_eq!(profiles.len(), 1);
    assert_eq!(profiles[0].open, None);
    assert_eq!(profiles[0].bytes_sent, 700);
    assert_eq!(profiles[0].packets_received, Some(5));
    assert_eq!(profiles[0].start, WallTime(100 * MS));
}

#[test]
fn what_was_forgotten_is_counted_and_not_made_up() {
    let mut profiler = Profiler::new(Config {
        live: Live::ALL,
        max_connections: 2,
    });
    for cookie in 1..=3 {
        let mut event = established(100, 90);
        event.cookie = cookie;
        profiler.handle(&event);
    }
    assert_eq!(profiler.len(), 2);
    let mut late = closed(200, state::LAST_ACK);
    (late.cookie, late.sequence, late.bytes_sent) = (1, 2, 5000);
    profiler.handle(&late);
    assert_eq!(profiler.unknown(), 1);
    assert_eq!(core::iter::from_fn(|| profiler.poll_profile()).count(), 3);
}

#[test]
fn figures_whose_program_does_not_run_are_absent() {
    let mut profiler = Profiler::new(Config {
        live: Live {
            congestion: false,
            tail_loss_probes: false,
            resets_received: false,
            resets_sent: false,
            duplicates: false,
            out_of_order: false,
            segments: false,
            stalls: false,
        },
        max_connections: 10,
    });
    profiler.handle(&closed(10, state::LAST_ACK));
    let profile = profiler.poll_profile().unwrap();
    assert_eq!(profile.rtos, None);
    assert_eq!(profile.tail_loss_probes, None);
    assert_eq!((profile.resets_sent, profile.resets_received), (None, None));
    assert_eq!(profile.duplicate_packets_received, None);
    assert_eq!(profile.out_of_order_packets, None);
}

#[test]
fn busy_times_are_known_once_a_jiffy_is() {
    let mut first = established(1000, 990);
    first.jiffies = 10_000;
    let mut end = closed(1400, state::LAST_ACK);
    (end.jiffies, end.busy) = (10_100, [10, 5, 1]);
    let profiles = run(&[first, end]);
    assert_eq!(profiles[0].busy_ns, None);
    // 100 jiffies in 400 ms are 250 Hz.
    assert_eq!(profiles[1].busy_ns, Some(64 * MS));
    assert_eq!(profiles[1].receive_window_limited_ns, Some(20 * MS));
}

#[test]
fn a_look_tells_the_whole_and_leaves_the_windows_as_they_are() {
    let mut profiler = profiler();
    profiler.handle(&established(100, 90));
    let mut timeout = event(EventKind::ActiveTimeout, 200);
    (timeout.sequence, timeout.bytes_sent) = (1, 1000);
    profiler.handle(&timeout);
    let mut look = event(EventKind::Look, 250);
    (look.syn_at, look.bytes_sent, look.sequence) = (90 * MS, 1500, 2);
    profiler.handle(&look);
    let total = profiler.total(&look);
    assert_eq!(total.bytes_sent, 1500);
    assert_eq!(
        (total.start, total.end),
        (WallTime(90 * MS), WallTime(250 * MS))
    );
    assert_eq!((total.phase, total.end_reason), (FlowPhase::Open, None));
    let mut end = closed(300, state::FIN_WAIT2);
    (end.sequence, end.bytes_sent) = (2, 1600);
    profiler.handle(&end);
    let sent: Vec<_> = core::iter::from_fn(|| profiler.poll_profile())
        .map(|profile| (profile.event, profile.bytes_sent))
        .collect();
    assert_eq!(
        sent,
        [
            (E::Established, 0),
            (E::ActiveTimeout, 1000),
            (E::Ended, 600)
        ]
    );
    assert_eq!(profiler.total(&end).bytes_sent, 1600);
    assert_eq!(profiler.unknown(), 0);
}

#[test]
fn a_look_at_what_is_opening_says_so() {
    let mut look = event(EventKind::Look, 250);
    (look.old_state, look.syn_at, look.total_retrans) = (state::SYN_SENT, 90 * MS, 2);
    let mut profiler = profiler();
    profiler.handle(&look);
    assert_eq!(profiler.poll_profile(), None);
    let total = profiler.total(&look);
    assert_eq!(
        (total.state, total.phase),
        (FlowState::New, FlowPhase::Establishing)
    );
    assert_eq!(total.syn_retransmitted, Some(2));
}

#[test]
fn a_connection_that_two_sweeps_do_not_find_is_forgotten_and_a_younger_one_is_not() {
    let mut profiler = profiler();
    for (cookie, at) in [(1, 10), (2, 10), (3, 50)] {
        let mut event = established(at, at);
        event.cookie = cookie;
        profiler.handle(&event);
    }
    let there = BTreeSet::from([1]);
    // The third began after the look did.
    profiler.sweep(&there, 40 * MS);
    assert_eq!((profiler.len(), profiler.ends_lost()), (3, 0));
    // Found again: it had only been skipped.
    profiler.sweep(&BTreeSet::from([1, 2, 3]), 60 * MS);
    profiler.sweep(&there, 70 * MS);
    assert_eq!((profiler.len(), profiler.ends_lost()), (3, 0));
    profiler.sweep(&there, 80 * MS);
    assert_eq!((profiler.len(), profiler.ends_lost()), (1, 2));
}

#[test]
fn the_end_of_a_multipath_connections_data_is_no_payload() {
    for (sent, acked) in [(1000, 1001), (1000, 1000), (1000, 400), (0, 1)] {
        let mut end = closed(150, state::FIN_WAIT2);
        end.flags |= flag::META;
        (end.bytes_sent, end.bytes_acked) = (sent, acked);
        let profiles = run(&[end]);
        assert_eq!(profiles[0].bytes_acked, Some(acked.min(sent)));
    }
}
