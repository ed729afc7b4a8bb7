//! The real binary with real packets, inside the labs that it brings.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says why it was skipped"
)]

use std::path::PathBuf;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// What a script said.
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    /// Standard output as NDJSON.
    fn records(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Runs a shell script inside a lab, with `$P` for plumb and `$D` for a directory that is removed
/// at the end. `None` where this system lets nobody run labs.
fn in_lab(lab: &str, script: &str) -> Option<Said> {
    let doctor = Command::new(cargo_bin!("plumb"))
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    for check in doctor.lines() {
        let check: Value = serde_json::from_str(check).unwrap();
        if ["TUN device", "user namespaces"].contains(&check["name"].as_str().unwrap())
            && check["state"] != "ok"
        {
            eprintln!("skipped: labs cannot run here: {}", check["found"]);
            return None;
        }
    }
    let unique = format!(
        "plumb-lab-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let dir: PathBuf = std::env::temp_dir().join(unique);
    std::fs::create_dir_all(&dir).unwrap();
    let output = Command::new(cargo_bin!("plumb"))
        .args(["lab", "run", lab, "--seed", "7", "--", "sh", "-c", script])
        .env("P", cargo_bin!("plumb"))
        .env("D", &dir)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .timeout(core::time::Duration::from_secs(60))
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    Some(Said {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    })
}

#[test]
fn a_hidden_tunnel_is_drawn_with_its_routers_inside() {
    let Some(said) = in_lab("php", "$P trace 5.0.8.2") else {
        return;
    };
    assert_eq!(said.status, 0, "{}", said.stderr);
    let addresses: Vec<String> = said
        .stdout
        .lines()
        .filter(|line| line.contains(" ms"))
        .filter_map(|line| {
            let place: String = line
                .split_whitespace()
                .take_while(|word| !word.contains('.'))
                .filter(|word| !word.chars().all(char::is_numeric))
                .collect();
            let addr = line.split_whitespace().find(|word| word.contains('.'))?;
            addr.starts_with("5.0.").then(|| format!("{place}{addr}"))
        })
        .collect();
    assert_eq!(
        addresses,
        [
            "5.0.1.2",
            "╭─5.0.2.2",
            "┊5.0.3.2",
            "┊5.0.4.2",
            "┊5.0.5.2",
            "╰─5.0.6.2",
            "5.0.7.2",
            "5.0.8.2"
        ],
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains(
            "MPLS tunnel 5.0.2.2 → 5.0.6.2: invisible (PHP), 3 routers revealed by BRPR; trigger: FRPLA 3"
        ),
        "{}",
        said.stdout
    );
    assert_eq!(said.stderr, "");
}

#[test]
fn json_frames_the_traces_and_knows_the_name_that_was_asked_for() {
    let Some(said) = in_lab("plain", "$P trace --json 5.0.4.2 5.0.3.2") else {
        return;
    };
    assert_eq!(said.status, 0, "{}", said.stderr);
    let records = said.records();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "trace", "trace", "end"]);
    assert!(records.iter().all(|r| r["schema"] == "plumb.trace/1"));
    assert_eq!(records[3]["reason"], "completed");
    assert_eq!(records[3]["reached"], 2);
    let start = records[0]["time"].as_str().unwrap();
    let first = records[1]["start"].as_str().unwrap();
    assert!(start <= first, "{start} {first}");
}

#[test]
fn a_list_is_traced_without_duplicates_and_bad_lines_make_it_partial() {
    let script = "printf '# list\\n5.16.0.1\\r\\n\\nlocal host\\n5.16.0.2\\n5.16.0.1\\n300.0.0.1\\n' > $D/list
        $P trace --targets $D/list --json -o $D/out; echo $? >&2; cat $D/out";
    let Some(said) = in_lab("wide", script) else {
        return;
    };
    let mut traced: Vec<String> = said
        .records()
        .iter()
        .filter(|r| r["type"] == "trace")
        .map(|r| r["dst"].as_str().unwrap().to_owned())
        .collect();
    traced.sort();
    assert_eq!(traced, ["5.16.0.1", "5.16.0.2"]);
    for line in [
        "at most 1000 packets a second (--rate)",
        "list:4: 'local host' is neither an address nor a name",
        "list:7: '300.0.0.1' is neither an address nor a name",
        "1 target was given more than once and used once",
        "2 targets, 2 reached",
        "\n5\n",
    ] {
        assert!(said.stderr.contains(line), "{line}: {}", said.stderr);
    }
    // Nothing is drawn where nobody looks.
    assert!(!said.stderr.contains('\x1b'), "{}", said.stderr);
}

