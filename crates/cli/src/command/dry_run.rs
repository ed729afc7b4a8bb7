//! `plumb trace --dry-run`: the probes of a trace that nobody answers, without sending them.

use std::io::Write;
use std::sync::Arc;

use plumb_probe::{Engine, Job, Trace};
use plumb_wire::icmp::{self, Family};
use plumb_wire::packet::Packet;
use plumb_wire::{Engine as _, Instant, protocol, tcp, udp};

use super::network::Way;
use crate::exit::{Exit, Failure};
use crate::settings::TraceSettings;
use crate::targets::Target;

/// Prints what would be sent to each target given as an argument until the gap limit ends its
/// trace, on a clock that jumps from one deadline to the next.
pub(super) fn trace(settings: &TraceSettings) -> anyhow::Result<Exit> {
    if settings.input.list.is_some() {
        return Err(Failure::usage("--dry-run takes targets as arguments, not as a list").into());
    }
    let mut sources = Way {
        mode: settings.mode,
        source: settings.source,
        interface: settings.interface.clone(),
        flow: settings.options.flow,
        tcp: false,
    }
    .sources()?;
    let mut engine = Engine::new(settings.engine, settings.seed);
    let options = Arc::new(settings.options);
    for text in &settings.input.arguments {
        let dst = Target::resolve(text, settings.family)
            .map_err(Failure::usage)?
            .addr;
        let src = sources
            .source_for(dst)
            .map_err(|e| Failure::usage(e.to_string()))?;
        let options = Arc::clone(&options);
        engine.start(Job::Trace(Trace { src, dst, options }), Instant::ZERO)?;
    }
    let mut out = std::io::stdout().lock();
    let mut buffer = [0; 1536];
    let mut now = Instant::ZERO;
    while engine.active() > 0 {
        while let Some(transmit) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(transmit.probe, now);
            let millis = now.as_nanos() / 1_000_000;
            let packet = describe(&buffer[..transmit.len]);
            writeln!(out, "{:>4}.{:03} s  {packet}", millis / 1000, millis % 1000)?;
        }
        while engine.poll_event().is_some() {}
        let Some(due) = engine.poll_timeout() else {
            break;
        };
        now = now.max(due);
        engine.handle_timeout(now);
    }
    Ok(Exit::Reached)
}

/// A packet in a line.
fn describe(bytes: &[u8]) -> String {
    let Ok(packet) = Packet::parse(bytes) else {
        return "not an IP packet".to_owned();
    };
    let (src, dst, ttl, len) = (packet.src, packet.dst, packet.ttl, bytes.len());
    let what = match packet.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            match icmp::Message::parse(Family::of(dst), packet.transport) {
                Ok(message) => format!(
                    "ICMP echo request id {} seq {}",
                    message.ident(),
                    message.seq()
                ),
                Err(_) => "ICMP".to_owned(),
            }
        }
        protocol::UDP => match udp::Header::parse(packet.transport) {
            Ok((header, _)) => format!(
                "UDP port {} to {} checksum {:#06x}",
                header.src_port, header.dst_port, header.checksum
            ),
            Err(_) => "UDP".to_owned(),
        },
        protocol::TCP => match tcp::Header::parse(packet.transport) {
            Ok((header, _)) => format!(
                "TCP SYN port {} to {} seq {}",
                header.src_port, header.dst_port, header.seq
            ),
            Err(_) => "TCP".to_owned(),
        },
        other => format!("protocol {other}"),
    };
    format!("{src} > {dst}  ttl {ttl:<3} {len} bytes  {what}")
}
