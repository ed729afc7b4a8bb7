//! Flow records of the packets that a session takes.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use plumb_ebpf::tap::{Hook, Packet};
use plumb_link::Clock;
use plumb_nf::Frame;
use plumb_nf::meter::{FlowEndReason, Meter, MeterOptions, MeteredFlow, ObservationPoint};
use plumb_record::{
    TapFlow, TapFlowDirection, TapFlowEnd, TapFlowType, TapFlows, TapOutput, TapSchema, WallTime,
};
use plumb_wire::{Instant, protocol};

use crate::args::{CollectorAddress, ExportArgs, TapFlowArgs};
use crate::export::Export;

/// How long a collector may take for the last records.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts the packets of a session by flow, and hands the records on.
pub(super) struct Flows {
    meter: Meter,
    ports: BTreeMap<u32, Port>,
    export: Export,
    out: Option<Lines>,
    clock: Clock,
    /// One packet in so many is taken.
    sample: u32,
    frame: Frame,
    /// Where records went, when that is over.
    went_to: Vec<TapOutput>,
}

/// What a record says of an interface.
struct Port {
    name: String,
    is_port: bool,
}

/// NDJSON on standard output or in a file.
struct Lines {
    name: String,
    out: BufWriter<Box<dyn Write>>,
    /// Whoever read it has gone.
    is_closed: bool,
}

impl Flows {
    /// Begins to count, if anybody wants records.
    pub(super) fn start(
        args: &TapFlowArgs,
        collectors: Vec<CollectorAddress>,
        clock: Clock,
        sample: u32,
    ) -> anyhow::Result<Option<Self>> {
        if collectors.is_empty() && args.flows.is_none() {
            return Ok(None);
        }
        let out = args.flows.as_deref().map(Lines::create).transpose()?;
        let export = Export::start(
            &ExportArgs {
                export: collectors,
                enterprise: plumb_ipfix::table::DOCUMENTATION_ENTERPRISE,
                observation_domain: 1,
                export_rate: MESSAGES_PER_S,
                ..ExportArgs::default()
            },
            true,
        )?;
        let meter = Meter::new(MeterOptions {
            active: Duration::from_secs(args.flow_active.into()),
            idle: Duration::from_secs(args.flow_idle.into()),
            max_flows: usize::try_from(args.flow_most).unwrap_or(usize::MAX),
        });
        Ok(Some(Self {
            meter,
            ports: BTreeMap::new(),
            export,
            out,
            clock,
            sample,
            frame: Frame::default(),
            went_to: Vec::new(),
        }))
    }

    /// Wall time is that of another reading from now on.
    pub(super) const fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Tells of an interface.
    pub(super) fn port(&mut self, index: u32, name: &str, is_port: bool) {
        let name = name.to_owned();
        self.ports.insert(index, Port { name, is_port });
    }

    /// From now on, one packet in so many is taken. Each record is of packets of one rate.
    pub(super) fn set_sample(&mut self, sample: u32) -> anyhow::Result<()> {
        if sample != self.sample {
            self.meter.finish();
            self.hand_on()?;
            self.sample = sample;
        }
        Ok(())
    }

