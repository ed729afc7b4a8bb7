//! `plumb nat`: many hosts behind few addresses.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use plumb_nf::nat::{Config, Event, EventKind, Filtering, Nat, Protocol, Timeouts};
use plumb_nf::{Counter, Frame, Function, Output, Port};
use plumb_record::{NatEntry, NatProtocol, NatSchema, NatType, WallTime};
use plumb_wire::Instant;

use crate::args::{self, FilteringName};
use crate::exit::Failure;
use crate::output::ndjson::write_record;
use crate::stage::{Attended, Played, filter, is_live};

pub(super) fn run(args: &args::Nat) -> anyhow::Result<ExitCode> {
    let played = Played {
        name: "nat",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: false,
    };
    let nat = build(args, is_live(&args.function, played))?;
    filter(nat, played, &args.function, Attended::attend)
}

/// A NAT as these arguments say, for packets that come now or for a recording.
pub(super) fn build(args: &args::Nat, live: bool) -> anyhow::Result<LoggedNat> {
    let mut config = config(args).map_err(Failure::usage)?;
    config.seed = match args.seed {
        Some(seed) => seed,
        None if live => unpredictable()?,
        None => 1,
    };
    let nat = Nat::new(config).map_err(|refused| Failure::usage(refused.to_string()))?;
    let log = match &args.log {
        None => None,
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write the log to {}", path.display()))?;
            Some(BufWriter::new(file))
        }
    };
    Ok(LoggedNat {
        nat,
        log,
        at_once: live,
    })
}

/// A NAT with its log.
#[derive(Debug)]
pub(super) struct LoggedNat {
    nat: Nat,
    log: Option<BufWriter<File>>,
    /// Somebody may be waiting for what is written.
    at_once: bool,
}

impl LoggedNat {
    fn write(&mut self) -> io::Result<()> {
        let mut written = false;
        while let Some(event) = self.nat.poll_event() {
            if let Some(log) = &mut self.log {
                write_record(log, &entry(&event))?;
                written = true;
            }
        }
        match &mut self.log {
            Some(log) if (written || !log.buffer().is_empty()) && self.at_once => log.flush(),
            _ => Ok(()),
        }
    }
}

impl Attended for LoggedNat {
    fn attend(&mut self) -> anyhow::Result<()> {
        self.write().context("cannot write the log")
    }
}

impl Function for LoggedNat {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        self.nat.handle_frames(from, batch, now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.nat.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.nat.poll_timeout()
    }

    fn heads_suffice(&self) -> bool {
        self.nat.heads_suffice()
    }

    fn held(&self) -> usize {
        self.nat.held()
    }

    fn input_ended(&mut self) {
        self.nat.input_ended();
        self.at_once = true;
    }

    fn counters(&self) -> Vec<Counter> {
        self.nat.counters()
    }
}

/// Nobody outside should guess the next port (RFC 6056).
pub(super) fn unpredictable() -> io::Result<u64> {
    let mut seed = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

fn config(args: &args::Nat) -> Result<Config, String> {
    let outside = args.pool()?;
    let max = usize::try_from(args.max).unwrap_or(usize::MAX);
    Ok(Config {
        forwards: args.forwards(&outside)?,
        outside,
        ports: args.ports.0.clone(),
        preserve_ports: args.preserve_ports,
        filtering: match args.filtering {
            FilteringName::EndpointIndependent => Filtering::EndpointIndependent,
            FilteringName::AddressDependent => Filtering::AddressDependent,
            FilteringName::AddressAndPortDependent => Filtering::AddressAndPortDependent,
        },
        inside: args.inside.iter().map(|net| (net.0, net.1)).collect(),
        statics: args.fixed.iter().map(|p| (p.outside, p.inside)).collect(),
        hairpin: !args.no_hairpin,
        decrement_ttl: args.decrement_ttl,
        per_host: args.per_host.unwrap_or(0),
        block: args.port_block.unwrap_or(0),
        blocks_per_host: args.blocks_per_host,
        max_mappings: max,
        max_sessions: max,
        timeouts: Timeouts {
            udp: args.udp_timeout.0,
            tcp_established: args.tcp_timeout.0,
            tcp_transitory: args.tcp_transitory_timeout.0,
            icmp: args.icmp_timeout.0,
            ..Timeouts::default()
        },
        ..Config::default()
    })
}

/// An entry of the log; virtual time is the wall time of the packets.
fn entry(event: &Event) -> NatEntry {
    let time = WallTime(event.at.as_nanos());
    let protocol = |protocol| {
        Some(match protocol {
            Protocol::Icmp => NatProtocol::Icmp,
            Protocol::Tcp => NatProtocol::Tcp,
            Protocol::Udp => NatProtocol::Udp,
        })
    };
    let (kind, protocol, inside, outside, since) = match &event.kind {
        EventKind::MappingCreated {
            protocol: p,
            inside,
            outside,
        } => (NatType::MappingCreated, protocol(*p), inside, outside, None),
        EventKind::MappingDeleted {
            protocol: p,
            inside,
            outside,
            since,
        } => {
            let since = Some(WallTime(since.as_nanos()));
            (
                NatType::MappingDeleted,
                protocol(*p),
                inside,
                outside,
                since,
            )
        }
        EventKind::BlockAllocated {
            inside,
            outside,
            ports,
        } => return block(NatType::BlockAllocated, time, *inside, *outside, ports),
        EventKind::BlockReleased {
            inside,
            outside,
            ports,
        } => return block(NatType::BlockReleased, time, *inside, *outside, ports),
    };
    NatEntry {
        schema: NatSchema::V1,
        kind,
        time,
        protocol,
        inside_addr: inside.address,
        inside_port: Some(inside.port),
        outside_addr: outside.address,
        outside_port: outside.port,
        outside_port_last: outside.port,
        since,
    }
}

fn block(
    kind: NatType,
    time: WallTime,
    inside: core::net::Ipv4Addr,
    outside: core::net::Ipv4Addr,
    ports: &core::ops::RangeInclusive<u16>,
) -> NatEntry {
    NatEntry {
        schema: NatSchema::V1,
        kind,
        time,
        protocol: None,
        inside_addr: inside,
        inside_port: None,
        outside_addr: outside,
        outside_port: *ports.start(),
        outside_port_last: *ports.end(),
        since: None,
    }
}
