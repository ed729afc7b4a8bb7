//! Pipelines of stages with real programs: both directions, rings and pipes, and how they end.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::process::{Command, Stdio};

use plumb_tests::tap_lab::write_capture;
use plumb_tests::{Directory, Done, Running, plumb, require};
use plumb_wire::{Checksum, ipv4, protocol, tcp};

const LIMIT: Duration = Duration::from_secs(60);

/// A shell with the pipeline, in which $P is plumb.
fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .env("P", plumb())
        .stdin(Stdio::null());
    command
}

fn sh(script: &str) -> Done {
    Running::start(&mut shell(script)).finish(LIMIT)
}

/// The counters that a stage printed at its end: those of one side, as its line.
#[track_caller]
fn counters<'a>(done: &'a Done, stage: &str, side: &str) -> &'a str {
    let begin = format!("{stage}: {side}: ");
    done.stderr
        .lines()
        .find_map(|line| line.strip_prefix(&begin))
        .unwrap_or_else(|| panic!("no counters of {begin}: {done}"))
}

#[test]
fn root_two_commands_reach_each_other_through_a_pipe_that_became_a_ring() {
    require!("ping", "bash");
    let done = sh(
        "$P exec --counters --addr 10.0.0.2/24 --addr fd00::2/64 -- \
             sh -c 'ping -c 3 -i 0.2 10.0.0.1 && ping -c 1 fd00::1' | \
         $P exec --side left --addr 10.0.0.1/24 --addr fd00::1/64 -- sleep 30; \
         echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(done.stderr.contains("1 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right")
            .ends_with("dropped 0 (no room 0, no way 0, refused 0) [ring]"),
        "{done}"
    );
}

#[test]
fn root_a_network_without_ipv6_addresses_is_silent_and_takes_those_that_a_script_gives_it() {
    require!("ping", "bash", "ip", "tcpdump");
    let directory = Directory::new();
    let done = sh(&format!(
        "$P exec --addr 10.0.0.2/24 -- sh -c 'sleep 1.5; ip -6 -o addr show dev eth0 >&2; \
             cat /proc/sys/net/ipv6/conf/eth0/accept_ra >&2' > {0}; \
         tcpdump -nr {0} 2>/dev/null | wc -l",
        directory.file("out.pcapng").display()
    ));
    assert_eq!((&*done.stdout, &*done.stderr), ("0\n", "0\n"), "{done}");
    let address = |last| format!("ip -6 addr add fd00::{last}/64 dev eth0 nodad");
    let done = sh(&format!(
        "$P exec -- sh -c '{} && ping -c 3 -i 0.2 fd00::1' | \
         $P exec --side left -- sh -c '{} && sleep 30'; echo ${{PIPESTATUS[@]}}",
        address(2),
        address(1)
    ));
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert!(done.stderr.contains(" 0% packet loss"), "{done}");
}

#[test]
fn root_the_status_of_a_stage_is_that_of_its_command() {
    require!("bash");
    let done = sh("$P exec --addr 10.0.0.2/24 -- sh -c 'exit 7' | \
         $P exec --side left --addr 10.0.0.1/24 -- sh -c 'exit 9'; echo ${PIPESTATUS[@]}");
    assert_eq!(done.stdout, "7 9\n", "{done}");
}

#[test]
fn root_a_command_starts_as_a_shell_would_start_it() {
    require!("bash", "grep");
    let directory = Directory::new();
    let script = directory.file("script");
    let done = sh(&format!(
        "exec 3>&1; echo 'echo \"a script: $1, $#\" >&3' > {0}; chmod +x {0}; \
         $P exec -- {0} 'an argument' | cat >/dev/null; \
         $P exec -- grep -E 'Sig(Blk|Ign)' /proc/self/status 2>&3 | cat >/dev/null; \
         for none in ./none none /; do $P exec -- $none | cat >/dev/null; \
             echo ${{PIPESTATUS[0]}}; done",
        script.display()
    ));
    let lines: Vec<_> = done.stdout.lines().collect();
    let [script, blocked, ignored, statuses @ ..] = &lines[..] else {
        panic!("{done}");
    };
    assert_eq!(*script, "a script: an argument, 1", "{done}");
    let signals = |line: &str, name| {
        let mask = line.strip_prefix(name).expect(name);
        u64::from_str_radix(mask.trim(), 16).expect("a mask")
    };
    assert_eq!(signals(blocked, "SigBlk:"), 0, "{done}");
    // Two above those with names are the C library's own.
    let named = (1 << 31) - 1;
    assert_eq!(signals(ignored, "SigIgn:") & named, 0, "{done}");
    assert_eq!(statuses, ["127", "127", "126"], "{done}");
}

