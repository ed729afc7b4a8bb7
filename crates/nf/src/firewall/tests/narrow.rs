//! A comparison in its quick form is the comparison.

use alloc::vec;
use core::net::SocketAddr;

use plumb_wire::frame::Port;
use proptest::prelude::*;

use crate::Frame;
use crate::conntrack::Tracked;
use crate::dissect::Dissected;
use crate::firewall::evaluate::Packet;
use crate::firewall::load::load;
use crate::firewall::narrow::Narrow;
use crate::firewall::rules::Operand;
use crate::firewall::syntax::ast::Step;
use crate::firewall::syntax::field::{Base, Ct, Field, Meta, Needs, Type};
use crate::testing::{self, Segment};

/// Frames of every kind, whole and cut off.
fn frame() -> impl Strategy<Value = Frame> {
    let end = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let (a4, b4) = (end("192.0.2.1:53"), end("198.51.100.7:4000"));
    let (a6, b6) = (end("[2001:db8::1]:443"), end("[2001:db8::2]:4000"));
    let long = testing::udp(a4, b4, &[7; 64]);
    let mut frames = vec![
        testing::udp(b4, a4, b"query"),
        testing::tcp(a6, b6, &Segment::default()),
        testing::icmp(a4.ip(), b4.ip(), (8, 0), 0x0102_0304, b"x"),
    ];
    frames.extend(testing::cut(&long, 9, &[32]));
    frames.push(Frame::new(frames[0].at, &[0xff; 42]));
    (any::<prop::sample::Index>(), 14_usize..80).prop_map(move |(index, len)| {
        let mut frame = index.get(&frames).clone();
        frame.bytes.truncate(len);
        frame
    })
}

fn field() -> impl Strategy<Value = Field> {
    let base = prop::sample::select(vec![Base::Link, Base::Network, Base::Transport]);
    let needs = prop::sample::select(vec![
        Needs::Nothing,
        Needs::EtherType(0x0800),
        Needs::Protocol(17),
        Needs::Protocol(1),
        Needs::Transport,
    ]);
    let payload = (
        base,
        needs,
        0_u16..320,
        prop::sample::select(vec![4, 8, 16, 32, 48]),
    );
    prop_oneof![
        payload.prop_map(|(base, needs, at, bits)| Field::Payload {
            base,
            needs,
            at: at & !7,
            bits,
            of: Type::Integer,
            name: ("", ""),
        }),
        prop::sample::select(vec![
            Meta::IifName,
            Meta::OifName,
            Meta::L4Proto,
            Meta::NfProto,
            Meta::Protocol,
            Meta::Length,
            Meta::Mark,
            Meta::PktType,
        ])
        .prop_map(Field::Meta),
        prop::sample::select(vec![
            Ct::State,
            Ct::Status,
            Ct::Direction,
            Ct::Mark,
            Ct::Zone
        ])
        .prop_map(Field::Ct),
    ]
}

proptest! {
    #[test]
    fn a_narrow_comparison_says_what_the_general_one_says(
        frame in frame(),
        field in field(),
        mask in prop::option::of(prop_oneof![any::<u8>().prop_map(u128::from), any::<u128>()]),
        bounds: (u128, u128),
        near: Option<(i8, i8)>,
        negated: bool,
        is_tracked: bool,
    ) {
        let steps = mask.map(|mask| (Step::And, mask)).into_iter().collect();
        let key = Operand { field, steps };
        let dissected = Dissected::new(&frame);
        let mut packet = Packet::new(&frame, &dissected, Port::Left);
        packet.mark = 5;
        if is_tracked {
            packet.tracked = Tracked::untracked();
        }
        let value = load(&packet, &key);
        // Bounds are where it matters: at the value and beside it.
        let beside = |by: i8| value.unwrap_or(0).wrapping_add_signed((by % 2).into());
        let (first, last) = near.map_or(bounds, |(first, last)| (beside(first), beside(last)));
        let general = value
            .is_some_and(|value| (first <= value && value <= last) != negated);
        if let Some(narrow) = Narrow::new(&key, first, last, negated) {
            prop_assert_eq!(narrow.matches(&packet), general);
        }
    }
}

#[test]
fn what_most_rules_look_at_is_narrow_and_addresses_of_ipv6_are_not() {
    let narrow = |field, steps| Narrow::new(&Operand { field, steps }, 1, 2, false).is_some();
    let payload = |bits| Field::Payload {
        base: Base::Transport,
        needs: Needs::Transport,
        at: 16,
        bits,
        of: Type::Integer,
        name: ("", ""),
    };
    assert!(narrow(Field::Ct(Ct::State), vec![(Step::And, 6)]));
    assert!(narrow(payload(16), vec![]));
    assert!(!narrow(payload(128), vec![]));
    assert!(!narrow(payload(16), vec![(Step::Left, 1)]));
}
