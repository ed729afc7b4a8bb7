//! A mistake in a topology file gets one message that names what to change.

use plumb_sim::Topology;

const VALID: &str = r#"
[[router]]
names = "R1 R2"
[[host]]
names = "D"
[[link]]
path = "VP R1 R2 D"
"#;

fn error(extra: &str) -> String {
    let text = format!("{VALID}\n{extra}");
    Topology::from_toml(&text).unwrap_err().to_string()
}

#[test]
fn mistakes_are_named() {
    assert!(Topology::from_toml(VALID).is_ok());
    for (extra, expected) in [
        (
            "[[link]]\npath = \"R1 R9\"",
            "link \"R1 R9\" names \"R9\", which is no vantage, router or host",
        ),
        ("[[router]]\nnames = \"R1\"", "\"R1\" is declared twice"),
        ("[[router]]\nvendor = \"cisco\"", "router: it has no names"),
        ("[[host]]\nnames = \" \"", "host: it has no names"),
        (
            "[[link]]\npath = \"R1\"",
            "link \"R1\": \"R1\" is not a path of at least two nodes",
        ),
        (
            "[[link]]\npath = \"R1 R1\"",
            "link \"R1 R1\": it leads from a node to itself",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nloss = 1.5",
            "link \"R1 R2\": \"1.5\" is not a probability from 0 to 1",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\ndelay_ms = -1",
            "link \"R1 R2\": \"-1\" is not a time from 0 to 60000 milliseconds",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\njitter_ms = nan",
            "link \"R1 R2\": \"NaN\" is not a time from 0 to 60000 milliseconds",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nmtu = 9000",
            "link \"R1 R2\": \"9000\" is not an MTU from 68 to 1500",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nv4 = \"10.0.0.0/30\"",
            "node \"R1\": 10.0.0.1 is in a reserved block, which measurement tools ignore",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nv4 = \"5.0.1.0/30\"",
            "5.0.1.0/30 belongs to both \"VP\" and \"R1\"",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nv4 = \"5.0.1.1/30\"",
            "link \"R1 R2\": \"5.0.1.1/30\" is not a prefix such as 5.16.0.0/12 or \
             2a0b:1::/48, host bits zero",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nv4 = \"6.0.0.0/32\"",
            "link \"R1 R2\": its prefix has no room for two addresses",
        ),
        (
            "[[link]]\npath = \"VP R2\"",
            "vantage \"VP\": it must have exactly one link",
        ),
        (
            "[[domain]]\nname = \"core\"\nrouters = \"R1 D\"",
            "domain \"core\" names \"D\", which is no router",
        ),
        (
            "[[domain]]\nname = \"core\"\nrouters = \"R1\"",
            "domain \"core\": it needs at least two routers",
        ),
        (
            "[[domain]]\nname = \"core\"\nrouters = \"R1 R2 R1\"",
            "domain \"core\", router \"R1\": a router can be listed once, in one domain",
        ),
        (
            "[[route]]\nat = \"R1\"\nto = \"D\"\nvia = \"D\"",
            "route at \"R1\" names \"D\", which is no neighbor of it",
        ),
        (
            "[[router]]\nnames = \"R3\"\ntime_exceeded_ttl = 0",
            "router \"R3\": \"0\" is not a TTL from 1 to 255",
        ),
        (
            "[[router]]\nnames = \"R3\"\nicmp_burst = 5",
            "router \"R3\": a burst is set without its rate",
        ),
        (
            "[[router]]\nnames = \"R3\"\nicmp_rate = 0",
            "router \"R3\": icmp_rate: \"0\" is not a rate from 0.001 to 1000000000 per second",
        ),
        (
            "[[router]]\nnames = \"R3 R4\"\nnat_outside = \"R1\"",
            "router \"R3 R4\" names \"R3 R4\", which is no single router",
        ),
        (
            "[[host]]\nnames = \"E\"\nprefixes = [\"5.16.0.0/33\"]",
            "host \"E\": \"5.16.0.0/33\" is not a prefix such as 5.16.0.0/12 or 2a0b:1::/48, \
             host bits zero",
        ),
        (
            "[[link]]\npath = \"R1 R2\"\nv4 = \"2a0b:1::/64\"",
            "link \"R1 R2\": \"2a0b:1::/64\" is not an IPv4 prefix",
        ),
        (
            "[[router]]\nnames = \"R3\"\nloopback_v4 = \"5.1.2\"",
            "router \"R3\": \"5.1.2\" is not an IPv4 address",
        ),
        (
            "[addresses]\nipv4 = false",
            "addresses: it turns both IP versions off",
        ),
        (
            "[addresses]\nlinks_v4 = \"7.0.0.0/23\"",
            "block 7.0.0.0/23 is too small to number all links",
        ),
    ] {
        assert_eq!(error(extra), expected);
    }
}