#[test]
fn root_a_tee_between_two_stages_records_one_way_and_a_ring_carries_the_other() {
    require!("ping", "bash", "tcpdump");
    let directory = Directory::new();
    let file = directory.file("seen.pcapng");
    let done = sh(&format!(
        "$P exec --counters --addr 10.0.0.2/24 -- ping -c 3 -i 0.2 10.0.0.1 | tee {0} | \
         $P exec --side left --addr 10.0.0.1/24 -- sleep 30; echo ${{PIPESTATUS[@]}}; \
         tcpdump -nr {0} icmp 2>&1",
        file.display()
    ));
    assert!(done.stdout.starts_with("0 0 0\n"), "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right").ends_with("[pipe, and a ring back]"),
        "{done}"
    );
    let requests = done.stdout.matches("ICMP echo request").count();
    assert_eq!(
        (requests, done.stdout.matches("echo reply").count()),
        (3, 0),
        "{done}"
    );
}

#[test]
fn root_a_delay_between_two_commands_is_felt_both_ways() {
    require!("ping", "bash");
    let done = sh("$P exec --addr 10.0.0.2/24 -- ping -c 3 -i 0.3 10.0.0.1 | \
         $P impair --counters --json --delay 50ms | $P exec --side left --addr 10.0.0.1/24 -- sleep 30");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    let times: Vec<f64> = done
        .stderr
        .split("time=")
        .skip(1)
        .map(|rest| {
            rest.split(' ')
                .next()
                .unwrap_or_default()
                .parse()
                .expect("a time")
        })
        .collect();
    assert_eq!(times.len(), 3, "{done}");
    assert!(
        times.iter().all(|ms| (100.0..1000.0).contains(ms)),
        "{done}"
    );
    let counters = done
        .stderr
        .lines()
        .find(|l| l.starts_with('{'))
        .expect("counters");
    let counters: serde_json::Value = serde_json::from_str(counters).expect("JSON");
    assert_eq!(counters["right"]["link"], "ring", "{done}");
    assert_eq!(counters["left"]["received_frames"], 4, "{done}");
    assert_eq!(counters["right"]["received_frames"], 4, "{done}");
}

#[test]
fn root_a_download_through_two_stages_arrives_whole() {
    require!("curl", "python3", "bash");
    let directory = Directory::new();
    let content: Vec<u8> = (0..3_000_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    directory.write("file", &content);
    let script = "cd $D && $P exec --addr 10.0.0.2/24 -- \
             curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o got http://10.0.0.1:8000/file | \
         $P count | tee copy.pcapng | $P impair --delay 2ms | \
         $P exec --side left --addr 10.0.0.1/24 -- python3 -m http.server; echo ${PIPESTATUS[@]}";
    let mut command = shell(script);
    let done = Running::start(command.env("D", directory.path())).finish(LIMIT);
    // What the server prints comes before, if at all: Python keeps it until it ends well.
    assert_eq!(done.stdout.lines().last(), Some("0 0 0 0 0"), "{done}");
    let got = std::fs::read(directory.file("got")).expect("a download");
    assert!(
        got == content,
        "{} of {} bytes: {done}",
        got.len(),
        content.len()
    );
}

#[test]
fn root_bulk_traffic_stays_whole_in_rings_and_is_cut_for_others() {
    require!("iperf3", "bash", "tcpdump");
    let directory = Directory::new();
    let script = |between: &str| {
        format!(
            "$P exec --counters --json --addr 10.0.0.2/24 -- sh -c 'for i in 1 2 3 4 5 6 7 8; do iperf3 -t 1 -c 10.0.0.1 && break; sleep 0.5; done' {between} | \
             $P exec --counters --json --side left --addr 10.0.0.1/24 -- iperf3 -s -1"
        )
    };
    // Of the stage whose left, or right, side is its interface.
    let counters = |done: &Done, side: &str| {
        let lines = done.stderr.lines().filter(|l| l.starts_with('{'));
        let mut all = lines.map(|l| serde_json::from_str(l).expect("JSON"));
        all.find(|counters: &serde_json::Value| counters[side]["link"] == "eth0")
            .unwrap_or_else(|| panic!("no counters of {side}: {done}"))
    };
    let mean_len = |done: &Done| {
        let right = &counters(done, "left")["right"];
        let number = |name: &str| right[name].as_u64().expect("a number");
        assert!(done.stdout.contains("receiver"), "{done}");
        number("sent_bytes") / number("sent_frames")
    };
    let done = sh(&script(""));
    assert!(mean_len(&done) > 5000, "{done}");
    let file = directory.file("seen.pcapng");
    let between = format!("| tee {}", file.display());
    let done = sh(&script(&between));
    assert!((100..=1514).contains(&mean_len(&done)), "{done}");
    // At the other end the kernel gets them in large frames again.
    let last = counters(&done, "right");
    let count = |of: &serde_json::Value| of.as_u64().expect("a number");
    let (taken, made) = (
        count(&last["counters"]["coalesced_segments"]),
        count(&last["counters"]["superframes"]),
    );
    assert!(made > 0 && taken > 5 * made, "{done}");
    assert_eq!(
        count(&last["left"]["received_frames"]) - taken + made,
        count(&last["right"]["sent_frames"]),
        "{done}"
    );
    // What is on the file is what would be on a wire.
    let check = format!(
        "tcpdump -nvr {} 2>/dev/null | grep -c incorrect",
        file.display()
    );
    assert_eq!(sh(&check).stdout, "0\n");
}

#[test]
fn root_named_pipes_carry_packets_both_ways_as_in_the_paper() {
    require!("ping", "bash");
    let directory = Directory::new();
    let script = "cd $D && mkfifo back && \
         $P exec --counters --right in=back,out=/dev/stdout --addr 10.0.0.2/24 -- ping -c 3 -i 0.2 10.0.0.1 | \
         $P exec --left in=/dev/stdin,out=back --addr 10.0.0.1/24 -- sleep 30; echo ${PIPESTATUS[@]}";
    let mut command = shell(script);
    let done = Running::start(command.env("D", directory.path())).finish(LIMIT);
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right").ends_with("[pipe]"),
        "{done}"
    );
}

