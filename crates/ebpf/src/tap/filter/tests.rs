use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> String {
    match compile(text) {
        Err(error) => error.to_string(),
        Ok(program) => panic!("{text}: {program:?}"),
    }
}

#[test]
fn an_empty_expression_chooses_all() {
    assert_eq!(compile(""), Ok(None));
    assert_eq!(compile(" \t"), Ok(None));
}

#[test]
fn a_refusal_says_what_is_wrong_and_where() {
    assert_eq!(
        refusal("tcp port 80 and and"),
        "\"and\" is not known, at character 17"
    );
    assert_eq!(refusal("host"), "an address was expected, at character 5");
    assert_eq!(
        refusal("host example.net"),
        "\"example.net\" is no address, and names are not looked up, at character 6"
    );
    assert!(refusal("net 10.2.0.1/16").contains("outside of the prefix"));
    assert!(refusal("(tcp").contains("closing parenthesis"));
    assert!(refusal("tcp)").contains("at character 4"));
    assert!(refusal("port 65536").contains("a port was expected"));
    assert!(refusal("icmp port 7").contains("no ports"));
    assert!(refusal("udp port http").contains("another protocol"));
    assert!(refusal("ether[0:3] = 1").contains("one, two or four"));
    assert!(refusal("len").contains("comparison"));
    assert!(refusal("ip[0] / 0 = 1").contains("zero"));
    assert!(refusal("inbound").contains("--bytecode"));
    assert!(refusal("tcp;").contains("means nothing"));
    assert!(refusal("vlan 4096").contains("4095"));
}

#[test]
fn hostile_texts_are_refused_within_bounds() {
    assert!(refusal(&"(".repeat(60_000)).contains("too deeply"));
    assert!(refusal(&"not ".repeat(10_000)).contains("too deeply"));
    assert!(refusal(&format!("{}1 = 1", "-".repeat(10_000))).contains("too deeply"));
    assert_eq!(compile(&"x".repeat(MAX_LEN + 1)), Err(Error::TooLong));
    let long: Vec<String> = (0..3000)
        .map(|n| format!("host 10.0.{}.{}", n / 256, n % 256))
        .collect();
    assert!(refusal(&long.join(" or ")).contains("too long"));
    let nested = (0..20).fold("len".to_owned(), |text, _| format!("(len+{text})"));
    assert!(refusal(&format!("{nested} = 1")).contains("too long"));
}

/// Words of the language in any order.
fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("tcp"),
        Just("ip6"),
        Just("port"),
        Just("host"),
        Just("net"),
        Just("src"),
        Just("or"),
        Just("and"),
        Just("not"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("10.0.0.1"),
        Just("80"),
        Just("::1"),
        Just("len"),
        Just("+"),
        Just("-"),
        Just("="),
        Just("&"),
        Just("vlan"),
        Just("mpls"),
        Just("ether"),
        Just("proto"),
        Just(":"),
        Just("tcpflags"),
        Just("0x10"),
        Just("/"),
        Just("portrange"),
        Just("1-2"),
        Just("mask"),
        Just("\\udp"),
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_understood_ends_on_every_packet(
        text in prop_oneof![words(), any::<String>(), "[ -~]{0,40}"],
        packet in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        if let Ok(Some(program)) = compile(&text) {
            let len = u32::try_from(packet.len()).unwrap();
            program.run(&packet, len);
            // What is printed is the same program.
            prop_assert_eq!(program.to_string().parse(), Ok(program));
        }
    }
}
