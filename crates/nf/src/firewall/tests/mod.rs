//! What a firewall does, told by rules and packets.

mod language;
mod laws;
mod narrow;
mod refusals;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::antispoof::Antispoof;
use crate::testing::{self, Segment};
use crate::{Frame, Function, Output};

use super::{Config, Error, Firewall, Ruleset, Source};

fn parse(text: &str) -> Result<Ruleset, Error> {
    let main = Source {
        name: "rules.nft".into(),
        text: text.into(),
    };
    let ports = ["left".into(), "right".into()];
    Ruleset::parse(main, &[], &ports, &mut |_, path| {
        Err(alloc::format!("cannot read {path}"))
    })
}

/// Rules in the chain of hook forward of a table inet, in front of a policy.
fn inet(policy: &str, rules: &str) -> String {
    alloc::format!(
        "table inet f {{\nchain c {{\ntype filter hook forward priority 0; policy {policy};\n{rules}\n}}\n}}\n"
    )
}

/// A firewall and its time.
struct Bench {
    firewall: Firewall,
    out: Output,
    now: Instant,
}

impl Bench {
    fn new(text: &str) -> Self {
        Self::with(text, Config::default())
    }

    fn with(text: &str, config: Config) -> Self {
        let ruleset = parse(text).unwrap_or_else(|error| panic!("{error}"));
        Self {
            firewall: Firewall::new(ruleset, config),
            out: Output::default(),
            now: Instant::from_millis(1000),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.firewall.handle_timeout(self.now, &mut self.out);
    }

    /// What comes out for a frame that comes in.
    fn send(&mut self, from: Port, frame: &Frame) -> Vec<(Port, Frame)> {
        self.now = self.now + Duration::from_millis(1);
        let mut batch = Vec::from([frame.clone()]);
        self.firewall
            .handle_frames(from, &mut batch, self.now, &mut self.out);
        core::mem::take(self.out.sent())
    }

    /// Says whether a frame passes.
    fn passes(&mut self, from: Port, frame: &Frame) -> bool {
        let out = self.send(from, frame);
        match &out[..] {
            [] => false,
            [(to, sent)] => {
                assert_eq!((*to, &sent.bytes), (from.opposite(), &frame.bytes));
                true
            }
            more => panic!("{more:?}"),
        }
    }
}

fn udp(src: &str, dst: &str) -> Frame {
    testing::udp(src.parse().unwrap(), dst.parse().unwrap(), b"hi")
}

fn syn(src: &str, dst: &str) -> Frame {
    tcp(src, dst, 2, 100, 0)
}

fn tcp(src: &str, dst: &str, flags: u8, seq: u32, ack: u32) -> Frame {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let segment = Segment {
        seq,
        ack,
        flags,
        window: 9000,
        ..Segment::default()
    };
    testing::tcp(src, dst, &segment)
}

const HOST: &str = "10.0.0.2:5000";
const SERVER: &str = "203.0.113.9:80";

#[test]
fn what_was_asked_for_comes_back_and_nothing_else_comes_in() {
    let mut bench = Bench::new(&inet(
        "drop",
        "ct state vmap { established : accept, related : accept, invalid : drop }\n\
         iifname \"left\" tcp dport 80 accept",
    ));
    assert!(!bench.passes(Port::Right, &syn(SERVER, HOST)));
    assert!(bench.passes(Port::Left, &syn(HOST, SERVER)));
    assert!(bench.passes(Port::Right, &tcp(SERVER, HOST, 18, 500, 101)));
    assert!(bench.passes(Port::Left, &tcp(HOST, SERVER, 16, 101, 501)));
    // Far out of the window.
    assert!(!bench.passes(Port::Right, &tcp(SERVER, HOST, 16, 0x7000_0000, 101)));
    let about = tcp(HOST, SERVER, 16, 101, 501);
    let error = testing::error("192.0.2.7".parse().unwrap(), &about, (3, 4), 8);
    assert!(bench.passes(Port::Right, &error));
    let stranger = testing::error(
        "192.0.2.7".parse().unwrap(),
        &syn("10.0.0.2:5001", SERVER),
        (3, 1),
        8,
    );
    assert!(!bench.passes(Port::Right, &stranger));
}

#[test]
fn fragments_are_matched_as_their_datagram_and_pass_or_fall_together() {
    let frame = testing::udp(
        "10.0.0.2:5000".parse().unwrap(),
        "203.0.113.9:53".parse().unwrap(),
        &[1; 200],
    );
    for (verdict, passed) in [("accept", 3), ("drop", 0)] {
        let mut bench = Bench::new(&inet("drop", &alloc::format!("udp dport 53 {verdict}")));
        let pieces = testing::cut(&frame, 9, &[64, 128]);
        // The last comes first: nothing is known of the ports yet.
        assert!(bench.send(Port::Left, &pieces[2]).is_empty());
        assert!(bench.send(Port::Left, &pieces[0]).is_empty());
        let out = bench.send(Port::Left, &pieces[1]);
        assert_eq!(out.len(), passed, "{verdict}");
        for (sent, piece) in out.iter().zip(&pieces) {
            assert_eq!(sent.1.bytes, piece.bytes);
        }
    }
}

#[test]
fn jumps_return_and_gotos_do_not() {
    let text = "table inet f {
        chain c {
            type filter hook forward priority 0; policy drop;
            udp dport 1 jump one
            udp dport 2 goto one
            udp dport { 1, 2 } accept
        }
        chain one { udp sport 7 return; udp sport 8 drop; udp sport 9 goto two }
        chain two { udp dport 1 udp sport 9 continue }
    }";
    let mut bench = Bench::new(text);
    for (sport, dport, passes) in [
        (7, 1, true),
        (8, 1, false),
        (9, 1, true),
        (6, 1, true),
        (7, 2, false),
        (6, 2, false),
    ] {
        let (src, dst) = (
            alloc::format!("10.0.0.2:{sport}"),
            alloc::format!("10.0.1.2:{dport}"),
        );
        assert_eq!(
            bench.passes(Port::Left, &udp(&src, &dst)),
            passes,
            "{sport} {dport}"
        );
    }
}

