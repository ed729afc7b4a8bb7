//! `plumb flow --metrics`, scraped: every page is as Prometheus' text format 0.0.4 has it, and says
//! what happened.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use plumb_tests::{Chain, Directory, Done, Running, plumb, require, run, run_with};

/// A hundred connections over loopback of 1000 bytes there and 10 back, one refused, and one that
/// stays.
const TALK: &str = "
import socket, sys
s = socket.create_server(('127.0.0.1', 0))
def talk(n):
    a = socket.create_connection(s.getsockname()); b, _ = s.accept()
    a.sendall(b'x' * n); b.recv(n, socket.MSG_WAITALL); b.sendall(b'y' * 10); a.recv(10)
    a.shutdown(socket.SHUT_WR); b.recv(1); b.close(); a.recv(1); a.close()
print('ready', flush=True); sys.stdin.readline()
for _ in range(100): talk(1000)
t = socket.socket(); t.bind(('127.0.0.1', 0))
try: socket.create_connection(t.getsockname())
except ConnectionRefusedError: pass
a = socket.create_connection(s.getsockname()); b, _ = s.accept()
print('done', flush=True)
sys.stdin.read()
";

/// A recorder that answers scrapes.
struct Agent {
    running: Running,
    address: String,
}

impl Agent {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(plumb());
        command.args(["flow", "--metrics", "0"]).args(arguments);
        let mut running = Running::start(&mut command);
        let mut address = String::new();
        running.wait_until(|_, err| err.contains("/metrics\n"));
        let said = running.stderr();
        let at = said.split("http://").nth(1).unwrap();
        address.push_str(at.split("/metrics").next().unwrap());
        Self { running, address }
    }

    /// The page, through curl.
    fn scrape(&self) -> Page {
        let url = format!("http://{}/metrics", self.address);
        let mut command = Command::new("curl");
        let done = run(command.args(["--silent", "--show-error", "--fail", "--include", &url]));
        let done = done.expect(0);
        let (head, body) = done.stdout.split_once("\r\n\r\n").unwrap();
        let media = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.contains(media), "{head}");
        Page::parse(body)
    }

    /// What Prometheus' own linter has to say of the page.
    fn lint(&self) -> Done {
        let page =
            self.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200") && !head.contains("chunked"),
            "{head}"
        );
        let limit = core::time::Duration::from_secs(30);
        let mut command = Command::new("promtool");
        run_with(command.args(["check", "metrics"]), body.as_bytes(), limit)
    }

    /// The page, as soon as it is as it should be.
    fn scrape_until(&self, is: impl Fn(&Page) -> bool) -> Page {
        let begun = std::time::Instant::now();
        loop {
            let page = self.scrape();
            if is(&page) {
                return page;
            }
            assert!(begun.elapsed().as_secs() < 30, "{page:#?}");
            std::thread::sleep(core::time::Duration::from_millis(50));
        }
    }

    fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        // It may hang up before it has read everything.
        let _ = stream.write_all(request);
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        String::from_utf8(response).unwrap()
    }
}

/// A page of metrics: the value of each series.
#[derive(Debug)]
struct Page(BTreeMap<String, f64>);

impl Page {
    /// Reads the format, and insists on what Prometheus insists on, or its linter.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut series = BTreeMap::new();
        let mut families = BTreeSet::new();
        let (mut name, mut kind) = ("", "");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (of, words) = help.split_once(' ').unwrap();
                assert!(families.insert(of), "twice: {of}");
                assert!(words.ends_with(['.', ')']), "{line}");
                name = of;
                kind = "";
                continue;
            }
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (of, is) = of.split_once(' ').unwrap();
                assert_eq!(of, name, "HELP comes first");
                assert!(["counter", "gauge", "histogram"].contains(&is), "{line}");
                assert_eq!(is == "counter", name.ends_with("_total"), "{line}");
                kind = is;
                continue;
            }
            let (what, value) = line.rsplit_once(' ').unwrap();
            let (of, labels) = what.split_once('{').unwrap_or((what, ""));
            let suffix = of.strip_prefix(name).unwrap_or_else(|| panic!("{line}"));
            let allowed: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            assert!(
                of.bytes()
                    .all(|b| b.is_ascii_lowercase() || b"_".contains(&b)),
                "{line}"
            );
            if !labels.is_empty() {
                let labels = labels.strip_suffix('}').unwrap();
                for label in labels.split("\",") {
                    let (label, value) = label.split_once("=\"").unwrap();
                    assert!(label.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
                    assert!(!value.is_empty(), "{line}");
                }
            }
            assert_eq!(suffix == "_bucket", labels.contains("le=\""), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(value >= 0.0, "{line}");
            assert!(series.insert(what.to_owned(), value).is_none(), "{line}");
        }
        let page = Self(series);
        page.check_histograms();
        page
    }

    /// Buckets ascend, the last is infinite and all there is.
    fn check_histograms(&self) {
        let mut counts = 0;
        for (what, count) in &self.0 {
            let (name, labels) = what.split_once('{').unwrap_or((what, "}"));
            let Some(name) = name.strip_suffix("_count") else {
                continue;
            };
            counts += 1;
            let labels = labels.trim_end_matches('}');
            let start = match labels {
                "" => format!("{name}_bucket{{le=\""),
                labels => format!("{name}_bucket{{{labels},le=\""),
            };
            let mut buckets: Vec<(f64, f64)> = self
                .0
                .iter()
                .filter_map(|(what, count)| {
                    let bound = what.strip_prefix(&start)?.strip_suffix("\"}")?;
                    Some((bound.replace("+Inf", "inf").parse().unwrap(), *count))
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.len() > 5, "{what}");
            assert!(
                buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                "{what}"
            );
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)));
        }
        assert!(counts >= 6);
    }

    #[track_caller]
    fn of(&self, series: &str) -> f64 {
        let value = self.0.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {self:#?}"))
    }

    fn names(&self) -> Vec<&String> {
        self.0.keys().collect()
    }
}