    /// Counts a packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) {
        let (len, _) = packet.frame(0, &mut self.frame.bytes);
        let is_cut = len as usize > self.frame.bytes.len();
        self.frame.original_len = if is_cut { len } else { 0 };
        self.frame.at = packet.at;
        let point = ObservationPoint {
            interface: packet.interface,
            is_sent: packet.hook == Hook::Egress,
        };
        self.meter
            .observe(point, &self.frame, packet.segments.into());
    }

    /// Hands records on of flows that have ended by now.
    pub(super) fn turn(&mut self, now: Instant) -> anyhow::Result<()> {
        self.meter.handle_timeout(now);
        self.hand_on()
    }

    /// When [`turn`](Self::turn) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.meter.poll_timeout()
    }

    /// Whether whoever read the records has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.out.as_ref().is_some_and(|out| out.is_closed)
    }

    /// Ends all flows and sends what waits. What does not get through in some seconds is lost.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.meter.finish();
        self.hand_on()?;
        self.went_to = self.outputs();
        let outcomes = core::mem::take(&mut self.export).finish(PATIENCE);
        for outcome in outcomes {
            let lost = lost(&outcome.statistics);
            if lost > 0 {
                writeln!(
                    io::stderr().lock(),
                    "plumb: {}: {lost} flow records not sent",
                    outcome.name
                )?;
            }
        }
        Ok(())
    }

    /// What was done so far.
    pub(super) fn shown(&self) -> TapFlows {
        let counters = self.meter.counters();
        TapFlows {
            open: counters.flows,
            packets: counters.packets,
            not_ip: counters.not_ip,
            records: counters.records,
            evicted: counters.evicted,
        }
    }

    /// Where records go.
    pub(super) fn outputs(&self) -> Vec<TapOutput> {
        if !self.went_to.is_empty() {
            return self.went_to.clone();
        }
        let collectors = self
            .export
            .statistics()
            .map(|(name, statistics)| TapOutput {
                name: name.to_owned(),
                trouble: (lost(&statistics) > 0 && statistics.sessions == 0)
                    .then(|| "cannot be reached yet".to_owned()),
            });
        let lines = self.out.iter().map(|out| TapOutput {
            name: format!("flows in {}", out.name),
            trouble: None,
        });
        collectors.chain(lines).collect()
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        let mut any = false;
        while let Some(flow) = self.meter.poll_flow() {
            let record = self.record(&flow);
            self.export.take_tapped(&record);
            if let Some(out) = &mut self.out {
                out.write(&record)?;
                any = true;
            }
        }
        self.export.wake();
        if let Some(out) = &mut self.out
            && any
        {
            out.flush()?;
        }
        Ok(())
    }

    fn record(&self, flow: &MeteredFlow) -> TapFlow {
        let key = &flow.key;
        let port = self.ports.get(&key.point.interface);
        let is_port = port.is_some_and(|port| port.is_port);
        let wall = |at| WallTime(self.clock.wall_ns(at));
        let is_icmp = key.protocol == protocol::ICMP && key.src.is_ipv4()
            || key.protocol == protocol::ICMPV6 && key.src.is_ipv6();
        let has_ports = plumb_nf::meter::has_ports(key.protocol);
        TapFlow {
            schema: TapSchema::V1,
            kind: TapFlowType::Flow,
            interface: port.map(|port| port.name.clone()).unwrap_or_default(),
            interface_index: key.point.interface,
            direction: if key.point.is_sent == is_port {
                TapFlowDirection::In
            } else {
                TapFlowDirection::Out
            },
            received: !key.point.is_sent,
            vlan: key.vlan,
            protocol: key.protocol,
            src_addr: key.src,
            src_port: has_ports.then_some(key.src_port),
            dst_addr: key.dst,
            dst_port: has_ports.then_some(key.dst_port),
            icmp_type_code: is_icmp.then_some(key.dst_port),
            start: wall(flow.first),
            end: wall(flow.last),
            packets: flow.packets,
            bytes: flow.octets,
            tcp_flags: (key.protocol == protocol::TCP).then_some(flow.tcp_flags),
            end_reason: match flow.end_reason {
                FlowEndReason::Idle => TapFlowEnd::Idle,
                FlowEndReason::Active => TapFlowEnd::Active,
                FlowEndReason::Ended => TapFlowEnd::Ended,
                FlowEndReason::Forced => TapFlowEnd::Stopped,
                FlowEndReason::Resources => TapFlowEnd::Evicted,
            },
            sample: (self.sample > 1).then_some(self.sample),
        }
    }
}

/// Most messages a second over UDP.
const MESSAGES_PER_S: u32 = 10_000;

/// Records that were not sent.
const fn lost(statistics: &plumb_ipfix::ExporterStatistics) -> u64 {
    statistics.queued + statistics.queue_full + statistics.too_long
}

impl Lines {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let (name, out): (_, Box<dyn Write>) = if path == Path::new("-") {
            ("standard output".to_owned(), Box::new(io::stdout()))
        } else {
            let file = File::create(path)
                .with_context(|| format!("cannot write flow records to {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        };
        Ok(Self {
            name,
            out: BufWriter::new(out),
            is_closed: false,
        })
    }

    fn write(&mut self, record: &TapFlow) -> anyhow::Result<()> {
        let line = serde_json::to_string(record)?;
        let written = writeln!(self.out, "{line}");
        self.note(written)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }

    fn note(&mut self, done: io::Result<()>) -> anyhow::Result<()> {
        match done {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            done => done.with_context(|| format!("cannot write flow records to {}", self.name)),
        }
    }
}
