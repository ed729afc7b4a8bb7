//! `plumb nat`: many hosts behind few addresses.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use plumb_nf::nat::{Config, Event, EventKind, Filtering, Nat, Protocol, Timeouts};
use plumb_record::{NatEntry, NatProtocol, NatSchema, NatType, WallTime};

use crate::args::{self, FilteringName};
use crate::exit::Failure;
use crate::stage::{Played, filter, is_live};

pub(super) fn run(args: &args::Nat) -> anyhow::Result<ExitCode> {
    let played = Played {
        name: "nat",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: false,
    };
    let live = is_live(&args.function, played);
    let mut config = config(args).map_err(Failure::usage)?;
    config.seed = match args.seed {
        Some(seed) => seed,
        None if live => unpredictable()?,
        None => 1,
    };
    let nat = Nat::new(config).map_err(|refused| Failure::usage(refused.to_string()))?;
    let mut log = match &args.log {
        None => None,
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write the log to {}", path.display()))?;
            Some(BufWriter::new(file))
        }
    };
    let ended = filter(nat, played, &args.function, |nat| {
        let written = write(nat, log.as_mut(), live);
        written.context("cannot write the log")
    });
    if let Some(mut log) = log {
        log.flush().context("cannot write the log")?;
    }
    ended
}

/// Writes what a NAT has to say into its log; at once where somebody may be waiting for it.
fn write(nat: &mut Nat, mut log: Option<&mut BufWriter<File>>, at_once: bool) -> io::Result<()> {
    let mut written = false;
    while let Some(event) = nat.poll_event() {
        if let Some(log) = &mut log {
            serde_json::to_writer(&mut *log, &entry(&event))?;
            writeln!(log)?;
            written = true;
        }
    }
    match log {
        Some(log) if written && at_once => log.flush(),
        _ => Ok(()),
    }
}

/// Nobody outside should guess the next port (RFC 6056).
fn unpredictable() -> io::Result<u64> {
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
