use core::net::Ipv4Addr;

use super::*;
use crate::output::fixtures;

const TTL_OF_DESTINATION: u8 = 3;

fn hop(ttl: u8, router: u8, rtt: u64) -> Hop {
    Hop {
        ttl,
        addr: Some(Ipv4Addr::new(5, 0, router, router).into()),
        rtt_ns: Some(rtt),
        attempt: 1,
        ..Hop::default()
    }
}

fn silent(ttl: u8) -> Hop {
    Hop {
        ttl,
        attempt: 1,
        ..Hop::default()
    }
}

fn trace(hops: &[Hop], stop_reason: StopReason) -> Trace {
    Trace {
        hops: hops.to_vec(),
        tunnels: Vec::new(),
        stop_reason,
        ..fixtures::plain()
    }
}

fn target() -> Target {
    let trace = fixtures::plain();
    Target::new("t".into(), trace.src, trace.dst, Method::IcmpParis, 1)
}

/// One round whose hops come in this order, before its record.
fn round(target: &mut Target, kind: Kind, trace: &Trace, order: &[usize]) {
    let now = Instant::from_millis(target.begun() * 1000);
    target.start_round(kind, now);
    for index in order {
        target.handle_hop(kind, &trace.hops[*index], now);
    }
    target.handle_trace(kind, trace, now);
}

fn plain(target: &mut Target, hops: &[Hop], stop_reason: StopReason) {
    round(target, Kind::Plain, &trace(hops, stop_reason), &[]);
}

fn reached(target: &mut Target, rtts: [Option<u64>; 3]) {
    let hops: Vec<Hop> = rtts
        .iter()
        .zip([1, 2, 9])
        .zip(1..)
        .map(|((rtt, router), ttl)| match rtt {
            Some(rtt) => hop(ttl, router, *rtt),
            None => silent(ttl),
        })
        .collect();
    plain(target, &hops, StopReason::Completed);
}

#[test]
fn losses_and_jitter_are_counted_per_hop() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    reached(&mut t, [Some(14), None, Some(30)]);
    reached(&mut t, [Some(12), Some(50), Some(30)]);
    let statistics = |ttl| t.hop(ttl).unwrap().statistics().clone();
    assert_eq!((statistics(1).sent(), statistics(1).received()), (3, 3));
    assert_eq!(statistics(1).jitter_mean(), Some(3));
    assert_eq!((statistics(2).sent(), statistics(2).received()), (3, 2));
    assert_eq!(statistics(2).jitter_mean(), Some(30));
    assert_eq!(statistics(3).jitter_mean(), Some(0));
    assert_eq!((t.rounds(), t.reached()), (3, true));
}

#[test]
fn a_hop_that_is_reported_and_recorded_counts_once() {
    let mut t = target();
    let record = trace(
        &[hop(1, 1, 10), hop(2, 2, 20), hop(3, 9, 30)],
        StopReason::Completed,
    );
    round(&mut t, Kind::Plain, &record, &[2, 0, 0]);
    assert!(t.hops().all(|hop| hop.statistics().sent() == 1));
}

#[test]
fn every_attempt_of_a_check_is_a_probe() {
    let mut t = target();
    let mut second = hop(2, 2, 20);
    second.attempt = 3;
    let mut none = silent(3);
    none.attempt = 2;
    let hops = [hop(1, 1, 10), second, none, hop(4, 9, 9)];
    round(
        &mut t,
        Kind::Check,
        &trace(&hops, StopReason::Completed),
        &[],
    );
    let counts = |ttl| {
        let s = t.hop(ttl).unwrap().statistics();
        (s.sent(), s.received())
    };
    assert_eq!((counts(1), counts(2), counts(3)), ((1, 1), (3, 1), (2, 0)));
}

#[test]
fn hops_wait_for_replies_that_were_overtaken_and_then_are_silent() {
    let mut t = target();
    t.start_round(Kind::Plain, Instant::ZERO);
    t.handle_hop(Kind::Plain, &hop(3, 3, 30), Instant::ZERO);
    let status = |t: &Target, ttl| t.status(t.hop(ttl).unwrap());
    assert_eq!(status(&t, 1), HopStatus::Awaiting);
    assert_eq!(status(&t, 3), HopStatus::Answering);
    let hops = [hop(1, 1, 10), silent(2), hop(3, 3, 30), hop(4, 9, 40)];
    t.handle_trace(
        Kind::Plain,
        &trace(&hops, StopReason::Completed),
        Instant::ZERO,
    );
    assert_eq!(status(&t, 1), HopStatus::Answering);
    assert_eq!(status(&t, 2), HopStatus::Silent);
}

