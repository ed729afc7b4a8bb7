//! Whoever watches connections while they are made.

use core::time::Duration;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

use super::super::ask_to_end;
use super::lab::Lab;

/// A way to watch.
#[derive(Clone, Debug)]
pub(super) enum Watch {
    /// Nobody does.
    Nobody,
    /// This build of plumb, with these arguments.
    Plumb(PathBuf, &'static [&'static str]),
    /// `tcplife` of bpftrace, on the tracepoint: kprobes are not everywhere.
    Bpftrace,
    /// `tcplife` of bcc's libbpf-tools: compiled beforehand, as bcc itself takes the kernel's headers.
    LibbpfTools,
}

/// What tcplife.bt of bpftrace does, of the same tracepoint as plumb: process, addresses, ports,
/// bytes both ways and duration of each connection, at its end.
const TCPLIFE: &str = r#"
BEGIN { printf("begins\n"); }
tracepoint:sock:inet_sock_set_state / args->protocol == 6 / {
  $sk = (struct sock *)args->skaddr;
  if (args->newstate < 4 && @birth[$sk] == 0) { @birth[$sk] = nsecs; }
  if (args->newstate == 2 || args->newstate == 9) { @pid[$sk] = pid; @comm[$sk] = comm; }
  if (args->newstate == 7 && @birth[$sk]) {
    $tp = (struct tcp_sock *)$sk;
    printf("%-5d %-10s %-15s %-5d %-15s %-6d %5d %5d %d\n", @pid[$sk], @comm[$sk],
      ntop(2, args->saddr), args->sport, ntop(2, args->daddr), args->dport,
      $tp->bytes_acked, $tp->bytes_received, (nsecs - @birth[$sk]) / 1000000);
    delete(@birth[$sk]); delete(@pid[$sk]); delete(@comm[$sk]);
  }
}
END { clear(@birth); clear(@pid); clear(@comm); }
"#;

/// Where IPFIX is sent to: a socket that nobody reads.
pub(super) const COLLECTOR: &str = "127.0.0.1:4739";
/// As much of what a watcher says as a table has room for.
const LONGEST: usize = 160;
/// A watcher that takes longer to begin does not work.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who watches, or nobody.
#[derive(Debug)]
pub(super) struct Watcher<'a> {
    child: Option<Child>,
    errors: PathBuf,
    _collector: Option<UdpSocket>,
    _lab: &'a Lab,
}

impl<'a> Watcher<'a> {
    /// Starts one, and waits until it watches.
    pub(super) fn start(lab: &'a Lab, scratch: &Path, watch: &Watch) -> anyhow::Result<Self> {
        let (output, errors) = (scratch.join("watcher.out"), scratch.join("watcher.err"));
        let mut command = match watch {
            Watch::Nobody => {
                return Ok(Self {
                    child: None,
                    errors,
                    _collector: None,
                    _lab: lab,
                });
            }
            Watch::Plumb(plumb, arguments) => {
                let mut command = Command::new(plumb);
                command.arg("flow").args(*arguments).stdout(Stdio::null());
                command
            }
            Watch::LibbpfTools => {
                tracefs();
                let mut command = Command::new("tcplife");
                command.stdout(File::create(&output)?);
                command
            }
            Watch::Bpftrace => {
                tracefs();
                let mut command = Command::new("bpftrace");
                command
                    .args(["-e", TCPLIFE])
                    .env("BPFTRACE_MAP_KEYS_MAX", "100000")
                    .stdout(File::create(&output)?);
                command
            }
        };
        command.stdin(Stdio::null()).stderr(File::create(&errors)?);
        let place = lab.place("server", None);
        // A thread of its own: it never comes back from the namespace.
        let (child, collector) = thread::scope(|scope| {
            let thread = scope.spawn(|| -> anyhow::Result<_> {
                place.enter()?;
                let collector = UdpSocket::bind(COLLECTOR).context("no collector")?;
                Ok((command.spawn().context("cannot start it")?, collector))
            });
            thread.join().unwrap_or_else(|_| bail!("the thread broke"))
        })?;
        let mut watcher = Self {
            child: Some(child),
            errors,
            _collector: Some(collector),
            _lab: lab,
        };
        let begin = Instant::now();
        while !watcher.watches(watch, &output) {
            let ended = match &mut watcher.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended || begin.elapsed() > PATIENCE {
                bail!("{}", watcher.said());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(watcher)
    }

    /// Whether it has begun: plumb gives up its privileges then, bpftrace says so.
    fn watches(&self, watch: &Watch, output: &Path) -> bool {
        match watch {
            Watch::Nobody => true,
            Watch::Plumb(..) => {
                let path = format!("/proc/{}/status", self.pid());
                let status = fs::read_to_string(path).unwrap_or_default();
                status
                    .lines()
                    .any(|line| line == "CapEff:\t0000000000000000")
            }
            Watch::Bpftrace => has_said(output, "begins"),
            // It writes when its buffer is full. One event is the tracepoint's, one each processor's.
            Watch::LibbpfTools => self.perf_events() > 1,
        }
    }

    /// How many events of perf it has open.
    fn perf_events(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        let links = open.into_iter().flatten().flatten();
        links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|to| to.as_os_str() == "anon_inode:[perf_event]")
            .count()
    }

    /// Its number; 0 if there is nobody.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Processor time of all its threads, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> f64 {
        let Some(child) = &self.child else { return 0.0 };
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        let ns = |path: PathBuf| -> Option<f64> {
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        let tasks = tasks.into_iter().flatten().flatten();
        tasks.filter_map(|task| ns(task.path())).sum()
    }

    /// What it said on standard error, in one line.
    fn said(&self) -> String {
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        words.chars().take(LONGEST).collect()
    }

    /// Ends it, and gives what it said.
    pub(super) fn stop(mut self) -> anyhow::Result<String> {
        if let Some(mut child) = self.child.take() {
            ask_to_end(&child)?;
            child.wait()?;
        }
        Ok(self.said())
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn has_said(output: &Path, words: &str) -> bool {
    fs::read_to_string(output).is_ok_and(|said| said.contains(words))
}

/// Lets bpftrace find tracepoints, in this mount namespace.
fn tracefs() {
    if !Path::new("/sys/kernel/tracing/events").exists() {
        let _ = Command::new("mount")
            .args(["-t", "tracefs", "none", "/sys/kernel/tracing"])
            .status();
    }
}
