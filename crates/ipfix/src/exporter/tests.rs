use alloc::string::ToString;
use core::net::SocketAddr;

use plumb_record::{DnsTransport, DnsType, FlowMptcp, FlowProtocol, FlowSchema};
use proptest::prelude::*;

use super::*;
use crate::table::{Column, columns};
use crate::{Collector, CollectorLimits, Header, Profiles, Value};

fn profile(id: u64) -> FlowProfile {
    let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut profile = FlowProfile::new(
        id,
        FlowProtocol::Tcp,
        socket("192.0.2.1:443"),
        socket("198.51.100.7:50000"),
    );
    profile.start = WallTime(1_800_000_000_123_456_789);
    profile.end = WallTime(1_800_000_001_123_456_789);
    profile.packets_sent = Some(5);
    profile.packets_received = Some(4);
    profile.bytes_sent = 1000;
    profile
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

const WALL: WallTime = WallTime(1_800_000_000_000_000_000);

/// A session: whatever the exporter sends is read at the other end.
struct Peer {
    exporter: Exporter,
    collector: Collector,
    messages: Vec<Vec<u8>>,
    profiles: Vec<FlowProfile>,
    max_message_len: usize,
}

impl Peer {
    fn new(transport: Transport) -> Self {
        Self::with(ExporterConfig {
            transport,
            ..ExporterConfig::default()
        })
    }

    fn with(config: ExporterConfig) -> Self {
        Self {
            exporter: Exporter::new(config),
            collector: Collector::new(CollectorLimits::default()),
            messages: Vec::new(),
            profiles: Vec::new(),
            max_message_len: MIN_MESSAGE_LEN,
        }
    }

    fn connect(&mut self, now: Instant) {
        assert!(self.exporter.poll_connect(now));
        self.exporter.connected(now, self.max_message_len);
        self.collector = Collector::new(CollectorLimits::default());
    }

    /// Lets all that is due through.
    fn run(&mut self, now: Instant) {
        let reader = Profiles::new(DOCUMENTATION_ENTERPRISE);
        while let Some(message) = self.exporter.poll_transmit(now, WALL) {
            let message = message.to_vec();
            let profiles = &mut self.profiles;
            self.collector
                .read(&message, |record| profiles.extend(reader.flow(record)))
                .unwrap();
            self.messages.push(message);
            self.exporter.transmitted();
        }
    }
}

#[test]
fn a_record_waits_for_others_and_not_longer_than_it_may() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    peer.run(at(0));
    peer.exporter.take(&profile(1), at(10));
    peer.run(at(500));
    assert!(peer.profiles.is_empty());
    assert_eq!(peer.exporter.poll_timeout(), Some(at(1000)));
    peer.run(at(1000));
    assert!(
        peer.profiles.is_empty(),
        "the refresh takes no records along"
    );
    assert_eq!(peer.exporter.poll_timeout(), Some(at(1010)));
    peer.run(at(1010));
    assert_eq!(peer.profiles, [profile(1)]);
}

#[test]
fn a_full_message_leaves_at_once_and_none_is_longer_than_allowed() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    peer.run(at(0));
    for id in 0..1000 {
        peer.exporter.take(&profile(id), at(1));
        peer.run(at(1));
    }
    assert!(peer.profiles.len() > 980, "{}", peer.profiles.len());
    assert!(
        peer.messages
            .iter()
            .all(|message| message.len() <= MIN_MESSAGE_LEN)
    );
    peer.exporter.finish();
    peer.run(at(1));
    assert!(peer.exporter.is_drained());
    assert_eq!(peer.profiles.len(), 1000);
    assert!(
        (0..1000)
            .zip(&peer.profiles)
            .all(|(id, found)| *found == profile(id))
    );
    assert_eq!(peer.collector.statistics().sequence_errors, 0);
    assert_eq!(peer.exporter.statistics().records, 1000);
}

