//! `plumb flow`, run by tests.

use core::time::Duration;
use std::process::{Command, Stdio};

use plumb_record::FlowProfile;
use serde_json::Value;

use crate::{Chain, Running, Schema, plumb, run};

/// The program whose connections are watched.
pub const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/flow/scenarios.py");
const LIMIT: Duration = Duration::from_secs(60);

/// A recorder of the whole host, whose profiles are those of one chain.
#[derive(Debug)]
pub struct Watch {
    /// The process.
    pub running: Running,
    namespaces: Vec<u32>,
}

impl Watch {
    /// Watches the first namespaces of a chain.
    pub fn start(chain: &Chain, namespaces: usize, arguments: &[&str]) -> Self {
        let namespaces = (0..namespaces).map(|n| namespace(chain, n)).collect();
        Self::of(namespaces, &[&["--net", "5.9.0.0/16"], arguments].concat())
    }

    /// Watches these namespaces, or all if there are none.
    pub fn of(namespaces: Vec<u32>, arguments: &[&str]) -> Self {
        let mut command = Command::new(plumb());
        command.args(["flow", "--json"]).args(arguments);
        let mut running = Running::start(&mut command);
        running.wait_until(|out, _| out.contains(r#""type":"start""#));
        Self {
            running,
            namespaces,
        }
    }

    /// Waits until so many connections of anybody have ended.
    pub fn wait_for_ends(&mut self, count: usize) {
        let ended = r#""event":"ended""#;
        self.running
            .wait_until(|out, _| out.matches(ended).count() >= count);
    }

    /// Ends the recorder, and gives its profiles and its last record.
    pub fn stop(self) -> (Vec<FlowProfile>, Value) {
        self.running.signal("INT");
        let done = self.running.finish(LIMIT).expect(130);
        let schema = Schema::committed("flow");
        let (mut profiles, mut end) = (Vec::new(), Value::Null);
        for line in done.stdout.lines() {
            let value: Value = serde_json::from_str(line).expect("a record");
            if let Err(fault) = schema.check(&value) {
                panic!("{fault}: {line}");
            }
            match value["type"].as_str() {
                Some("flow") => profiles.push(serde_json::from_value(value).expect("a record")),
                Some("end") => end = value,
                _ => {}
            }
        }
        let ours = |profile: &FlowProfile| {
            self.namespaces.is_empty()
                || profile.netns.is_some_and(|n| self.namespaces.contains(&n))
        };
        profiles.retain(ours);
        (profiles, end)
    }
}

/// What the connections of [`SCENARIOS`] go to, in a namespace of a chain.
pub fn server(chain: &Chain, n: usize) -> Running {
    let mut command = chain.command(n, "python3");
    let command = command.args([SCENARIOS, "server"]).stdin(Stdio::piped());
    let mut server = Running::start(command);
    server.wait_until(|out, _| out.contains("ready"));
    server
}

/// The number of a namespace of a chain.
pub fn namespace(chain: &Chain, n: usize) -> u32 {
    let done = run(chain.command(n, "readlink").arg("/proc/self/ns/net")).expect(0);
    let number = done
        .stdout
        .trim()
        .trim_start_matches("net:[")
        .trim_end_matches(']');
    number.parse().expect("a record")
}
