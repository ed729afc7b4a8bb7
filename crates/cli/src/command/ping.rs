//! `plumb ping`.

use core::net::IpAddr;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use plumb_link::Clock;
use plumb_probe::{Event, Job, PingOptions};
use plumb_record::PingSchema;

use super::network::Way;
use super::session::{self, Ending, News, Plan, Run, Work};
use super::trace::open;
use crate::args;
use crate::exit::Exit;
use crate::output::pcapng::Capture;
use crate::output::ping_sink::{PingFormat, PingSink};
use crate::output::style::Look;
use crate::settings::PingSettings;

pub(super) fn run(args: args::Ping) -> anyhow::Result<Exit> {
    run_with(args, session::run)
}

/// Runs with `measure` in the place of an engine in this process.
pub(super) fn run_with(
    args: args::Ping,
    measure: impl FnOnce(Plan, &mut dyn Work) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let settings = PingSettings::resolve(args)?;
    let clock = Clock::new();
    let out = open(settings.output.as_deref())?;
    let capture = settings
        .pcap
        .as_deref()
        .map(|path| Capture::create(path, clock))
        .transpose()?;
    let list = settings.input.list.is_some();
    let several = list || settings.input.arguments.len() > 1;
    let format = match settings.format {
        args::PingFormat::Json => PingFormat::Json,
        args::PingFormat::Table => PingFormat::Text {
            look: match settings.output {
                Some(_) => Look::of_file(),
                None => Look::of_stdout(),
            },
            several,
        },
    };
    // Replies to thousands of targets are for machines.
    let replies =
        settings.options.report_replies && (!list || settings.format == args::PingFormat::Json);
    let options = PingOptions {
        report_replies: replies,
        ..settings.options
    };
    let mut work = Pinging {
        v4: sized(options, HEADERS_V4),
        v6: sized(options, HEADERS_V6),
        sink: PingSink::new(out, format, !list),
    };
    measure(
        Plan {
            way: Way {
                mode: settings.mode,
                source: settings.source,
                interface: settings.interface,
                flow: None,
                tcp: false,
            },
            input: settings.input,
            family: settings.family,
            engine: settings.engine,
            seed: settings.seed,
            capture,
            progress: settings.progress && (list || !replies),
            clock,
        },
        &mut work,
    )
}

/// Bytes of IPv4 and ICMP header before the data.
const HEADERS_V4: u16 = 28;
/// Bytes of IPv6 and ICMPv6 header before the data.
const HEADERS_V6: u16 = 48;

fn sized(options: PingOptions, headers: u16) -> Arc<PingOptions> {
    Arc::new(PingOptions {
        size: options.size.saturating_add(headers),
        ..options
    })
}

struct Pinging {
    v4: Arc<PingOptions>,
    v6: Arc<PingOptions>,
    sink: PingSink<BufWriter<Box<dyn Write>>>,
}

impl Work for Pinging {
    fn job(&self, src: IpAddr, dst: IpAddr) -> Job {
        let options = if dst.is_ipv4() { &self.v4 } else { &self.v6 };
        Job::Ping(plumb_probe::Ping {
            src,
            dst,
            options: Arc::clone(options),
        })
    }

    fn start(&mut self, run: &Run) -> io::Result<()> {
        self.sink.start(&run.start_record(PingSchema::V1))
    }

    fn event(&mut self, event: Event, name: Option<&str>, run: &Run) -> io::Result<News> {
        match event {
            Event::PingReply { reply, .. } => {
                self.sink.reply(&reply)?;
                Ok(News::Nothing)
            }
            Event::Ping {
                started, mut ping, ..
            } => {
                ping.start = run.wall(started);
                ping.dst_name = name.map(str::to_owned);
                let reached = ping.received > 0;
                self.sink.summary(*ping)?;
                Ok(News::Finished {
                    reached,
                    tunnels: 0,
                })
            }
            Event::Hop { .. } | Event::Trace { .. } => Ok(News::Nothing),
        }
    }

    fn progress(&mut self, run: &Run) -> io::Result<()> {
        self.sink.progress(&run.progress_record(PingSchema::V1))
    }

    fn end(&mut self, run: &Run, end: &Ending) -> io::Result<()> {
        self.sink.end(&run.end_record(PingSchema::V1, end))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