#[test]
fn a_key_that_does_not_exist_is_named_with_its_line() {
    let message = error("[[router]]\nnames = \"R3\"\nvender = \"cisco\"");
    assert!(
        message.starts_with("line 11: unknown field `vender`"),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    let message = error("[[router]]\nnames = \"R3\"\nvendor = \"crisco\"");
    assert!(message.contains("unknown variant `crisco`"), "{message}");
    assert!(message.contains("`junos-olive`"), "{message}");
}

const MANUAL: &str = include_str!("../../../../docs/topology.md");

#[test]
fn the_examples_of_the_manual_are_topologies() {
    let mut examples = 0;
    for block in MANUAL.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        Topology::from_toml(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        examples += 1;
    }
    assert!(examples >= 3);
}

#[test]
fn the_first_example_of_the_manual_does_what_the_manual_says() {
    let text = MANUAL.split("```toml\n").nth(1).unwrap();
    let mut p = crate::prober::Prober::new(text.split("```").next().unwrap());
    let lossless = |p: &mut crate::prober::Prober, dst: &str| {
        let dst = dst.parse().unwrap();
        (0..20)
            .map(|_| p.path(dst))
            .find(|path| !path.contains('*'))
            .unwrap()
    };
    assert_eq!(lossless(&mut p, "5.0.7.2"), "CE1 PE1 PE2 CE2 WEB");
    assert_eq!(lossless(&mut p, "5.0.5.2"), "CE1 PE1 P2 PE2");
    assert_eq!(lossless(&mut p, "5.0.4.2"), "CE1 PE1 P1 P2");
}

#[test]
fn every_key_is_in_the_manual() {
    let places = [
        "?",
        "[addresses]\n?",
        "[vantage]\n?",
        "[defaults]\n?",
        "[[host]]\n?",
        "[[link]]\n?",
        "[[domain]]\n?",
        "[[route]]\n?",
        "[[prefix]]\n?",
        "[[prefix]]\nprefix = \"5.0.0.0/8\"\nat = \"R1\"\nanswer = \"?\"",
        "[defaults]\nvendor = \"?\"",
        "[defaults]\nsilent = \"?\"",
        "[defaults]\nip_id = \"?\"",
        "[defaults]\necmp = \"?\"",
        "[defaults]\nunreachable_source = \"?\"",
        "[defaults]\nquote = \"?\"",
        "[defaults]\nextensions = \"?\"",
        "[defaults]\nending = \"?\"",
        "[defaults]\nlse_expiry = \"?\"",
        "[defaults]\npop_ttl = \"?\"",
        "[defaults]\nnat_ports = \"?\"",
        "[defaults]\nnat_quote = \"?\"",
        "[[domain]]\nlabel_distribution = \"?\"",
    ];
    for place in places {
        let text = if place.ends_with("\"?\"") {
            place.replace('?', "wrong")
        } else {
            place.replace('?', "wrong = 1")
        };
        let message = Topology::from_toml(&text).unwrap_err().to_string();
        let (_, keys) = message
            .split_once("expected ")
            .unwrap_or_else(|| panic!("{message}"));
        let keys: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{message}");
        for key in keys {
            assert!(MANUAL.contains(&format!("`{key}`")), "{key}");
        }
    }
}

#[test]
fn huge_files_are_refused_at_once() {
    let routers: String = (0..600).map(|n| format!("N{n} ")).collect();
    assert_eq!(
        error(&format!("[[router]]\nnames = \"{routers}\"")),
        "too many routers and hosts: at most 512"
    );
    let path = "R1 R2 ".repeat(2000);
    assert_eq!(
        error(&format!("[[link]]\npath = \"{path}\"")),
        "too many links: at most 2048"
    );
    assert_eq!(
        error(&"#".repeat(2 << 20)),
        "too many bytes in the file: at most 1048576"
    );
    let nested = format!("targets = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(Topology::from_toml(&nested).is_err());
}

#[test]
fn the_largest_network_is_built_and_carries_packets() {
    // A full mesh would be the worst for the routes: 63 routers, 1953 links.
    let names: Vec<String> = (0..63).map(|n| format!("N{n}")).collect();
    let mut toml = format!(
        "[[router]]\nnames = \"{}\"\n[[host]]\nnames = \"D\"\n[[link]]\npath = \"VP N0\"\n\
         [[link]]\npath = \"N62 D\"\n",
        names.join(" ")
    );
    for a in 0..63 {
        for b in 0..a {
            toml += &format!("[[link]]\npath = \"N{a} N{b}\"\n");
        }
    }
    let mut p = crate::prober::Prober::new(&toml);
    let dst = p.on_link("D", "N62");
    assert_eq!(p.path(dst), "N0 N62 D");
    // And a line of 510 routers the longest way.
    let names: Vec<String> = (0..510).map(|n| format!("N{n}")).collect();
    let all = names.join(" ");
    let toml = format!(
        "[[router]]\nnames = \"{all}\"\n[[host]]\nnames = \"D\"\n\
         [[domain]]\nname = \"M\"\nrouters = \"{all}\"\nttl_propagate = false\n\
         [[link]]\npath = \"VP {all} D\"\n"
    );
    let mut p = crate::prober::Prober::new(&toml);
    let far = p.on_link("D", "N509");
    // Label TTLs are 8 bits as well: the tunnel is too long for them.
    assert_eq!(p.ping(far), None);
}
