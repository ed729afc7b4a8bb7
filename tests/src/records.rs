//! What `--json` prints.

use core::net::IpAddr;

use plumb_record::{End, LsrMethod, Ping, PingReply, Start, Trace, Tunnel};
use serde_json::Value;

use crate::{Done, Schema};

/// The records of one run, each checked against the schema.
#[derive(Clone, Debug)]
pub struct Records {
    /// The first record.
    pub start: Start<Value>,
    /// Records of type `trace`.
    pub traces: Vec<Trace>,
    /// Records of type `reply`.
    pub replies: Vec<PingReply>,
    /// Records of type `ping`.
    pub pings: Vec<Ping>,
    /// The last record.
    pub end: End<Value>,
}

impl Records {
    /// Reads the standard output of `plumb trace --json` or `plumb ping --json`.
    #[track_caller]
    pub fn of(done: &Done) -> Self {
        let mut lines = Vec::new();
        for line in done.stdout.lines() {
            let value: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error}: {line}\n{done}"));
            lines.push(value);
        }
        assert!(lines.len() >= 2, "no start and end: {done}");
        let schema = match lines[0]["schema"].as_str() {
            Some("plumb.trace/1") => Schema::committed("trace"),
            Some("plumb.ping/1") => Schema::committed("ping"),
            other => panic!("schema {other:?}: {done}"),
        };
        for line in &lines {
            if let Err(fault) = schema.check(line) {
                panic!("{fault}: {line}");
            }
            assert_eq!(line["schema"], lines[0]["schema"], "{line}");
        }
        let (first, last) = (lines.remove(0), lines.pop().unwrap_or_default());
        assert_eq!(first["type"], "start", "{done}");
        assert_eq!(last["type"], "end", "{done}");
        let mut records = Self {
            start: read(first),
            traces: Vec::new(),
            replies: Vec::new(),
            pings: Vec::new(),
            end: read(last),
        };
        for line in lines {
            match line["type"].as_str() {
                Some("trace") => records.traces.push(read(line)),
                Some("reply") => records.replies.push(read(line)),
                Some("ping") => records.pings.push(read(line)),
                Some("progress") => {}
                _ => panic!("neither trace nor ping: {line}"),
            }
        }
        records
    }

    /// The only trace of the run.
    #[track_caller]
    pub fn trace(&self) -> &Trace {
        assert_eq!(self.traces.len(), 1);
        &self.traces[0]
    }
}

/// A tunnel in one line: class and trigger, ingress > routers with method and step > egress, and what
/// came of the revelation.
pub fn line(tunnel: &Tunnel) -> String {
    let name = |addr: Option<IpAddr>| addr.map_or("*".into(), |addr| addr.to_string());
    let mut line = format!(
        "{:?}/{:?} {}",
        tunnel.kind,
        tunnel.trigger,
        name(tunnel.ingress)
    );
    for lsr in tunnel.lsrs.iter().chain(&tunnel.hidden_egress) {
        line += &match lsr.method {
            LsrMethod::Seen => format!(" > {}", name(lsr.addr)),
            LsrMethod::Dpr | LsrMethod::Brpr | LsrMethod::Buddy | LsrMethod::OneHop => {
                format!(" > {} {:?}{}", name(lsr.addr), lsr.method, lsr.step)
            }
        };
    }
    if tunnel.hidden_egress.is_none() {
        line += &format!(" > {}", name(tunnel.egress));
    }
    line += &format!(", {:?}", tunnel.revelation);
    if !tunnel.complete {
        line += ", incomplete";
    }
    line
}

#[track_caller]
fn read<T: for<'a> serde::Deserialize<'a>>(value: Value) -> T {
    let shown = value.to_string();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}: {shown}"))
}
