//! The cases that real routers were measured in (TNT technical report, appendix on GNS3).
//!
//! Each row of a table is what a traceroute sees: node, TTL of its time-exceeded / of its echo
//! reply, quoted TTL where it is not 1, labels with their TTLs.

use plumb_wire::icmp::Kind;

use crate::prober::{Method, Prober};

/// The topology of all cases; `domain` and `vendor` differ.
fn chain(vendor: &str, domain: &str) -> Prober {
    Prober::new(&format!(
        r#"
        targets = ["D"]
        [defaults]
        {vendor}
        [[router]]
        names = "CE1 PE1 P1 P2 P3 PE2 CE2"
        [[host]]
        names = "D"
        {host}
        [[domain]]
        name = "core"
        routers = "PE1 P1 P2 P3 PE2"
        {domain}
        [[link]]
        path = "VP CE1 PE1 P1 P2 P3 PE2 CE2 D"
        "#,
        host = vendor.lines().next().unwrap(),
    ))
}

const CISCO: &str = r#"vendor = "cisco""#;
const VMX: &str = r#"vendor = "junos""#;
const OLIVE: &str = r#"vendor = "junos-olive""#;

#[test]
fn g1_ios_explicit_php() {
    let mut p = chain(CISCO, "ttl_propagate = true");
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | P1 247/253 L19,1 | P2 248/252 q2 L18,1 | \
         P3 251/251 L17,1 | PE2 250/250 | CE2 249/249 | D 248/248"
    );
}

#[test]
fn g5_vmx_explicit_with_icmp_tunneling() {
    let mut p = chain(
        "vendor = \"junos\"\nlse_expiry = \"icmp-tunneling\"",
        "ttl_propagate = true\nlabel_distribution = \"host-routes\"",
    );
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/64 | PE1 254/63 | P1 246/62 L299779,1 | P2 247/61 q2 L299778,1 | \
         P3 251/60 L299777,1 | PE2 250/59 | CE2 249/58 | D 57/57"
    );
}

#[test]
fn g5_without_icmp_tunneling_errors_take_the_way_of_echo_replies() {
    let mut p = chain(
        VMX,
        "ttl_propagate = true\nlabel_distribution = \"host-routes\"",
    );
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/64 | PE1 254/63 | P1 253/62 L299779,1 | P2 252/61 q2 L299778,1 | \
         P3 251/60 L299777,1 | PE2 250/59 | CE2 249/58 | D 57/57"
    );
}

#[test]
fn g6_ios_opaque_is_revealed_backwards() {
    let mut p = chain(CISCO, "ttl_propagate = false\nending = \"opaque\"");
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | PE2 250/250 L16,252 | CE2 250/250 | D 250/250"
    );
    reveals_backwards(&mut p);
}

#[test]
fn g7_ios_invisible_php_is_revealed_backwards() {
    let mut p = chain(CISCO, "ttl_propagate = false");
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | PE2 250/250 | CE2 250/250 | D 250/250"
    );
    reveals_backwards(&mut p);
}

/// Each trace to the router that the last one revealed shows one more before it.
fn reveals_backwards(p: &mut Prober) {
    let steps = [
        (
            ("PE2", "P3"),
            "CE1 255/255 | PE1 254/254 | P3 251/251 | PE2 250/250",
        ),
        (
            ("P3", "P2"),
            "CE1 255/255 | PE1 254/254 | P2 252/252 | P3 251/251",
        ),
        (
            ("P2", "P1"),
            "CE1 255/255 | PE1 254/254 | P1 253/253 | P2 252/252",
        ),
        (("P1", "PE1"), "CE1 255/255 | PE1 254/254 | P1 253/253"),
    ];
    for ((name, neighbor), expected) in steps {
        let dst = p.on_link(name, neighbor);
        assert_eq!(p.table(dst), expected, "toward {name}");
    }
}

