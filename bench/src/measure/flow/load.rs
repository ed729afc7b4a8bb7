//! Connections between the two hosts, and what they cost.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::lab::Lab;
use super::watcher::Watcher;
use crate::child::Place;
use crate::measure::{OTHER_CPU, PROBER_CPU};

/// What the server is to do with a connection.
const ECHO: u8 = 1;
const LAST: u8 = 2;
const PORT: u16 = 7100;
/// Processors of a client and of its server.
type Pair = [usize; 2];
/// Both have all that they can do.
const BUSY: [Pair; 2] = [[PROBER_CPU; 2], [OTHER_CPU; 2]];
/// Each waits for the other.
const ALONE: [Pair; 1] = [[PROBER_CPU, OTHER_CPU]];

/// What one unit of work costs: a connection, a request, a gigabyte.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    /// Units in a second.
    pub(super) rate: f64,
    /// Processor time of client and server for one, with what the kernel does in their time, in
    /// microseconds.
    pub(super) ends_us: f64,
    /// Processor time of whoever watches, for one, in microseconds.
    pub(super) watcher_us: f64,
    /// All that the processors did meanwhile, for one, in microseconds: coarse, but nothing is
    /// missing.
    pub(super) system_us: f64,
    /// Units in all.
    pub(super) units: f64,
}

impl Cost {
    /// Processor time for one, whoever watches included.
    pub(super) const fn all_us(&self) -> f64 {
        self.ends_us + self.watcher_us
    }
}

/// Makes connections between the two hosts.
#[derive(Debug)]
pub(super) struct Load<'a> {
    lab: &'a Lab,
    seconds: f64,
}

/// Work done, and processor time that it took, in nanoseconds.
type Done = (f64, f64);

/// Processor time of the calling thread, in nanoseconds.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Processor time of all processors but for idling, in seconds.
fn busy_s() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&n| fields.get(n)).sum();
    busy / rustix::param::clock_ticks_per_second() as f64
}

impl<'a> Load<'a> {
    pub(super) const fn new(lab: &'a Lab, quick: bool) -> Self {
        let seconds = if quick { 0.2 } else { 0.8 };
        Self { lab, seconds }
    }

    /// Short connections, one after the other on each processor: a byte there, a byte back, and an
    /// end in order.
    pub(super) fn connections(&self, watcher: &Watcher<'_>) -> anyhow::Result<Cost> {
        self.short(watcher, &BUSY)
    }

    /// The same, one at a time, of which each end has a processor.
    pub(super) fn single(&self, watcher: &Watcher<'_>) -> anyhow::Result<Cost> {
        self.short(watcher, &ALONE)
    }

    fn short(&self, watcher: &Watcher<'_>, pairs: &[Pair]) -> anyhow::Result<Cost> {
        self.pairs(watcher, pairs, &|port, until| {
            let mut done = 0u32;
            while Instant::now() < until {
                let bits = Ipv4Addr::new(10, 8, 0, 1).to_bits() + done % 50_000;
                let mut stream = TcpStream::connect((Ipv4Addr::from_bits(bits), port))?;
                exchange(&mut stream, ECHO)?;
                done += 1;
            }
            Ok(done)
        })
    }

    /// Requests of a byte and answers of a byte, one after the other over one connection on each
    /// processor.
    pub(super) fn requests(&self, watcher: &Watcher<'_>) -> anyhow::Result<Cost> {
        self.pairs(watcher, &BUSY, &|port, until| {
            let mut done = 0u32;
            let mut stream = TcpStream::connect((Ipv4Addr::new(10, 8, 0, 1), port))?;
            stream.set_nodelay(true)?;
            while Instant::now() < until {
                for _ in 0..32 {
                    exchange(&mut stream, ECHO)?;
                }
                done += 32;
            }
            Ok(done)
        })
    }

