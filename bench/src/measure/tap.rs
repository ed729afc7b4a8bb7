//! What watching costs the traffic that is watched: no tap, the kernel's own mirror, tcpdump, and
//! plumb's ways, in alternation.

mod lab;
mod load;
mod switch;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;

use self::lab::Lab;
pub(super) use self::lab::run;
use self::load::Load;
use super::{Bench, OTHER_CPU};
use crate::report::spread;
use crate::stats::Summary;

/// One way to watch.
#[derive(Clone, Copy, Debug)]
struct Mode {
    name: &'static str,
    watch: Watch,
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    Nothing,
    /// The kernel's mirror, by tc.
    Mirred,
    /// tcpdump with these arguments.
    Tcpdump(&'static [&'static str]),
    /// So many sessions of plumb with these arguments.
    Plumb(usize, &'static [&'static str]),
}

const MODES: [Mode; 11] = [
    Mode {
        name: "no tap",
        watch: Watch::Nothing,
    },
    Mode {
        name: "tc mirred",
        watch: Watch::Mirred,
    },
    Mode {
        name: "tcpdump, 128 bytes",
        watch: Watch::Tcpdump(&["-s", "128"]),
    },
    Mode {
        name: "tcpdump, whole",
        watch: Watch::Tcpdump(&["-s", "0"]),
    },
    Mode {
        name: "plumb, slices of 128 bytes",
        watch: Watch::Plumb(1, &["--snaplen", "128", "--write", "/dev/null"]),
    },
    Mode {
        name: "plumb, clones",
        watch: Watch::Plumb(1, &["--to", "mon"]),
    },
    Mode {
        name: "plumb, clones in VXLAN",
        watch: Watch::Plumb(1, &["--snaplen", "8000", "--to", "vxlan://192.0.2.9?vni=7"]),
    },
    Mode {
        name: "plumb, clones to the kernel's VXLAN",
        watch: Watch::Plumb(1, &["--snaplen", "8000", "--to", "vx"]),
    },
    Mode {
        name: "plumb, filter that matches nothing",
        watch: Watch::Plumb(
            1,
            &["--filter", "port 9999 and net 172.16.0.0/12", "--to", "mon"],
        ),
    },
    Mode {
        name: "plumb, filter that matches 1 %",
        watch: Watch::Plumb(1, &["--filter", "udp dst port 7001", "--to", "mon"]),
    },
    Mode {
        name: "plumb, 10 sessions that match 1 %",
        watch: Watch::Plumb(
            10,
            &[
                "--filter",
                "udp dst port 7001",
                "--snaplen",
                "128",
                "--write",
                "/dev/null",
            ],
        ),
    },
];

/// What one run of a load cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    mode: &'static str,
    /// Processor time of the sender for a UDP packet, the kernel's work on its way included, ns.
    packet_ns: f64,
    /// The same up to its receiver, which has it by a call of its own on the same processor, ns.
    packet_both_ends_ns: f64,
    /// UDP packets in a second, in thousands.
    kpps: f64,
    /// TCP payload, in Gbit/s.
    gbit: f64,
    /// Processor time for TCP, both ends, in ms for a gigabyte.
    gigabyte_ms: f64,
    /// Median of round trips, in microseconds.
    round_trip_us: f64,
}

