//! Both ends of the channel, byte by byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use plumb_channel::{
    Configure, Fault, Guest, Host, INBOX, Limits, News, Options, Order, Ready, Refusal,
};
use plumb_probe::{
    Config, Engine, Event, Headers, Job, Ping, PingOptions, Refused, Reveal, Stats, Trace,
    TraceOptions, TunnelOptions,
};
use plumb_record::Method;
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant};
use proptest::prelude::*;

const NOW: Instant = Instant::from_millis(1000);

fn configure(session: u64) -> Configure {
    Configure {
        session,
        engine: Config::default(),
        seed: 7,
        packets: true,
    }
}

fn host(session: u64) -> Host {
    Host::new(&configure(session), Limits::default(), NOW)
}

fn ready(session: u64) -> Ready {
    Ready {
        session,
        time: Instant::from_millis(5),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        window: 100,
        addresses: vec![([10, 0, 0, 2].into(), 24), ("fd00::2".parse().unwrap(), 64)],
    }
}

fn trace_job(dst: IpAddr, options: TraceOptions) -> Job {
    Job::Trace(Trace {
        src: [5, 0, 1, 1].into(),
        dst,
        options: Arc::new(options),
    })
}

fn ping_job(count: u32) -> Job {
    Job::Ping(Ping {
        src: [5, 0, 1, 1].into(),
        dst: [5, 0, 8, 2].into(),
        options: Arc::new(PingOptions {
            count: Some(count),
            ..PingOptions::default()
        }),
    })
}

/// Moves what the host has to say to the guest, and returns the orders.
fn to_guest(host: &mut Host, guest: &mut Guest) -> Vec<Order> {
    let mut orders = Vec::new();
    while !host.transmit().is_empty() {
        let len = host.transmit().len().min(Guest::CHUNK);
        guest.handle_bytes(&host.transmit()[..len]);
        host.handle_sent(len);
        while let Some(order) = guest.poll_order().unwrap() {
            orders.push(order);
        }
    }
    orders
}

/// All that the guest has to say, as if there were room for anything.
fn says(guest: &mut Guest) -> Vec<u8> {
    let bytes = u64::MAX;
    guest.handle_bytes(&Order::Received { bytes }.frame());
    assert!(matches!(guest.poll_order(), Ok(None)));
    let mut all = Vec::new();
    while !guest.transmit().is_empty() {
        let bytes = guest.transmit();
        all.extend_from_slice(bytes);
        let len = bytes.len();
        guest.handle_sent(len);
    }
    all
}

/// Moves what the guest has to say to the host, and returns the news.
fn to_host(guest: &mut Guest, host: &mut Host) -> Result<Vec<News>, Fault> {
    let bytes = says(guest);
    host.handle_bytes(&bytes, NOW)?;
    Ok(core::iter::from_fn(|| host.poll_news()).collect())
}

/// A session that has begun.
fn begun() -> (Host, Guest) {
    let (mut host, mut guest) = (host(1), Guest::default());
    to_guest(&mut host, &mut guest);
    guest.ready(ready(1));
    to_host(&mut guest, &mut host).unwrap();
    (host, guest)
}

/// What the engine finds in a lab.
fn events(lab: &str, job: Job) -> Vec<Event> {
    let lab = labs().iter().find(|l| l.name == lab).unwrap();
    let mut network = Network::new(&Topology::from_toml(lab.toml).unwrap(), 1);
    let mut engine = Engine::new(Config::default(), 1);
    let mut now = NOW;
    engine.start(job, now).unwrap();
    let mut events = Vec::new();
    let mut buffer = [0; 2048];
    while engine.active() > 0 {
        network.handle_timeout(now);
        while let Some(t) = network.poll_transmit(now, &mut buffer) {
            engine.handle_packet(now, &buffer[..t.len]);
        }
        engine.handle_timeout(now);
        while let Some(t) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(t.probe, now);
            network.handle_packet(now, &buffer[..t.len]);
        }
        events.extend(core::iter::from_fn(|| engine.poll_event()));
        let next = [network.poll_timeout(), engine.poll_timeout()];
        now = now.max(next.into_iter().flatten().min().unwrap_or(now));
    }
    events
}

