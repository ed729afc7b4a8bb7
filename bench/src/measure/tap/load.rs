//! Traffic between the two machines, and what it costs.

use core::time::Duration;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::time::{ClockId, clock_gettime};

use super::Run;
use super::lab::Lab;
use crate::child::Place;
use crate::measure::{OTHER_CPU, PROBER_CPU};
use crate::stats::Summary;

const TARGET: &str = "10.7.0.2";
/// One packet in so many goes to the port that filters of 1 % match.
const RARE: u64 = 100;
const PAYLOAD: usize = 64;

/// Sends what is to be watched.
#[derive(Debug)]
pub(super) struct Load {
    sender: Place,
    receiver: Place,
    udp: Duration,
    tcp: Duration,
    round_trips: usize,
}

/// What a sender did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    packets: f64,
    cpu_ns: f64,
    pub(super) seconds: f64,
}

/// Processor time of the calling thread, in nanoseconds.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

impl Load {
    pub(super) fn new(lab: &Lab, quick: bool) -> Self {
        let millis = if quick { 100 } else { 400 };
        Self {
            sender: lab.place("vm1", PROBER_CPU),
            receiver: lab.place("vm2", OTHER_CPU),
            udp: Duration::from_millis(millis),
            tcp: Duration::from_millis(millis),
            round_trips: if quick { 100 } else { 1000 },
        }
    }

    pub(super) fn run(&self, mode: &'static str) -> anyhow::Result<Run> {
        let (packet_ns, kpps) = self.udp()?;
        let packet_both_ends_ns = self.udp_in_turns()?;
        let (gbit, gigabyte_ms) = self.tcp()?;
        Ok(Run {
            mode,
            packet_ns,
            packet_both_ends_ns,
            kpps,
            gbit,
            gigabyte_ms,
            round_trip_us: self.round_trips()?,
        })
    }

    fn both<A: Send, B: Send>(
        &self,
        receive: impl FnOnce() -> anyhow::Result<A> + Send,
        send: impl FnOnce() -> anyhow::Result<B> + Send,
    ) -> anyhow::Result<(A, B)> {
        both(&self.receiver, &self.sender, receive, send)
    }

    /// Nanoseconds of the sender for a packet, and thousands of packets in a second.
    fn udp(&self) -> anyhow::Result<(f64, f64)> {
        let sent = send_unread(&self.receiver, &self.sender, self.udp)?;
        Ok((
            sent.cpu_ns / sent.packets,
            sent.packets / sent.seconds / 1e3,
        ))
    }

    /// Nanoseconds for a packet from its sender's call to its receiver's, both on one processor, which take
    /// turns: neither ever waits for the other, or wakes it.
    fn udp_in_turns(&self) -> anyhow::Result<f64> {
        thread::scope(|scope| {
            let turns = scope.spawn(|| {
                self.receiver.enter()?;
                let receivers = bind()?;
                self.sender.enter()?;
                in_turns(&connect()?, &receivers, self.udp)
            });
            turns.join().unwrap_or_else(|_| bail!("the ends broke"))
        })
    }

    fn tcp(&self) -> anyhow::Result<(f64, f64)> {
        let (ready, is_ready) = mpsc::channel();
        let receive = move || {
            let listener = TcpListener::bind("10.7.0.2:7002")?;
            ready.send(()).context("no sender")?;
            let (mut stream, _) = listener.accept()?;
            let mut buffer = vec![0; 1 << 18];
            let (started, cpu) = (Instant::now(), cpu_ns());
            let mut bytes = 0u64;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    read => bytes += read as u64,
                }
            }
            Ok((bytes, cpu_ns() - cpu, started.elapsed().as_secs_f64()))
        };
        let send = move || {
            is_ready.recv().context("no receiver")?;
            let mut stream = TcpStream::connect((TARGET, 7002))?;
            let buffer = vec![7; 1 << 18];
            let (started, cpu) = (Instant::now(), cpu_ns());
            while started.elapsed() < self.tcp {
                stream.write_all(&buffer)?;
            }
            Ok(cpu_ns() - cpu)
        };
        let ((bytes, receiver_ns, wall), sender_ns) = self.both(receive, send)?;
        let gigabytes = bytes as f64 / 1e9;
        Ok((
            gigabytes * 8.0 / wall,
            (receiver_ns + sender_ns) / 1e6 / gigabytes,
        ))
    }

    fn round_trips(&self) -> anyhow::Result<f64> {
        let (ready, is_ready) = mpsc::channel();
        let count = self.round_trips;
        let receive = move || {
            let socket = UdpSocket::bind("10.7.0.2:7003")?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            ready.send(()).context("no sender")?;
            let mut buffer = [0; PAYLOAD];
            for _ in 0..count {
                let (_, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer, from)?;
            }
            Ok(())
        };
        let send = move || {
            is_ready.recv().context("no receiver")?;
            let socket = UdpSocket::bind("10.7.0.1:0")?;
            socket.connect((TARGET, 7003))?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut buffer = [0; PAYLOAD];
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let started = Instant::now();
                socket.send(&buffer)?;
                socket.recv(&mut buffer)?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
            Summary::of(times)
                .map(|s| s.median)
                .context("no round trips")
        };
        Ok(self.both(receive, send)?.1)
    }
}

