//! `plumb flow` where something breaks meanwhile: nothing is lost that is not counted.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use plumb_ipfix::{Collector, CollectorLimits, Profiles, Record};
use plumb_record::FlowProfile;
use plumb_tests::{Chain, Directory, Running, SCENARIOS, Watch, plumb, require, run};

const LIMIT: Duration = Duration::from_secs(60);
/// Number of the enterprise for examples (RFC 5612), which plumb uses unless told.
const ENTERPRISE: u32 = 32_473;

/// A session with the exporter.
struct Session {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Session {
    fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let started = Instant::now();
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(started.elapsed() < LIMIT, "nobody connects");
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Reads more; false at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 1 << 16];
        let read = self.stream.read(&mut buffer).unwrap();
        self.bytes.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// The profiles of all messages that are there as a whole.
    fn profiles(&self) -> Vec<FlowProfile> {
        let mut collector = Collector::new(CollectorLimits::default());
        let reader = Profiles::new(ENTERPRISE);
        let (mut found, mut rest) = (Vec::new(), &self.bytes[..]);
        while let Some([_, _, high, low]) = rest.first_chunk() {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let Some((message, behind)) = rest.split_at_checked(len) else {
                break;
            };
            let take = |record: &Record<'_>| {
                found.extend(reader.flow(record));
            };
            collector.read(message, take).unwrap();
            rest = behind;
        }
        assert_eq!(collector.statistics().sequence_errors, 0);
        found
    }
}

/// Makes so many connections, one after the other.
fn connect(chain: &Chain, times: usize) {
    let host = chain.target(true).to_string();
    for _ in 0..times {
        let mut command = chain.command(0, "python3");
        Running::start(command.args([SCENARIOS, "bulk", &host, "10000"]))
            .finish(LIMIT)
            .expect(0);
    }
}

#[test]
fn root_flow_loses_nothing_while_its_collector_is_gone() {
    require!("ip", "ethtool", "python3", "readlink");
    let chain = Chain::new(2);
    let server = plumb_tests::server(&chain, 1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let to = format!("ipfix://{address},tcp");
    // Only the server's end: other tests use the same addresses and ports elsewhere.
    let host = server.pid().to_string();
    let arguments = ["--netns", &host, "--port", "5001", "--export", &to];
    let mut watch = Watch::of(Vec::new(), &arguments);

    let mut first = Session::accept(&listener);
    connect(&chain, 1);
    while first.profiles().len() < 2 {
        assert!(first.read());
    }
    let before = first.profiles();
    drop((first, listener));
    connect(&chain, 3);
    watch.wait_for_ends(4);
    // It has noticed.
    watch
        .running
        .wait_until(|_, err| err.contains("trying again"));
    let listener = TcpListener::bind(address).unwrap();
    let mut second = Session::accept(&listener);
    connect(&chain, 1);
    watch.wait_for_ends(5);
    let (profiles, end) = watch.stop();
    while second.read() {}

    let key = |p: &FlowProfile| (p.flow_id, p.event as u8, p.bytes_sent, p.end.0 / 1_000_000);
    let wanted: BTreeSet<_> = profiles.iter().map(key).collect();
    assert_eq!(wanted.len(), 10, "{end}");
    let sent: Vec<_> = before.iter().chain(&second.profiles()).map(key).collect();
    assert_eq!(sent.len(), 10);
    assert_eq!(sent.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn root_flow_counts_each_byte_once_though_it_is_killed_and_started_again() {
    require!("ip", "ethtool", "python3", "readlink");
    let chain = Chain::new(2);
    let server = plumb_tests::server(&chain, 1);
    let pid = server.pid().to_string();
    let arguments = ["--netns", &pid, "--port", "5001"];
    let killed = Watch::of(Vec::new(), &arguments);
    let host = chain.target(true).to_string();
    let mut command = chain.command(0, "python3");
    command.args([SCENARIOS, "hold", &host, "20000"]);
    let mut client = Running::start(command.stdin(Stdio::piped()));
    client.wait_until(|out, _| out.contains("acknowledged"));
    killed.running.signal("KILL");
    assert_eq!(killed.running.finish(LIMIT).signal(), Some(9));

    let mut watch = Watch::of(Vec::new(), &arguments);
    client.send("more\n");
    client.send("end\n");
    client.finish(LIMIT).expect(0);
    watch.wait_for_ends(1);
    let (profiles, end) = watch.stop();
    assert_eq!(
        (&end["connections"], &end["events_unknown"]),
        (&1.into(), &0.into())
    );
    let bytes: Vec<_> = profiles
        .iter()
        .map(|p| (p.open, p.bytes_sent, p.bytes_received))
        .collect();
    // 300 more, and the server's answer; what was before belongs to no window.
    assert_eq!(bytes, [(None, 777, 300)]);
}

/// How the kernel schedules the main thread of a process: the 41st field of stat (proc(5)).
fn policy(process: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/task/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(38).unwrap().to_owned()
}

fn wait_for_policy(process: u32, wanted: &str) {
    let started = Instant::now();
    while policy(process) != wanted {
        assert!(started.elapsed() < LIMIT, "never had policy {wanted}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the threads of a process may still do.
fn capabilities(process: u32) -> BTreeSet<(String, String)> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let read = |name: &std::path::Path| std::fs::read_to_string(name).unwrap();
    let of = |thread: std::path::PathBuf| {
        let status = read(&thread.join("status"));
        let effective = status
            .lines()
            .find_map(|l| l.strip_prefix("CapEff:"))
            .unwrap();
        let name = read(&thread.join("comm"));
        (name.trim().to_owned(), effective.trim().to_owned())
    };
    threads.map(|entry| of(entry.unwrap().path())).collect()
}

#[test]
fn root_flow_works_in_idle_time_until_it_has_no_turn() {
    const IDLE: &str = "5";
    const OTHER: &str = "0";
    require!("ip", "ethtool", "python3", "readlink", "mkfifo");
    let chain = Chain::new(2);
    let _server = plumb_tests::server(&chain, 1);
    let directory = Directory::new();
    let fifo = directory.file("profiles");
    run(Command::new("mkfifo").arg(&fifo)).expect(0);
    // Open, but not read: where it is full, plumb waits.
    let both = File::options().read(true).write(true).open(&fifo).unwrap();
    let mut command = Command::new("sh");
    let line = r#"exec "$0" flow --json --net 5.9.0.0/16 >"$1""#;
    let running = Running::start(command.args(["-c", line]).arg(plumb()).arg(&fifo));
    let process = running.pid();
    wait_for_policy(process, IDLE);
    let expected = [
        ("plumb", "0000000000000000"),
        // CAP_SYS_NICE is bit 23.
        ("plumb-guard", "0000000000800000"),
    ];
    let expected = expected.map(|(name, had)| (name.to_owned(), had.to_owned()));
    assert_eq!(capabilities(process), BTreeSet::from(expected));

    let host = chain.target(true).to_string();
    let mut short = chain.command(0, "python3");
    let short = Running::start(short.args([SCENARIOS, "short", &host]));
    wait_for_policy(process, OTHER);
    let reader = File::open(&fifo).unwrap();
    drop(both);
    let reader = std::thread::spawn(move || std::io::read_to_string(reader));
    short.finish(LIMIT).expect(0);
    wait_for_policy(process, IDLE);
    running.signal("INT");
    running.finish(LIMIT).expect(130);
    let ended = reader.join().unwrap().unwrap();
    assert!(ended.contains(r#""event":"ended""#));
}
