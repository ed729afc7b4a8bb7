//! Machines that stay: started, listed, used by one client after the other, stopped, killed.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use plumb_channel::{Configure, Host, Limits, News};
use plumb_link::Clock;
use plumb_probe::{Config, Event, Job, Trace, TraceOptions};
use plumb_record as record;
use plumb_tests::{Directory, Done, line, plumb, require, run, skip};
use serde_json::Value;

/// Long enough for a machine in software on a busy one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Machines with a state directory of their own; all end with this.
struct Machines(Directory);

impl Machines {
    fn new() -> Self {
        Self(Directory::new())
    }

    /// Where their state is.
    fn state(&self) -> PathBuf {
        self.0.file("state")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(plumb());
        command
            .arg("vm")
            .args(arguments)
            .env("PLUMB_STATE", self.state());
        command
    }

    fn vm(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    fn list(&self) -> Vec<Value> {
        let listed = self.vm(&["list", "--json"]).expect(0).stdout;
        listed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until the list is as it should be.
    fn list_until(&self, is_right: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let listed = self.list();
            if is_right(&listed) {
                return listed;
            }
            assert!(began.elapsed() < PATIENCE, "{listed:?}");
        }
    }

    fn connect(&self, name: &str) -> UnixStream {
        UnixStream::connect(self.state().join(name).join("job")).unwrap()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let _ = self.vm(&["stop", "--all"]);
    }
}

/// Skips the test where no runner works.
macro_rules! require_runner {
    () => {
        require!();
        let doctor = run(Command::new(plumb()).arg("doctor")).stdout;
        let works = |name: &str| doctor.contains(&format!("ok      {name}"));
        if !works("embedded runner") && !works("QEMU") {
            skip!("no runner works here");
        }
    };
}

/// A client of a machine, with a session.
struct Client {
    stream: UnixStream,
    host: Host,
    clock: Clock,
}

impl Client {
    fn new(stream: UnixStream, session: u64) -> Self {
        let configure = Configure {
            session,
            engine: Config {
                rate: None,
                ..Config::default()
            },
            seed: 1,
            packets: false,
        };
        let clock = Clock::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            stream,
            host: Host::new(&configure, Limits::default(), clock.now()),
            clock,
        };
        client.send();
        client
    }

    fn send(&mut self) {
        let bytes = self.host.transmit().to_vec();
        self.stream.write_all(&bytes).unwrap();
        self.host.handle_sent(bytes.len());
    }

    fn next(&mut self) -> News {
        let mut bytes = [0; 65_536];
        loop {
            if let Some(news) = self.host.poll_news() {
                return news;
            }
            let len = self.stream.read(&mut bytes).unwrap();
            assert!(len > 0, "the machine has hung up");
            let now = self.clock.now();
            self.host.handle_bytes(&bytes[..len], now).unwrap();
            self.send();
        }
    }

    fn start(&mut self, target: &str) {
        let job = Job::Trace(Trace {
            src: "5.0.1.1".parse().unwrap(),
            dst: target.parse().unwrap(),
            options: Arc::new(TraceOptions::default()),
        });
        self.host.start(&job).unwrap();
    }

    /// Traces once and takes its record.
    fn trace(mut self, target: &str) -> record::Trace {
        self.start(target);
        self.host.finish();
        self.send();
        let mut found = None;
        loop {
            match self.next() {
                News::Event(Event::Trace { trace, .. }) => found = Some(*trace),
                News::Finished => return found.unwrap(),
                News::Refused { why, .. } => panic!("refused: {why}"),
                News::Ready(_) | News::Event(_) | News::Packet { .. } | News::Text(_) => {}
            }
        }
    }
}

fn is_there(pid: &Value) -> bool {
    // A zombie has no memory.
    std::fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|m| !m.starts_with("0 "))
}

