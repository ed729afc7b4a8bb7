//! What goes wrong around `plumb tap`: it is told and counted, and what is watched goes on.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::thread::sleep;

use plumb_tests::tap_lab::{LIMIT, Lab, SWITCH, traffic, write_capture};
use plumb_tests::{Directory, Running, plumb, require};

fn status(lab: &Lab) -> serde_json::Value {
    let listed = lab.control(&["list", "--json"]).expect(0).stdout;
    serde_json::from_str(&listed).expect("JSON of one session")
}

#[test]
fn root_a_reader_that_is_too_slow_costs_copies_and_the_watched_packets_nothing() {
    require!("tcpreplay");
    let (lab, directory) = (Lab::new(), Directory::new());
    let source = directory.file("source.pcapng");
    write_capture(&source, &traffic(4000));
    let pipeline = "sh -c 'echo $$ > \"$1\"; \
            exec \"$0\" tap vm1 --direction out --ring 65536 --counters --json' \"$0\" \"$2\" | \
        { head -c 1000 > /dev/null; while ! [ -e \"$1\" ]; do sleep 0.05; done; cat > /dev/null; }";
    let (goes_on, pid) = (directory.file("goes on"), directory.file("pid"));
    let mut command = lab.command(SWITCH, "sh");
    let command = command
        .args(["-c", pipeline])
        .arg(plumb())
        .arg(&goes_on)
        .arg(&pid);
    let mut tap = Running::start(command);
    tap.wait_until(|_, err| err.contains(" -> "));
    let forwarded = || -> u64 {
        let path = "/sys/class/net/vm2/statistics/tx_packets";
        let count = lab.run(SWITCH, "cat", path).stdout;
        count.trim().parse().expect("a number")
    };
    let before = forwarded();
    lab.replay("vm1", &source);
    assert_eq!(forwarded() - before, 4000, "watched packets");
    let counters = &status(&lab)["counters"];
    let count = |name: &str| counters[name].as_u64().expect("a number");
    assert!(count("ring_full") > 1000, "{counters}");
    assert_eq!(count("delivered") + count("ring_full"), 4000, "{counters}");
    // It waits for the reader, and does not look all the time whether there is room.
    let pid = std::fs::read_to_string(pid).expect("a number");
    let cpu_ns = || -> u64 {
        let used =
            std::fs::read_to_string(format!("/proc/{}/schedstat", pid.trim())).expect("a file");
        let ns = used.split_whitespace().next().expect("a number");
        ns.parse().expect("a number")
    };
    // Until it takes the quiet for one that lasts.
    sleep(Duration::from_millis(500));
    let before = cpu_ns();
    sleep(Duration::from_secs(1));
    let used = Duration::from_nanos(cpu_ns() - before);
    assert!(used < Duration::from_millis(300), "{used:?} of a second");
    std::fs::write(&goes_on, "").expect("a file");
    let id = status(&lab)["id"].to_string();
    lab.control(&["stop", &id]).expect(0);
    let done = tap.finish(LIMIT).expect(0);
    let last = done.stderr.lines().rfind(|line| line.starts_with('{'));
    let last: serde_json::Value = serde_json::from_str(last.expect("a status")).expect("JSON");
    let counters = &last["counters"];
    assert_eq!(counters["written"], counters["delivered"], "{counters}");
}

#[test]
fn root_a_collector_whose_neighbour_is_unknown_gets_copies_once_it_is_known() {
    require!("ping");
    let lab = Lab::new();
    let output = "vxlan://192.0.2.77?vni=1";
    let tap = lab.tap(&["vm1", "--filter", "icmp", "--to", output]);
    let shown = status(&lab);
    let trouble = shown["outputs"][0]["trouble"].as_str();
    assert!(trouble.is_some_and(|t| t.contains("192.0.2.77")), "{shown}");
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    let counters = &status(&lab)["counters"];
    assert_eq!(counters["output_failed"], 2, "{counters}");
    lab.ip(
        SWITCH,
        "neighbour replace 192.0.2.77 lladdr 02:00:00:00:00:77 dev mon nud permanent",
    );
    let started = std::time::Instant::now();
    while !status(&lab)["outputs"][0]["trouble"].is_null() {
        assert!(started.elapsed() < LIMIT, "{}", status(&lab));
        sleep(Duration::from_millis(20));
    }
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    let last = lab.end(tap);
    assert_eq!(last["counters"]["delivered"], 2, "{last}");
    assert_eq!(last["counters"]["output_failed"], 2, "{last}");
}

#[test]
fn root_an_interface_stays_tapped_under_another_name() {
    require!("ping");
    let lab = Lab::new();
    let tap = lab.tap(&["vm1", "--filter", "icmp", "--to", "mon"]);
    lab.run("vm1", "ping", "-c 1 -W 2 10.7.0.2");
    lab.ip(SWITCH, "link set vm1 down");
    lab.ip(SWITCH, "link set vm1 name renamed");
    lab.ip(SWITCH, "link set renamed up");
    lab.run("vm1", "ping", "-c 1 -W 5 10.7.0.2");
    let started = std::time::Instant::now();
    while status(&lab)["interfaces"][0]["name"] != "renamed" {
        assert!(started.elapsed() < LIMIT, "{}", status(&lab));
        sleep(Duration::from_millis(20));
    }
    let last = lab.end(tap);
    assert_eq!(last["counters"]["delivered"], 4, "{last}");
}
