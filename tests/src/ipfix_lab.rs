//! A vantage point that exports flow records, and a collector's namespace.

use core::net::IpAddr;
use core::time::Duration;

use plumb_record::FlowProfile;

use crate::{Chain, Directory, Done, Running, dissect, ndjson, profiles, run};

/// A vantage point and a collector's namespace, joined by Ethernet.
#[derive(Debug)]
pub struct Lab {
    /// The two namespaces; the collector's is number 1.
    pub chain: Chain,
    /// Where commands of [`Lab::start`] run.
    pub directory: Directory,
    /// What is exported.
    pub profiles: Vec<FlowProfile>,
}

impl Lab {
    /// Makes one, and a file `flows.ndjson` of this many profiles.
    pub fn new(count: u16) -> Self {
        let directory = Directory::new();
        let profiles = profiles(count);
        directory.write("flows.ndjson", ndjson(&profiles));
        Self {
            chain: Chain::new(2),
            directory,
            profiles,
        }
    }

    /// Starts a command beside the collector's address, and waits for these words.
    pub fn start(&self, program: &str, arguments: &[&str], ready: &str) -> Running {
        let mut command = self.chain.command(1, program);
        command.args(arguments).current_dir(self.directory.path());
        let mut running = Running::start(&mut command);
        running.wait_until(|out, err| out.contains(ready) || err.contains(ready));
        running
    }

    /// Captures what reaches the collector on this port.
    pub fn capture(&self, filter: &str) -> Running {
        let arguments = [
            "-i", "left", "--print", "-l", "-n", "-U", "-w", "cap.pcap", filter,
        ];
        self.start("tcpdump", &arguments, "listening on")
    }

    /// Exports the profiles to the collector, and gives the number of messages.
    pub fn export(&self, v4: bool, suffix: &str, more: &[&str]) -> usize {
        let host = match self.chain.target(v4) {
            IpAddr::V4(addr) => addr.to_string(),
            IpAddr::V6(addr) => format!("[{addr}]"),
        };
        self.export_to(&format!("ipfix://{host}{suffix}"), more)
    }

    /// Exports the profiles to a target of `--to`, and gives the number of messages.
    pub fn export_to(&self, to: &str, more: &[&str]) -> usize {
        let flows = self.directory.file("flows.ndjson");
        let mut arguments = vec!["export", flows.to_str().expect("UTF-8"), "--to", to];
        // The collectors have small buffers, and this machine may be busy with other tests.
        arguments.extend(["--export-rate", "500"]);
        arguments.extend(more);
        let mut command = self.chain.plumb(&arguments);
        command.env("SSLKEYLOGFILE", self.directory.file("keys"));
        let done = run(&mut command).expect(0);
        let records = format!(": {} records sent in ", self.profiles.len());
        let messages = done.stderr.split(&records).nth(1);
        let messages = messages.unwrap_or_else(|| panic!("{done}"));
        let messages = messages.split(' ').next();
        messages.and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Path of a file in the directory.
    pub fn file(&self, name: &str) -> String {
        let file = self.directory.file(name);
        file.to_str().expect("UTF-8").to_owned()
    }

    /// Waits until whoever listens on this port has read all that came.
    pub fn wait_until_read(&self, port: &str) {
        let started = std::time::Instant::now();
        loop {
            let mut command = self.chain.command(1, "ss");
            command.args(["-u", "-a", "-n", "-H", "sport", "=", &format!(":{port}")]);
            let sockets = run(&mut command).expect(0).stdout;
            let waiting: Vec<&str> = sockets
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1))
                .collect();
            assert!(!waiting.is_empty(), "nobody listens: {sockets}");
            if waiting.iter().all(|&bytes| bytes == "0") {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{sockets}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What tshark calls a warning; below are the remarks that every connection gets.
const WARNING: u32 = 6 << 20;

/// Reads with tshark what was sent, and compares it with the profiles.
pub fn compare(profiles: &[FlowProfile], path: &str, options: &[&str]) {
    let fields = [
        "cflow.srcport",
        "cflow.flow_id",
        "cflow.transport_octet_delta_count",
        "cflow.packets",
        "cflow.flow_end_reason",
        "_ws.malformed",
        "_ws.expert.severity",
    ];
    let mut read = dissect(path, options, &fields).into_iter();
    let mut same = |of: &dyn Fn(&FlowProfile) -> Vec<u64>| {
        let read: Vec<u64> = read
            .next()
            .expect("a column")
            .iter()
            .map(|text| text.parse().expect("a number"))
            .collect();
        let wanted: Vec<u64> = profiles.iter().flat_map(of).collect();
        assert_eq!(read, wanted);
    };
    same(&|profile| vec![profile.local_port.into()]);
    same(&|profile| vec![profile.flow_id]);
    // tshark calls the elements of the other direction the same.
    same(&|profile| vec![profile.bytes_sent, profile.bytes_received]);
    same(&|profile| {
        let both = [profile.packets_sent, profile.packets_received];
        both.map(|packets| packets.expect("a count")).to_vec()
    });
    same(&|profile| vec![if profile.end_reason.is_some() { 3 } else { 2 }]);
    assert!(read.next().expect("a column").is_empty());
    let severities = read.next().expect("a column");
    let grave = |severity: &String| severity.parse::<u32>().expect("a number") >= WARNING;
    assert!(!severities.iter().any(grave), "{severities:?}");
}

/// Ends a command with this signal, and waits for it.
pub fn end(running: Running, signal: &str) -> Done {
    running.signal(signal);
    running.finish(Duration::from_secs(30))
}
