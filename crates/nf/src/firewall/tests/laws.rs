//! What holds for any rules.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::Source;
use super::super::set::{Data, Element, Fixed, Key, MOST_FIELDS};
use super::super::syntax::ast::Command;
use super::super::syntax::{self};
use super::parse;

/// Rulesets that the kernel takes, too.
const RULESETS: [&str; 7] = [
    include_str!("../../../../../tests/oracles/firewall/commands.nft"),
    include_str!("../../../../../tests/oracles/firewall/fields.nft"),
    include_str!("../../../../../tests/oracles/firewall/limits.nft"),
    include_str!("../../../../../tests/oracles/firewall/reject.nft"),
    include_str!("../../../../../tests/oracles/firewall/sets.nft"),
    include_str!("../../../../../tests/oracles/firewall/states.nft"),
    include_str!("../../../../../tests/oracles/firewall_bridge.nft"),
];

fn items(text: &str) -> Vec<String> {
    let main = Source {
        name: String::new(),
        text: text.into(),
    };
    let parsed = syntax::parse(main, &[], &mut |_, _| Err("none".into()));
    let (commands, _) =
        parsed.unwrap_or_else(|(_, (_, complaint))| panic!("{complaint:?}: {text}"));
    let mut items = Vec::new();
    for command in commands {
        if let Command::Table(_, all) = command {
            items.extend(all.iter().map(|item| format!("{item}")));
        }
    }
    items
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    let mut count = 0;
    for text in RULESETS {
        for printed in items(text) {
            let again = format!("table inet t {{ {printed} }}");
            assert_eq!(items(&again), vec![printed]);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// Words that mean something, in any order.
fn soup() -> impl Strategy<Value = String> {
    const WORDS: [&str; 64] = [
        "table",
        "inet",
        "ip",
        "ip6",
        "f",
        "{",
        "}",
        "{",
        "}",
        ";",
        "\n",
        "chain",
        "c",
        "type",
        "filter",
        "hook",
        "forward",
        "priority",
        "0",
        "policy",
        "drop",
        "accept",
        "tcp",
        "dport",
        "22",
        "udp",
        "saddr",
        "10.0.0.0/8",
        "fe80::1",
        "-",
        ".",
        ":",
        ",",
        "set",
        "map",
        "@s",
        "$x",
        "define",
        "=",
        "elements",
        "ct",
        "state",
        "new",
        "vmap",
        "jump",
        "counter",
        "limit",
        "rate",
        "/",
        "second",
        "burst",
        "packets",
        "log",
        "prefix",
        "\"a\"",
        "meta",
        "mark",
        "&",
        "(",
        ")",
        "|",
        "!=",
        "reject",
        "add",
    ];
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..60)
        .prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_words_make_the_parser_panic(text in soup()) {
        if let Err(error) = parse(&text) {
            let shown = format!("{error}");
            prop_assert!(shown.starts_with("rules.nft:"));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = parse(&text).map_err(|error| format!("{error}"));
    }

    #[test]
    fn good_rules_with_a_piece_changed_are_taken_or_refused(
        which in 0..RULESETS.len(), at in 0.0..1.0_f64, len in 0..20_usize, with in "[ -~\\n]{0,6}"
    ) {
        let text = RULESETS[which];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the text")]
        #[expect(clippy::cast_precision_loss, reason = "any place will do")]
        let at = (text.len() as f64 * at) as usize;
        let end = (at + len).min(text.len());
        let changed = format!("{}{with}{}", &text[..at], &text[end..]);
        let _ = parse(&changed).map_err(|error| format!("{error}"));
    }

    #[test]
    fn a_set_finds_what_a_look_at_every_element_finds(
        fields in 1..4_usize,
        ranges in proptest::collection::vec(([0..20_u128, 0..20, 0..20], [0..4_u128, 0..4, 0..4]), 1..80),
        keys in proptest::collection::vec([0..26_u128, 0..26, 0..26], 1..60),
    ) {
        let key = |values: [u128; 3]| {
            let mut key: Key = [0; MOST_FIELDS];
            key[..fields].copy_from_slice(&values[..fields]);
            key
        };
        let elements: Vec<_> = ranges
            .iter()
            .map(|(first, len)| Element {
                first: key(*first),
                last: key([first[0] + len[0], first[1] + len[1], first[2] + len[2]]),
                data: Data::Nothing,
            })
            .collect();
        let set = Fixed::new(fields, &elements, None, true).unwrap();
        for values in keys {
            let key = key(values);
            let naive = elements
                .iter()
                .any(|e| (0..fields).all(|i| e.first[i] <= key[i] && key[i] <= e.last[i]));
            prop_assert_eq!(set.find(&key).is_some(), naive);
        }
    }

    #[test]
    fn a_map_leads_where_its_element_says(
        firsts in proptest::collection::btree_set(0..1000_u128, 1..50), probe in 0..1000_u128
    ) {
        let firsts: BTreeSet<u128> = firsts;
        let element = |first: &u128| {
            let mut key = [0; MOST_FIELDS];
            key[0] = *first;
            Element { first: key, last: key, data: Data::Value(first * 2) }
        };
        let elements: Vec<_> = firsts.iter().map(element).collect();
        let map = Fixed::new(1, &elements, Some(Data::Value(7)), false).unwrap();
        let mut key = [0; MOST_FIELDS];
        key[0] = probe;
        let expected = if firsts.contains(&probe) { probe * 2 } else { 7 };
        prop_assert_eq!(map.find(&key), Some(Data::Value(expected)));
    }
}
