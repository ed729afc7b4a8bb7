//! What rules log, in the words of the kernel's log.

use core::net::IpAddr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use plumb_nf::dissect::Transport;
use plumb_nf::firewall::Event;
use plumb_record::WallTime;

/// Where entries go.
pub(super) struct Log(Box<dyn Write>);

impl core::fmt::Debug for Log {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// A new file, or standard error.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self(match path {
            None => Box::new(io::stderr()),
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot write the log to {}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
        }))
    }

    pub(super) fn write(&mut self, event: &Event) -> io::Result<()> {
        self.0.write_all(line(event).as_bytes())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An entry as a line: time, level and place of the rule, then what the kernel would write.
fn line(event: &Event) -> String {
    let packet = &event.packet;
    let time = WallTime(event.at.as_nanos());
    let to = event.to.map_or("", |port| port.name());
    let mut line = format!(
        "{time} {} {}: {}IN={} OUT={to} MAC={}:{}:{:02x}:{:02x}",
        event.level,
        event.place,
        event.prefix,
        event.from.name(),
        mac(packet.dst_mac),
        mac(packet.src_mac),
        packet.ethertype >> 8,
        packet.ethertype & 0xff,
    );
    if let Some(ip) = &packet.ip {
        line += &format!(" SRC={} DST={} LEN={}", ip.src, ip.dst, event.len);
        line += &match ip.src {
            IpAddr::V4(_) => format!(" TOS=0x{:02X} TTL={} ID={}", ip.tos, ip.ttl, ip.ident),
            IpAddr::V6(_) => format!(
                " TC={} HOPLIMIT={} FLOWLBL={}",
                ip.tos, ip.ttl, ip.flow_label
            ),
        };
        line += &match &packet.transport {
            Transport::Tcp(tcp) => format!(
                " PROTO=TCP SPT={} DPT={} SEQ={} ACK={} WINDOW={} FLAGS=0x{:02x}",
                tcp.src, tcp.dst, tcp.seq, tcp.ack, tcp.window, tcp.flags
            ),
            Transport::Udp(udp) => format!(" PROTO=UDP SPT={} DPT={}", udp.src, udp.dst),
            Transport::Icmp(icmp) => {
                let name = if ip.src.is_ipv4() { "ICMP" } else { "ICMPv6" };
                format!(" PROTO={name} TYPE={} CODE={}", icmp.kind, icmp.code)
            }
            Transport::Ports(ports) => {
                format!(" PROTO={} SPT={} DPT={}", ip.protocol, ports.src, ports.dst)
            }
            Transport::None | Transport::Other => format!(" PROTO={}", ip.protocol),
        };
    }
    if event.mark != 0 {
        line += &format!(" MARK=0x{:x}", event.mark);
    }
    line + "\n"
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