#[test]
fn a_mark_for_a_connection_that_is_not_known_yet_does_not_end_the_rule() {
    // As Linux 6.18 has it: a counter behind it counts.
    let mut bench = Bench::new(
        "table ip a { chain pre { type filter hook prerouting priority raw
            udp dport 1 ct mark set 5 drop } }",
    );
    assert!(!bench.passes(Port::Left, &udp("10.0.0.2:9", "10.0.1.2:1")));
    assert!(bench.passes(Port::Left, &udp("10.0.0.2:9", "10.0.1.2:2")));
}

#[test]
fn chains_are_met_by_hook_and_priority_and_an_accept_is_only_for_its_chain() {
    let text = "table ip a {
        chain late { type filter hook forward priority 10; policy accept; udp dport 1 drop }
        chain soon { type filter hook forward priority -10; policy accept; udp dport 1 accept
            udp dport 2 drop }
        chain post { type filter hook postrouting priority 0; udp dport 3 drop; }
        chain pre { type filter hook prerouting priority raw; udp dport 4 notrack; ct state untracked udp dport 5 drop; }
    }
    table ip6 b { chain c { type filter hook forward priority 0; policy drop; } }
    table ip c { chain d { type filter hook forward priority 5; ct state untracked drop; } }";
    let mut bench = Bench::new(text);
    for (port, passes) in [
        (1, false),
        (2, false),
        (3, false),
        (4, false),
        (5, true),
        (6, true),
    ] {
        let frame = udp("10.0.0.2:9", &alloc::format!("10.0.1.2:{port}"));
        assert_eq!(bench.passes(Port::Left, &frame), passes, "{port}");
    }
    assert!(!bench.passes(Port::Left, &udp("[fd00::2]:9", "[fd00::3]:6")));
}