/// Runs both ends, each at its place, and gives what they give.
fn both<A: Send, B: Send>(
    receiver: &Place,
    sender: &Place,
    receive: impl FnOnce() -> anyhow::Result<A> + Send,
    send: impl FnOnce() -> anyhow::Result<B> + Send,
) -> anyhow::Result<(A, B)> {
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            receiver.enter()?;
            receive()
        });
        let sender = scope.spawn(|| {
            sender.enter()?;
            send()
        });
        let sent = sender.join().unwrap_or_else(|_| bail!("the sender broke"));
        let received = receiver
            .join()
            .unwrap_or_else(|_| bail!("the receiver broke"));
        Ok((received?, sent?))
    })
}

/// Sends to sockets that nobody reads: what does not fit is dropped there, which costs little.
pub(super) fn send_unread(
    receiver: &Place,
    sender: &Place,
    duration: Duration,
) -> anyhow::Result<Sent> {
    let (ready, is_ready) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    let receive = move || {
        let sockets = bind()?;
        ready.send(()).context("no sender")?;
        // Ends with the sender.
        let _ = is_done.recv();
        drop(sockets);
        Ok(())
    };
    let send = move || {
        is_ready.recv().context("no receiver")?;
        let _done = done;
        send(duration)
    };
    Ok(both(receiver, sender, receive, send)?.1)
}

/// The sockets of the usual port and of the rare one.
fn bind() -> anyhow::Result<[UdpSocket; 2]> {
    Ok([
        UdpSocket::bind((TARGET, 7000))?,
        UdpSocket::bind((TARGET, 7001))?,
    ])
}

/// Sockets that send to the usual port and to the rare one, for which the neighbour is known.
fn connect() -> anyhow::Result<[UdpSocket; 2]> {
    let to = |port: u16| -> anyhow::Result<UdpSocket> {
        let socket = UdpSocket::bind("10.7.0.1:0")?;
        socket.connect((TARGET, port))?;
        Ok(socket)
    };
    let sockets = [to(7000)?, to(7001)?];
    for _ in 0..100 {
        let _ = sockets[0].send(&[7; PAYLOAD]);
    }
    Ok(sockets)
}

/// Sends 64 packets, one in so many of them from the second socket.
fn send_some([usual, rare]: &[UdpSocket; 2], sent: &mut u64) {
    for _ in 0..64 {
        let socket = if sent.is_multiple_of(RARE) {
            rare
        } else {
            usual
        };
        // Full queues are part of it.
        let _ = socket.send(&[7; PAYLOAD]);
        *sent += 1;
    }
}

/// Sends to both ports as fast as it goes.
fn send(duration: Duration) -> anyhow::Result<Sent> {
    let sockets = connect()?;
    let (started, cpu) = (Instant::now(), cpu_ns());
    let mut sent = 0u64;
    while started.elapsed() < duration {
        send_some(&sockets, &mut sent);
    }
    Ok(Sent {
        packets: sent as f64,
        cpu_ns: cpu_ns() - cpu,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Sends some and reads them, until the time is over. Nanoseconds for a packet that was read.
fn in_turns(
    senders: &[UdpSocket; 2],
    receivers: &[UdpSocket; 2],
    duration: Duration,
) -> anyhow::Result<f64> {
    let read_all = || -> anyhow::Result<u64> {
        let mut read = 0;
        for socket in receivers {
            loop {
                match socket.recv(&mut [0; PAYLOAD]) {
                    Ok(_) => read += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(read)
    };
    for socket in receivers {
        socket.set_nonblocking(true)?;
    }
    // What looked for the neighbour.
    read_all()?;
    let (started, cpu) = (Instant::now(), cpu_ns());
    let (mut sent, mut received) = (0, 0);
    while started.elapsed() < duration {
        send_some(senders, &mut sent);
        received += read_all()?;
    }
    if received < sent / 100 * 99 {
        bail!("of {sent} packets, {received} arrived");
    }
    Ok((cpu_ns() - cpu) / received as f64)
}