/// Alternates all ways.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let lab = Lab::build()?;
    let load = Load::new(&lab, bench.quick);
    let rounds = if bench.quick {
        2
    } else {
        bench.repetitions * 3
    };
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); MODES.len()];
    for round in 0..rounds {
        for n in 0..MODES.len() {
            // Another order each time, so that none always follows the same.
            let mode = (n * 7 + round * 3) % MODES.len();
            let watcher = Watcher::start(&lab, bench.plumb(), MODES[mode])?;
            let run = load.run(MODES[mode].name)?;
            watcher.stop()?;
            bench.report.run("tap", &run)?;
            runs[mode].push(run);
        }
    }
    let of = |n: usize, figure: fn(&Run) -> f64| runs[n].iter().map(figure).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (n, mode) in MODES.iter().enumerate() {
        rows.push(vec![
            mode.name.to_owned(),
            spread(of(n, |run| run.packet_ns), 0),
            ratio2(of(n, |run| run.packet_ns), of(0, |run| run.packet_ns)),
            spread(of(n, |run| run.packet_both_ends_ns), 0),
            ratio2(
                of(n, |run| run.packet_both_ends_ns),
                of(0, |run| run.packet_both_ends_ns),
            ),
            spread(of(n, |run| run.kpps), 0),
            spread(of(n, |run| run.gbit), 1),
            spread(of(n, |run| run.gigabyte_ms), 0),
            spread(of(n, |run| run.round_trip_us), 1),
        ]);
    }
    bench.report.say(&format!(
        "## Taps\n\nA UDP sender with 64 bytes of payload, one TCP connection and round trips between two \
         namespaces on a bridge, over a port that is watched both ways; {rounds} alternating rounds. \
         Processor time for a packet is the sender's, with all that the kernel does for it on its \
         way, copies included, and nobody reads the packets at their end; readers of slices run on \
         the other processor and are not in it. With the receiver included, in runs of their own, one \
         thread sends 64 packets, reads them at the other end, and so on, and never sleeps."
    ));
    bench.report.table(
        &[
            "watched by",
            "ns of CPU for a packet",
            "to no tap",
            "ns of CPU for a packet, receiver included",
            "to no tap",
            "kpps",
            "Gbit/s of TCP",
            "ms of CPU for a GB",
            "round trip, us",
        ],
        &rows,
    );
    switch::measure(bench, rounds)
}

/// The ratio of two medians with two decimals.
fn ratio2(of: Vec<f64>, to: Vec<f64>) -> String {
    match (Summary::of(of), Summary::of(to)) {
        (Some(of), Some(to)) if to.median > 0.0 => format!("{:.2}", of.median / to.median),
        _ => String::from("-"),
    }
}

/// Whoever watches at present.
struct Watcher<'a> {
    lab: &'a Lab,
    mode: Mode,
    children: Vec<Child>,
}

impl<'a> Watcher<'a> {
    fn start(lab: &'a Lab, plumb: &str, mode: Mode) -> anyhow::Result<Self> {
        let cpu = OTHER_CPU.to_string();
        let mut watcher = Self {
            lab,
            mode,
            children: Vec::new(),
        };
        match mode.watch {
            Watch::Nothing => {}
            Watch::Mirred => lab.mirror(true)?,
            Watch::Tcpdump(arguments) => {
                let mut command = lab.command("sw", "taskset");
                command.args([
                    "-c",
                    &cpu,
                    "tcpdump",
                    "-Z",
                    "root",
                    "-i",
                    "vm1",
                    "-w",
                    "/dev/null",
                ]);
                watcher.spawn(command.args(arguments), "listening on")?;
            }
            Watch::Plumb(sessions, arguments) => {
                for _ in 0..sessions {
                    let mut command = lab.command("sw", "taskset");
                    command.args(["-c", &cpu, plumb, "tap", "vm1"]);
                    watcher.spawn(command.args(arguments), " -> ")?;
                }
            }
        }
        Ok(watcher)
    }

    /// Starts a command and waits until it says this.
    fn spawn(&mut self, command: &mut Command, ready: &str) -> anyhow::Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start who watches")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(stderr);
        let mut said = String::new();
        while !said.contains(ready) {
            if lines.read_line(&mut said)? == 0 {
                bail!("{}: {said}", self.mode.name);
            }
        }
        // What else it says at its end must not block it.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        self.children.push(child);
        Ok(())
    }

    fn stop(mut self) -> anyhow::Result<()> {
        if matches!(self.mode.watch, Watch::Mirred) {
            self.lab.mirror(false)?;
        }
        for child in &mut self.children {
            super::ask_to_end(child)?;
        }
        for mut child in self.children.drain(..) {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
