//! Built-in topologies.

/// A topology that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    /// Short name.
    pub name: &'static str,
    /// What it shows, in one line.
    pub summary: &'static str,
    /// The topology file.
    pub toml: &'static str,
    /// Addresses worth tracing.
    pub targets: &'static [&'static str],
}

/// All built-in topologies, simple ones first.
pub const fn labs() -> &'static [Lab] {
    LABS
}

macro_rules! labs {
    ($($name:literal, $summary:literal, $targets:expr;)*) => {
        &[$(Lab {
            name: $name,
            summary: $summary,
            toml: include_str!(concat!("../labs/", $name, ".toml")),
            targets: &$targets,
        }),*]
    };
}

const LABS: &[Lab] = labs! {
    "plain", "three routers and a host, no MPLS", ["5.0.4.2"];
    "ecmp", "load balancing per flow: four equal ways, then two of two hops each", ["5.0.16.2"];
    "explicit", "tunnel that shows itself: TTL propagated, labels in the replies (Cisco)", ["5.0.8.2"];
    "implicit", "tunnel without labels in the replies: only quoted TTLs and detours of the replies tell (Cisco)", ["5.0.8.2"];
    "opaque", "hidden tunnel whose last router shows a label with a TTL near 255 (Cisco)", ["5.0.8.2"];
    "php", "invisible tunnel, labels for all prefixes (Cisco): revealed backwards, hop by hop (BRPR)", ["5.0.8.2"];
    "uhp", "invisible tunnel with ultimate hop popping (Cisco): CE2 answers twice, PE2 never", ["5.0.8.2"];
    "dpr", "invisible tunnel, labels for loopbacks only (Junos): revealed at once (DPR)", ["5.0.8.2"];
    "icmp-tunneling", "explicit tunnel whose replies travel to its end first (Junos icmp-tunneling)", ["5.0.8.2"];
    "explicit-null", "explicit tunnel with ultimate hop popping: the egress shows label 0 (Cisco)", ["5.0.8.2"];
    "one-hop", "invisible tunnel that hides a single router (Junos)", ["5.0.6.2"];
    "mixed", "three tunnels on one path: invisible (BRPR), explicit, invisible (DPR)", ["5.0.18.2"];
    "silent", "routers that do not answer, at the edges of a tunnel and inside it", ["5.0.9.2"];
    "rate-limited", "routers that send few ICMP messages per second, before and behind a hidden tunnel", ["5.0.8.2"];
    "lossy", "links that lose, delay and reorder packets, around a hidden tunnel", ["5.0.8.2"];
    "nat", "source NAT at the first router: quotes come back with other checksums and identifiers", ["5.0.5.2"];
    "rfc4884", "senders that attach ICMP extensions or quote packets in ways of their own", ["5.0.12.2"];
    "ipv6", "both IP versions; IPv6 crosses an IPv4-only core in 6PE, whose routers stay silent", ["2a0b:5000:0:8::2", "5.0.8.2"];
    "asymmetric", "the way back is three hops longer than the way there, without any tunnel", ["5.0.10.2"];
    "wide", "a /12 of hosts that all answer, behind four providers: for long lists of targets", ["5.16.0.1", "5.20.0.1", "5.24.0.1", "5.28.0.1"];
};
