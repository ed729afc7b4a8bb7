//! Where profiles of connections go, in the format that was asked for.

use core::net::{IpAddr, SocketAddr};
use std::io::{self, Write};

use plumb_record::{
    DnsProfile, FlowEnd, FlowEvent, FlowOpen, FlowProfile, FlowProtocol, FlowSchema, Start,
    WallTime,
};

use super::flow_record;
use super::line::Line;
use super::ndjson::{line_of, write_record};
use super::style::{BAD, FAINT, GOOD, LABEL, Look};
use super::text;

/// How profiles are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlowFormat {
    /// A line a profile, for people.
    Table(Look),
    /// NDJSON.
    Json,
    /// Not at all.
    Nothing,
}

/// Writes the records of a run.
#[derive(Debug)]
pub(crate) struct FlowSink<W: Write> {
    out: W,
    format: FlowFormat,
    /// The line that is written; its memory is used again.
    line: Line,
}

impl<W: Write> FlowSink<W> {
    pub(crate) fn new(out: W, format: FlowFormat) -> Self {
        Self {
            out,
            format,
            line: Line::default(),
        }
    }

    /// Writes what comes before all profiles.
    pub(crate) fn start(&mut self, start: &Start<FlowSchema>) -> io::Result<()> {
        match self.format {
            FlowFormat::Json => write_record(&mut self.out, start)?,
            FlowFormat::Table(look) => {
                let head = format!(
                    "{:<12} {:<20} {:<44} {:<26} {:>9} {:>8} {:>8} {:>9}  remarks",
                    "time", "process", "connection", "event", "lasted", "sent", "received", "rtt"
                );
                writeln!(self.out, "{}", look.paint(FAINT, &head))?;
            }
            FlowFormat::Nothing => {}
        }
        self.out.flush()
    }

    /// Writes a profile.
    pub(crate) fn profile(&mut self, profile: &FlowProfile) -> io::Result<()> {
        match self.format {
            FlowFormat::Json => {
                self.line.clear();
                line_of(profile, &mut self.line)?;
                self.out.write_all(self.line.as_bytes())
            }
            FlowFormat::Table(look) => writeln!(self.out, "{}", line(look, profile)),
            FlowFormat::Nothing => Ok(()),
        }
    }

    /// Writes a name lookup.
    pub(crate) fn lookup(&mut self, lookup: &DnsProfile) -> io::Result<()> {
        match self.format {
            FlowFormat::Json => write_record(&mut self.out, lookup),
            FlowFormat::Table(look) => writeln!(self.out, "{}", lookup_line(look, lookup)),
            FlowFormat::Nothing => Ok(()),
        }
    }

    /// Writes what comes after all profiles.
    pub(crate) fn end(&mut self, end: &flow_record::FlowEnd) -> io::Result<()> {
        if let FlowFormat::Json = self.format {
            write_record(&mut self.out, end)?;
        }
        self.out.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A name lookup in a line.
fn lookup_line(look: Look, lookup: &DnsProfile) -> String {
    let process = process(lookup.process.as_deref(), lookup.pid);
    let server = format!(
        "{} {} {}",
        socket(lookup.local_addr, lookup.local_port),
        look.pick("→", "->"),
        socket(lookup.remote_addr, lookup.remote_port)
    );
    let (style, said) = match (lookup.resolution_ns, lookup.response_code) {
        (Some(ns), Some(0)) => (GOOD, format!("answered in {}", text::rtt(ns))),
        (Some(ns), code) => {
            let code = code.map_or("an error", response);
            (LABEL, format!("{code} in {}", text::rtt(ns)))
        }
        (None, _) => (BAD, "no answer".to_owned()),
    };
    let said = look.paint(style, &format!("{said:<26}"));
    let tries = match lookup.queries {
        1 => String::new(),
        queries => format!(", asked {queries} times"),
    };
    let answers = lookup.answers.map_or_else(String::new, |count| {
        format!(", {}", text::count(count.into(), "record", "records"))
    });
    format!(
        "{} {process:<20} {server:<44} {said} {} {}{answers}{tries}",
        time(lookup.end),
        record_type(lookup.query_type),
        lookup.name,
    )
}

/// The name of a type of records (IANA, DNS parameters).
fn record_type(number: u16) -> String {
    let name = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        43 => "DS",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        // RFC 3597 §5.
        other => return format!("TYPE{other}"),
    };
    name.to_owned()
}

/// The name of a response code (IANA, DNS parameters).
const fn response(code: u16) -> &'static str {
    match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => "an error",
    }
}

/// The time of day, in milliseconds.
fn time(at: WallTime) -> String {
    let at = at.to_string();
    at.get(11..23).unwrap_or(&at).to_owned()
}

fn process(name: Option<&str>, pid: Option<u32>) -> String {
    // Any process may call itself anything.
    let name = name.map(text::plain);
    match (name, pid) {
        (Some(name), Some(pid)) => format!("{name}/{pid}"),
        (Some(name), None) => name.into_owned(),
        (None, Some(pid)) => pid.to_string(),
        (None, None) => "-".to_owned(),
    }
}

