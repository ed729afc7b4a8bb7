//! `plumb tap` on real machines: found by name and by address while they come and go; and on
//! containers.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::Command;

use plumb_tests::tap_lab::{Frame, LIMIT, Lab, SWITCH, assert_gone, begin, frames, programs};
use plumb_tests::{Directory, Done, Running, plumb, require, run, runners, skip};

/// Machines on the lab's switch, with a state directory of their own.
struct Machines<'a> {
    lab: &'a Lab,
    state: PathBuf,
}

impl<'a> Machines<'a> {
    fn new(lab: &'a Lab, directory: &Directory, state: &str) -> Self {
        let state = directory.file(state);
        Self { lab, state }
    }

    fn vm(&self, arguments: &[&str]) -> Done {
        let mut command = self.lab.command(SWITCH, plumb());
        command.env("PLUMB_STATE", &self.state);
        run(command.arg("vm").args(arguments)).expect(0)
    }

    fn start(&self, name: &str, runner: &str, address: &str) {
        let address = format!("{address}/24");
        let uplink = ["--uplink", "br0", "--address", &address];
        self.vm(&[&["start", name, "--runner", runner], &uplink[..]].concat());
    }

    /// Pings `vm2` from a machine, three times.
    fn ping(&self, name: &str) {
        let done = self.vm(&[
            "run", "--vm", name, "--", "ping", "-c3", "-i50ms", "10.7.0.2",
        ]);
        assert!(done.stdout.contains(" 0% "), "{done}");
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        let mut command = self.lab.command(SWITCH, plumb());
        command.env("PLUMB_STATE", &self.state);
        let _ = run(command.args(["vm", "stop", "--all"]));
    }
}

/// A tap that was started where no machine is, and has begun.
fn tap(arguments: &[&str]) -> Running {
    begin(Command::new(plumb()), arguments)
}

/// A name that no machine of another test has.
fn name(lab: &Lab, machine: &str) -> String {
    lab.name(machine).replace("plumb-tests-", "m")
}

/// How many packets have this source and this direction.
fn count(seen: &[Frame], source: &str, inbound: bool) -> usize {
    let source: core::net::Ipv4Addr = source.parse().expect("an address");
    let is_one = |f: &&Frame| f.bytes[26..30] == source.octets() && f.inbound == inbound;
    seen.iter().filter(is_one).count()
}

#[test]
fn root_machines_are_tapped_by_name_while_one_is_removed_and_returns() {
    require!("ip", "bpftool");
    if !["embedded", "qemu"].iter().all(|r| runners().contains(r)) {
        skip!("the embedded runner and QEMU are needed");
    }
    let (lab, directory) = (Lab::new(), Directory::new());
    let machines = Machines::new(&lab, &directory, "state");
    let (a, b) = (name(&lab, "a"), name(&lab, "b"));
    machines.start(&a, "embedded", "10.7.0.11");
    machines.start(&b, "qemu", "10.7.0.12");
    let file = directory.file("seen.pcapng");
    let path = file.to_str().expect("UTF-8");
    let mut session = tap(&["--vm", &a, "--vm", &b, "--filter", "icmp", "--write", path]);
    let programs = programs(session.pid());
    machines.ping(&a);
    machines.ping(&b);
    machines.vm(&["stop", &b]);
    session.wait_until(|_, err| err.contains(" is gone"));
    machines.ping(&a);
    machines.start(&b, "qemu", "10.7.0.12");
    session.wait_until(|_, err| err.contains(": on "));
    machines.ping(&b);
    let status = lab.end(session);
    let counters = &status["counters"];
    assert_eq!(counters["ring_full"], 0, "{status}");
    // Each machine's requests go out and its answers come in, six times three.
    let seen = frames(&file);
    assert_eq!(seen.len(), 24, "{status}");
    for machine in ["10.7.0.11", "10.7.0.12"] {
        assert_eq!(count(&seen, machine, false), 6, "{machine} sends");
        assert_eq!(count(&seen, machine, true), 0, "{machine} hears itself");
    }
    assert_eq!(count(&seen, "10.7.0.2", true), 12, "answers");
    // Of the tap and of the machines nothing is left.
    assert_gone(&programs);
    machines.vm(&["stop", "--all"]);
    let links = lab.run(SWITCH, "ip", "-br link").stdout;
    assert!(!links.contains("plumb-"), "{links}");
}