#[test]
fn root_a_machine_is_started_listed_and_stopped_and_nothing_stays() {
    require_runner!();
    let machines = Machines::new();
    let started = machines
        .vm(&["start", "probe", "--uplink", "lab:php", "--merge"])
        .expect(0);
    assert_eq!(started.stdout, "probe\n");
    assert!(started.stderr.contains("probe answers after"), "{started}");
    assert!(started.stderr.contains("lab:php, 5.0.1.1/30"), "{started}");
    let listed = machines.list();
    assert_eq!(listed.len(), 1);
    let (probe, machine) = (&listed[0], &listed[0]["machine"]);
    assert_eq!(
        (&probe["name"], &probe["state"]),
        (&"probe".into(), &"idle".into())
    );
    assert_eq!(machine["addresses"], serde_json::json!(["5.0.1.1/30"]));
    assert_eq!(machine["jobs"], 0);
    for bytes in ["pss_bytes", "private_bytes", "holder_pss_bytes"] {
        assert!(probe[bytes].as_u64().unwrap() > 100_000, "{probe}");
    }
    assert!(is_there(&machine["pid"]) && is_there(&machine["holder_pid"]));
    let again = machines
        .vm(&["start", "probe", "--uplink", "lab:php"])
        .expect(2);
    assert!(
        again.stderr.contains("there is a machine probe already"),
        "{again}"
    );
    let table = machines.vm(&["list"]).expect(0).stdout;
    assert!(
        table.contains("probe  idle") && table.starts_with("NAME"),
        "{table}"
    );

    assert_eq!(machines.vm(&["stop", "probe"]).expect(0).stdout, "");
    assert!(!is_there(&machine["pid"]) && !is_there(&machine["holder_pid"]));
    assert_eq!(machines.list(), [Value::Null; 0]);
    assert_eq!(std::fs::read_dir(machines.state()).unwrap().count(), 0);
    let gone = machines.vm(&["stop", "probe"]).expect(2);
    assert!(gone.stderr.contains("there is no machine probe"), "{gone}");
}

#[test]
fn root_one_client_after_the_other_has_the_machine_to_itself() {
    require_runner!();
    let machines = Machines::new();
    machines
        .vm(&["start", "a", "--uplink", "lab:php,seed=7"])
        .expect(0);
    // The first goes in the middle of a trace that would take long.
    let mut first = Client::new(machines.connect("a"), 1);
    assert!(matches!(first.next(), News::Ready(_)));
    first.start("5.0.99.99");
    first.send();
    let second = machines.connect("a");
    let busy = machines.list();
    assert_eq!(busy[0]["state"], "busy", "{busy:?}");
    drop(first);
    // The second waited, and finds nothing of the first.
    let trace = Client::new(second, 2).trace("5.0.8.2");
    let tunnels: Vec<String> = trace.tunnels.iter().map(line).collect();
    assert_eq!(
        tunnels,
        [
            "Invisible/Frpla 5.0.2.2 > 5.0.3.2 Brpr3 > 5.0.4.2 Brpr2 > 5.0.5.2 Brpr1 > 5.0.6.2, Revealed"
        ]
    );
    // One that speaks nonsense is dismissed, and harms nobody.
    let mut third = machines.connect("a");
    third.write_all(&[0xff; 64]).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let dismissed = third.read(&mut [0; 1]);
    assert!(matches!(dismissed, Ok(0) | Err(_)), "{dismissed:?}");
    let trace = Client::new(machines.connect("a"), 4).trace("5.0.8.2");
    assert_eq!(trace.tunnels.len(), 1);
    let idle = machines.list_until(|listed| listed[0]["state"] == "idle");
    assert_eq!(idle[0]["machine"]["clients"], 4);
    assert!(
        idle[0]["machine"]["jobs"].as_u64().unwrap() >= 2,
        "{idle:?}"
    );
}

