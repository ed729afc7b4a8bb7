//! What is refused, and in which words.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::{Ruleset, Source};
use super::{inet, parse};

/// The error of rules, as people see it.
fn error(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("this is taken: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_error_shows_the_place_and_what_would_be_understood() {
    assert_eq!(
        error("table inet f {\n\tchain c {\n\t\ttcp prot 22 accept\n\t}\n}\n"),
        "rules.nft:3:7: unknown field of tcp \"prot\"
      tcp prot 22 accept
          ^^^^
supported: sport, dport, sequence, ackseq, doff, flags, window, checksum, urgptr"
    );
    assert_eq!(
        error("table ip f { chain c { type filter hook input priority 0; } }"),
        "rules.nft:1:41: hook input never sees a packet: a stage forwards, and nothing is for or from it
    table ip f { chain c { type filter hook input priority 0; } }
                                            ^^^^^
write hook forward"
    );
    assert_eq!(
        error(&inet("drop", "oifname \"eth0\" accept")),
        "rules.nft:4:9: there is no interface \"eth0\": a stage has \"left\" and \"right\"
    oifname \"eth0\" accept
            ^^^^^^
say --left-name or --right-name to call them otherwise"
    );
    assert_eq!(
        error(&inet("drop", "tcp dport { 22, 80-70 } accept")),
        "rules.nft:4:17: the range ends before it begins
    tcp dport { 22, 80-70 } accept
                    ^^^^^"
    );
}

#[test]
fn nothing_is_ignored() {
    let rule = |rule: &str| inet("accept", rule);
    for (text, expected) in [
        (rule("masquerade"), "4:1: \"masquerade\" is not supported"),
        (rule("ip saddr 10.0.0.0/8 snat to 1.2.3.4"), "4:21: \"snat\" is not supported"),
        (rule("fib saddr . iif oif missing drop"), "4:1: \"fib\" is not supported"),
        (rule("meter m { ip saddr limit rate 1/second }"), "4:1: \"meter\" is not supported"),
        (rule("queue num 1"), "4:1: \"queue\" is not supported"),
        (rule("log group 2"), "4:5: log group is not supported"),
        (rule("ip daddr example.com drop"), "4:10: \"example.com\" is not an IPv4 address"),
        (rule("ip daddr fe80::1 drop"), "4:10: expected an IPv4 address, found an IPv6 address"),
        (rule("tcp dport 70000 drop"), "4:11: 70000 does not fit into 16 bits"),
        (rule("tcp dport 22, 23 drop"), "4:11: only flags are listed like this"),
        (rule("ct state bad drop"), "4:10: \"bad\" is not a connection state"),
        (rule("ct state != new,established drop"), "4:13: a list of flags is not compared"),
        (rule("ip ttl set 3"), "4:1: this cannot be set"),
        (rule("ip saddr @nope drop"), "4:10: there is no set nope in this table"),
        (rule("jump nowhere"), "4:6: there is no chain nowhere in this table"),
        (rule("jump c"), "4:6: c has a hook, so nothing jumps there"),
        (rule("drop accept"), "4:6: nothing of a rule comes behind its verdict"),
        (rule("notrack"), "4:1: here the packet is tracked already"),
        (rule("tcp dport map { 1 : 2 }"), "4:11: a map gives a value"),
        (rule("tcp dport vmap { 1 : drop, 1-2 : accept }"), "4:28: this overlaps 1"),
        (rule("tcp dport { 1 : drop } accept"), "4:13: elements of a set lead nowhere"),
        (rule("ip saddr . tcp dport { 10.0.0.1 } drop"), "4:24: the key has 2 fields, this has 1"),
        (rule("limit rate 10"), "4:14: expected \"/second\""),
        (rule("reject with icmp type nope"), "4:23: unknown code \"nope\""),
        (rule("ip saddr \"x"), "4:10: the quote is not closed on this line"),
        (rule("ip saddr $NET drop"), "4:10: $NET is not defined"),
        (rule("counter name nope"), "4:14: there is no counter nope in this table"),
        (rule("tcp option maxseg size 1"), "4:5: unknown field of tcp \"option\""),
        (rule("meta hour 3"), "4:6: unknown field of meta \"hour\""),
        ("table netdev x { }".into(), "1:7: tables of the family netdev are not supported"),
        ("table arp x { }".into(), "1:7: tables of the family arp are not supported"),
        ("table ip x { chain c { type nat hook prerouting priority 0; } }".into(), "1:29: chains of type nat"),
        ("table ip x { chain c { policy drop; } }".into(), "1:31: only a chain with a hook has a policy"),
        ("table ip x { flowtable f { } }".into(), "1:14: flowtable in a table is not supported"),
        ("table ip x { set s { type ipv4_addr; elements = { 10.0.0.0/8 }; } }".into(), "1:51: this set holds single values"),
        ("table ip x { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 10.0.0.1 }; } }".into(), "1:79: this overlaps 10.0.0.0/8"),
        ("table ip x { set s { flags interval; } }".into(), "1:18: the set has no type"),
        ("table ip x { chain c { ip6 saddr ::1 drop; } }".into(), "1:24: packets of a table ip never have this"),
        ("table ip x { chain a { jump b; }\nchain b { jump a; }\n}".into(), "2:11: chains jump in a circle"),
        ("add rule ip x c drop".into(), "1:13: there is no table ip x up to here"),
        ("include \"none\"".into(), "1:9: cannot read none"),
        ("list ruleset".into(), "1:1: the command list has no place"),
        ("table ip x {\n".into(), "expected chain, set, map"),
        ("~".into(), "1:1: '~' has no meaning here"),
    ] {
        let error = error(&text);
        let first = error.lines().next().unwrap_or_default();
        let place = first.strip_prefix("rules.nft:").unwrap_or(first);
        assert!(
            place.starts_with(expected) || (!expected.starts_with(|c: char| c.is_ascii_digit()) && place.contains(expected)),
            "{text}\n{error}\nexpected {expected}"
        );
    }
}

#[test]
fn files_are_included_from_where_they_are_asked_for_but_not_for_ever() {
    let read = |text: &str, defines: &[(String, String)]| {
        let main = Source {
            name: "main.nft".into(),
            text: text.into(),
        };
        let ports = ["a".into(), "b".into()];
        Ruleset::parse(main, defines, &ports, &mut |from, path| match path {
            "ports" => Ok(Vec::from([Source {
                name: format!("{from}/ports"),
                text: "define P = { 22, $Q }".into(),
            }])),
            _ => Ok(Vec::from([Source {
                name: path.into(),
                text: "include \"again\"".into(),
            }])),
        })
        .map(|ruleset| ruleset.rules())
        .map_err(|error| error.to_string())
    };
    let rules = "include \"ports\"\ntable ip f { chain c { tcp dport $P iifname a drop; } }";
    let given = [("Q".to_string(), "80-90".to_string())];
    assert_eq!(read(rules, &given), Ok(1));
    let error = read(rules, &[]).unwrap_err();
    assert!(
        error.starts_with("main.nft/ports:1:18: $Q is not defined"),
        "{error}"
    );
    let error = read("include \"again\"", &[]).unwrap_err();
    assert!(error.contains("more than 16 deep"), "{error}");
}

#[test]
fn a_variable_that_grows_without_end_is_refused() {
    let mut text = String::from("define V0 = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }\n");
    for n in 1..30 {
        let before = n - 1;
        text += &format!("define V{n} = {{ $V{before}, $V{before} }}\n");
    }
    assert!(error(&text).contains("more than 1048576 values"));
}