/// A profile in a line.
fn line(look: Look, profile: &FlowProfile) -> String {
    let time = time(profile.end);
    let process = process(profile.process.as_deref(), profile.pid);
    let arrow = match profile.open {
        Some(FlowOpen::Active) => look.pick("→", "->"),
        Some(FlowOpen::Passive) => look.pick("←", "<-"),
        None => look.pick("↔", "--"),
    };
    let connection = format!(
        "{} {arrow} {}",
        socket(profile.local_addr, profile.local_port),
        socket(profile.remote_addr, profile.remote_port)
    );
    let (style, event) = event(profile);
    let event = look.paint(style, &format!("{event:<26}"));
    let lasted = profile.end.0.saturating_sub(profile.start.0);
    let rtt = profile.rtt_ns.map_or_else(|| "-".to_owned(), text::rtt);
    let remarks = look.paint(LABEL, &remarks(profile).join(", "));
    let row = format!(
        "{time} {process:<20} {connection:<44} {event} {:>9} {:>8} {:>8} {rtt:>9}  {remarks}",
        text::span(lasted),
        text::bytes(profile.bytes_sent),
        text::bytes(profile.bytes_received),
    );
    row.trim_end().to_owned()
}

fn socket(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// The event that ended the window, in words.
fn event(profile: &FlowProfile) -> (anstyle::Style, String) {
    let plain = anstyle::Style::new();
    match (profile.event, profile.end_reason) {
        (FlowEvent::Established, _) => match profile.establishment_ns {
            Some(ns) => (GOOD, format!("established in {}", text::rtt(ns))),
            None => (GOOD, "established".to_owned()),
        },
        (FlowEvent::LossyEntered, _) => (BAD, "timeout: lossy phase".to_owned()),
        (FlowEvent::LossyLeft, _) => (LABEL, "recovered".to_owned()),
        (FlowEvent::ActiveTimeout, _) => (plain, "goes on".to_owned()),
        (FlowEvent::IdleTimeout, _) => (plain, "idle".to_owned()),
        (FlowEvent::Orphaned, _) => (LABEL, "left by its application".to_owned()),
        (FlowEvent::RecorderStopped, _) => (plain, "goes on (plumb stops)".to_owned()),
        (FlowEvent::Evicted, _) => (plain, "forgotten".to_owned()),
        (FlowEvent::Ended, Some(end)) => match end {
            FlowEnd::Closed => (plain, "closed".to_owned()),
            FlowEnd::ResetReceived => (BAD, "reset by the remote end".to_owned()),
            FlowEnd::ResetSent => (LABEL, "reset by this host".to_owned()),
            FlowEnd::Refused => (BAD, "refused".to_owned()),
            FlowEnd::TimedOut => (BAD, "timed out".to_owned()),
            FlowEnd::Unreachable => (BAD, "unreachable".to_owned()),
            FlowEnd::Aborted => (LABEL, "given up while opening".to_owned()),
            FlowEnd::Error => {
                let number = profile.errno.unwrap_or(0);
                (BAD, format!("error {number}"))
            }
        },
        (FlowEvent::Ended, None) => (plain, "ended".to_owned()),
    }
}

/// What was unusual in the window.
fn remarks(profile: &FlowProfile) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut count = |value: Option<u64>, what: &str| {
        if let Some(value @ 1..) = value {
            remarks.push(format!("{value} {what}"));
        }
    };
    count(profile.syn_retransmitted.map(u64::from), "SYN again");
    count(
        profile.syn_ack_retransmitted.map(u64::from),
        "SYN-ACK again",
    );
    if profile.syn_retransmitted.is_none() && profile.syn_ack_retransmitted.is_none() {
        count(profile.packets_retransmitted, "retransmitted");
    }
    count(profile.rtos.map(u64::from), "timeouts");
    count(profile.fast_recoveries.map(u64::from), "fast recoveries");
    count(profile.tail_loss_probes.map(u64::from), "tail loss probes");
    count(profile.spurious_retransmissions.map(u64::from), "spurious");
    count(profile.out_of_order_packets.map(u64::from), "out of order");
    count(
        profile.duplicate_packets_received.map(u64::from),
        "duplicates",
    );
    count(profile.ce_marks, "CE marks");
    count(profile.zero_window_probes.map(u64::from), "window probes");
    if let Some(ns @ 1_000_000..) = profile.receive_window_limited_ns {
        remarks.push(format!("window-limited {}", text::duration(ns)));
    }
    if let Some(mptcp) = &profile.mptcp {
        remarks.push(match (profile.protocol, mptcp.path_index) {
            (FlowProtocol::MptcpSubflow, Some(path)) => {
                format!("path {path} of mptcp {:08x}", mptcp.token)
            }
            _ => format!("mptcp {:08x}", mptcp.token),
        });
    }
    remarks
}