#[test]
fn probes_beyond_the_destination_leave_no_trace() {
    let mut t = target();
    let now = Instant::ZERO;
    t.start_round(Kind::Plain, now);
    for (ttl, router) in [(5, 9), (4, 9), (3, 9), (1, 1), (2, 2)] {
        t.handle_hop(Kind::Plain, &hop(ttl, router, 10), now);
    }
    // Even before the record tells, nothing is shown behind the destination.
    assert_eq!(t.hops().last().unwrap().ttl(), TTL_OF_DESTINATION);
    let hops = [hop(1, 1, 10), hop(2, 2, 10), hop(3, 9, 10)];
    t.handle_trace(Kind::Plain, &trace(&hops, StopReason::Completed), now);
    assert_eq!(t.hops().count(), 3);
    t.start_round(Kind::Plain, now);
    t.handle_hop(Kind::Plain, &hop(4, 9, 10), now);
    assert_eq!(t.hops().count(), 3);
}

#[test]
fn a_lost_answer_of_the_destination_is_a_loss_and_not_a_longer_path() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    let lost = [
        hop(1, 1, 10),
        hop(2, 2, 20),
        silent(3),
        silent(4),
        silent(5),
    ];
    plain(&mut t, &lost, StopReason::GapLimit);
    assert_eq!(t.hops().count(), 3);
    let s = t.hop(TTL_OF_DESTINATION).unwrap().statistics();
    assert_eq!((s.sent(), s.lost()), (2, 1));
    assert_eq!(t.known_length(), Some(TTL_OF_DESTINATION));
    assert_eq!(t.changes().len(), 0);
}

#[test]
fn a_destination_that_stays_silent_is_looked_for_further_away_and_noted() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    let lost = [hop(1, 1, 10), hop(2, 2, 20), silent(3)];
    for _ in 0..3 {
        plain(&mut t, &lost, StopReason::HopLimit);
    }
    assert_eq!(t.known_length(), None);
    assert_eq!(t.hops().count(), 3);
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    let what: Vec<&What> = t.changes().map(|change| &change.what).collect();
    assert_eq!(what, [&What::DestinationLost, &What::DestinationBack]);
    assert_eq!(t.known_length(), Some(3));
}

#[test]
fn a_path_that_becomes_longer_is_followed_at_once() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    let longer = [hop(1, 1, 10), hop(2, 2, 20), hop(3, 3, 30)];
    plain(&mut t, &longer, StopReason::HopLimit);
    assert_eq!(t.known_length(), None);
    let whole = [hop(1, 1, 10), hop(2, 2, 20), hop(3, 3, 30), hop(4, 9, 40)];
    plain(&mut t, &whole, StopReason::Completed);
    assert_eq!(t.hops().count(), 4);
    assert_eq!(t.known_length(), Some(4));
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    assert_eq!(t.hops().count(), 3);
}

#[test]
fn another_address_is_a_change_and_both_are_remembered() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    assert!(!t.take_new_path());
    let other = [hop(1, 1, 10), hop(2, 4, 20), hop(3, 9, 30)];
    plain(&mut t, &other, StopReason::Completed);
    assert!(t.take_new_path());
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    assert!(!t.take_new_path(), "only what was never seen is new");
    let second = t.hop(2).unwrap();
    assert_eq!(second.changes(), 2);
    let seen: Vec<(u64, u64)> = second
        .addresses()
        .iter()
        .map(|seen| (seen.received, seen.last_round))
        .collect();
    assert_eq!(seen, [(2, 3), (1, 2)]);
    let rounds: Vec<u64> = t.changes().map(|change| change.round).collect();
    assert_eq!(rounds, [2, 3]);
}

#[test]
fn addresses_and_changes_are_bounded() {
    let mut t = target();
    for router in (1..=200).chain(1..=200) {
        let hops = [hop(1, router, 10), hop(2, 2, 20)];
        plain(&mut t, &hops, StopReason::HopLimit);
    }
    assert_eq!(t.hop(1).unwrap().addresses().len(), 16);
    assert_eq!(t.changes().len(), MAX_CHANGES);
}

#[test]
fn silence_behind_the_last_answer_is_one_line() {
    let mut t = target();
    let record = fixtures::silent_hops();
    round(&mut t, Kind::Plain, &record, &[6, 0, 3]);
    assert_eq!(t.hops().count(), 3);
    assert_eq!(t.status(t.hop(3).unwrap()), HopStatus::Silent);
    assert!(!t.reached());
}

#[test]
fn a_loop_is_shown_at_the_hop_that_closes_it() {
    let mut t = target();
    round(&mut t, Kind::Plain, &fixtures::looping(), &[]);
    assert_eq!(t.status(t.hop(1).unwrap()), HopStatus::Answering);
    assert_eq!(t.status(t.hop(3).unwrap()), HopStatus::Loop);
}