#[test]
fn a_session_carries_jobs_there_and_equal_records_back_and_loses_nothing() {
    let options = TraceOptions {
        report_hops: true,
        ..TraceOptions::default()
    };
    let job = trace_job([5, 0, 18, 2].into(), options);
    let events = events("mixed", job.clone());
    assert!(events.len() > 5);
    let (mut host, mut guest) = begun();
    let id = host.start(&job).unwrap();
    let orders = to_guest(&mut host, &mut guest);
    let Order::Options { number: 0, options } = &orders[0] else {
        panic!("{orders:?}");
    };
    let Order::Start {
        token,
        src,
        dst,
        options: 0,
    } = orders[1]
    else {
        panic!("{orders:?}");
    };
    assert_eq!(
        format!("{:?}", options.job(src, dst)),
        format!("{job:?}"),
        "the guest starts the very same job"
    );
    host.finish();
    assert!(matches!(
        to_guest(&mut host, &mut guest)[..],
        [Order::Finish]
    ));
    for event in &events {
        guest.event(token, event, Instant::from_millis(6));
    }
    guest.finished();
    assert!(!guest.is_acknowledged());
    let news = to_host(&mut guest, &mut host).unwrap();
    assert_eq!(host.active(), 0);
    for (event, news) in events.iter().zip(&news) {
        match (event, news) {
            (Event::Hop { hop, .. }, News::Event(Event::Hop { job, hop: came })) => {
                assert_eq!((hop, *job), (came, id));
            }
            (
                Event::Trace { trace, .. },
                News::Event(Event::Trace {
                    job, trace: came, ..
                }),
            ) => {
                assert_eq!((trace, *job), (came, id));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(news.last(), Some(News::Finished)));
    assert!(!guest.is_acknowledged());
    assert!(to_guest(&mut host, &mut guest).is_empty());
    assert!(guest.is_acknowledged());
}

#[test]
fn what_another_session_has_left_is_passed_over() {
    let mut guest = Guest::default();
    let mut gone = host(1);
    to_guest(&mut gone, &mut guest);
    guest.ready(ready(1));
    guest.refused(1, Refusal::Stopped);
    guest.text("of the first");
    let mut host = host(2);
    to_guest(&mut host, &mut guest);
    guest.ready(ready(2));
    guest.text("of the second");
    let news = to_host(&mut guest, &mut host).unwrap();
    assert!(
        matches!(&news[..], [News::Ready(_), News::Text(text)] if text == "of the second"),
        "{news:?}"
    );
}

#[test]
fn no_more_jobs_are_sent_than_may_wait() {
    let (mut host, mut guest) = begun();
    for _ in 0..INBOX {
        host.start(&ping_job(1)).unwrap();
    }
    assert_eq!(host.start(&ping_job(1)), Err(Refused::Full));
    let orders = to_guest(&mut host, &mut guest);
    assert_eq!(orders.len(), INBOX + 1, "equal options are sent once");
    for _ in 0..INBOX / 4 {
        guest.took();
    }
    to_host(&mut guest, &mut host).unwrap();
    for _ in 0..INBOX / 4 {
        host.start(&ping_job(1)).unwrap();
    }
    assert!(!host.has_room());
}

#[test]
fn times_of_the_guest_become_times_of_the_host_within_the_session() {
    let (mut host, mut guest) = (host(1), Guest::default());
    to_guest(&mut host, &mut guest);
    let at = |millis| Instant::from_millis(millis);
    guest.ready(ready(1));
    let bytes = says(&mut guest);
    // The guest's 5 is the host's 1003 at the latest.
    host.handle_bytes(&bytes, at(1003)).unwrap();
    for (guest_time, arrival, packet, expected) in [
        (10, 1010, 8, 1006),
        // It was less: 10 is 1005.
        (10, 1005, 8, 1003),
        // Nothing happens before the session or after now.
        (10, 1005, 1, 1000),
        (10, 1005, 99_999, 1005),
        (10, 1005, u64::MAX / 1_000_000, 1005),
    ] {
        guest.stats(at(guest_time), Stats::default(), 0, 0);
        guest.sent_packet(at(packet), &[0x45]);
        let bytes = says(&mut guest);
        host.handle_bytes(&bytes, at(arrival)).unwrap();
        let news: Vec<News> = core::iter::from_fn(|| host.poll_news()).collect();
        let Some(News::Packet { at: came, .. }) = news.last() else {
            panic!("{news:?}");
        };
        assert_eq!(*came, at(expected), "{packet}");
    }
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
            |guest, event| {
                let Event::Trace {
                    job,
                    started,
                    trace,
                } = event.clone()
                else {
                    return;
                };
                let mut trace = trace;
                trace.dst = [9, 9, 9, 9].into();
                guest.event(
                    1,
                    &Event::Trace {
                        job,
                        started,
                        trace,
                    },
                    NOW,
                );
            },
        ),
        (
            "a record that job 1 cannot have, in its hops",
            |guest, event| {
                let Event::Trace {
                    job,
                    started,
                    mut trace,
                } = event.clone()
                else {
                    return;
                };
                // What a terminal would obey.
                trace.hops[0].vendor = vec!["\u{1b}[2J".to_owned()];
                guest.event(
                    1,
                    &Event::Trace {
                        job,
                        started,
                        trace,
                    },
                    NOW,
                );
            },
        ),
        (
            "a record that job 1 cannot have, in its tunnels",
            |guest, event| {
                let Event::Trace {
                    job,
                    started,
                    mut trace,
                } = event.clone()
                else {
                    return;
                };
                trace.tunnels.clear();
                guest.event(
                    1,
                    &Event::Trace {
                        job,
                        started,
                        trace,
                    },
                    NOW,
                );
            },
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

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn trace_options() -> impl Strategy<Value = TraceOptions> {
    let tunnels = (any::<[u8; 3]>(), any::<[i16; 3]>(), any::<bool>());
    (
        any::<[u8; 8]>(),
        any::<[u16; 2]>(),
        any::<Option<u16>>(),
        any::<u64>(),
        any::<bool>(),
        proptest::option::of(tunnels),
    )
        .prop_map(|(bytes, words, flow, wait, report_hops, tunnels)| {
            let methods = [Method::IcmpParis, Method::UdpParis, Method::TcpParis];
            let reveals = [Reveal::Auto, Reveal::Always, Reveal::Never];
            TraceOptions {
                method: methods[usize::from(bytes[0] % 3)],
                first_ttl: bytes[1],
                max_ttl: bytes[2],
                attempts: bytes[3],
                gap_limit: bytes[4],
                wait: Duration::from_nanos(wait),
                parallel: bytes[5],
                dst_port: words[0],
                flow,
                tos: bytes[6],
                size: words[1],
                tunnels: tunnels.map(|(small, thresholds, first_only)| TunnelOptions {
                    reveal: reveals[usize::from(small[0] % 3)],
                    frpla_threshold: thresholds[0],
                    rtla_threshold: thresholds[1],
                    uturn_threshold: thresholds[2],
                    opaque_ttl: small[1],
                    pings: small[2],
                    first_only,
                }),
                report_hops,
            }
        })
}

fn config() -> impl Strategy<Value = Config> {
    (
        any::<Option<u32>>(),
        any::<[u32; 2]>(),
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(rate, sizes, lifetime, rebuilt)| Config {
            rate,
            window: sizes[0] as usize,
            cache_lifetime: Duration::from_nanos(lifetime),
            cache_entries: sizes[1] as usize,
            headers: if rebuilt {
                Headers::Rebuilt
            } else {
                Headers::Received
            },
        })
}

/// Feeds `bytes` in pieces of the given lengths, over and over.
fn in_pieces<'a>(bytes: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    core::iter::from_fn(move || {
        let len = (*lengths.next()?).clamp(1, rest.len().max(1));
        let piece;
        (piece, rest) = rest.split_at_checked(len)?;
        Some(piece)
    })
}