#[test]
fn what_is_no_ip_meets_tables_of_bridges_only() {
    let arp = Frame::new(
        Instant::ZERO,
        &[&[0xff; 12][..], &[8, 6], &[0; 28]].concat(),
    );
    assert!(Bench::new(&inet("drop", "")).passes(Port::Left, &arp));
    let bridge = "table bridge b { chain c { type filter hook forward priority 0; policy drop;
        ether type ip accept; vlan id 5 ether type vlan accept } }";
    let mut bench = Bench::new(bridge);
    assert!(!bench.passes(Port::Left, &arp));
    let frame = udp(HOST, SERVER);
    assert!(bench.passes(Port::Left, &frame));
    let mut tagged = frame.clone();
    tagged.bytes.splice(12..12, [0x81, 0, 0, 5]);
    assert!(bench.passes(Port::Left, &tagged));
    tagged.bytes[15] = 6;
    assert!(!bench.passes(Port::Left, &tagged));
}

#[test]
fn elements_that_packets_add_live_as_long_as_the_set_says() {
    let text = "table inet f {
        set seen { type ipv4_addr; flags dynamic, timeout; timeout 10s; size 2; }
        chain c { type filter hook forward priority 0; policy drop;
            udp dport 1 add @seen { ip saddr } accept
            udp dport 2 ip saddr @seen accept
            udp dport 3 update @seen { ip saddr timeout 30s } accept
        } }";
    let mut bench = Bench::new(text);
    let to = |host: u8, port: u8| {
        udp(
            &alloc::format!("10.0.0.{host}:9"),
            &alloc::format!("10.0.1.2:{port}"),
        )
    };
    assert!(!bench.passes(Port::Left, &to(1, 2)));
    assert!(bench.passes(Port::Left, &to(1, 1)));
    assert!(bench.passes(Port::Left, &to(1, 2)));
    bench.pass(Duration::from_secs(6));
    assert!(
        bench.passes(Port::Left, &to(1, 1)),
        "adding again renews nothing"
    );
    bench.pass(Duration::from_secs(6));
    assert!(!bench.passes(Port::Left, &to(1, 2)));
    assert!(bench.passes(Port::Left, &to(1, 1)));
    assert!(bench.passes(Port::Left, &to(1, 3)));
    assert!(bench.passes(Port::Left, &to(2, 1)));
    assert!(
        !bench.passes(Port::Left, &to(3, 1)),
        "there is room for two"
    );
    bench.pass(Duration::from_secs(20));
    assert!(bench.passes(Port::Left, &to(1, 2)), "updating renews");
    assert!(
        bench.passes(Port::Left, &to(3, 1)),
        "the second has made room"
    );
}

#[test]
fn a_limit_fills_up_again() {
    let mut bench = Bench::new(&inet(
        "drop",
        "udp dport 1 limit rate 2/second burst 3 packets accept",
    ));
    let frame = udp(HOST, "10.0.1.2:1");
    let burst = |bench: &mut Bench| (0..9).filter(|_| bench.passes(Port::Left, &frame)).count();
    assert_eq!(burst(&mut bench), 3);
    bench.pass(Duration::from_millis(1000));
    assert_eq!(burst(&mut bench), 2);
    bench.pass(Duration::from_secs(60));
    assert_eq!(burst(&mut bench), 3);
}