#[test]
fn root_flow_metrics_say_what_happened_and_their_series_stay_the_same() {
    require!("ip", "ethtool", "python3", "curl", "promtool");
    let chain = Chain::new(2);
    let directory = Directory::new();
    let file = directory.file("flows.ipfix");
    let file = file.to_str().unwrap();
    let mut command = chain.command(0, "python3");
    let mut talk = Running::start(command.args(["-c", TALK]).stdin(Stdio::piped()));
    talk.wait_until(|out, _| out.contains("ready"));
    let which = talk.pid().to_string();
    let agent = Agent::start(&["--netns", &which, "--ipfix-file", file, "--format", "none"]);
    let before = agent.scrape();
    assert_eq!(before.of("plumb_flow_connections_total"), 0.0);
    talk.send("go\n");
    talk.wait_until(|out, _| out.contains("done"));
    let ends = "plumb_flow_connection_ends_total{reason=\"closed\"}";
    // That a connection is open is told with what happens next, or when all are gone over.
    let established = "plumb_flow_profiles_total{event=\"established\"}";
    let page = agent.scrape_until(|page| page.of(ends) >= 200.0 && page.of(established) >= 202.0);
    assert_eq!(page.names(), before.names(), "series come and go");

    for (series, value) in [
        (ends, 200.0),
        ("plumb_flow_connection_ends_total{reason=\"refused\"}", 1.0),
        ("plumb_flow_profiles_total{event=\"ended\"}", 201.0),
        (established, 202.0),
        ("plumb_flow_connections_total", 203.0),
        ("plumb_flow_open_connections", 2.0),
        ("plumb_flow_remembered_connections", 2.0),
        ("plumb_flow_sent_bytes_total", 101_000.0),
        ("plumb_flow_received_bytes_total", 101_000.0),
        (
            "plumb_flow_connection_bytes_count{direction=\"sent\"}",
            201.0,
        ),
        (
            "plumb_flow_connection_bytes_sum{direction=\"sent\"}",
            101_000.0,
        ),
        (
            "plumb_flow_connection_bytes_bucket{direction=\"sent\",le=\"100\"}",
            101.0,
        ),
        (
            "plumb_flow_establishment_seconds_count{open=\"active\"}",
            101.0,
        ),
        (
            "plumb_flow_establishment_seconds_count{open=\"passive\"}",
            101.0,
        ),
        ("plumb_flow_retransmission_ratio_count", 200.0),
        ("plumb_flow_events_total", 203.0),
        ("plumb_flow_lost_total{reason=\"ring-full\"}", 0.0),
        ("plumb_flow_program_up{program=\"state\"}", 1.0),
    ] {
        assert_eq!(page.of(series), value, "{series}");
    }
    assert!(page.of("process_cpu_seconds_total") > 0.0);
    assert!(page.of("process_resident_memory_bytes") > 1e6);
    // What is exported is told too.
    let lost = format!(
        "plumb_flow_export_lost_records_total{{destination=\"{file}\",reason=\"queue-full\"}}"
    );
    assert_eq!(page.of(&lost), 0.0);
    let records = format!("plumb_flow_export_records_total{{destination=\"{file}\"}}");
    agent.scrape_until(|page| page.of(&records) == 403.0);
    let linted = agent.lint().expect(0);
    assert_eq!((linted.stdout.as_str(), linted.stderr.as_str()), ("", ""));
    agent.running.signal("INT");
    agent
        .running
        .finish(core::time::Duration::from_secs(30))
        .expect(130);
}

#[test]
fn root_flow_metrics_outlive_those_who_ask_for_something_else() {
    require!("ip", "curl");
    let agent = Agent::start(&["--format", "none", "--port", "9"]);
    for (request, answer) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "HTTP/1.1 200 OK"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (
            b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 405 Method Not Allowed",
        ),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (
            &[b'A'; 20_000],
            "HTTP/1.1 431 Request Header Fields Too Large",
        ),
    ] {
        let response = agent.ask(request);
        assert!(response.starts_with(answer), "{response}");
    }
    // Those who say nothing keep nobody else waiting for longer than they may stay.
    let address = agent.address.as_str();
    let silent: Vec<_> = (0..30)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert!(agent.scrape().of("plumb_flow_events_total") >= 0.0);
    drop(silent);
    agent.running.signal("INT");
    agent
        .running
        .finish(core::time::Duration::from_secs(30))
        .expect(130);
}

#[test]
fn flow_metrics_need_an_address_that_is_free() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = Command::new(plumb());
    let done = run(command.args(["flow", "--metrics", &address])).expect(2);
    assert!(
        done.stderr.contains(&format!("cannot listen at {address}")),
        "{done}"
    );
    for wrong in ["x", "192.0.2.1", "70000"] {
        let mut command = Command::new(plumb());
        run(command.args(["flow", "--metrics", wrong])).expect(2);
    }
}
