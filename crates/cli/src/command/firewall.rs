//! `plumb firewall`: rules as for nft, for the packets of a pipeline.

use core::sync::atomic::{AtomicU32, Ordering};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use plumb_nf::antispoof::{Antispoof, Sources};
use plumb_nf::dissect::Transport;
use plumb_nf::firewall::{Config, Event, Firewall, Ruleset, Source};
use plumb_nf::{Counter, Detail, Frame, Function, Output, Port};
use plumb_record::{FirewallEntry, FirewallSchema, FirewallType, WallTime};
use plumb_wire::Instant;

use crate::args;
use crate::exit::{Exit, Failure};
use crate::output::ndjson::write_record;
use crate::stage::{Attended, Played, filter_reloading, is_live};

/// Bytes of a file of rules at most; more is refused while it is read.
const MOST_BYTES: u64 = 16 << 20;
/// Files that one include may stand for.
const MOST_FILES: usize = 256;

/// How often SIGHUP has come: every firewall of this process is to read its rules again.
pub(super) static RELOADS: AtomicU32 = AtomicU32::new(0);

pub(super) fn run(args: &args::Firewall) -> anyhow::Result<ExitCode> {
    if args.check {
        let ruleset = read(args)?;
        let counted = |count: usize, what: &str| {
            let end = if count == 1 { "" } else { "s" };
            format!("{count} {what}{end}")
        };
        let rules = counted(ruleset.rules(), "rule");
        let chains = counted(ruleset.base_chains(), "chain");
        let file = args.rules.display();
        writeln!(io::stdout().lock(), "{file}: {rules}, {chains} with a hook")?;
        return Ok(Exit::Reached.into());
    }
    let played = Played {
        name: "firewall",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: false,
    };
    let firewall = build(args, is_live(&args.function, played))?;
    filter_reloading(firewall, played, &args.function, &RELOADS, Attended::attend)
}

/// A firewall as these arguments say, for packets that come now or for a recording.
pub(super) fn build(args: &args::Firewall, live: bool) -> anyhow::Result<LoggedFirewall> {
    let ruleset = read(args)?;
    if ruleset.base_chains() == 0 {
        let rules = args.rules.display();
        writeln!(
            io::stderr(),
            "plumb: {rules}: no chain has a hook, so every packet passes"
        )?;
    }
    let mut config = Config {
        explain: args.explain,
        antispoof: antispoof(args),
        seed: if live { unpredictable()? } else { 1 },
        ..Config::default()
    };
    config.conntrack.max_entries = args.max_connections;
    config.conntrack.tcp_loose = !args.strict;
    let log = match &args.log {
        None => None,
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("cannot write the log to {}", path.display()))?;
            Some(BufWriter::new(file))
        }
    };
    Ok(LoggedFirewall {
        firewall: Firewall::new(ruleset, config),
        args: args.clone(),
        reloads: 0,
        now: Instant::ZERO,
        log,
        at_once: live,
    })
}

/// Nobody outside should know how connections are hashed.
fn unpredictable() -> io::Result<u64> {
    let mut seed = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}

fn antispoof(args: &args::Firewall) -> Option<Antispoof> {
    if args.left_net.is_empty() && args.right_net.is_empty() {
        return None;
    }
    let sources = |own: &[_], other: &[_]| Sources {
        only: own.to_vec(),
        never: other.to_vec(),
    };
    Some(Antispoof {
        left: sources(&args.left_net, &[]),
        right: sources(&args.right_net, &args.left_net),
        martians: true,
    })
}

/// Reads the rules.
fn read(args: &args::Firewall) -> anyhow::Result<Ruleset> {
    let main = source(&args.rules, args.rules.display().to_string()).map_err(Failure::usage)?;
    let ports = [args.left_name.clone(), args.right_name.clone()];
    if ports[0] == ports[1] {
        return Err(Failure::usage("--left-name and --right-name are the same").into());
    }
    Ruleset::parse(main, &args.define, &ports, &mut include)
        .map_err(|error| Failure::usage(error.to_string()).into())
}

fn source(path: &Path, name: String) -> Result<Source, String> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("{} is larger than 16 MiB", path.display()));
    }
    Ok(Source { name, text })
}

/// The files that an include stands for: beside the one that asks, unless the path is absolute. In
/// the last part of the path `*` stands for anything; such files come in the order of their names.
fn include(from: &str, path: &str) -> Result<Vec<Source>, String> {
    let directory = Path::new(from).parent().unwrap_or(Path::new(""));
    let path = directory.join(path);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let Some((start, end)) = name.split_once('*') else {
        let shown = path.display().to_string();
        return Ok(vec![source(&path, shown)?]);
    };
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    let entries = fs::read_dir(parent)
        .map_err(|error| format!("cannot read {}: {error}", parent.display()))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {}: {error}", parent.display()))?;
        let file = entry.file_name();
        let fits = file.to_str().is_some_and(|file| {
            file.len() >= start.len() + end.len()
                && file.starts_with(start)
                && file.ends_with(end)
                && !file.starts_with('.')
        });
        if fits {
            found.push(path.with_file_name(file));
        }
        if found.len() > MOST_FILES {
            return Err(format!("{} stands for more than 256 files", path.display()));
        }
    }
    found.sort();
    found
        .iter()
        .map(|path| source(path, path.display().to_string()))
        .collect()
}

