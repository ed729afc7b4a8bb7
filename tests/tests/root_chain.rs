//! `plumb chain`: stages of plumb as one process, other programs beside them, and how all of it ends.

#![forbid(unsafe_code)]

use core::time::Duration;

use plumb_tests::{Directory, Done, Running, plumb, require, shell};

const LIMIT: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Done {
    let directory = Directory::new();
    Running::start(&mut shell(script, &directory)).finish(LIMIT)
}

/// Processes that have this word in their command line.
fn with_word(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let line = std::fs::read(path.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.split(' ').any(|w| w == word).then_some(line)
        })
        .collect()
}

/// How many processes run that have just this command line.
fn with_line(line: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let lines = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let found = lines.filter(|found| {
        let found = String::from_utf8_lossy(found).replace('\0', " ");
        found.trim_end() == line
    });
    found.count()
}

/// Waits until so many run.
#[track_caller]
fn wait_for_line(line: &str, count: usize) {
    let started = std::time::Instant::now();
    while with_line(line) < count {
        assert!(started.elapsed() < LIMIT, "{line}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until there is none, or some.
#[track_caller]
fn wait_for(word: &str, some: bool) {
    let started = std::time::Instant::now();
    while with_word(word).is_empty() == some {
        assert!(started.elapsed() < LIMIT, "{:?}", with_word(word));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn root_two_commands_and_the_functions_between_them_are_one_process() {
    require!("ping", "bash");
    let done = sh(
        "$P chain --counters --json 'exec --addr 10.0.0.2/8 -- ping -c 3 -i 0.2 10.0.1.2 | \
             nat --outside 10.0.1.1 | count | count | \
             exec --addr 10.0.1.2/24 -- sleep 60'; echo $?",
    );
    assert!(done.stdout.contains("3 received, 0% packet loss"), "{done}");
    assert!(done.stdout.ends_with("\n0\n"), "{done}");
    let line = done.stderr.lines().find(|l| l.starts_with('{'));
    let json: serde_json::Value = serde_json::from_str(line.expect("counters")).expect("JSON");
    assert_eq!(json["left"]["link"], "eth0");
    assert_eq!(json["right"]["link"], "eth0");
    let names: Vec<_> = json["functions"]
        .as_array()
        .expect("functions")
        .iter()
        .map(|function| function["stage"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["nat", "count", "count.2"]);
    assert_eq!(
        json["functions"][0]["counters"]["left_translated_frames"],
        3
    );
    assert_eq!(json["functions"][2]["counters"]["right_ipv4_frames"], 3);
}

#[test]
fn root_a_delay_in_a_chain_is_felt_both_ways() {
    require!("ping", "bash");
    let done = sh(
        "$P chain 'exec --addr 10.0.0.2/24 -- ping -c 2 -i 0.3 10.0.0.1 | impair --delay 30ms | \
             impair --delay 20ms | exec --addr 10.0.0.1/24 -- sleep 60'",
    )
    .expect(0);
    let times = done.stdout.split("time=").skip(1);
    let times: Vec<f64> = times
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(times.len(), 2, "{done}");
    assert!(times.iter().all(|ms| *ms >= 100.0), "{done}");
}

#[test]
fn root_the_status_is_that_of_the_first_stage_that_failed() {
    require!("bash");
    let end = |words: &str| format!("exec --addr 10.0.0.1/24 -- {words}");
    for (left, right, status) in [
        ("sh -c \"exit 7\"", "sh -c \"exit 9\"", 7),
        ("true", "sh -c \"exit 9\"", 9),
        ("sleep 60", "sh -c \"exit 5\"", 5),
        // Both would go on for ever, and each ends because the other has.
        ("sleep 60", "true", 0),
        ("true", "sleep 60", 0),
        ("plumb-has-no-such-program", "sleep 60", 127),
    ] {
        // A program that has nothing to write does not see that nobody would read it.
        let between: &[_] = match left {
            "sleep 60" => &["count", "impair --delay 1ms"],
            _ => &["count", "tee copy", "count | cat | count"],
        };
        for between in between {
            let line = format!("{} | {between} | {}", end(left), end(right));
            let done = sh(&format!("$P chain '{line}'; echo $?"));
            assert!(
                done.stdout.ends_with(&format!("{status}\n")),
                "{line}: {done}"
            );
        }
    }
}

#[test]
fn root_programs_stand_between_stages_and_at_the_end() {
    require!("ping", "bash", "tcpdump");
    let done = sh(
        "$P chain 'exec --addr 10.0.0.2/8 -- ping -c 3 -i 0.2 10.0.1.2 | nat --outside 10.0.1.1 | \
             tee seen | count | exec --addr 10.0.1.2/24 -- sleep 60'; echo $?; \
         $P chain --offline 'count | tcpdump -U -r - -w - | count | tcpdump -nr - icmp' < seen; echo $?",
    );
    assert!(done.stderr.contains("3 received, 0% packet loss"), "{done}");
    let requests = done
        .stdout
        .matches("IP 10.0.1.1 > 10.0.1.2: ICMP echo request");
    assert_eq!(requests.count(), 3, "{done}");
    assert!(done.stderr.contains("pipe, and a ring back"), "{done}");
    assert!(done.stdout.ends_with("\n0\n"), "{done}");
}

#[test]
fn root_a_program_that_has_seen_enough_ends_the_chain_quietly() {
    require!("bash", "tcpdump");
    let done = sh(
        "$P chain 'exec --addr 10.0.0.2/24 -- ping -i 0.1 10.0.0.1 | count | \
             tcpdump -l -c 1 -nr -'; echo $?",
    );
    assert!(done.stdout.ends_with("\n0\n"), "{done}");
    assert!(done.stdout.contains("who-has 10.0.0.1"), "{done}");
}

#[test]
fn root_interfaces_at_both_ends_go_with_the_chain() {
    require!("bash", "ip", "unshare", "ping");
    // What is sent to a device comes out of the other one: here both are in one network, so a
    // request for an address behind tap0 shows up at tap1.
    let done = sh("unshare -n bash -c '\
         $P chain --counters \"if tap0 --addr 10.0.0.1/24 | impair | if tap1 --addr 10.9.0.1/24\" & \
         until ip -o link show up | grep -q tap1; do sleep 0.02; done; \
         ping -c 1 -W 1 10.0.0.2; kill $!; wait $!; echo $?; ip -o link | grep -c tap'");
    assert!(done.stdout.ends_with("130\n0\n"), "{done}");
    let sent = done
        .stderr
        .lines()
        .find(|l| l.starts_with("chain: right: "));
    assert!(!sent.expect("counters").contains("sent 0 frames"), "{done}");
}

#[test]
fn root_a_chain_that_is_killed_leaves_no_process() {
    require!("bash");
    for (line, word) in [
        ("exec -- sleep 86211 | count | exec -- sleep 86211", "86211"),
        ("exec -- sleep 86212 | cat | count | tail -c 86212", "86212"),
    ] {
        let directory = Directory::new();
        let running = Running::start(&mut shell(&format!("exec $P chain '{line}'"), &directory));
        let started = std::time::Instant::now();
        // The chain itself has the word in a longer one.
        while with_word(word).len() < 2 {
            assert!(started.elapsed() < LIMIT, "{:?}", with_word(word));
            std::thread::sleep(Duration::from_millis(10));
        }
        running.signal("KILL");
        wait_for(word, false);
    }
}

/// Runs a chain in which SIGHUP means what it means by default.
fn chain(stages: &str, directory: &Directory) -> Running {
    let line = format!("exec env --default-signal=HUP $P chain '{stages}'");
    Running::start(&mut shell(&line, directory))
}

#[test]
fn root_the_keyboard_reaches_the_commands_and_a_signal_to_the_chain_is_passed_on() {
    require!("bash");
    for (group, signal, status) in [
        (true, "INT", 130),
        (false, "TERM", 143),
        (false, "HUP", 129),
    ] {
        for (between, word) in [("count", "86221"), ("cat", "86222")] {
            let directory = Directory::new();
            let sleep = format!("sleep {word}{status}");
            let running = chain(
                &format!("exec -- {sleep} | {between} | exec -- {sleep}"),
                &directory,
            );
            wait_for_line(&sleep, 2);
            if group {
                running.signal_group(signal);
            } else {
                running.signal(signal);
            }
            let done = running.finish(LIMIT);
            assert_eq!(done.code(), Some(status), "{done}");
            wait_for(&format!("{word}{status}"), false);
        }
    }
}

#[test]
fn root_a_signal_while_commands_are_being_started_ends_all_of_them() {
    require!("bash");
    // The more addresses, the longer it takes until the second command runs.
    let addresses: String = (1..=200)
        .map(|n| format!("--addr 10.0.{n}.1/24 "))
        .collect();
    for word in ["86231", "86232"] {
        let directory = Directory::new();
        let (first, second) = (format!("sleep {word}1"), format!("sleep {word}2"));
        let running = chain(
            &format!("exec -- {first} | count | exec {addresses} -- {second}"),
            &directory,
        );
        wait_for_line(&first, 1);
        running.signal("TERM");
        let done = running.finish(LIMIT);
        assert_eq!(done.code(), Some(143), "{done}");
        assert_eq!(with_line(&first) + with_line(&second), 0, "{done}");
    }
}

#[test]
fn root_a_hangup_ends_a_chain_between_interfaces_in_which_nothing_reloads() {
    require!("bash", "ip", "unshare");
    let done = sh("unshare -n env --default-signal=HUP bash -c '\
         $P chain \"if tap0 | count | if tap1\" & \
         until ip -o link show up | grep -q tap1; do sleep 0.02; done; \
         until grep -q \"SigCgt:.*[13579bdf]$\" /proc/$!/status; do sleep 0.02; done; \
         kill -HUP $!; wait $!; echo $?'");
    assert_eq!(done.stdout, "130\n", "{done}");
}

#[test]
fn root_a_signal_shows_the_counters_of_every_function() {
    require!("bash", "ping");
    let directory = Directory::new();
    let mut running = Running::start(&mut shell(
        "exec $P chain 'exec --addr 10.0.0.2/8 -- ping -i 0.1 10.0.1.2 | nat --outside 10.0.1.1 | \
             exec --addr 10.0.1.2/24 -- sleep 60'",
        &directory,
    ));
    running.wait_until(|out, _| out.contains("icmp_seq=2"));
    running.signal("USR1");
    running.wait_until(|_, err| err.contains("left translated frames"));
}

#[test]
fn root_nobody_runs_a_chain_with_a_network_at_each_end() {
    require!("ping", "bash", "setpriv");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    if sh(&format!("{nobody} unshare -Urn true")).code() != Some(0) {
        plumb_tests::skip!("user namespaces are forbidden here");
    }
    let directory = Directory::new();
    let copy = directory.file("plumb");
    std::fs::copy(plumb(), &copy).expect("a copy that nobody may run");
    for between in ["|", "| tee /dev/null |"] {
        let done = sh(&format!(
            "cd /; export P={}; {nobody} bash -c '$P chain \"\
                 exec --addr 10.0.0.2/8 -- ping -c 3 -i 0.2 10.0.1.2 | nat --outside 10.0.1.1 \
                 {between} exec --addr 10.0.1.2/24 -- sleep 60\"; echo $?'",
            copy.display()
        ));
        // What a command prints whose standard output carries packets goes to standard error.
        let said = format!("{}{}", done.stderr, done.stdout);
        assert!(said.contains("3 received, 0% packet loss"), "{done}");
        assert!(said.ends_with("0\n"), "{done}");
    }
}

#[test]
fn root_a_file_says_the_same_as_a_line() {
    require!("ping", "bash");
    let directory = Directory::new();
    directory.write(
        "chain.toml",
        r#"
        counters = true
        stages = [
            { exec = { addr = "10.0.0.2/8", command = ["ping", "-c", "2", "-i", "0.2", "10.0.1.2"] } },
            { nat = { outside = "10.0.1.1" } },
            "impair --delay 1ms | count",
            { exec = { addr = ["10.0.1.2/24"], command = ["sleep", "60"] } },
        ]"#,
    );
    let mut command = shell("$P chain --file chain.toml", &directory);
    let done = Running::start(&mut command).finish(LIMIT).expect(0);
    assert!(done.stdout.contains("2 received, 0% packet loss"), "{done}");
    assert!(
        done.stderr
            .contains("nat:            2 left translated frames"),
        "{done}"
    );
    assert!(done.stderr.contains("count: "), "{done}");
}