#[test]
fn a_list_from_a_slow_pipe_is_traced_as_it_comes() {
    // The second target comes when the first one's trace is out.
    let script = r#"(echo 5.0.4.2
        for i in $(seq 200); do grep -q '"type":"trace"' "$D/out" 2>/dev/null && break; sleep 0.05; done
        grep -c '"type":"trace"' "$D/out" > "$D/before"; echo 5.0.3.2) | $P trace - --json > "$D/out"
        cat "$D/before" "$D/out""#;
    let Some(said) = in_lab("plain", script) else {
        return;
    };
    assert_eq!(said.status, 0, "{}", said.stderr);
    let (before, records) = said.stdout.split_once('\n').unwrap();
    let targets: Vec<String> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["type"] == "trace")
        .map(|record| record["dst"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(targets, ["5.0.4.2", "5.0.3.2"]);
    assert_eq!(before, "1", "traces before the second target was given");
}

#[test]
fn an_interrupt_prints_what_there_is_and_the_end() {
    // The second and the third router are silent.
    let script = "timeout --preserve-status --signal INT 1 \
        $P trace --first 2 --max-hops 3 --wait 20s --json 5.0.9.2";
    let Some(said) = in_lab("silent", script) else {
        return;
    };
    assert_eq!(said.status, 130, "{}", said.stderr);
    let records = said.records();
    let kinds: Vec<&str> = records
        .iter()
        .map(|r| r["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "trace", "end"]);
    assert_eq!(records[1]["stop_reason"], "interrupted");
    assert_eq!(records[2]["reason"], "interrupted");
}

#[test]
fn what_is_not_reached_ends_with_1_and_silence_is_explained() {
    let script = "$P trace --first 2 --max-hops 3 --wait 2s 5.0.9.2";
    let Some(said) = in_lab("silent", script) else {
        return;
    };
    assert_eq!(said.status, 1, "{}", said.stdout);
    assert!(said.stdout.contains("not reached"), "{}", said.stdout);
    assert!(said.stderr.contains("nothing came back"), "{}", said.stderr);
    assert!(said.stderr.contains("plumb doctor"), "{}", said.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let script = "seq -f 5.16.1.%g 1 200 > $D/list
        { $P trace --targets $D/list --json -r 2000 2> $D/errors; echo $? > $D/status; } | head -1 > $D/head
        cat $D/status; cat $D/errors >&2";
    let Some(said) = in_lab("wide", script) else {
        return;
    };
    assert_eq!(said.stdout, "0\n", "{}", said.stderr);
    assert!(!said.stderr.contains("ipe"), "{}", said.stderr);
}

#[test]
fn the_other_formats_begin_as_their_readers_expect() {
    let script = "$P trace --format tnt 5.0.8.2; $P trace --format scamper-json 5.0.8.2";
    let Some(said) = in_lab("explicit", script) else {
        return;
    };
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "trace [icmp-paris] from 5.0.1.1 to 5.0.8.2");
    assert!(
        lines[3].contains("[MPLS,EXP,LSR] Labels 19 mTTL=1"),
        "{}",
        lines[3]
    );
    let json: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let kinds: Vec<&str> = json.iter().map(|r| r["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["cycle-start", "trace", "cycle-stop"]);
    assert_eq!(
        json[1]["hops"][2]["icmpext"][0]["mpls_labels"][0]["mpls_label"],
        19
    );
}

#[test]
fn all_packets_of_a_run_are_captured() {
    let script =
        "$P trace --pcap $D/x.pcapng --json 5.0.4.2; od -An -tx1 -v $D/x.pcapng | tr -d ' \\n'";
    let Some(said) = in_lab("plain", script) else {
        return;
    };
    let (json, hex) = said.stdout.trim_end().rsplit_once('\n').unwrap();
    let end: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    let packets = end["probes_sent"].as_u64().unwrap() + end["replies"].as_u64().unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap())
        .collect();
    let mut reader = plumb_wire::pcapng::Reader::new();
    let mut input = bytes.as_slice();
    let mut count = 0;
    while let plumb_wire::pcapng::Read::Packet(_) = reader.read(&mut input).unwrap() {
        count += 1;
    }
    assert!(count >= packets, "{count} {packets}");
}

#[test]
fn pings_go_to_many_targets_at_once() {
    let script = "$P ping -c 2 -i 100ms --json 5.0.4.2 5.0.3.2 5.0.2.99; echo $? >&2";
    let Some(said) = in_lab("plain", script) else {
        return;
    };
    let records = said.records();
    let summary = |dst: &str| {
        records
            .iter()
            .find(|r| r["type"] == "ping" && r["dst"] == dst)
            .unwrap()
            .clone()
    };
    assert_eq!(summary("5.0.4.2")["received"], 2);
    assert_eq!(summary("5.0.3.2")["received"], 2);
    assert_eq!(summary("5.0.2.99")["received"], 0);
    assert!(summary("5.0.4.2")["rtt_min_ns"].as_u64().unwrap() > 1_000_000);
    let replies = records.iter().filter(|r| r["type"] == "reply").count();
    assert_eq!(replies, 6);
    assert_eq!(said.stderr, "1\n");
    let Some(said) = in_lab("plain", "$P ping -c 3 -i 50ms -q 5.0.4.2") else {
        return;
    };
    assert_eq!(said.status, 0);
    assert!(said.stdout.contains("5.0.4.2"), "{}", said.stdout);
    assert!(said.stdout.contains(" 0% "), "{}", said.stdout);
}

#[test]
fn names_are_looked_up_only_when_asked_for() {
    let Some(said) = in_lab("plain", "$P trace 127.0.0.1; $P trace --names 127.0.0.1") else {
        return;
    };
    let hops: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| line.starts_with("  1 "))
        .collect();
    assert!(hops[0].starts_with("  1 127.0.0.1 "), "{}", said.stdout);
    assert!(
        hops[1].starts_with("  1 localhost (127.0.0.1) "),
        "{}",
        said.stdout
    );
}

#[test]
fn a_dry_run_prints_the_probes_and_sends_none() {
    let script =
        "$P trace --dry-run -U -g 1 -q 1 --parallel 1 5.0.4.2; cat /proc/net/snmp | grep ^Icmp:";
    let Some(said) = in_lab("plain", script) else {
        return;
    };
    let probes: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| line.contains("UDP"))
        .collect();
    assert_eq!(probes.len(), 1, "{}", said.stdout);
    assert!(
        probes[0].contains("5.0.1.1 > 5.0.4.2  ttl 1"),
        "{}",
        said.stdout
    );
    // The second line has the counters: messages in come first.
    let counters: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| line.starts_with("Icmp: ") && line.contains(" 0"))
        .collect();
    assert_eq!(counters.len(), 1, "{}", said.stdout);
    assert!(counters[0].starts_with("Icmp: 0 "), "{}", said.stdout);
}

#[test]
fn every_method_and_both_versions_reach() {
    for (lab, arguments) in [
        ("plain", "-U 5.0.4.2"),
        ("plain", "-T 5.0.4.2"),
        ("plain", "--size 500 --dscp 46 -f 2 5.0.4.2"),
        ("ipv6", "2a0b:5000:0:8::2"),
        ("ipv6", "-U 2a0b:5000:0:8::2"),
        ("ipv6", "-T -p 443 2a0b:5000:0:8::2"),
    ] {
        let Some(said) = in_lab(lab, &format!("$P trace {arguments}")) else {
            return;
        };
        assert_eq!(
            said.status, 0,
            "{arguments}: {}{}",
            said.stdout, said.stderr
        );
        assert!(said.stdout.contains("\nreached in "), "{}", said.stdout);
    }
}
