//! Whole pipelines with real programs: transfers, names, long-lived connections, captures at the side,
//! and stages that are stopped or killed while all of that goes on.

#![forbid(unsafe_code)]

use core::time::Duration;

use plumb_tests::{Directory, Done, Running, require, shell};

const LIMIT: Duration = Duration::from_secs(90);

fn sh_in(directory: &Directory, script: &str) -> Done {
    Running::start(&mut shell(script, directory)).finish(LIMIT)
}

fn sh(script: &str) -> Done {
    sh_in(&Directory::new(), script)
}

/// Two ways to say the same stages: joined by a shell, and as one process. What the left command
/// prints is in the output of both.
fn both_ways(stages: &[&str]) -> [String; 2] {
    let joined: Vec<_> = stages.iter().map(|stage| format!("$P {stage}")).collect();
    [
        format!("({}) 2>&1", joined.join(" | ")),
        format!("$P chain \"{}\" 2>&1", stages.join(" | ")),
    ]
}

#[test]
fn root_a_large_transfer_arrives_whole_through_a_nat_and_a_bad_link() {
    require!("bash", "curl", "python3", "sha256sum");
    let directory = Directory::new();
    let content: Vec<u8> = (0..1_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    directory.write("file", &content);
    let client = "exec --addr 10.0.0.2/8 -- sh -c 'curl -sS --retry 20 --retry-connrefused \
                  --retry-delay 1 http://10.0.1.2:8000/file | sha256sum > sum'";
    let server = "exec --addr 10.0.1.2/24 -- python3 -m http.server";
    let stages = [
        client,
        "nat --outside 10.0.1.1",
        "impair --delay 2ms --loss 0.2% --reorder 1% --duplicate 0.5%",
        server,
    ];
    for script in both_ways(&stages) {
        let done = sh_in(
            &directory,
            &format!("rm -f sum; {script}; sha256sum < file | cmp - sum && echo same"),
        );
        assert!(done.stdout.ends_with("same\n"), "{done}");
        assert!(done.stdout.contains("10.0.1.1 - - "), "{done}");
    }
}

/// Large frames go through functions without their payload, in pipes, in rings and from one into the other;
/// what functions refuse is lost without harm to what follows.
#[test]
fn root_a_large_transfer_arrives_whole_behind_frames_that_are_dropped() {
    require!("bash", "sha256sum", "socat");
    const LEN: u32 = 4_000_000;
    let directory = Directory::new();
    let content: Vec<u8> = (0..LEN / 4)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    directory.write("file", &content);
    directory.write(
        "rules",
        "table inet filter { chain forward { type filter hook forward priority 0; policy drop; \
         udp dport 9 counter reject; meta length > 30000 limit rate over 200/second counter drop; \
         ct state established,related,new accept; } }",
    );
    for (mtu, pipes) in [
        (1500, [true, true, true]),
        (65_521, [true, true, true]),
        (1500, [false, false, false]),
        (65_521, [false, false, false]),
        (65_521, [true, false, false]),
        (65_521, [false, true, false]),
        (65_521, [false, false, true]),
    ] {
        let link = |hop: usize, option: &str| match pipes[hop] {
            true => format!("--gso {option}"),
            false => String::new(),
        };
        let left = |hop| link(hop, &format!("--left=in=/dev/stdin,out=back{hop}"));
        let right = |hop| link(hop, &format!("--right=in=back{hop},out=/dev/stdout"));
        let [first, second, third] = [0, 1, 2].map(right);
        let [from_first, from_second, from_third] = [0, 1, 2].map(left);
        // An option that is there twice is refused.
        let once = |options: [&str; 2]| {
            options
                .join(" ")
                .replacen("--gso", "", options.iter().all(|o| !o.is_empty()).into())
        };
        let (of_nat, of_firewall) = (once([&from_first, &second]), once([&from_second, &third]));
        let done = sh_in(
            &directory,
            &format!(
                "rm -f back* sum; mkfifo back0 back1 back2; \
                 $P exec {first} --mtu {mtu} --addr 10.0.0.2/8 -- sh -c \
                 'head -c 60000 file | socat -u -b 60000 - UDP:10.0.1.2:9; \
                 socat -t 60 - TCP:10.0.1.2:7,retry=50,interval=0.1 < file > sum' | \
                 $P nat {of_nat} --outside 10.0.1.1 | \
                 $P firewall {of_firewall} --counters rules | \
                 $P exec {from_third} --mtu {mtu} --addr 10.0.1.2/24 -- \
                 socat TCP-LISTEN:7 EXEC:sha256sum; \
                 sha256sum < file | cmp - sum && echo same"
            ),
        );
        assert!(done.stdout.ends_with("same\n"), "{mtu} {pipes:?} {done}");
        let line = |what: &str| {
            let line = done.stderr.lines().find(|line| line.contains(what));
            line.unwrap_or_else(|| panic!("{what}: {mtu} {pipes:?} {done}"))
        };
        for (port, pipe) in [("left", pipes[1]), ("right", pipes[2])] {
            // Whose neighbour has ended before has a pipe again.
            let kind = if pipe { "[pipe]" } else { "ring]" };
            assert!(
                line(&format!("firewall: {port}:")).ends_with(kind),
                "{pipes:?} {done}"
            );
        }
        // Bytes are counted whether they were looked at or not.
        let number = |line: &str, at| line.split_whitespace().nth(at).and_then(|n| n.parse().ok());
        let received: Option<u32> = number(line("firewall: left:"), 5);
        assert!(
            received.is_some_and(|bytes| bytes > LEN),
            "{pipes:?} {done}"
        );
        // Some large frames were dropped, and their places in the stream were taken by others.
        for refused in ["udp dport 9", "length > 30000"] {
            let count: Option<u32> = number(line(refused), 1);
            assert!(
                count.is_some_and(|count| count > 0),
                "{refused}: {pipes:?} {done}"
            );
        }
    }
}

#[test]
fn root_bulk_traffic_goes_both_ways_through_a_nat() {
    require!("bash", "iperf3");
    let client = "exec --addr 10.0.0.2/8 -- sh -c 'until iperf3 -J -t 1 -c 10.0.1.2 > up; grep -q sum_received up; do sleep 0.2; done; \
                  until iperf3 -J -R -t 1 -c 10.0.1.2 > down; grep -q sum_received down; do sleep 0.2; done'";
    let stages = [
        client,
        "nat --outside 10.0.1.1",
        "count",
        "exec --addr 10.0.1.2/24 -- iperf3 -s",
    ];
    for script in both_ways(&stages) {
        let directory = Directory::new();
        let done = sh_in(&directory, &script);
        for file in ["up", "down"] {
            let text = std::fs::read(directory.file(file)).expect("a report");
            let json: serde_json::Value =
                serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{file}: {e}: {done}"));
            let bytes = &json["end"]["sum_received"]["bytes"];
            assert!(
                bytes.as_u64().expect("bytes") > 1_000_000,
                "{file}: {bytes} {done}"
            );
        }
    }
}

#[test]
fn root_names_are_resolved_through_a_nat() {
    require!("bash", "dig", "dnsmasq");
    let client = "exec --addr 10.0.0.2/8 -- sh -c 'for i in 1 2 3 4 5 6 7 8; do \
                  dig +short +tries=20 +time=1 @10.0.1.2 host-$i.example.test && \
                  dig +short +tcp +tries=5 +time=2 @10.0.1.2 host-$i.example.test; done > answers'"
        .replace("$i", "\\$i");
    let server = "exec --addr 10.0.1.2/24 -- dnsmasq -k -C /dev/null --pid-file= --no-resolv \
                  --no-hosts --user=root --address=/example.test/192.0.2.7";
    let stages = [
        &client[..],
        "nat --outside 10.0.1.1",
        "impair --delay 3ms",
        server,
    ];
    for script in both_ways(&stages) {
        let directory = Directory::new();
        // Only the text in double quotes needs its dollars kept from the shell.
        let script = if script.contains("chain") {
            script
        } else {
            script.replace("\\$i", "$i")
        };
        let done = sh_in(&directory, &script);
        let answers = std::fs::read_to_string(directory.file("answers")).unwrap_or_default();
        assert_eq!(answers, "192.0.2.7\n".repeat(16), "{done}");
    }
}

/// A line each 50 ms over one TCP connection, and the echo of each; the connection's other end.
const TALK: &str = "socat -t 30 - TCP:10.0.1.2:7,retry=40,interval=0.2";
const ECHO: &str = "socat TCP-LISTEN:7,reuseaddr EXEC:cat";

#[test]
fn root_a_long_lived_connection_survives_a_stage_that_is_stopped_and_goes_on() {
    require!("bash", "socat", "seq");
    let script = format!(
        "mkfifo ab bc cd; \
         $P exec --addr 10.0.0.2/8 -- sh -c 'for i in $(seq 60); do echo line $i; sleep 0.05; done | {TALK} > got' > ab & A=$!; \
         $P nat --outside 10.0.1.1 < ab > bc & N=$!; \
         $P impair --delay 5ms < bc > cd & I=$!; \
         $P exec --side left --addr 10.0.1.2/24 -- {ECHO} < cd & S=$!; \
         until grep -q 'line 10$' got 2> /dev/null; do sleep 0.02; done; \
         kill -STOP $N; sleep 1; kill -CONT $N; \
         until grep -q 'line 30$' got; do sleep 0.02; done; \
         kill -STOP $I; sleep 1; kill -CONT $I; \
         wait $A; echo $?; seq -f 'line %g' 60 | cmp - got && echo same; wait"
    );
    let done = sh(&script);
    assert_eq!(done.stdout, "0\nsame\n", "{done}");
}

#[test]
fn root_a_stage_that_is_killed_in_the_middle_ends_commands_on_both_sides() {
    require!("bash", "ping");
    let done = sh("mkfifo ab bc; \
         $P exec --addr 10.0.0.2/8 -- ping -i 0.1 10.0.1.2 > ab 2> said & A=$!; \
         $P nat --outside 10.0.1.1 < ab > bc & N=$!; \
         $P exec --side left --addr 10.0.1.2/24 -- sleep 60 < bc & S=$!; \
         until grep -q icmp_seq=3 said; do sleep 0.02; done; \
         kill -9 $N; wait $A; echo $?; wait $S; echo $?");
    assert_eq!(done.stdout, "141\n0\n", "{done}");
}

#[test]
fn root_the_keyboard_ends_a_pipeline_with_its_commands() {
    require!("bash", "ping");
    let directory = Directory::new();
    let mut running = Running::start(&mut shell(
        "trap : INT; ($P exec --addr 10.0.0.2/8 -- ping -i 0.1 10.0.1.2; echo $? > a) | \
         ($P nat --outside 10.0.1.1; echo $? > n) | \
         ($P exec --addr 10.0.1.2/24 -- sleep 60; echo $? > s); cat a n s",
        &directory,
    ));
    running.wait_until(|_, err| err.contains("icmp_seq=3"));
    running.signal_group("INT");
    let done = running.finish(LIMIT);
    assert!(done.stderr.contains("ping statistics"), "{done}");
    let statuses: Vec<_> = done.stdout.lines().collect();
    // ping prints its summary and has succeeded; the other command is ended by the signal.
    assert!(
        matches!(statuses[..], ["0", "130" | "0" | "141", "130"]),
        "{done}"
    );
}

#[test]
fn root_captures_are_taken_in_the_middle_and_at_the_side_while_packets_flow() {
    require!("bash", "ping", "tcpdump", "tshark");
    let directory = Directory::new();
    let done = sh_in(
        &directory,
        "$P exec --addr 10.0.0.2/8 -- ping -c 5 -i 0.2 10.0.1.2 | \
         tee >(tshark -n -l -r - -Y icmp -T fields -e ip.src -e ip.dst > shark 2> /dev/null) | \
         $P nat --outside 10.0.1.1 | \
         $P mirror --to-pipe >(tcpdump -l -nr - icmp > dump 2> /dev/null) | \
         $P exec --addr 10.0.1.2/24 -- sleep 60; echo ${PIPESTATUS[@]}; \
         until [ $(wc -l < shark) -ge 5 ] && [ $(wc -l < dump) -ge 10 ]; do sleep 0.05; done; \
         sort -u shark; cut -d' ' -f3-8 dump | sort | uniq -c",
    );
    assert!(done.stderr.contains("5 received, 0% packet loss"), "{done}");
    let lines: Vec<_> = done.stdout.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "0 0 0 0 0",
            "10.0.0.2\t10.0.1.2",
            "5 10.0.1.1 > 10.0.1.2: ICMP echo request,",
            "5 10.0.1.2 > 10.0.1.1: ICMP echo reply,",
        ],
        "{done}"
    );
}

#[test]
fn root_copies_appear_at_another_interface() {
    require!("bash", "ping", "tcpdump", "ip", "unshare");
    let done = sh(
        "unshare -n bash -c 'ip link add m0 type veth peer m1; ip link set m0 up; ip link set m1 up; \
         tcpdump -l -ni m1 -c 4 icmp > seen 2> said & T=$!; \
         until grep -q listening said; do sleep 0.02; done; \
         $P exec --addr 10.0.0.2/24 -- ping -c 4 -i 0.1 10.0.0.1 | \
         $P mirror --direction right --to-interface m0 | \
         $P exec --addr 10.0.0.1/24 -- sleep 60; wait $T; grep -c \"echo request\" seen'",
    );
    assert_eq!(done.stdout, "4\n", "{done}");
}