#[test]
fn a_reload_keeps_connections_counters_and_what_packets_added() {
    let rules = |extra: &str| {
        alloc::format!(
            "table inet f {{
            set seen {{ type ipv4_addr; flags dynamic; }}
            counter all {{ packets 0 bytes 0; }}
            chain c {{ type filter hook forward priority 0; policy drop;
            ct state established accept
            {extra}
            udp dport 1 counter name all add @seen {{ ip saddr }} accept
            udp dport 2 ip saddr @seen accept
            }} }}"
        )
    };
    let mut bench = Bench::new(&rules(
        "tcp dport 80 limit rate 1/day burst 2 packets accept",
    ));
    assert!(bench.passes(Port::Left, &udp("10.0.0.2:9", "10.0.1.2:1")));
    assert!(bench.passes(Port::Left, &syn(HOST, SERVER)));
    let ruleset = parse(&rules("# no port 80 any more")).unwrap();
    let now = bench.now;
    bench.firewall.reload(ruleset, now);
    assert!(bench.passes(Port::Right, &tcp(SERVER, HOST, 18, 500, 101)));
    assert!(!bench.passes(Port::Left, &syn("10.0.0.2:5001", SERVER)));
    assert!(bench.passes(Port::Left, &udp("10.0.0.2:9", "10.0.1.2:2")));
    let details = bench.firewall.details();
    let count = |of: &str| {
        let mut found = details.iter().filter(|detail| detail.name.contains(of));
        found.next().map(|detail| detail.packets)
    };
    assert_eq!(count("counter inet f all"), Some(1));
    assert_eq!(count("udp dport 1 counter"), Some(1));
    assert_eq!(count("udp dport 2"), Some(1));
}

#[test]
fn a_dry_run_passes_everything_and_says_what_would_become_of_it() {
    let config = Config {
        explain: true,
        antispoof: Some(Antispoof::inside(Vec::from(["10.0.0.0/8"
            .parse()
            .unwrap()]))),
        ..Config::default()
    };
    let mut bench = Bench::with(
        &inet(
            "drop",
            "ct state invalid drop\ntcp dport 23\treject # telnet\nudp dport 1  accept",
        ),
        config,
    );
    let mut said = |from, frame: &Frame| {
        let out = bench.send(from, frame);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].0, from.opposite());
        assert_eq!(out[0].1.bytes, frame.bytes);
        out[0].1.comment.clone()
    };
    let chain = "table inet f chain c";
    assert_eq!(
        said(Port::Left, &udp(HOST, "10.0.1.2:1")),
        alloc::format!("accept: rules.nft:6 {chain}: udp dport 1 accept; ct state new")
    );
    assert_eq!(
        said(Port::Left, &syn(HOST, "203.0.113.9:23")),
        alloc::format!("reject: rules.nft:5 {chain}: tcp dport 23 reject; ct state new")
    );
    assert_eq!(
        said(Port::Left, &udp(HOST, SERVER)),
        alloc::format!("drop: rules.nft:3 {chain}: policy; ct state new")
    );
    assert_eq!(
        said(Port::Left, &tcp(HOST, SERVER, 4, 100, 0)),
        alloc::format!(
            "drop: rules.nft:4 {chain}: ct state invalid drop; ct state invalid (no TCP \
             connection, and no SYN)"
        )
    );
    assert_eq!(
        said(Port::Right, &udp(HOST, SERVER)),
        "drop: spoofed: source that its side may not send from"
    );
    let mut damaged = udp(HOST, SERVER);
    damaged.bytes[24] ^= 1;
    assert_eq!(
        said(Port::Left, &damaged),
        "drop: malformed: wrong IPv4 header checksum"
    );
    let whole = testing::udp(
        HOST.parse().unwrap(),
        "10.0.1.2:1".parse().unwrap(),
        &[1; 99],
    );
    let pieces = testing::cut(&whole, 3, &[48]);
    assert!(said(Port::Left, &pieces[0]).starts_with("fragment: "));
    assert!(said(Port::Left, &pieces[1]).starts_with("accept: "));
}

#[test]
fn a_log_statement_says_where_it_stands() {
    let mut bench = Bench::new(&inet("drop", "udp dport 1 log prefix \"one: \" level info"));
    assert!(!bench.passes(Port::Left, &udp(HOST, "10.0.1.2:1")));
    let event = bench.firewall.poll_event().unwrap();
    assert_eq!((&event.prefix[..], event.level), ("one: ", "info"));
    assert_eq!(event.place, "rules.nft:4".to_string());
    assert_eq!((event.from, event.to), (Port::Left, Some(Port::Right)));
    assert_eq!(event.packet.ports(), Some((5000, 1)));
    assert!(bench.firewall.poll_event().is_none());
}
