//! `plumb trace`.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use plumb_link::Clock;
use plumb_probe::{Event, Job, TraceOptions};
use plumb_record::{Method, StopReason, Trace, TraceSchema};
use plumb_wire::Instant;

use super::network::Way;
use super::session::{self, Ending, News, Plan, Run, Work};
use crate::args;
use crate::exit::Exit;
use crate::names::{Lookup, Names};
use crate::output::pcapng::Capture;
use crate::output::scamper_json::Context;
use crate::output::style::Look;
use crate::output::table::Table;
use crate::output::trace_sink::{TraceFormat, TraceSink};
use crate::settings::{LiveSettings, TraceSettings};

pub(super) fn run(args: args::Trace) -> anyhow::Result<Exit> {
    run_with(args, session::run, crate::live::run)
}

/// Runs with `measure` in the place of an engine in this process, and `follow` in that of a live
/// view with one.
pub(super) fn run_with(
    args: args::Trace,
    measure: impl FnOnce(Plan, &mut dyn Work) -> anyhow::Result<Exit>,
    follow: impl FnOnce(TraceSettings, LiveSettings) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let settings = TraceSettings::resolve(args)?;
    if settings.dry_run {
        return super::dry_run::trace(&settings);
    }
    if let Some(live) = settings.live {
        return follow(settings, live);
    }
    let clock = Clock::new();
    let out = open(settings.output.as_deref())?;
    let capture = settings
        .pcap
        .as_deref()
        .map(|path| Capture::create(path, clock))
        .transpose()?;
    let mut work = Tracing {
        options: Arc::new(settings.options),
        sink: TraceSink::new(out, format(&settings)),
        wants_names: settings.names,
        names: None,
        unnamed: VecDeque::new(),
    };
    measure(
        Plan {
            way: Way {
                mode: settings.mode,
                source: settings.source,
                interface: settings.interface,
                flow: settings.options.flow,
                tcp: settings.options.method == Method::TcpParis,
            },
            input: settings.input,
            family: settings.family,
            engine: settings.engine,
            seed: settings.seed,
            capture,
            progress: settings.progress,
            clock,
        },
        &mut work,
    )
}

/// Standard output or a file, with a buffer.
pub(super) fn open(path: Option<&Path>) -> anyhow::Result<BufWriter<Box<dyn Write>>> {
    let out: Box<dyn Write> = match path {
        Some(path) => Box::new(
            std::fs::File::create(path)
                .with_context(|| format!("cannot write to {}", path.display()))?,
        ),
        None => Box::new(io::stdout()),
    };
    Ok(BufWriter::with_capacity(1 << 16, out))
}

/// Longest time that a trace waits for the names on it.
const NAME_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks for names that have come.
const NAME_LOOK: Duration = Duration::from_millis(10);

struct Tracing {
    options: Arc<TraceOptions>,
    sink: TraceSink<BufWriter<Box<dyn Write>>>,
    wants_names: bool,
    names: Option<Names>,
    /// Traces that wait for names, with when that began.
    unnamed: VecDeque<(Instant, Trace)>,
}

impl Work for Tracing {
    fn job(&self, src: IpAddr, dst: IpAddr) -> Job {
        Job::Trace(plumb_probe::Trace {
            src,
            dst,
            options: Arc::clone(&self.options),
        })
    }

    fn start(&mut self, run: &Run) -> io::Result<()> {
        self.names = self.wants_names.then(Names::new);
        self.sink.start(&run.start_record(TraceSchema::V1))
    }

    fn event(&mut self, event: Event, name: Option<&str>, run: &Run) -> io::Result<News> {
        let Event::Trace {
            started, mut trace, ..
        } = event
        else {
            return Ok(News::Nothing);
        };
        trace.start = run.wall(started);
        trace.dst_name = name.map(str::to_owned);
        let news = News::Finished {
            reached: trace.stop_reason == StopReason::Completed,
            tunnels: trace.tunnels.len() as u64,
        };
        if let Some(names) = &mut self.names {
            for addr in addresses(&trace) {
                names.lookup(addr);
            }
            self.unnamed.push_back((run.now, *trace));
        } else {
            self.sink.trace(&trace)?;
        }
        Ok(news)
    }

    fn idle(&mut self, now: Instant) -> io::Result<Option<Duration>> {
        let Some(names) = &mut self.names else {
            return Ok(None);
        };
        names.receive();
        while let Some((since, trace)) = self.unnamed.front_mut() {
            let waits = addresses(trace).any(|addr| *names.lookup(addr) == Lookup::Asked);
            if waits && now.since(*since) < NAME_PATIENCE {
                return Ok(Some(NAME_LOOK));
            }
            let hops = trace.hops.iter_mut().map(|hop| (hop.addr, &mut hop.name));
            let lsrs = trace.tunnels.iter_mut().flat_map(|tunnel| {
                let lsrs = tunnel.lsrs.iter_mut().chain(&mut tunnel.hidden_egress);
                lsrs.map(|lsr| (lsr.addr, &mut lsr.name))
            });
            for (addr, name) in hops.chain(lsrs) {
                if let Some(Lookup::Answered(found)) = addr.map(|addr| names.lookup(addr)) {
                    name.clone_from(found);
                }
            }
            self.sink.trace(trace)?;
            self.unnamed.pop_front();
        }
        Ok(None)
    }

    fn pending(&self) -> usize {
        self.unnamed.len()
    }

    fn progress(&mut self, run: &Run) -> io::Result<()> {
        self.sink.progress(&run.progress_record(TraceSchema::V1))
    }

    fn end(&mut self, run: &Run, end: &Ending) -> io::Result<()> {
        for (_, trace) in self.unnamed.drain(..) {
            self.sink.trace(&trace)?;
        }
        self.sink.end(&run.end_record(TraceSchema::V1, end))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// The addresses on a path that have names.
fn addresses(trace: &Trace) -> impl Iterator<Item = IpAddr> + '_ {
    let hops = trace.hops.iter().filter_map(|hop| hop.addr);
    let tunnels = trace.tunnels.iter();
    let lsrs = tunnels.flat_map(|tunnel| tunnel.lsrs.iter().chain(&tunnel.hidden_egress));
    hops.chain(lsrs.filter_map(|lsr| lsr.addr))
}

fn format(settings: &TraceSettings) -> TraceFormat {
    let verbose = settings.verbose;
    match settings.format {
        args::Format::Table => TraceFormat::Table(Table {
            look: match settings.output {
                Some(_) => Look::of_file(),
                None => Look::of_stdout(),
            },
            verbose,
        }),
        args::Format::Json => TraceFormat::Json,
        args::Format::Tnt => TraceFormat::Tnt(verbose),
        args::Format::ScamperJson => TraceFormat::ScamperJson(Context {
            attempts: settings.options.attempts,
            max_ttl: settings.options.max_ttl,
            wait_s: settings.options.wait.as_secs().max(1),
            tos: settings.options.tos,
            size: settings.options.size,
        }),
    }
}