#[test]
fn root_a_name_of_two_machines_is_refused_until_one_of_them_is_named_by_its_process() {
    require!("ip");
    if !runners().contains(&"embedded") {
        skip!("the embedded runner is needed");
    }
    let (lab, directory) = (Lab::new(), Directory::new());
    let machines = Machines::new(&lab, &directory, "state");
    let others = Machines::new(&lab, &directory, "others");
    let twin = name(&lab, "twin");
    machines.start(&twin, "embedded", "10.7.0.21");
    let missing = run(Command::new(plumb()).args(["tap", "--vm", &name(&lab, "no")])).expect(2);
    assert!(missing.stderr.contains("there is no machine"), "{missing}");
    // A session that has begun stays with the one that it knows.
    let file = directory.file("seen.pcapng");
    let path = file.to_str().expect("UTF-8");
    let session = tap(&["--vm", &twin, "--filter", "icmp", "--write", path]);
    others.start(&twin, "embedded", "10.7.0.22");
    let refused = run(Command::new(plumb()).args(["tap", "--vm", &twin])).expect(2);
    assert!(
        refused.stderr.contains("2 machines are called"),
        "{refused}"
    );
    assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    machines.ping(&twin);
    others.ping(&twin);
    lab.end(session);
    let seen = frames(&file);
    assert_eq!((seen.len(), count(&seen, "10.7.0.21", false)), (6, 3));
    // What the message asks for.
    let listed = others.vm(&["list", "--json"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let process = listed["machine"]["pid"].to_string();
    assert!(refused.stderr.contains(&process), "{refused}");
    let session = tap(&["--vm", &process, "--filter", "icmp", "--write", path]);
    others.ping(&twin);
    lab.end(session);
    assert_eq!(count(&frames(&file), "10.7.0.22", false), 3);
}

#[test]
fn root_a_machine_is_found_by_its_own_address_behind_the_switch() {
    require!("ping");
    let (lab, directory) = (Lab::new(), Directory::new());
    let file = directory.file("seen.pcapng");
    let path = file.to_str().expect("UTF-8");
    lab.run("vm2", "ping", "-c 1 -W 2 10.7.0.1");
    let mac = "02:00:00:00:00:02";
    let session = lab.tap(&["--mac", mac, "--filter", "icmp", "--write", path]);
    lab.run("vm1", "ping", "-c 2 -i 0.2 10.7.0.2");
    let status = lab.end(session);
    assert_eq!(status["counters"]["written"], 4, "{status}");
    let seen = frames(&file);
    assert_eq!(count(&seen, "10.7.0.1", true), 2);
    assert_eq!(count(&seen, "10.7.0.2", false), 2);
}

#[test]
fn root_a_container_is_tapped_inside_by_the_name_path_or_process_of_its_namespace() {
    require!("ping");
    let (lab, directory) = (Lab::new(), Directory::new());
    let file = directory.file("seen.pcapng");
    let path = file.to_str().expect("UTF-8");
    let mut container = Running::start(
        lab.command("vm1", "sh")
            .args(["-c", "echo up; exec sleep 60"]),
    );
    container.wait_until(|out, _| out.contains("up"));
    let namespace = lab.name("vm1");
    for netns in [
        namespace.clone(),
        format!("/run/netns/{namespace}"),
        container.pid().to_string(),
    ] {
        let session = tap(&[
            "eth0", "--netns", &netns, "--filter", "icmp", "--write", path,
        ]);
        lab.run("vm1", "ping", "-c 2 -i 0.2 10.7.0.2");
        lab.end(session);
        let seen = frames(&file);
        assert_eq!(seen.len(), 4, "{netns}");
        assert_eq!(count(&seen, "10.7.0.1", false), 2, "{netns}");
        assert_eq!(count(&seen, "10.7.0.2", true), 2, "{netns}");
    }
    container.signal_group("KILL");
    container.finish(LIMIT);
}