#[test]
fn a_collector_that_comes_late_learns_the_templates_from_the_refresh() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    peer.exporter.take(&profile(1), at(0));
    peer.run(at(1000));
    assert_eq!(peer.profiles.len(), 1);
    peer.collector = Collector::new(CollectorLimits::default());
    peer.exporter.take(&profile(2), at(62_000));
    peer.run(at(63_000));
    assert_eq!(peer.profiles.len(), 2);
    assert!(peer.collector.learned().count() > 50);
}

#[test]
fn so_many_messages_bring_the_templates_again() {
    let config = ExporterConfig {
        refresh_after_messages: 10,
        ..ExporterConfig::default()
    };
    let mut peer = Peer::with(config);
    peer.connect(at(0));
    peer.run(at(0));
    peer.collector = Collector::new(CollectorLimits::default());
    for id in 0..100 {
        peer.exporter.take(&profile(id), at(1));
        peer.run(at(1));
    }
    assert!(peer.collector.learned().count() > 50);
}

#[test]
fn what_a_broken_stream_did_not_take_comes_in_the_next_session_with_number_0() {
    let mut peer = Peer::new(Transport::Stream);
    peer.connect(at(0));
    peer.exporter.take(&profile(1), at(0));
    peer.run(at(1000));
    peer.exporter.take(&profile(2), at(1000));
    assert!(peer.exporter.poll_transmit(at(2000), WALL).is_some());
    peer.exporter.failed(at(2000));
    peer.exporter.take(&profile(3), at(2100));
    assert!(!peer.exporter.poll_connect(at(2499)));
    assert_eq!(peer.exporter.poll_timeout(), Some(at(2500)));
    peer.messages.clear();
    peer.connect(at(2500));
    peer.run(at(3600));
    assert_eq!(peer.profiles, [profile(1), profile(2), profile(3)]);
    assert_eq!(Header::parse(&peer.messages[0]).unwrap().0.sequence, 0);
    assert_eq!(peer.collector.statistics().sequence_errors, 0);
    assert_eq!(peer.exporter.statistics().sessions, 2);
}

#[test]
fn numbers_of_datagrams_go_on_over_a_failure() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    peer.exporter.take(&profile(1), at(0));
    peer.run(at(1000));
    let collector = core::mem::replace(
        &mut peer.collector,
        Collector::new(CollectorLimits::default()),
    );
    peer.exporter.take(&profile(2), at(1000));
    assert!(peer.exporter.poll_transmit(at(2000), WALL).is_some());
    peer.exporter.failed(at(2000));
    peer.connect(at(2500));
    peer.collector = collector;
    peer.run(at(2500));
    assert_eq!(peer.profiles, [profile(1), profile(2)]);
    assert_eq!(peer.collector.statistics().sequence_errors, 0);
}

#[test]
fn attempts_become_rarer_until_one_works() {
    let mut exporter = Exporter::new(ExporterConfig::default());
    let mut waits = Vec::new();
    let mut now = Instant::ZERO;
    for _ in 0..9 {
        assert!(exporter.poll_connect(now));
        assert!(!exporter.poll_connect(now));
        assert_eq!(exporter.poll_timeout(), None);
        exporter.failed(now);
        let next = exporter.poll_timeout().unwrap();
        waits.push(next.since(now).as_millis());
        now = next;
    }
    assert_eq!(
        waits,
        [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
    );
    assert!(exporter.poll_connect(now));
    exporter.connected(now, MIN_MESSAGE_LEN);
    assert!(exporter.poll_transmit(now, WALL).is_some());
    exporter.transmitted();
    exporter.failed(now);
    let next = exporter.poll_timeout().unwrap();
    assert_eq!(next.since(now).as_millis(), 500);
}

#[test]
fn a_queue_that_is_full_drops_the_oldest_and_says_so_to_the_collector() {
    let config = ExporterConfig {
        queue_bytes: 4000,
        ..ExporterConfig::default()
    };
    let mut peer = Peer::with(config);
    for id in 0..100 {
        peer.exporter.take(&profile(id), at(0));
    }
    let statistics = peer.exporter.statistics();
    assert_eq!(statistics.queue_full + statistics.queued, 100);
    assert!(statistics.queue_full > 50);
    peer.exporter.not_recorded(7);
    peer.connect(at(10));
    let mut said = Vec::new();
    while let Some(message) = peer.exporter.poll_transmit(at(2000), WALL) {
        peer.collector
            .read(message, |record| {
                for (name, _, value) in record.fields() {
                    if name.starts_with("notSent") {
                        let Value::Unsigned(n) = value else {
                            panic!("{value:?}");
                        };
                        said.push((name.to_string(), n));
                    }
                }
            })
            .unwrap();
        peer.exporter.transmitted();
    }
    let dropped = statistics.queue_full;
    let expected = [
        ("notSentFlowTotalCount", dropped + 7),
        ("notSentPacketTotalCount", 9 * dropped),
        ("notSentOctetTotalCount", 1000 * dropped),
    ];
    for ((name, value), (expected_name, expected)) in said.iter().zip(expected) {
        assert_eq!((name.as_str(), *value), (expected_name, expected));
    }
    assert_eq!(said.len(), 3);
}

#[test]
fn a_record_that_no_message_can_hold_loses_its_words_first() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    let mut long = profile(1);
    long.cgroup = Some("/x".repeat(3000));
    peer.exporter.take(&long, at(0));
    peer.exporter.finish();
    peer.run(at(0));
    assert_eq!(peer.profiles, [profile(1)]);
}