#[test]
fn root_interfaces_new_and_old_join_a_pipeline() {
    require!("ping", "bash", "ip", "unshare");
    let ping = "$P exec --side left --addr 10.0.0.2/24 -- ping -c 2 -i 0.2 10.0.0.1; echo ${PIPESTATUS[@]}";
    for script in [
        format!("$P if tap0 --addr 10.0.0.1/24 | {ping}"),
        format!(
            "ip link add v0 type veth peer v1; ip address add 10.0.0.1/24 dev v0; \
             ip link set v0 up; ip link set v1 up; $P if v1 | {ping}"
        ),
    ] {
        let done = sh(&format!(
            "unshare -n bash -c '{script}; ip -o link | grep -c tap0'"
        ));
        // The device goes with the stage.
        assert!(done.stdout.contains("2 received, 0% packet loss"), "{done}");
        assert!(done.stdout.ends_with("141 0\n0\n"), "{done}");
    }
}

/// Segments of one TCP connection that follow each other, with payloads of this length.
fn segments(count: u16, payload: u16) -> Vec<Vec<u8>> {
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let segment = |number: u16| {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.resize(14 + ipv4::HEADER_LEN + tcp::HEADER_LEN, 0);
        let header = ipv4::Header {
            tos: 0,
            total_len: 40 + payload,
            ident: number,
            flags_fragment: ipv4::DONT_FRAGMENT,
            ttl: 64,
            protocol: protocol::TCP,
            src,
            dst,
        };
        header.emit(&mut frame[14..]);
        let header = tcp::Header {
            src_port: 9,
            dst_port: 80,
            seq: u32::from(number) * u32::from(payload),
            ack: 1,
            flags: tcp::ACK,
            window: 500,
            checksum: 0,
        };
        header.emit(&mut frame[34..]);
        frame.resize(frame.len() + usize::from(payload), 7);
        let len = frame.len() - 34;
        let sum = Checksum::new().pseudo_header(src.into(), dst.into(), protocol::TCP, len);
        let sum = sum.bytes(&frame[34..]).finish();
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    (0..count).map(segment).collect()
}

#[test]
fn root_segments_longer_than_an_mtu_are_refused_and_counted() {
    require!("bash", "ip", "unshare");
    let directory = Directory::new();
    let file = directory.file("segments.pcapng");
    let link =
        "ip link add v0 mtu 1500 type veth peer v1 mtu 1500; ip link set v0 up; ip link set v1 up";
    // As they are, and with an MTU that has changed since the stage began.
    for (payload, change, arrives) in [
        (1400, "", true),
        (8000, "", false),
        (1400, "ip link set v0 mtu 1300; sleep 1.1;", false),
        (
            8000,
            "ip link set v1 mtu 9000; ip link set v0 mtu 9000; sleep 1.1;",
            true,
        ),
    ] {
        // The first four come before the change.
        let (before, behind) = (segments(4, 100), segments(8, payload));
        write_capture(&file, &before);
        let size = std::fs::metadata(&file).expect("a file").len();
        write_capture(&file, &[before, behind].concat());
        let script = format!(
            "{link}; {{ head -c {size} {file}; sleep 0.3; {change} tail -c +{from} {file}; sleep 0.5; }} | \
             $P if v0 --counters --json; ip -s -j link show v1",
            file = file.display(),
            from = size + 1,
        );
        let done = sh(&format!("unshare -n bash -c '{script}'"));
        let line = done.stderr.lines().find(|l| l.starts_with('{'));
        let json: serde_json::Value = line
            .and_then(|l| serde_json::from_str(l).ok())
            .unwrap_or_else(|| panic!("no counters: {done}"));
        let count = |of: &serde_json::Value| of.as_u64().expect("a number");
        let (refused, sent) = (
            count(&json["right"]["refused_frames"]),
            count(&json["right"]["sent_bytes"]),
        );
        assert_eq!(refused > 0, !arrives, "{payload} {change}: {done}");
        assert_eq!(sent > 5000, arrives, "{payload} {change}: {done}");
        let links: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON of a link");
        let received = count(&links[0]["stats64"]["rx"]["bytes"]);
        assert_eq!(received > 5000, arrives, "{payload} {change}: {done}");
    }
}

#[test]
fn root_nobody_needs_neither_root_nor_a_tap_device() {
    require!("ping", "bash", "setpriv");
    // Where user namespaces are forbidden, there is nothing to show.
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    if sh(&format!("{nobody} unshare -Urn true")).code() != Some(0) {
        plumb_tests::skip!("user namespaces are forbidden here");
    }
    let directory = Directory::new();
    let copy = directory.file("plumb");
    std::fs::copy(plumb(), &copy).expect("a copy that nobody may run");
    let done = sh(&format!(
        "cd /; export P={}; {nobody} bash -c '$P exec --counters --addr 10.0.0.2/24 --gateway 10.0.0.1 -- \
             ping -c 3 -i 0.2 9.9.9.9 | \
         $P exec --side left --addr 10.0.0.1/24 --addr 9.9.9.9/32 -- sleep 30; echo ${{PIPESTATUS[@]}}'",
        copy.display()
    ));
    assert_eq!(done.stdout, "0 0\n", "{done}");
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    assert!(
        counters(&done, "exec", "right").ends_with("[ring]"),
        "{done}"
    );
}

#[test]
fn root_a_signal_shows_the_counters_while_packets_flow() {
    require!("ping", "bash");
    let mut running = Running::start(&mut shell(
        "$P exec --addr 10.0.0.2/24 -- ping -i 0.1 10.0.0.1 2>&1 | $P count 2>&1 >/dev/null & sleep 1; \
         kill -USR1 $!; sleep 0.5; kill $(jobs -p); wait",
    ));
    running.wait_until(|out, _| out.contains("count: left: received"));
    drop(running);
}

#[test]
fn root_a_command_that_outlives_the_pipeline_is_hung_up_unless_it_is_to_be_kept() {
    require!("bash");
    let done = sh(
        "$P exec -- sleep 0.1 | $P exec --side left -- sleep 30; echo ${PIPESTATUS[@]}; \
         $P exec -- sleep 0.1 | $P exec --keep --side left -- sh -c 'sleep 2; exit 5'; echo ${PIPESTATUS[@]}",
    );
    assert_eq!(done.stdout, "0 0\n0 5\n", "{done}");
}

#[test]
fn root_an_end_that_is_nowhere_is_refused_with_an_example() {
    require!("bash");
    let done = sh("$P exec --addr 10.0.0.1/24 -- true < /dev/null > /dev/null");
    assert_eq!(done.code(), Some(2), "{done}");
    assert!(done.stderr.contains("an example:"), "{done}");
}

#[test]
fn root_a_nat_between_two_commands_hides_the_left_one() {
    require!("curl", "python3", "bash");
    let directory = Directory::new();
    directory.write("page", "found\n");
    let script = "cd $D && $P exec --addr 10.0.0.2/24 --gateway 10.0.0.1 -- \
             curl -sS --retry 20 --retry-connrefused --retry-delay 1 -o got http://192.168.0.9:8000/page | \
         $P nat --counters --outside 192.168.0.1 | \
         $P exec --side left --addr 10.0.0.1/24 --addr 192.168.0.9/24 -- python3 -m http.server; echo ${PIPESTATUS[@]}";
    let mut command = shell(script);
    let done = Running::start(command.env("D", directory.path())).finish(LIMIT);
    // What the server prints comes before, if at all: Python keeps it until it ends well.
    assert_eq!(done.stdout.lines().last(), Some("0 0 0"), "{done}");
    assert!(done.stderr.contains("\n192.168.0.1 - - "), "{done}");
    assert!(!done.stderr.contains("10.0.0.2 - - "), "{done}");
    let got = std::fs::read_to_string(directory.file("got")).expect("a download");
    assert_eq!(got, "found\n", "{done}");
}
