//! What the probers wrote: how much of the work was really done.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::chain::HOPS;

/// What a run achieved, by its own records.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Results {
    /// Probes sent, retries and pings of hops included.
    pub(crate) probes: u64,
    /// Targets with a record.
    pub(crate) targets: u64,
    /// Targets of which every hop, or every request, was answered.
    pub(crate) complete: u64,
    /// Replies that arrived, but found the prober's buffers full; `None` if it does not say.
    pub(crate) dropped: Option<u64>,
}

impl Results {
    /// Reads records of plumb or scamper.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut results = Self::default();
        let mut ended = false;
        for line in BufReader::new(file).lines() {
            let line: Line = serde_json::from_str(&line?).context("not a record")?;
            let complete = match line.kind.as_str() {
                "trace" => {
                    results.probes += line.probe_count;
                    line.hops.len() == HOPS && line.hops.iter().all(|hop| hop.addr.is_some())
                }
                "ping" => {
                    results.probes += line.ping_sent;
                    let replies = line.received + line.statistics.replies;
                    replies == line.sent + line.ping_sent
                }
                "end" => {
                    results.probes = line.probes_sent;
                    results.dropped = Some(line.dropped);
                    ended = true;
                    continue;
                }
                "cycle-stop" => {
                    ended = true;
                    continue;
                }
                _ => continue,
            };
            results.targets += 1;
            results.complete += u64::from(complete);
        }
        if !ended {
            bail!("{} is cut off", path.display());
        }
        Ok(results)
    }
}

/// The fields of both programs' records that count.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    hops: Vec<Hop>,
    probe_count: u64,
    ping_sent: u64,
    statistics: Statistics,
    sent: u64,
    received: u64,
    probes_sent: u64,
    dropped: u64,
}

#[derive(Deserialize)]
struct Hop {
    addr: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics {
    replies: u64,
}