#[test]
fn g8_ios_invisible_uhp_shows_ce2_twice_and_is_revealed_by_buddies() {
    let mut p = chain(CISCO, "ttl_propagate = false\nending = \"explicit-null\"");
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | CE2 252/252 | CE2 252/252 | D 251/251"
    );
    // A trace to the last router known shows nothing new; a UDP probe to the other end of its link
    // is answered by the router before it, from the address of the interface that faces us.
    let steps = [
        (("CE2", "PE2"), "P3"),
        (("PE2", "P3"), "P2"),
        (("P3", "P2"), "P1"),
        (("P2", "P1"), "PE1"),
    ];
    for ((known, revealed), before) in steps {
        let target = p.on_link(known, revealed);
        assert_eq!(p.path(target), format!("CE1 PE1 {known}"));
        let buddy = p.on_link(revealed, known);
        let hops = p.trace(buddy, Method::Udp);
        assert_eq!(hops.len(), 3, "toward {revealed}");
        let last = hops[2].as_ref().unwrap();
        assert_eq!((last.kind, last.code), (Some(Kind::Unreachable), 3));
        assert_eq!(last.src, p.on_link(revealed, before));
        assert_ne!(last.src, buddy);
        assert_eq!(last.ttl, 253);
        let src = last.src;
        assert_eq!(p.ping(src).unwrap().ttl, 253);
    }
    // The buddy of P1 is the ingress itself: there is nothing more to reveal.
    let buddy = p.on_link("PE1", "P1");
    let hops = p.trace(buddy, Method::Udp);
    let last = hops.last().unwrap().as_ref().unwrap();
    assert_eq!((hops.len(), last.src), (2, p.on_link("PE1", "CE1")));
}

#[test]
fn g11_olive_invisible_php_is_revealed_at_once() {
    let mut p = chain(
        OLIVE,
        "ttl_propagate = false\nlabel_distribution = \"host-routes\"",
    );
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/64 | PE1 254/63 | PE2 252/61 | CE2 252/61 | D 60/60"
    );
    // The destination says with 255 that a port is unreachable.
    let hops = p.trace(dst, Method::Udp);
    assert_eq!(hops[4].as_ref().unwrap().ttl, 251);
    let pe2 = p.on_link("PE2", "P3");
    assert_eq!(
        p.table(pe2),
        "CE1 255/64 | PE1 254/63 | P1 253/62 | P2 252/61 | P3 252/61 | PE2 61/61"
    );
}

#[test]
fn g12_vmx_invisible_php_is_revealed_at_once() {
    let mut p = chain(
        VMX,
        "ttl_propagate = false\nlabel_distribution = \"host-routes\"",
    );
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/64 | PE1 254/63 | PE2 250/62 | CE2 250/61 | D 60/60"
    );
    let hops = p.trace(dst, Method::Udp);
    assert_eq!(hops[4].as_ref().unwrap().ttl, 250);
    let pe2 = p.on_link("PE2", "P3");
    assert_eq!(
        p.table(pe2),
        "CE1 255/64 | PE1 254/63 | P1 253/62 | P2 252/62 | P3 251/62 | PE2 62/62"
    );
}

#[test]
fn explicit_uhp_turns_p3_into_one_more_lsr_and_labels_the_egress() {
    let mut p = chain(CISCO, "ttl_propagate = true\nending = \"explicit-null\"");
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | P1 247/253 L19,1 | P2 248/252 q2 L18,1 | \
         P3 249/251 q3 L17,1 | PE2 250/250 L0,1 | CE2 249/249 | D 248/248"
    );
}

#[test]
fn without_rfc4950_only_the_quoted_ttl_tells() {
    let mut p = chain(
        "vendor = \"cisco\"\nrfc4950 = false",
        "ttl_propagate = true",
    );
    let dst = p.on_link("D", "CE2");
    assert_eq!(
        p.table(dst),
        "CE1 255/255 | PE1 254/254 | P1 247/253 | P2 248/252 q2 | P3 251/251 | \
         PE2 250/250 | CE2 249/249 | D 248/248"
    );
}
