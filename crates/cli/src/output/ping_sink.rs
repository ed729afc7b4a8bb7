//! Where replies and summaries of pings go, in the format that was asked for.

use std::io::{self, Write};

use plumb_record::{End, Ping, PingReply, PingSchema, Progress, Start};

use super::ndjson::write_record;
use super::style::{BAD, FAINT, Look, STRONG};
use super::text;

/// How pings are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PingFormat {
    /// For people. With several targets, every line names its own.
    Text { look: Look, several: bool },
    /// NDJSON.
    Json,
}

/// Writes the records of a run.
#[derive(Debug)]
pub(crate) struct PingSink<W: Write> {
    out: W,
    format: PingFormat,
    /// Whether the heading of the summaries has been written.
    headed: bool,
    /// Summaries that wait until the replies are through.
    summaries: Vec<Ping>,
    /// Whether summaries wait.
    collect: bool,
}

impl<W: Write> PingSink<W> {
    /// `collect` keeps the summaries of a few targets until the end.
    pub(crate) const fn new(out: W, format: PingFormat, collect: bool) -> Self {
        Self {
            out,
            format,
            headed: false,
            summaries: Vec::new(),
            collect,
        }
    }

    /// Writes what comes before all replies.
    pub(crate) fn start(&mut self, start: &Start<PingSchema>) -> io::Result<()> {
        match self.format {
            PingFormat::Json => write_record(&mut self.out, start),
            PingFormat::Text { .. } => Ok(()),
        }
    }

    /// Writes what came of one request.
    pub(crate) fn reply(&mut self, reply: &PingReply) -> io::Result<()> {
        let PingFormat::Text { look, several } = self.format else {
            return write_record(&mut self.out, reply);
        };
        if several {
            write!(self.out, "{:<15} ", reply.dst.to_string())?;
        }
        write!(self.out, "seq {:<3} ", reply.seq)?;
        match (reply.addr, reply.rtt_ns) {
            (Some(addr), Some(rtt)) if is_echo_reply(reply) => {
                let ttl = reply.reply_ttl.unwrap_or(0);
                let bytes = reply.reply_size.unwrap_or(0);
                let rtt = look.paint(STRONG, &text::rtt(rtt));
                write!(self.out, "{rtt}  ttl {ttl}  {bytes} bytes")?;
                if addr != reply.dst {
                    write!(self.out, "  from {addr}")?;
                }
                writeln!(self.out)
            }
            (Some(addr), _) => {
                let said = text::icmp_error(
                    reply.dst.is_ipv4(),
                    reply.icmp_type.unwrap_or(0),
                    reply.icmp_code.unwrap_or(0),
                );
                let said = look.paint(BAD, &format!("{addr} says {said}"));
                writeln!(self.out, "{said}")
            }
            (None, _) => writeln!(self.out, "{}", look.paint(FAINT, "no answer")),
        }
    }

    /// Writes the summary of a target.
    pub(crate) fn summary(&mut self, ping: Ping) -> io::Result<()> {
        match self.format {
            PingFormat::Json => write_record(&mut self.out, &ping),
            PingFormat::Text { .. } if self.collect => {
                self.summaries.push(ping);
                Ok(())
            }
            PingFormat::Text { look, .. } => self.row(look, &ping),
        }
    }

    /// Writes how far a long run has come.
    pub(crate) fn progress(&mut self, progress: &Progress<PingSchema>) -> io::Result<()> {
        match self.format {
            PingFormat::Json => write_record(&mut self.out, progress),
            PingFormat::Text { .. } => Ok(()),
        }
    }

    /// Writes what comes after all replies.
    pub(crate) fn end(&mut self, end: &End<PingSchema>) -> io::Result<()> {
        match self.format {
            PingFormat::Json => write_record(&mut self.out, end)?,
            PingFormat::Text { look, .. } => {
                for ping in core::mem::take(&mut self.summaries) {
                    self.row(look, &ping)?;
                }
            }
        }
        self.out.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn row(&mut self, look: Look, ping: &Ping) -> io::Result<()> {
        if !self.headed {
            self.headed = true;
            let gap = if self.collect { "\n" } else { "" };
            let head = format!(
                "{:<24} {:>5} {:>8} {:>6} {:>10} {:>10} {:>10} {:>10}",
                "target", "sent", "answered", "loss", "min", "mean", "max", "stddev"
            );
            writeln!(self.out, "{gap}{}", look.paint(FAINT, &head))?;
        }
        let target = match &ping.dst_name {
            Some(name) => format!("{name} ({})", ping.dst),
            None => ping.dst.to_string(),
        };
        let loss = match ping.sent {
            0 => "-".to_owned(),
            sent => {
                let lost = u64::from(sent.saturating_sub(ping.received));
                // Rounded up, so that no loss is called none.
                format!("{}%", (lost * 100).div_ceil(sent.into()))
            }
        };
        let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), text::rtt);
        let row = format!(
            "{target:<24} {:>5} {:>8} {loss:>6} {:>10} {:>10} {:>10} {:>10}",
            ping.sent,
            ping.received,
            time(ping.rtt_min_ns),
            time(ping.rtt_mean_ns),
            time(ping.rtt_max_ns),
            time(ping.rtt_stddev_ns),
        );
        let row = if ping.received == 0 {
            look.paint(BAD, &row)
        } else {
            row
        };
        writeln!(self.out, "{row}")
    }
}

