//! Anything that either end may say, and anything that it may not, however the stream is cut.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use plumb_channel::{Configure, Guest, Host, Limits, News, Options, Order, Ready, Refusal};
use plumb_probe::{Config, Headers, Job, Ping, PingOptions, Reveal, TraceOptions, TunnelOptions};
use plumb_record::Method;
use plumb_wire::Instant;
use proptest::prelude::*;

use ends::{NOW, begun, host, ping_job, trace_job};

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