/// A firewall with its log, and the way to its rules.
#[derive(Debug)]
pub(super) struct LoggedFirewall {
    firewall: Firewall,
    args: args::Firewall,
    /// How many of [`RELOADS`] have been done.
    reloads: u32,
    now: Instant,
    log: Option<BufWriter<File>>,
    /// Somebody may be waiting for what is written.
    at_once: bool,
}

impl LoggedFirewall {
    fn reload(&mut self) -> io::Result<()> {
        let mut out = io::stderr().lock();
        let rules = self.args.rules.display();
        match read(&self.args) {
            Ok(ruleset) => {
                let count = ruleset.rules();
                self.firewall.reload(ruleset, self.now);
                writeln!(out, "plumb: {rules}: {count} rules are in force now")
            }
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                writeln!(out, "plumb: {rules}: the old rules stay: {first}")
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut written = false;
        while let Some(event) = self.firewall.poll_event() {
            let entry = entry(&event, &self.args);
            match &mut self.log {
                Some(log) => {
                    write_record(log, &entry)?;
                    written = true;
                }
                None => writeln!(io::stderr().lock(), "{}", line(&entry))?,
            }
        }
        match &mut self.log {
            Some(log) if (written || !log.buffer().is_empty()) && self.at_once => log.flush(),
            _ => Ok(()),
        }
    }
}

impl Attended for LoggedFirewall {
    fn attend(&mut self) -> anyhow::Result<()> {
        let wished = RELOADS.load(Ordering::Relaxed);
        if wished != self.reloads {
            self.reloads = wished;
            self.reload()?;
        }
        self.write().context("cannot write the log")
    }
}

impl Function for LoggedFirewall {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        self.now = now;
        self.firewall.handle_frames(from, batch, now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.now = now;
        self.firewall.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.firewall.poll_timeout()
    }

    fn heads_suffice(&self) -> bool {
        self.firewall.heads_suffice()
    }

    fn held(&self) -> usize {
        self.firewall.held()
    }

    fn counters(&self) -> Vec<Counter> {
        self.firewall.counters()
    }

    fn details(&self) -> Vec<Detail> {
        self.firewall.details()
    }
}

/// An entry of the log; virtual time is the wall time of the packets.
fn entry(event: &Event, args: &args::Firewall) -> FirewallEntry {
    let port = |port| match port {
        Port::Left => args.left_name.clone(),
        Port::Right => args.right_name.clone(),
    };
    let packet = &event.packet;
    let ip = packet.ip.as_ref();
    let ports = packet.ports();
    let (mut icmp, mut tcp_flags) = (None, None);
    if let Transport::Icmp(message) = &packet.transport {
        icmp = Some(message);
    } else if let Transport::Tcp(segment) = &packet.transport {
        tcp_flags = Some(segment.flags);
    }
    FirewallEntry {
        schema: FirewallSchema::V1,
        kind: FirewallType::Log,
        time: WallTime(event.at.as_nanos()),
        prefix: event.prefix.clone(),
        level: event.level.to_owned(),
        rule: event.place.clone(),
        in_interface: port(event.from),
        out_interface: event.to.map(port),
        src_mac: args::Mac(packet.src_mac).to_string(),
        dst_mac: args::Mac(packet.dst_mac).to_string(),
        ethertype: packet.ethertype,
        src_addr: ip.map(|ip| ip.src),
        dst_addr: ip.map(|ip| ip.dst),
        protocol: ip.map(|ip| ip.protocol),
        ttl: ip.map(|ip| ip.ttl),
        src_port: ports.map(|ports| ports.0),
        dst_port: ports.map(|ports| ports.1),
        tcp_flags,
        icmp_type: icmp.map(|icmp| icmp.kind),
        icmp_code: icmp.map(|icmp| icmp.code),
        length_bytes: event.len,
        mark: event.mark,
    }
}

/// An entry as the kernel would log it, more or less.
fn line(entry: &FirewallEntry) -> String {
    use core::fmt::Write;
    let out = entry.out_interface.as_deref().unwrap_or("");
    let mut line = format!(
        "firewall: {}: {} {}IN={} OUT={out} MACSRC={} MACDST={}",
        entry.level, entry.rule, entry.prefix, entry.in_interface, entry.src_mac, entry.dst_mac
    );
    // Writing to a string does not fail.
    let _ = match (entry.src_addr, entry.dst_addr) {
        (Some(src), Some(dst)) => write!(line, " SRC={src} DST={dst}"),
        _ => write!(line, " MACPROTO={:04x}", entry.ethertype),
    };
    let _ = write!(line, " LEN={}", entry.length_bytes);
    let numbers = [
        ("TTL", entry.ttl.map(u16::from)),
        ("PROTO", entry.protocol.map(u16::from)),
        ("SPT", entry.src_port),
        ("DPT", entry.dst_port),
        ("FLAGS", entry.tcp_flags.map(u16::from)),
        ("TYPE", entry.icmp_type.map(u16::from)),
        ("CODE", entry.icmp_code.map(u16::from)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            let _ = write!(line, " {name}={number}");
        }
    }
    if entry.mark != 0 {
        let _ = write!(line, " MARK={:#x}", entry.mark);
    }
    line
}
