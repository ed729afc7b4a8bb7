use std::io::Read as _;
use std::path::Path;

use super::*;

/// Everything in a list with this content, sorted.
fn all(content: &[u8], family: Family) -> Vec<Next> {
    let dir = std::env::temp_dir();
    let path = dir.join(format!("plumb-list-{:?}", std::thread::current().id()));
    std::fs::write(&path, content).unwrap();
    let mut list = List::open(&path, family).unwrap();
    list.start();
    let mut found = Vec::new();
    loop {
        match list.poll() {
            Next::End => break,
            Next::Later => {
                let mut byte = [0];
                list.bell.stream.set_nonblocking(false).unwrap();
                let _ = list.bell.stream.read(&mut byte);
                list.bell.stream.set_nonblocking(true).unwrap();
            }
            next @ (Next::Target(_) | Next::Unusable(..)) => found.push(next),
        }
    }
    std::fs::remove_file(&path).unwrap();
    found
}

fn target(addr: &str) -> Next {
    Next::Target(Target {
        addr: addr.parse().unwrap(),
        name: None,
    })
}

#[test]
fn a_list_may_have_comments_blank_lines_and_foreign_line_ends() {
    let content = b"\xef\xbb\xbf# head\r\n5.0.0.1\r\n\r\n  5.0.0.2 # why\n2a00::1\n5.0.0.3";
    assert_eq!(
        all(content, Family::Any),
        ["5.0.0.1", "5.0.0.2", "2a00::1", "5.0.0.3"].map(target)
    );
}

#[test]
fn a_line_that_is_no_target_is_named_and_the_next_one_is_read() {
    let mut content = b"5.0.0.1\nwhat is this\n300.1.1.1\n2a00::1\n".to_vec();
    content.extend([b'x'; 5000]);
    content.extend(b"\n5.0.0.2\n");
    let found = all(&content, Family::V4);
    let lines: Vec<u64> = found
        .iter()
        .filter_map(|next| match next {
            Next::Unusable(line, _) => Some(*line),
            Next::Target(_) | Next::Later | Next::End => None,
        })
        .collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    assert_eq!(found.first(), Some(&target("5.0.0.1")));
    assert_eq!(found.last(), Some(&target("5.0.0.2")));
}

#[test]
fn names_in_a_list_are_resolved() {
    let found = all(b"localhost\n5.0.0.1\n", Family::V4);
    assert!(found.contains(&target("5.0.0.1")));
    assert!(found.contains(&Next::Target(Target {
        addr: Ipv4Addr::LOCALHOST.into(),
        name: Some("localhost".into()),
    })));
    assert_eq!(found.len(), 2);
}

#[test]
fn what_is_no_list_is_refused_at_once() {
    let dir = std::env::temp_dir().join(format!("plumb-no-list-{}", std::process::id()));
    for (content, said) in [
        (b"".as_slice(), "is empty"),
        (b"\x7fELF\0\0", "not text"),
        (b"5.0.0.1\n\xff\xfe\n", "not text"),
    ] {
        std::fs::write(&dir, content).unwrap();
        let error = List::open(&dir, Family::Any).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    std::fs::remove_file(&dir).unwrap();
    assert!(List::open(&dir, Family::Any).is_err());
    assert!(List::open(Path::new("/"), Family::Any).is_err());
}

#[test]
fn what_only_inet_aton_takes_for_an_address_is_no_name() {
    for no in [
        "",
        "1",
        "300",
        "1.2.3",
        "1.2.3.4.5",
        "0x7f000001",
        "a b",
        "-f",
        "a/24",
        "..",
    ] {
        assert!(!is_name(no), "{no}");
    }
    for yes in [
        "a",
        "a1",
        "1.example",
        "x_y.example.",
        "bücher.example",
        "0x7f.org",
    ] {
        assert!(is_name(yes), "{yes}");
    }
}

#[test]
fn an_address_of_the_wrong_family_is_refused_with_both_named() {
    let error = Target::resolve("5.0.0.1", Family::V6).unwrap_err();
    assert!(error.contains("IPv4") && error.contains("IPv6"), "{error}");
    assert!(Target::resolve("::1", Family::V4).is_err());
    assert!(Target::resolve("::1", Family::V6).is_ok());
}