proptest! {
    #[test]
    fn any_configuration_and_options_arrive_as_they_were_however_the_stream_is_cut(
        config in config(), seed: u64, session: u64, packets: bool, options in trace_options(),
        wait: u64, count: Option<u32>, pieces in prop::collection::vec(1..40usize, 1..8),
    ) {
        let configure = Configure { session, engine: config, seed, packets };
        let mut host = Host::new(&configure, Limits::default(), NOW);
        let ping = Job::Ping(Ping {
            src: [1, 2, 3, 4].into(),
            dst: [4, 3, 2, 1].into(),
            options: Arc::new(PingOptions {
                count,
                interval: Duration::from_nanos(wait / 2),
                wait: Duration::from_nanos(wait),
                ..PingOptions::default()
            }),
        });
        host.start(&ping).unwrap();
        let trace = trace_job([8, 8, 8, 8].into(), options);
        let traces = host.start(&trace).is_ok();
        host.stop_all();
        host.finish();
        host.shutdown();
        let bytes = host.transmit().to_vec();
        let mut guest = Guest::default();
        let mut orders = Vec::new();
        for piece in in_pieces(&bytes, &pieces) {
            guest.handle_bytes(piece);
            while let Some(order) = guest.poll_order().unwrap() {
                orders.push(order);
            }
        }
        let Order::Configure(came) = orders[0] else { panic!("{orders:?}") };
        prop_assert_eq!(format!("{came:?}"), format!("{configure:?}"));
        let mut known: Vec<Options> = Vec::new();
        let mut jobs = Vec::new();
        for order in &orders {
            if let Order::Options { options, .. } = order {
                known.push(options.clone());
            }
            if let Order::Start { src, dst, options, .. } = order {
                jobs.push(format!("{:?}", known[usize::from(*options)].job(*src, *dst)));
            }
        }
        let mut sent = vec![format!("{ping:?}")];
        sent.extend(traces.then(|| format!("{trace:?}")));
        prop_assert_eq!(jobs, sent);
        let tail = &orders[orders.len() - 3..];
        prop_assert!(matches!(tail, [Order::StopAll, Order::Finish, Order::Shutdown]));
    }

    #[test]
    fn reports_arrive_as_they_were_however_the_stream_is_cut(
        addresses in prop::collection::vec((address(), 0..=32u8), 0..5), time: u64, mac: [u8; 6],
        text in "\\PC{0,40}", packet in prop::collection::vec(any::<u8>(), 0..200),
        pieces in prop::collection::vec(1..40usize, 1..8),
    ) {
        let said = Ready {
            session: 3, time: Instant::from_nanos(time), mac, mtu: 1400, window: 9, addresses,
        };
        let mut guest = Guest::default();
        let mut host = host(3);
        host.start(&ping_job(1)).unwrap();
        guest.ready(said.clone());
        guest.received_packet(Instant::from_nanos(time), &packet);
        guest.refused(1, Refusal::NotMyAddress);
        guest.text(&text);
        let bytes = guest.transmit().to_vec();
        let mut news = Vec::new();
        for piece in in_pieces(&bytes, &pieces) {
            host.handle_bytes(piece, NOW).unwrap();
            news.extend(core::iter::from_fn(|| host.poll_news()));
        }
        let [News::Ready(ready), News::Packet { sent: false, bytes, .. },
            News::Refused { why: Refusal::NotMyAddress, .. }, News::Text(line)] = &news[..] else {
            panic!("{news:?}");
        };
        prop_assert_eq!((ready, bytes, line), (&said, &packet, &text));
    }

    #[test]
    fn no_bytes_make_either_end_panic(
        frames in prop::collection::vec((0..14u8, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
        garbage in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let (mut host, _) = begun();
        host.start(&ping_job(2)).unwrap();
        let mut guest = Guest::default();
        for (kind, payload) in frames {
            let len = u32::try_from(payload.len() + 1).unwrap();
            let frame = [&len.to_le_bytes()[..], &[kind], &payload].concat();
            let _ = host.handle_bytes(&frame, NOW);
            guest.handle_bytes(&frame);
            while let Ok(Some(_)) = guest.poll_order() {}
        }
        let _ = host.handle_bytes(&garbage, NOW);
        guest.handle_bytes(&garbage);
        while let Ok(Some(_)) = guest.poll_order() {}
    }
}

#[test]
fn no_more_is_under_way_than_the_host_has_room_for() {
    let (mut host, mut guest) = begun();
    guest.handle_bytes(&Order::Reset.frame());
    assert!(matches!(guest.poll_order(), Ok(Some(Order::Reset))));
    let line = "x".repeat(500);
    for _ in 0..100 {
        guest.text(&line);
    }
    let all = guest.backlog();
    let (mut under_way, mut came) = (Vec::new(), 0);
    while guest.backlog() > 0 || !under_way.is_empty() {
        under_way.extend_from_slice(guest.transmit());
        let len = guest.transmit().len();
        guest.handle_sent(len);
        assert!(under_way.len() <= 33 << 10, "{} bytes", under_way.len());
        let some: Vec<u8> = under_way.drain(..under_way.len().min(3000)).collect();
        came += some.len();
        host.handle_bytes(&some, NOW).unwrap();
        to_guest(&mut host, &mut guest);
    }
    assert_eq!(came, all);
}
