//! Flow records that were never measured, for what passes them on.

use core::net::{IpAddr, SocketAddr};

use plumb_record::{
    FlowEnd, FlowEvent, FlowMptcp, FlowOpen, FlowProfile, FlowProtocol, FlowState, WallTime,
};

/// Profiles of all shapes: both families, connections and multipath ones, with and without a
/// round-trip time, a process, an end.
pub fn profiles(count: u16) -> Vec<FlowProfile> {
    (0..count).map(profile).collect()
}

fn profile(n: u16) -> FlowProfile {
    let (local, remote) = if n.is_multiple_of(3) {
        ("2001:db8::1", format!("2001:db8::{n:x}:2"))
    } else {
        ("192.0.2.1", format!("198.51.{}.{}", n / 250, n % 250 + 1))
    };
    let address = |text: &str| text.parse::<IpAddr>().expect("a constant");
    let mut profile = FlowProfile::new(
        u64::from(n) + 1000,
        FlowProtocol::Tcp,
        SocketAddr::new(address(local), 10_000 + n),
        SocketAddr::new(address(&remote), 443),
    );
    let start = 1_795_000_000_123_456_789 + u64::from(n) * 1_000_000_007;
    profile.start = WallTime(start);
    profile.end = WallTime(start + 2_500_000_000);
    profile.open = n.is_multiple_of(2).then_some(FlowOpen::Active);
    profile.state_before = FlowState::Established;
    profile.state = FlowState::Established;
    profile.event = FlowEvent::LossyEntered;
    profile.bytes_sent = 100_000 + u64::from(n);
    profile.bytes_received = 5000 + u64::from(n);
    profile.bytes_acked = Some(99_000 + u64::from(n));
    profile.packets_sent = Some(90 + u64::from(n));
    profile.packets_received = Some(50 + u64::from(n));
    profile.data_packets_sent = Some(80);
    profile.packets_retransmitted = Some(u64::from(n % 5));
    profile.congestion_control = Some("cubic".into());
    if !n.is_multiple_of(7) {
        profile.rtt_ns = Some(1_000_000 + u64::from(n));
        profile.rtt_variance_ns = Some(50_000);
    }
    if n.is_multiple_of(5) {
        profile.pid = Some(4000);
        profile.process = Some("curl".into());
        profile.cgroup = Some("/system.slice/x.service".into());
        profile.event = FlowEvent::Ended;
        profile.state = FlowState::ProtocolError;
        profile.end_reason = Some(FlowEnd::ResetReceived);
        profile.errno = Some(104);
    }
    if n.is_multiple_of(11) {
        profile.protocol = FlowProtocol::MptcpSubflow;
        profile.mptcp = Some(FlowMptcp {
            token: 77,
            path_index: Some(1),
            ..FlowMptcp::default()
        });
    }
    profile
}

/// The records as `plumb export` reads them, a line each.
pub fn ndjson(profiles: &[FlowProfile]) -> String {
    let lines = profiles.iter().map(serde_json::to_string);
    lines.map(|line| line.expect("a constant") + "\n").collect()
}
