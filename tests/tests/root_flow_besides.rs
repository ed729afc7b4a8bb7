//! What `plumb flow` records besides TCP, from the real source to a record and an IPFIX file: name
//! lookups that dnsmasq answers, and QUIC connections of quinn that their process reports.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use plumb_ipfix::table::DOCUMENTATION_ENTERPRISE;
use plumb_ipfix::{Collector, CollectorLimits, Framer, Profiles};
use plumb_quic::{Emitter, watch};
use plumb_record::{DnsProfile, FlowEnd, FlowEvent, FlowOpen, FlowProfile, FlowProtocol};
use plumb_tests::{Chain, Directory, Running, Schema, plumb, require, run};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// The recorder, with an IPFIX file.
struct Agent {
    running: Running,
    directory: Directory,
}

/// What it wrote, and what is in the file.
struct Told {
    records: Vec<Value>,
    flows: Vec<FlowProfile>,
    lookups: Vec<DnsProfile>,
}

impl Agent {
    fn start(arguments: impl FnOnce(&Directory) -> Vec<String>) -> Self {
        let directory = Directory::new();
        let mut command = Command::new(plumb());
        command.args(["flow", "--json", "--ipfix-file"]);
        command.arg(directory.file("flows.ipfix"));
        command.args(arguments(&directory));
        let mut running = Running::start(&mut command);
        running.wait_until(|out, _| out.contains(r#""type":"start""#));
        Self { running, directory }
    }

    /// Stops it; the directory with its file stays as long as it is held.
    fn stop(self) -> (Told, Directory) {
        self.running.signal("INT");
        let done = self.running.finish(LIMIT).expect(130);
        let schema = Schema::committed("flow");
        let mut records = Vec::new();
        for line in done.stdout.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Err(fault) = schema.check(&value) {
                panic!("{fault}: {line}");
            }
            records.push(value);
        }
        let (mut flows, mut lookups) = (Vec::new(), Vec::new());
        let reader = Profiles::new(DOCUMENTATION_ENTERPRISE);
        let mut collector = Collector::new(CollectorLimits::default());
        let mut framer = Framer::new();
        framer.push(&std::fs::read(self.directory.file("flows.ipfix")).unwrap());
        while let Some(message) = framer.next_message().unwrap() {
            let read = collector.read(message, |record| {
                flows.extend(reader.flow(record));
                lookups.extend(reader.lookup(record));
            });
            read.unwrap();
        }
        assert_eq!(collector.statistics().sequence_errors, 0);
        let told = Told {
            records,
            flows,
            lookups,
        };
        (told, self.directory)
    }
}

/// Asks for names at a server; the last argument of each is how often.
const ASK: &str = "
import socket, struct, sys
def query(id, name):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    return struct.pack('>6H', id, 256, 1, 0, 0, 0) + labels + b'\\0\\0\\1\\0\\1'
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); silent.bind(('127.0.0.2', 53))
def ask(server, id, name, times=1):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((server, 53))
    for _ in range(times): s.send(query(id, name))
    return s
for id, name in enumerate(sys.argv[1:3]):
    s = ask('127.0.0.1', id, name); s.settimeout(30); s.recv(512)
kept = ask('127.0.0.2', 7, sys.argv[3], 2)
print('asked', flush=True); sys.stdin.read()
";

#[test]
fn root_flow_records_the_name_lookups_that_dnsmasq_answers() {
    require!("ip", "ethtool", "python3", "dnsmasq");
    let chain = Chain::new(2);
    let test = std::process::id();
    let name = |what: &str| format!("{what}.p{test}.plumb.test");
    let (there, missing, silent) = (name("there"), name("missing"), name("silent"));
    let mut command = chain.command(0, "dnsmasq");
    command.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
    ]);
    command.args([
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--log-facility=-",
    ]);
    command.arg(format!("--address=/{there}/192.0.2.7"));
    command.arg(format!("--address=/{missing}/"));
    let mut dnsmasq = Running::start(&mut command);
    dnsmasq.wait_until(|out, err| out.contains("started") || err.contains("started"));

    let agent = Agent::start(|_| vec!["--dns".into(), "--port".into(), "9".into()]);
    let mut command = chain.command(0, "python3");
    let command = command.args(["-c", ASK, &there, &missing, &silent]);
    let mut client = Running::start(command.stdin(std::process::Stdio::piped()));
    client.wait_until(|out, _| out.contains("asked"));
    let pid = client.pid();
    let (told, _) = agent.stop();
    drop(client);

    let of = |name: &str| {
        let is = |record: &&Value| record["type"] == "dns" && record["name"] == name;
        // The server's socket sees the question, too, and says nothing: clients' are recorded.
        let found: Vec<&Value> = told.records.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{name}: {found:#?}");
        let record = found[0];
        assert_eq!(record["pid"], pid, "{record}");
        assert_eq!(record["process"], "python3");
        assert_eq!(
            (&record["query_type"], &record["remote_port"]),
            (&1.into(), &53.into())
        );
        record
    };
    let record = of(&there);
    assert_eq!(
        (&record["response_code"], &record["answers"]),
        (&0.into(), &1.into())
    );
    assert!(record["resolution_ns"].as_u64().unwrap() > 0);
    assert_eq!(record["remote_addr"], "127.0.0.1");
    let record = of(&missing);
    assert_eq!(
        (&record["response_code"], &record["answers"]),
        (&3.into(), &0.into())
    );
    let record = of(&silent);
    assert_eq!(
        (&record["queries"], &record["resolution_ns"]),
        (&2.into(), &Value::Null)
    );
    assert_eq!(record["remote_addr"], "127.0.0.2");

    // The file has the same.
    for (name, code) in [(&there, Some(0)), (&missing, Some(3)), (&silent, None)] {
        let lookup = told.lookups.iter().find(|lookup| lookup.name == *name);
        let lookup = lookup.unwrap_or_else(|| panic!("no {name} in {:#?}", told.lookups));
        assert_eq!((lookup.response_code, lookup.pid), (code, Some(pid)));
    }
}

