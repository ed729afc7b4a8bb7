//! Which packets `plumb tap` chooses: rules, sets of prefixes, and changes to both while it runs.

#![forbid(unsafe_code)]

use core::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use plumb_tests::tap_lab::{LIMIT, Lab, bytes_of, frames, traffic, write_capture};
use plumb_tests::{Directory, Running, require, run};

/// A file with so many prefixes that no packet here is in.
fn many_prefixes(path: &Path, count: u32) {
    let mut text = String::new();
    for n in 0..count {
        let [_, a, b, c] = n.to_be_bytes();
        if n % 2 == 0 {
            writeln!(text, "11.{a}.{b}.{c}").expect("a string");
        } else {
            writeln!(text, "2001:db8:b{a:02x}:{:x}::/64", n & 0xffff).expect("a string");
        }
    }
    std::fs::write(path, text).expect("a file");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn only_id(lab: &Lab) -> String {
    let listed = lab.control(&["list"]).expect(0);
    listed.stdout.split(' ').next().expect("an id").to_owned()
}

#[test]
fn root_the_first_rule_that_matches_decides_and_what_is_left_out_is_counted() {
    require!("tcpreplay", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(1500));
    let cases: [(&[&str], &str); 4] = [
        (
            &[
                "--rule",
                "exclude",
                "udp",
                "--rule",
                "include",
                "net 10.7.1.0/25",
            ],
            "not udp and net 10.7.1.0/25",
        ),
        (
            &[
                "--rule",
                "include",
                "net 10.7.1.0/25",
                "--rule",
                "exclude",
                "udp",
            ],
            "net 10.7.1.0/25",
        ),
        (
            &["--rule", "exclude", "len > 700", "--rule", "exclude", "ip6"],
            "len <= 700 and not ip6",
        ),
        (
            &[
                "--filter", "ip", "--rule", "exclude", "udp", "--rule", "include", "",
            ],
            "ip and not udp",
        ),
    ];
    let path = |n: usize| directory.file(&format!("tap{n}"));
    let taps: Vec<Running> = cases
        .iter()
        .enumerate()
        .map(|(n, (rules, _))| {
            let file = path(n);
            let mut arguments = vec!["vm1", "--direction", "out", "--write", text(&file)];
            arguments.extend(*rules);
            lab.tap(&arguments)
        })
        .collect();
    lab.replay("vm1", &source);
    let ends: Vec<_> = taps.into_iter().map(|tap| lab.end(tap)).collect();
    for (n, ((rules, expression), status)) in cases.iter().zip(&ends).enumerate() {
        let expected = directory.file("expected");
        run(Command::new("tcpdump")
            .args(["-Z", "root", "-r"])
            .arg(&source)
            .arg("-w")
            .arg(&expected)
            .arg(expression))
        .expect(0);
        let (found, expected) = (frames(&path(n)), frames(&expected));
        assert!(
            bytes_of(&found) == bytes_of(&expected),
            "{rules:?}: {} and {} packets",
            found.len(),
            expected.len()
        );
        let counters = &status["counters"];
        let (chosen, left_out) = (expected.len(), 1500 - expected.len());
        assert!(chosen > 100 && left_out > 100, "{rules:?}");
        assert_eq!(counters["matched"], chosen, "{status}");
        assert_eq!(counters["not_chosen"], left_out, "{status}");
    }
}

#[test]
fn root_rules_and_prefixes_change_while_packets_flow_and_none_is_lost() {
    require!("tcpreplay");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    let packets = traffic(4000);
    write_capture(&source, &packets);
    let (changed, left_alone) = (directory.file("changed"), directory.file("left alone"));
    let many = directory.file("prefixes");
    many_prefixes(&many, 100_000);
    let of = |file: &Path| lab.tap(&["vm1", "--direction", "out", "--write", text(file)]);
    let first = of(&changed);
    let id = only_id(&lab);
    let other = of(&left_alone);
    let mut replay = lab.command("vm1", "tcpreplay");
    replay.args(["-q", "-i", "eth0", "--pps=1500"]).arg(&source);
    let replay = Running::start(&mut replay);
    // All of them choose all packets, each in another way.
    let all = ["--cidr", "0.0.0.0/0", "--cidr", "::/0"];
    let with_many: Vec<&str> = all.into_iter().chain(["--cidr", text(&many)]).collect();
    let changes: [&[&str]; 6] = [
        &[
            "--rule",
            "exclude",
            "arp",
            "--rule",
            "include",
            "ip or ip6 or vlan",
        ],
        &all,
        &["--no-rules"],
        &with_many,
        &[
            "--filter",
            "len > 0",
            "--cidr",
            "10.0.0.0/8",
            "--cidr",
            "2001:db8::/32",
        ],
        &["--no-cidr", "--rule", "include", ""],
    ];
    let seen = || {
        let status = lab.control(&["status", &id, "--json"]).expect(0);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
        status["counters"]["seen"].as_u64()
    };
    let before = seen();
    for change in changes {
        let mut arguments = vec!["set", &id];
        arguments.extend(change);
        lab.control(&arguments).expect(0);
    }
    assert!(before < seen(), "no packets came by meanwhile");
    replay.finish(LIMIT).expect(0);
    let shown = lab.control(&["list"]).expect(0).stdout;
    assert!(shown.contains("filter: len > 0; include: all\n"), "{shown}");
    // And one that leaves all out.
    lab.control(&["set", &id, "--cidr", "11.0.0.0/8"]).expect(0);
    lab.replay("vm1", &source);
    let status = lab.end(first);
    let untouched = lab.end(other);
    assert!(bytes_of(&frames(&changed)) == packets, "{status}");
    assert_eq!(status["counters"]["not_chosen"], 4000, "{status}");
    assert_eq!(status["prefixes"], 1, "{status}");
    assert_eq!(untouched["counters"]["written"], 8000, "{untouched}");
}

#[test]
fn root_what_cannot_be_chosen_is_refused_in_a_line_and_the_session_goes_on() {
    let (lab, directory) = (Lab::new(), Directory::new());
    let too_many = directory.file("prefixes");
    many_prefixes(&too_many, (1 << 20) + 1);
    let deep = "(".repeat(100);
    let long = format!("port 1{}", " or port 1".repeat(8000));
    let tap = lab.tap(&["vm1", "--to", "mon", "--rule", "exclude", "port 22"]);
    let id = only_id(&lab);
    let hostile: [(&[&str], &str); 9] = [
        (&["--rule", "drop", "udp"], "include or exclude"),
        (&["--rule", "include", "udp prot 1"], "--rule include"),
        (&["--filter", &deep], "nested"),
        (&["--filter", &long], "characters at most"),
        (&["--filter", "tcp\u{1b}[31m port 80"], "--filter"),
        (&["--filter", "ether[0xffffffffff] = 1"], "--filter"),
        (&["--filter", "host $(reboot)"], "--filter"),
        (
            &["--cidr", text(&too_many)],
            "1048576 prefixes at most, not 1048577",
        ),
        (&["--cidr", "10.0.0.0/33"], "neither a prefix"),
    ];
    for (arguments, word) in hostile {
        let runs = [vec!["vm2", "--to", "mon"], vec!["set", &id]];
        for mut command in runs {
            command.extend(arguments);
            let done = lab.control(&command);
            assert_eq!(done.code(), Some(2), "{command:?}: {done}");
            assert_eq!(done.stderr.lines().count(), 1, "{command:?}: {done}");
            assert!(done.stderr.contains(word), "{command:?}: {done}");
            assert!(!done.stderr.contains('\u{1b}'), "{command:?}: {done}");
        }
    }
    let status = lab.end(tap);
    assert_eq!(status["rules"][0]["action"], "exclude", "{status}");
    assert_eq!(status["filter"], "", "{status}");
}

#[test]
fn root_a_filter_that_the_kernel_refuses_chooses_the_same_packets_in_user_space() {
    require!("tcpreplay", "tcpdump");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(1500));
    let expected = directory.file("expected");
    run(Command::new("tcpdump")
        .args(["-Z", "root", "-r"])
        .arg(&source)
        .arg("-w")
        .arg(&expected)
        .arg("udp"))
    .expect(0);
    let terms: Vec<String> = (30_000..31_500).map(|n| format!("len = {n}")).collect();
    let long = terms.join(" or ");
    let mut rules = ["--rule", "exclude", &long].repeat(8);
    rules.extend(["--rule", "include", "udp"]);
    // Where copies do not come to plumb, there is nothing that it could choose.
    let mut elsewhere = vec!["vm1", "--to", "mon"];
    elsewhere.extend(&rules);
    let refused = lab.control(&elsewhere);
    assert_eq!(refused.code(), Some(2), "{refused}");
    assert!(
        refused.stderr.contains("too long for the kernel"),
        "{refused}"
    );
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");

    let file = directory.file("tap");
    let mut arguments = vec!["vm1", "--direction", "out", "--write", text(&file)];
    arguments.extend(&rules);
    let tap = lab.tap(&arguments);
    let id = only_id(&lab);
    lab.replay("vm1", &source);
    let capped = lab.control(&["set", &id, "--rate-limit", "5pps"]);
    assert_eq!(capped.code(), Some(2), "{capped}");
    assert!(capped.stderr.contains("no rate limit"), "{capped}");
    let status = lab.end(tap);
    let (found, expected) = (frames(&file), frames(&expected));
    assert!(bytes_of(&found) == bytes_of(&expected), "{status}");
    let counters = &status["counters"];
    assert_eq!(counters["matched"], expected.len(), "{status}");
    assert_eq!(counters["not_chosen"], 1500 - expected.len(), "{status}");
    let reason = status["in_user_space"].as_str().expect("a reason");
    assert!(reason.contains("too long"), "{status}");
}