#[test]
fn a_tunnel_appears_stays_through_plain_rounds_and_disappears() {
    let mut t = target();
    let with = fixtures::php();
    let mut without = fixtures::php();
    without.tunnels.clear();
    for hop in &mut without.hops {
        hop.tunnel = None;
        hop.vendor.clear();
        hop.echo_reply_ttl = None;
        hop.frpla = None;
        hop.uturn = None;
    }
    round(&mut t, Kind::Check, &without, &[]);
    assert_eq!(t.tunnels().len(), 0);
    round(&mut t, Kind::Check, &with, &[]);
    round(&mut t, Kind::Plain, &without, &[]);
    assert_eq!(t.tunnels().len(), 1);
    assert_eq!(t.tunnels()[0].evidence, "FRPLA 3");
    assert_eq!(t.tunnels()[0].since_round, 2);
    let signature = t.hop(3).unwrap().signature().unwrap();
    assert_eq!(signature.frpla, Some(3), "a plain round forgets nothing");
    round(&mut t, Kind::Check, &with, &[]);
    assert_eq!(t.tunnels()[0].since_round, 2);
    assert_eq!(t.tunnels()[0].confirmed_round, 4);
    round(&mut t, Kind::Check, &without, &[]);
    assert_eq!(t.tunnels().len(), 0);
    let what: Vec<(u64, bool)> = t
        .changes()
        .map(|c| (c.round, matches!(c.what, What::TunnelAppeared(_))))
        .collect();
    assert_eq!(what, [(2, true), (5, false)]);
}

#[test]
fn what_the_first_check_finds_is_no_news() {
    let mut t = target();
    round(&mut t, Kind::Check, &fixtures::php(), &[]);
    assert_eq!((t.tunnels().len(), t.changes().len()), (1, 0));
}

#[test]
fn a_failed_revelation_does_not_take_the_routers_away() {
    let mut t = target();
    round(&mut t, Kind::Check, &fixtures::php(), &[]);
    let mut failed = fixtures::php();
    failed.tunnels[0].lsrs.clear();
    failed.tunnels[0].complete = false;
    failed.tunnels[0].revelation = plumb_record::Revelation::TargetSilent;
    round(&mut t, Kind::Check, &failed, &[]);
    assert_eq!(t.tunnels()[0].tunnel.lsrs.len(), 3);
    assert_eq!(t.tunnels()[0].confirmed_round, 1);
}

#[test]
fn a_check_that_did_not_get_that_far_proves_nothing() {
    let mut t = target();
    round(&mut t, Kind::Check, &fixtures::php(), &[]);
    let mut short = fixtures::php();
    short.hops.truncate(2);
    short.tunnels.clear();
    short.stop_reason = StopReason::GapLimit;
    round(&mut t, Kind::Check, &short, &[]);
    assert_eq!((t.tunnels().len(), t.changes().len()), (1, 0));
}

#[test]
fn a_tunnel_is_stale_once_its_path_has_changed() {
    let mut t = target();
    round(&mut t, Kind::Check, &fixtures::php(), &[]);
    assert!(!t.is_stale(&t.tunnels()[0]));
    let mut moved = fixtures::php();
    moved.tunnels.clear();
    moved.hops[2].addr = Some(Ipv4Addr::new(5, 0, 77, 77).into());
    round(&mut t, Kind::Plain, &moved, &[]);
    assert!(t.is_stale(&t.tunnels()[0]));
}

#[test]
fn a_reset_forgets_figures_but_neither_path_nor_tunnels() {
    let mut t = target();
    round(&mut t, Kind::Check, &fixtures::php(), &[]);
    t.reset();
    assert_eq!((t.rounds(), t.tunnels().len()), (0, 1));
    assert_eq!(t.hops().count(), 5);
    assert!(t.hops().all(|hop| hop.statistics().sent() == 0));
    assert!(t.hops().all(|hop| t.status(hop) == HopStatus::Answering));
    assert_eq!(t.known_length(), Some(5));
}

#[test]
fn an_interrupted_round_counts_for_nothing() {
    let mut t = target();
    reached(&mut t, [Some(10), Some(20), Some(30)]);
    plain(&mut t, &[silent(1)], StopReason::Interrupted);
    assert_eq!(t.rounds(), 1);
    assert_eq!(t.hop(1).unwrap().statistics().sent(), 1);
}

#[test]
fn plain_rounds_go_on_during_a_check() {
    let mut t = target();
    let now = Instant::ZERO;
    let record = fixtures::php();
    t.start_round(Kind::Check, now);
    t.handle_hop(Kind::Check, &record.hops[0], now);
    let mut quick = record.clone();
    quick.tunnels.clear();
    round(&mut t, Kind::Plain, &quick, &[0, 1, 2]);
    round(&mut t, Kind::Plain, &quick, &[]);
    assert!(t.is_under_way(Kind::Check));
    t.handle_trace(Kind::Check, &record, now);
    assert_eq!(t.rounds(), 3);
    assert!(t.hops().all(|hop| hop.statistics().sent() == 3));
    assert_eq!(t.tunnels()[0].since_round, 1);
}