/// One connection of quinn over loopback: 50 kB there, four bytes back.
async fn talk(emitter: Arc<Emitter>) -> SocketAddr {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ServerConfig::with_single_cert(vec![made.cert.into()], key.into()).unwrap();
    let server = Endpoint::server(config, loopback).unwrap();
    let address = server.local_addr().unwrap();
    let from_server = emitter.clone();
    let served = tokio::spawn(async move {
        let connecting = server.accept().await.unwrap().accept().unwrap();
        let watched = watch(connecting, address, FlowOpen::Passive, from_server);
        let connection = watched.await.unwrap();
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        receive.read_to_end(usize::MAX).await.unwrap();
        send.write_all(b"done").await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
        server.wait_idle().await;
    });
    let mut client = Endpoint::client(loopback).unwrap();
    client
        .set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots)).unwrap());
    let connecting = client.connect(address, "localhost").unwrap();
    let local = client.local_addr().unwrap();
    let watched = watch(connecting, local, FlowOpen::Active, emitter);
    let connection = watched.await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&vec![7; 50_000]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(receive.read_to_end(16).await.unwrap(), b"done");
    connection.close(0_u32.into(), b"");
    drop(connection);
    client.wait_idle().await;
    served.await.unwrap();
    address
}

/// Runs it, and the tasks that it started until `is_told`.
fn in_tokio(socket: &Path, is_told: impl Fn() -> bool) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let emitter = Arc::new(Emitter::new(socket).unwrap());
    let address = runtime.block_on(async {
        let test = async {
            let address = talk(emitter.clone()).await;
            while !is_told() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            address
        };
        tokio::time::timeout(LIMIT, test).await.unwrap()
    });
    assert_eq!(emitter.lost(), 0);
    address
}

#[test]
fn root_flow_shows_and_exports_quic_connections_that_a_process_reports() {
    require!("ip", "tshark");
    let agent = Agent::start(|directory| {
        let socket = directory.file("quic.sock").display().to_string();
        vec!["--quic-socket".into(), socket, "--port".into(), "9".into()]
    });
    let socket = agent.directory.file("quic.sock");
    let ended = || agent.running.stdout().matches(r#""event":"ended""#).count() >= 2;
    let server = in_tokio(&socket, ended);
    let (told, directory) = agent.stop();
    assert!(!socket.exists(), "the socket is left behind");

    let flows: Vec<FlowProfile> = told
        .records
        .iter()
        .filter(|record| record["type"] == "flow" && record["protocol"] == "quic")
        .map(|record| serde_json::from_value(record.clone()).unwrap())
        .collect();
    assert_eq!(flows.len(), 4, "{flows:#?}");
    for open in [FlowOpen::Active, FlowOpen::Passive] {
        let ours: Vec<_> = flows
            .iter()
            .filter(|flow| flow.open == Some(open))
            .collect();
        let events: Vec<_> = ours.iter().map(|flow| flow.event).collect();
        assert_eq!(events, [FlowEvent::Established, FlowEvent::Ended]);
        let last = ours[1];
        assert_eq!(last.end_reason, Some(FlowEnd::Closed), "{last:#?}");
        // The kernel says who reported.
        assert_eq!(last.pid, Some(std::process::id()));
        let (more, address) = match open {
            FlowOpen::Active => (last.bytes_sent, last.remote_addr),
            FlowOpen::Passive => (last.bytes_received, last.local_addr),
        };
        assert!(more >= 50_000, "{last:#?}");
        assert_eq!(address, server.ip());
    }

    // In the file are the same, as its own reader and tshark have them.
    let key = |flow: &FlowProfile| (flow.flow_id, flow.profile, flow.bytes_sent, flow.rtt_ns);
    let (was, is): (Vec<_>, Vec<_>) = (
        flows.iter().map(key).collect(),
        told.flows.iter().map(key).collect(),
    );
    assert_eq!(is, was);
    assert!(
        told.flows
            .iter()
            .all(|flow| flow.protocol == FlowProtocol::Quic)
    );
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(directory.file("flows.ipfix"));
    tshark.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]);
    let done = run(tshark.args(["-e", "cflow.flow_id", "-e", "cflow.protocol"])).expect(0);
    let mut ids = Vec::new();
    for line in done.stdout.lines() {
        let (of, protocols) = line.split_once('|').unwrap();
        ids.extend(of.split(';').filter_map(|id| id.parse::<u64>().ok()));
        assert!(
            protocols.split(';').all(|p| p.is_empty() || p == "17"),
            "{line}"
        );
    }
    let wanted: Vec<u64> = flows.iter().map(|flow| flow.flow_id).collect();
    assert_eq!(ids, wanted, "{done}");
}