#[test]
fn a_record_that_came_when_messages_could_be_longer_is_dropped_and_counted() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.max_message_len = 9000;
    peer.connect(at(0));
    let mut long = profile(1);
    long.cgroup = Some("/x".repeat(3000));
    peer.exporter.take(&long, at(0));
    peer.exporter.take(&profile(2), at(0));
    peer.exporter.failed(at(0));
    peer.max_message_len = MIN_MESSAGE_LEN;
    peer.connect(at(500));
    peer.run(at(2000));
    assert_eq!(peer.profiles, [profile(2)]);
    assert_eq!(peer.exporter.statistics().too_long, 1);
}

#[test]
fn a_value_beyond_its_short_length_is_sent_in_full() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    let mut large = profile(1);
    large.packets_sent = Some(u64::MAX);
    large.rtt_ns = Some(1 << 40);
    peer.exporter.take(&large, at(0));
    peer.exporter.take(&profile(2), at(0));
    peer.exporter.finish();
    peer.run(at(0));
    assert_eq!(peer.profiles, [large, profile(2)]);
}

#[test]
fn the_number_of_templates_is_bounded_and_only_columns_are_lost() {
    let mut peer = Peer::with(ExporterConfig {
        transport: Transport::Stream,
        ..ExporterConfig::default()
    });
    peer.max_message_len = 65_535;
    peer.connect(at(0));
    peer.exporter.take(&profile(0), at(0));
    for n in 0..1024_u32 {
        let bit = |at: u32| (n >> at & 1 == 1).then_some(7);
        let mut profile = profile(n.into());
        profile.syn_retransmitted = bit(0);
        profile.rtos = bit(1);
        profile.fast_recoveries = bit(2);
        profile.reorderings = bit(3);
        profile.zero_windows = bit(4);
        profile.resets_sent = bit(5);
        profile.mss_bytes = bit(6);
        profile.pid = bit(7);
        profile.netns = bit(8);
        profile.path_mtu_bytes = bit(9);
        peer.exporter.take(&profile, at(0));
    }
    peer.exporter.finish();
    peer.run(at(0));
    assert_eq!(peer.profiles.len(), 1025);
    assert_eq!(peer.exporter.layouts.len(), 256);
    for (found, n) in peer.profiles[1..].iter().zip(0..1024_u64) {
        assert_eq!(found.flow_id, n);
        assert!(found.rtos.is_none_or(|rtos| rtos == 7 && n >> 1 & 1 == 1));
    }
}