#[test]
fn root_a_killed_holder_takes_its_machine_along_and_is_forgotten() {
    require_runner!();
    let machines = Machines::new();
    machines
        .vm(&["start", "a", "--uplink", "lab:plain"])
        .expect(0);
    let listed = machines.list();
    let machine = &listed[0]["machine"];
    kill(&machine["holder_pid"]);
    assert_eq!(machines.list_until(<[Value]>::is_empty), [Value::Null; 0]);
    let began = Instant::now();
    while is_there(&machine["pid"]) {
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(std::fs::read_dir(machines.state()).unwrap().count(), 0);
    machines
        .vm(&["start", "a", "--uplink", "lab:plain"])
        .expect(0);
}

#[test]
fn root_a_killed_machine_is_reported_until_it_is_cleared() {
    require_runner!();
    let machines = Machines::new();
    machines
        .vm(&["start", "a", "--uplink", "lab:plain"])
        .expect(0);
    let listed = machines.list();
    let mut client = Client::new(machines.connect("a"), 1);
    assert!(matches!(client.next(), News::Ready(_)));
    kill(&listed[0]["machine"]["pid"]);
    let ended = machines.list_until(|listed| listed[0]["state"] == "ended");
    let reason = ended[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the machine has "), "{reason}");
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
    let logs = machines.vm(&["logs", "a", "--follow"]).expect(0);
    assert!(logs.stderr.contains(reason), "{logs}");
    machines.vm(&["stop", "a"]).expect(0);
    assert_eq!(machines.list(), [Value::Null; 0]);
}

#[test]
fn root_machines_on_a_labs_bridge_need_no_options_and_end_with_the_lab() {
    require_runner!();
    let machines = Machines::new();
    let script = "for n in 1 2 3 4 5 6; do $PLUMB vm start & done; wait; $PLUMB vm list --json; \
                  ip -o link show master lab0 | wc -l";
    let done = run(Command::new(plumb())
        .args([
            "lab", "run", "ipv6", "--bridge", "lab0", "--", "sh", "-c", script,
        ])
        .env("PLUMB", plumb())
        .env("PLUMB_STATE", machines.state()))
    .expect(0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let mut names: Vec<&str> = lines[..6].to_vec();
    names.sort_unstable();
    assert_eq!(names, ["vm1", "vm2", "vm3", "vm4", "vm5", "vm6"], "{done}");
    let mut pids = Vec::new();
    for listed in &lines[6..12] {
        let listed: Value = serde_json::from_str(listed).unwrap();
        assert_eq!(listed["state"], "idle", "{done}");
        let addresses = &listed["machine"]["addresses"];
        assert_eq!(
            *addresses,
            serde_json::json!(["5.0.1.1/30", "2a0b:5000:0:1::1/126"])
        );
        pids.push(listed["machine"]["mac"].as_str().unwrap().to_owned());
    }
    assert_eq!(lines[12].trim(), "7", "{done}");
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 6, "each has a MAC address of its own");
    assert_eq!(machines.list_until(<[Value]>::is_empty), [Value::Null; 0]);
}

#[test]
fn root_what_is_wrong_with_an_uplink_is_said_in_a_line() {
    require_runner!();
    let machines = Machines::new();
    for (arguments, said) in [
        (&[][..], "a machine needs --uplink: lab:NAME"),
        (&["--uplink", "lo"], "neither a bridge nor a TAP device"),
        (
            &["--uplink", "nosuch0"],
            "there is no interface nosuch0; to make it a new TAP device",
        ),
        (&["--uplink", "lab:phq"], "did you mean \"php\"?"),
        (
            &["--uplink", "lab:php,seed=x"],
            "the seed of a lab is a number",
        ),
        (
            &[
                "--uplink",
                "t0",
                "--address",
                "10.0.0.2/24",
                "--address",
                "10.0.0.3/24",
            ],
            "--address can be given once for IPv4",
        ),
    ] {
        let refused = machines.vm(&[&["start"], arguments].concat()).expect(2);
        assert!(refused.stderr.contains(said), "{refused}");
        assert_eq!(refused.stdout, "");
    }
    assert_eq!(std::fs::read_dir(machines.state()).unwrap().count(), 0);
}

fn kill(pid: &Value) {
    let pid = pid.as_u64().filter(|pid| *pid > 1).unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    run(Command::new("kill").args(["-KILL", &pid.to_string()])).expect(0);
}
