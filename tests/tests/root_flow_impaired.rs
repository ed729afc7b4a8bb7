//! What `plumb flow` counts on links that `plumb impair` spoils.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::process::{Command, Stdio};

use plumb_record::{FlowEnd, FlowOpen, FlowProfile};
use plumb_tests::{Running, SCENARIOS, Watch, plumb, require};

/// Sends half a megabyte through a link that `plumb impair` spoils towards the server, and gives the
/// last profiles of client and server, with the bytes of all: a machine that is busy makes a timeout
/// of a delay, and with it more windows.
fn through(impairment: &str) -> (FlowProfile, FlowProfile) {
    let mut watch = Watch::of(Vec::new(), &["--net", "10.83.0.0/24"]);
    let mut pipeline = Command::new("bash");
    let script = format!(
        "$P exec --addr 10.83.0.2/24 -- python3 $S bulk 10.83.0.1 500000 | \
         $P impair {impairment} --direction right | \
         $P exec --addr 10.83.0.1/24 -- python3 $S server"
    );
    pipeline
        .args(["-c", &script])
        .env("P", plumb())
        .env("S", SCENARIOS);
    let pipeline = pipeline.stdin(Stdio::null());
    let pipeline = Running::start(pipeline);
    watch
        .running
        .wait_until(|out, _| out.matches(r#""end_reason":"closed""#).count() >= 2);
    drop(pipeline);
    let (profiles, _) = watch.stop();
    let last = |open| {
        let closed =
            |p: &&FlowProfile| p.open == Some(open) && p.end_reason == Some(FlowEnd::Closed);
        let mut last = profiles.iter().find(closed).unwrap().clone();
        let sum = |of: fn(&FlowProfile) -> Option<u64>| -> u64 {
            let profiles = profiles.iter().filter(|p| p.open == Some(open));
            profiles.filter_map(of).sum()
        };
        last.bytes_sent = sum(|p| Some(p.bytes_sent));
        last.bytes_received = sum(|p| Some(p.bytes_received));
        last.bytes_acked = Some(sum(|p| p.bytes_acked));
        last.bytes_retransmitted = Some(sum(|p| p.bytes_retransmitted));
        last.duplicate_bytes_received = Some(sum(|p| p.duplicate_bytes_received));
        last
    };
    (last(FlowOpen::Active), last(FlowOpen::Passive))
}

#[test]
fn root_flow_counts_what_comes_twice() {
    require!("ip", "bash", "python3");
    let (client, server) = through("--duplicate 100%");
    assert_eq!(server.bytes_received, 500_000);
    assert_eq!(client.bytes_acked, Some(500_000));
    // All of it, and what was sent again for other reasons, twice; but what waits for a socket that
    // is busy may be merged with new data behind it, and is no duplicate then.
    let twice = client.bytes_sent + client.bytes_retransmitted.unwrap();
    let seen = server.duplicate_bytes_received.unwrap();
    assert!(
        (twice * 3 / 4..=twice).contains(&seen),
        "{twice} {client:#?} {server:#?}"
    );
}

#[test]
fn root_flow_counts_what_overtakes() {
    require!("ip", "bash", "python3");
    let (client, server) = through("--delay 10ms --reorder 5%");
    assert_eq!(
        (server.bytes_received, client.bytes_acked),
        (500_000, Some(500_000))
    );
    assert!(server.out_of_order_packets.unwrap() > 0, "{server:#?}");
    // Nothing was lost: what was sent again came twice, but for what was merged with new data behind
    // it while the socket was busy.
    let (twice, again) = (server.duplicate_bytes_received, client.bytes_retransmitted);
    assert!(twice.is_some() && twice <= again, "{twice:?} {again:?}");
    assert!(client.rtt_min_ns.unwrap() >= 1_000);
}