    /// Clients, and a server of each.
    fn pairs(
        &self,
        watcher: &Watcher<'_>,
        pairs: &[Pair],
        client: &(dyn Fn(u16, Instant) -> anyhow::Result<u32> + Sync),
    ) -> anyhow::Result<Cost> {
        let barrier = Barrier::new(pairs.len() * 2);
        let mut all = Vec::new();
        for (port, &[client_cpu, server_cpu]) in (PORT..).zip(pairs) {
            let barrier = &barrier;
            let serve = move |place: Place| -> anyhow::Result<Done> {
                let ready = place
                    .enter()
                    .and_then(|()| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?));
                barrier.wait();
                let listener = ready?;
                let started = cpu_ns();
                loop {
                    let (mut stream, _) = listener.accept()?;
                    if !answer(&mut stream)? {
                        return Ok((0.0, cpu_ns() - started));
                    }
                }
            };
            let ask = move |place: Place| -> anyhow::Result<Done> {
                let ready = place.enter();
                barrier.wait();
                ready?;
                let started = cpu_ns();
                let until = Instant::now() + Duration::from_secs_f64(self.seconds);
                let done = client(port, until);
                let cpu = cpu_ns() - started;
                let mut last = TcpStream::connect((Ipv4Addr::new(10, 8, 0, 1), port))?;
                last.write_all(&[LAST])?;
                Ok((f64::from(done?), cpu))
            };
            all.push(self.job("server", server_cpu, serve));
            all.push(self.job("client", client_cpu, ask));
        }
        self.cost(watcher, all, 1.0)
    }

    /// One stream, of which each end has a processor; the unit is a gigabyte.
    pub(super) fn bulk(&self, watcher: &Watcher<'_>) -> anyhow::Result<Cost> {
        let barrier = &Barrier::new(2);
        let receive = move |place: Place| -> anyhow::Result<Done> {
            let ready = place
                .enter()
                .and_then(|()| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?));
            barrier.wait();
            let (mut stream, _) = ready?.accept()?;
            let mut buffer = vec![0; 1 << 18];
            let started = cpu_ns();
            let mut bytes = 0.0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok((bytes, cpu_ns() - started)),
                    read => bytes += read as f64,
                }
            }
        };
        let send = move |place: Place| -> anyhow::Result<Done> {
            let ready = place.enter();
            barrier.wait();
            ready?;
            let mut stream = TcpStream::connect((Ipv4Addr::new(10, 8, 0, 1), PORT))?;
            let buffer = vec![7; 1 << 18];
            let started = cpu_ns();
            let until = Instant::now() + Duration::from_secs_f64(self.seconds);
            while Instant::now() < until {
                stream.write_all(&buffer)?;
            }
            Ok((0.0, cpu_ns() - started))
        };
        let jobs = vec![
            self.job("server", OTHER_CPU, receive),
            self.job("client", PROBER_CPU, send),
        ];
        self.cost(watcher, jobs, 1e9)
    }

    fn job<'j>(
        &self,
        host: &str,
        cpu: usize,
        work: impl FnOnce(Place) -> anyhow::Result<Done> + Send + 'j,
    ) -> Box<dyn FnOnce() -> anyhow::Result<Done> + Send + 'j> {
        let place = self.lab.place(host, Some(cpu));
        Box::new(move || work(place))
    }

    /// Does all at once, and adds up what it took.
    fn cost(
        &self,
        watcher: &Watcher<'_>,
        jobs: Vec<Box<dyn FnOnce() -> anyhow::Result<Done> + Send + '_>>,
        unit: f64,
    ) -> anyhow::Result<Cost> {
        let (watched, busy) = (watcher.cpu_ns(), busy_s());
        let started = Instant::now();
        let done = thread::scope(|scope| {
            let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread broke")))
                .collect::<anyhow::Result<Vec<Done>>>()
        })?;
        let wall = started.elapsed().as_secs_f64();
        // Whoever watches may look only now and then.
        thread::sleep(WATCHERS_LATEST);
        let units = done.iter().map(|(units, _)| units).sum::<f64>() / unit;
        if units <= 0.0 {
            bail!("nothing was done");
        }
        let ends: f64 = done.iter().map(|(_, cpu)| cpu).sum();
        Ok(Cost {
            rate: units / wall,
            ends_us: ends / 1e3 / units,
            watcher_us: (watcher.cpu_ns() - watched) / 1e3 / units,
            system_us: (busy_s() - busy) * 1e6 / units,
            units,
        })
    }
}

/// What a watcher gets to finish with what it has seen.
const WATCHERS_LATEST: Duration = Duration::from_millis(250);

fn exchange(stream: &mut TcpStream, byte: u8) -> anyhow::Result<()> {
    let mut back = [0];
    stream.write_all(&[byte])?;
    stream.read_exact(&mut back).context("no answer")
}

/// Sends back what comes, up to its end; false if that was the last connection.
fn answer(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let mut byte = [0];
    stream.set_nodelay(true)?;
    loop {
        match stream.read(&mut byte)? {
            0 => return Ok(true),
            _ if byte == [LAST] => return Ok(false),
            _ => stream.write_all(&byte)?,
        }
    }
}