#[test]
fn a_lookup_comes_back_as_it_went() {
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    let lookup = DnsProfile {
        schema: FlowSchema::V1,
        kind: DnsType::Dns,
        flow_id: Some(9),
        transport: DnsTransport::Udp,
        local_addr: "2001:db8::1".parse().unwrap(),
        local_port: 40_000,
        remote_addr: "2001:db8::53".parse().unwrap(),
        remote_port: 53,
        pid: Some(77),
        process: Some("resolver".into()),
        cgroup_id: None,
        cgroup: None,
        netns: None,
        start: WallTime(1_800_000_000_000_000_001),
        end: WallTime(1_800_000_000_020_000_001),
        name: "www.example.net".into(),
        query_type: 28,
        queries: 2,
        resolution_ns: Some(20_000_000),
        response_code: Some(0),
        answers: Some(1),
        truncated: Some(false),
    };
    peer.exporter.take_lookup(&lookup, at(0));
    peer.exporter.finish();
    let reader = Profiles::new(DOCUMENTATION_ENTERPRISE);
    let mut found = Vec::new();
    while let Some(message) = peer.exporter.poll_transmit(at(0), WALL) {
        peer.collector
            .read(message, |record| {
                assert!(reader.flow(record).is_none());
                found.extend(reader.lookup(record));
            })
            .unwrap();
        peer.exporter.transmitted();
    }
    assert_eq!(found, [lookup]);
}

/// A profile with any values, set through the table.
fn any_profile() -> impl Strategy<Value = FlowProfile> {
    let count = columns(FLOW).count();
    let numbers = prop::collection::vec((any::<bool>(), any::<u64>(), 0_u32..64), count);
    (numbers, "[a-zé/]{0,40}", any::<bool>()).prop_map(|(numbers, text, v6)| {
        let mut profile = profile(1);
        if v6 {
            profile.local_addr = "2001:db8::1".parse().unwrap();
            profile.remote_addr = "2001:db8::2".parse().unwrap();
        }
        for (column, (set, number, shift)) in columns(FLOW).zip(numbers) {
            if set {
                set_any(column, &mut profile, number >> shift, &text);
            }
        }
        if let Some(mptcp) = &mut profile.mptcp {
            mptcp.token |= 1;
        }
        profile
    })
}

fn set_any(column: &Column<FlowProfile>, profile: &mut FlowProfile, number: u64, text: &str) {
    use crate::DataType as T;
    let kind = column.element.kind;
    // Addresses stay of one family, and times within what NTP can say.
    if matches!(kind, T::Ipv4Address | T::Ipv6Address) {
        return;
    }
    let value = if kind == T::String {
        Value::Text(text)
    } else if kind == T::Boolean {
        Value::Boolean(number & 1 == 1)
    } else if kind == T::DateTimeNanoseconds {
        Value::Time(number % 4_200_000_000_000_000_000)
    } else {
        Value::Unsigned(number)
    };
    (column.set)(profile, value);
}

proptest! {
    #[test]
    fn any_profiles_come_back_as_they_went(
        wanted in prop::collection::vec(any_profile(), 1..20),
        stream: bool,
    ) {
        let transport = if stream { Transport::Stream } else { Transport::Datagrams };
        let mut peer = Peer::new(transport);
        peer.connect(at(0));
        for profile in &wanted {
            peer.exporter.take(profile, at(0));
        }
        peer.exporter.finish();
        peer.run(at(0));
        prop_assert!(peer.exporter.is_drained());
        prop_assert_eq!(peer.collector.statistics().sequence_errors, 0);
        prop_assert_eq!(&peer.profiles, &wanted);
        prop_assert!(peer.messages.iter().all(|message| message.len() <= MIN_MESSAGE_LEN));
    }
}

#[test]
fn a_profile_of_every_field_fits_into_the_smallest_message() {
    let mut full = profile(1);
    full.mptcp = Some(FlowMptcp::default());
    for column in columns(FLOW) {
        set_any(column, &mut full, u64::MAX, "cubic");
        set_any(column, &mut full, 200, "cubic");
    }
    let mut peer = Peer::new(Transport::Datagrams);
    peer.connect(at(0));
    peer.exporter.take(&full, at(0));
    peer.exporter.finish();
    peer.run(at(0));
    assert_eq!(peer.profiles, [full]);
}
