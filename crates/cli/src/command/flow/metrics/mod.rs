//! What Prometheus scrapes: of plumb itself, and what the connections add up to.
//!
//! `text` writes pages, `http` reads requests, `aggregates` counts; all three are pure. `server` has
//! the sockets. There is a fixed number of series, whatever happens on the host.

mod aggregates;
mod http;
mod server;
mod text;

use core::net::{Ipv4Addr, SocketAddr};
use std::io;
use std::os::fd::BorrowedFd;

use plumb_ebpf::flow::{Profiler, Recorder};
use plumb_record::{DnsProfile, FlowProfile};
use plumb_wire::Instant;
use rustix::event::PollFlags;
use rustix::time::{ClockId, clock_gettime};

use self::aggregates::Aggregates;
use self::server::Server;
use self::text::{Kind, Page, Scale};
use super::besides::Besides;
use crate::args::MetricsAddress;
use crate::exit::Failure;
use crate::export::Export;

/// The metrics, and who answers for them.
#[derive(Debug)]
pub(super) struct Metrics {
    server: Server,
    aggregates: Aggregates,
    events: u64,
    started_ns: u64,
}

/// What is counted elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) profiler: &'a Profiler,
    pub(super) export: &'a Export,
    pub(super) besides: &'a Besides,
    /// Profiles that --rate held back.
    pub(super) over_rate: u64,
}

impl Metrics {
    /// Listens at an address. `started_ns` is the wall time.
    pub(super) fn listen(address: MetricsAddress, started_ns: u64) -> Result<Self, Failure> {
        let address = SocketAddr::new(
            address.host.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            address.port,
        );
        let server = Server::bind(address).map_err(|error| {
            Failure::usage(format!("--metrics: cannot listen at {address}: {error}"))
        })?;
        Ok(Self {
            server,
            aggregates: Aggregates::new(),
            events: 0,
            started_ns,
        })
    }

    /// Where they are.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.server.address()
    }

    /// What is waited for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.server.interests()
    }

    /// The kernel told something.
    pub(super) const fn handle_event(&mut self) {
        self.events += 1;
    }

    /// A window is over.
    pub(super) fn handle_profile(&mut self, profile: &FlowProfile) {
        self.aggregates.handle_profile(profile);
    }

    /// A connection is over, of which this is the whole.
    pub(super) fn handle_end(&mut self, total: &FlowProfile) {
        self.aggregates.handle_end(total);
    }

    /// A name was looked up.
    pub(super) fn handle_lookup(&mut self, lookup: &DnsProfile) {
        self.aggregates.handle_lookup(lookup);
    }

    /// Answers who has asked.
    pub(super) fn answer(&mut self, now: Instant, around: Around<'_>) {
        let Self {
            server,
            aggregates,
            events,
            started_ns,
        } = self;
        server.turn(now, || {
            let mut page = Page::default();
            write_agent(&mut page, *events, around);
            write_export(&mut page, around.export);
            aggregates.write(&mut page);
            if let Some(dns) = &around.besides.dns {
                aggregates.write_lookups(&mut page);
                page.single(
                    "plumb_flow_dns_messages_lost_total",
                    Kind::Counter,
                    "DNS messages that came too fast.",
                    dns.lost(),
                );
            }
            write_process(&mut page, *started_ns);
            page.finish()
        });
    }
}

fn write_agent(page: &mut Page, events: u64, around: Around<'_>) {
    use Kind::{Counter, Gauge};
    page.family("plumb_build_info", Gauge, "The version that runs.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let counts = around.recorder.counts();
    page.single(
        "plumb_flow_events_total",
        Counter,
        "Events that the kernel told.",
        events,
    );
    page.family(
        "plumb_flow_lost_total",
        Counter,
        "What was lost: events that found the ring full, events of connections that had been \
         forgotten, profiles above --rate, connections that the kernel had no memory for.",
    )
    .sample(&[("reason", "ring-full")], counts.dropped)
    .sample(&[("reason", "forgotten")], around.profiler.unknown())
    .sample(&[("reason", "rate")], around.over_rate)
    .sample(&[("reason", "no-memory")], counts.untracked);
    page.single(
        "plumb_flow_connections_total",
        Counter,
        "Connections that were watched, those of before the start included.",
        counts.connections,
    );
    page.single(
        "plumb_flow_open_connections",
        Gauge,
        "Connections that are watched now.",
        counts.connections.saturating_sub(counts.ended),
    );
    page.single(
        "plumb_flow_remembered_connections",
        Gauge,
        "Connections whose last window is remembered; --max-connections bounds them.",
        around.profiler.len(),
    );
    page.family(
        "plumb_flow_program_up",
        Gauge,
        "Whether a program runs in the kernel, or a member of its structures is there \
         (plumb flow --capabilities).",
    );
    let capabilities = around.recorder.capabilities().iter();
    for capability in capabilities.filter(|capability| !capability.is_off) {
        let up = u8::from(capability.missing.is_none());
        page.sample(&[("program", &capability.name)], up);
    }
    if let Some(quic) = &around.besides.quic {
        page.single(
            "plumb_flow_quic_malformed_reports_total",
            Counter,
            "Reports that were no profiles of QUIC connections.",
            quic.malformed(),
        );
    }
}

fn write_export(page: &mut Page, export: &Export) {
    if export.is_empty() {
        return;
    }
    let all: Vec<_> = export.statistics().collect();
    let mut family = |name, kind, help, of: fn(&plumb_ipfix::ExporterStatistics) -> u64| {
        page.family(name, kind, help);
        for (destination, statistics) in &all {
            page.sample(&[("destination", destination)], of(statistics));
        }
    };
    family(
        "plumb_flow_export_records_total",
        Kind::Counter,
        "Flow records sent.",
        |s| s.records,
    );
    family(
        "plumb_flow_export_messages_total",
        Kind::Counter,
        "IPFIX messages sent.",
        |s| s.messages,
    );
    family(
        "plumb_flow_export_bytes_total",
        Kind::Counter,
        "Octets of these messages.",
        |s| s.bytes,
    );
    family(
        "plumb_flow_export_sessions_total",
        Kind::Counter,
        "Times that the transport was up.",
        |s| s.sessions,
    );
    family(
        "plumb_flow_export_queued_records",
        Kind::Gauge,
        "Flow records that wait.",
        |s| s.queued,
    );
    page.family(
        "plumb_flow_export_lost_records_total",
        Kind::Counter,
        "Flow records that were not sent.",
    );
    for (destination, statistics) in &all {
        for (reason, count) in [
            ("queue-full", statistics.queue_full),
            ("too-long", statistics.too_long),
        ] {
            page.sample(&[("destination", destination), ("reason", reason)], count);
        }
    }
}

/// The names that every client library of Prometheus has.
fn write_process(page: &mut Page, started_ns: u64) {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = |time: rustix::time::Timespec| -> Option<u128> {
        let seconds = u128::try_from(time.tv_sec).ok()?;
        Some(seconds * 1_000_000_000 + u128::try_from(time.tv_nsec).ok()?)
    };
    page.single(
        "process_cpu_seconds_total",
        Kind::Counter,
        "CPU time of plumb, without that of its programs in the kernel.",
        Scale::Billionths.write(nanos(time).unwrap_or(0)),
    );
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When plumb started, since the Unix epoch.",
        Scale::Billionths.write(started_ns.into()),
    );
    if let Some(bytes) = resident() {
        page.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory of plumb that is not swapped out.",
            bytes,
        );
    }
}

/// `VmRSS` of proc(5).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}