const fn is_echo_reply(reply: &PingReply) -> bool {
    let kind = if reply.dst.is_ipv4() { 0 } else { 129 };
    matches!(reply.icmp_type, Some(t) if t == kind)
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use plumb_record::{EndReason, EndType, PingType, ReplyType, WallTime};

    use super::*;

    const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(5, 0, 9, 9));

    fn reply(seq: u32) -> PingReply {
        PingReply {
            schema: PingSchema::V1,
            kind: ReplyType::Reply,
            dst: DST,
            seq,
            addr: Some(DST),
            rtt_ns: Some(1_234_567),
            reply_ttl: Some(61),
            reply_size: Some(84),
            icmp_type: Some(0),
            icmp_code: Some(0),
        }
    }

    fn ping(name: Option<&str>, received: u32) -> Ping {
        let time = (received > 0).then_some(1_234_567);
        Ping {
            schema: PingSchema::V1,
            kind: PingType::Ping,
            src: Ipv4Addr::new(5, 0, 0, 2).into(),
            dst: DST,
            dst_name: name.map(str::to_owned),
            start: WallTime(0),
            sent: 4,
            received,
            duplicates: 0,
            late: 0,
            rtt_min_ns: time,
            rtt_mean_ns: time,
            rtt_max_ns: time,
            rtt_stddev_ns: time.map(|_| 0),
            rtt_error_ns: None,
        }
    }

    fn end() -> End<PingSchema> {
        End {
            schema: PingSchema::V1,
            kind: EndType::End,
            time: WallTime(6),
            reason: EndReason::Completed,
            error: None,
            finished: 1,
            reached: 1,
            tunnels: 0,
            probes_sent: 4,
            replies: 3,
            late: 0,
            dropped: 0,
        }
    }

    #[test]
    fn replies_silence_and_refusals_come_line_by_line_and_the_summaries_last() {
        let mut out = Vec::new();
        let look = Look {
            colour: false,
            unicode: true,
        };
        let format = PingFormat::Text {
            look,
            several: true,
        };
        let mut sink = PingSink::new(&mut out, format, true);
        sink.reply(&reply(1)).unwrap();
        sink.summary(ping(None, 3)).unwrap();
        sink.reply(&PingReply {
            addr: None,
            rtt_ns: None,
            icmp_type: None,
            ..reply(2)
        })
        .unwrap();
        sink.reply(&PingReply {
            addr: Some(Ipv4Addr::new(5, 0, 1, 1).into()),
            icmp_type: Some(3),
            icmp_code: Some(1),
            ..reply(3)
        })
        .unwrap();
        sink.reply(&PingReply {
            addr: Some(Ipv4Addr::new(5, 0, 1, 1).into()),
            icmp_type: Some(11),
            ..reply(4)
        })
        .unwrap();
        sink.summary(ping(Some("www.example.net"), 0)).unwrap();
        sink.end(&end()).unwrap();
        insta::assert_snapshot!("ping", String::from_utf8(out).unwrap());
    }

    #[test]
    fn ndjson_reads_back() {
        let mut out = Vec::new();
        let mut sink = PingSink::new(&mut out, PingFormat::Json, true);
        sink.reply(&reply(1)).unwrap();
        sink.summary(ping(None, 4)).unwrap();
        sink.end(&end()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            serde_json::from_str::<PingReply>(lines[0]).unwrap(),
            reply(1)
        );
        assert_eq!(
            serde_json::from_str::<Ping>(lines[1]).unwrap(),
            ping(None, 4)
        );
        assert_eq!(
            serde_json::from_str::<End<PingSchema>>(lines[2]).unwrap(),
            end()
        );
    }
}
