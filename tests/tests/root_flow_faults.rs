//! `plumb flow` where something breaks meanwhile: nothing is lost that is not counted.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use plumb_ipfix::{Collector, CollectorLimits, Profiles, Record};
use plumb_record::FlowProfile;
use plumb_tests::{Chain, Running, SCENARIOS, Watch, require};

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
