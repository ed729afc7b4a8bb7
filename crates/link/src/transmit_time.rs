//! When packets really left: timestamps that the kernel takes as it hands them to the device.
//!
//! Between the clock before a send call and this moment lie routing, packet filters and, in a
//! batch, the packets before. Measured on a TUN device against the round-trip times of a capture
//! on it: with the clock, single pings came out 8 to 11 us too long (median; 99th percentile 14 to
//! 26), and 34 to 42 us when eight targets were pinged at once; with timestamps, 2 us and 0.5 us
//! too short, since the capture sees a packet a little before the device does.
//!
//! A timestamp costs 0.35 us more per send call and a system call of 0.8 to 1.7 us to read it, so
//! they are asked for at low rates only, where that is nothing and every microsecond may be looked
//! at.

use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;

use plumb_wire::Instant;

use crate::{KernelTime, message, sys};

/// The timestamps of one socket.
#[derive(Debug)]
pub(crate) struct TransmitTimes {
    rate: Rate,
    on: bool,
    /// The number that the kernel gives to the next packet (SOF_TIMESTAMPING_OPT_ID).
    next: u32,
    time: KernelTime,
}

impl TransmitTimes {
    pub(crate) fn new() -> Self {
        Self {
            rate: Rate::default(),
            on: false,
            next: 0,
            time: KernelTime::new(),
        }
    }

    /// Prepares for sending up to `count` packets `now`, and says whether their times will be known.
    pub(crate) fn before(&mut self, fd: BorrowedFd<'_>, now: Instant, count: usize) -> bool {
        let low = self.rate.is_low(now, count);
        if low && !self.on {
            self.start(fd);
        } else if !low && self.on {
            self.on = false;
            let _ = set(fd, 0);
            discard_errors(fd);
        }
        if self.on {
            // No packet of this call leaves before now.
            self.time.refresh();
            self.time.drained();
        }
        self.on
    }

    /// Reads the times of the `sent` of `asked` packets that the kernel took, and gives each to
    /// `report` with the packet's index. One that still waits in a queue of the device has none.
    pub(crate) fn after(
        &mut self,
        fd: BorrowedFd<'_>,
        asked: usize,
        sent: usize,
        mut report: impl FnMut(usize, Instant),
    ) {
        let first = self.next;
        self.next = first.wrapping_add(u32::try_from(sent).unwrap_or(0));
        let mut in_step = asked == sent;
        let mut found = 0;
        while found < sent {
            let Ok(incoming) = message::receive(fd, &mut [], libc::MSG_ERRQUEUE) else {
                break;
            };
            let (Some(error), Some(wall_ns)) = (incoming.error, incoming.wall_ns) else {
                continue;
            };
            if error.origin != libc::SO_EE_ORIGIN_TIMESTAMPING {
                continue;
            }
            let ahead = error.data.wrapping_sub(first);
            match usize::try_from(ahead) {
                Ok(index) if index < sent => {
                    found += 1;
                    report(index, self.time.instant(wall_ns));
                }
                // Of an earlier call.
                _ if ahead > u32::MAX / 2 => {}
                _ => {
                    in_step = false;
                    break;
                }
            }
        }
        if !in_step {
            self.start(fd);
        }
    }

    /// Starts over: a packet that the kernel refused may have taken a number or not.
    pub(crate) fn start(&mut self, fd: BorrowedFd<'_>) {
        discard_errors(fd);
        // Numbers begin at 0 each time that the option is switched on.
        self.on = set(fd, 0).and_then(|()| set(fd, FLAGS)).is_ok();
        self.next = 0;
    }
}

/// Empties a socket's error queue, which would else be announced for ever.
pub(crate) fn discard_errors(fd: BorrowedFd<'_>) {
    const MOST: usize = 256;
    for _ in 0..MOST {
        if message::receive(fd, &mut [], libc::MSG_ERRQUEUE).is_err() {
            return;
        }
    }
}

const FLAGS: libc::c_uint = libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_ID
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;

fn set(fd: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    let flags = flags.cast_signed();
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &flags)
}

/// Says when packets are few.
#[derive(Debug)]
struct Rate {
    since: Instant,
    packets: usize,
    low: bool,
}

/// How long packets are counted before a high rate is forgotten.
const WINDOW: Duration = Duration::from_millis(100);
/// Packets in that time from which on a rate is high: 2000 a second.
const HIGH: usize = 200;

impl Default for Rate {
    fn default() -> Self {
        Self {
            since: Instant::ZERO,
            packets: 0,
            low: true,
        }
    }
}

impl Rate {
    fn is_low(&mut self, now: Instant, packets: usize) -> bool {
        if now.since(self.since) >= WINDOW {
            self.low = self.packets < HIGH;
            self.since = now;
            self.packets = 0;
        }
        self.packets += packets;
        self.low &= self.packets < HIGH;
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of the last second of two for which times were asked, at an even rate.
    fn stamped(per_second: u64) -> u64 {
        let mut rate = Rate::default();
        let at = |n: u64| Instant::from_nanos(1_000_000_000 + n * 1_000_000_000 / per_second);
        let low: Vec<bool> = (0..2 * per_second).map(|n| rate.is_low(at(n), 1)).collect();
        let last = low.iter().rev().zip(0..per_second);
        last.filter(|(low, _)| **low).count() as u64
    }

    #[test]
    fn times_are_asked_for_at_low_rates_only() {
        assert_eq!(stamped(1000), 1000);
        assert_eq!(stamped(1900), 1900);
        assert_eq!(stamped(2500), 0);
        assert_eq!(stamped(100_000), 0);
    }

    #[test]
    fn one_burst_ends_them_until_it_is_over() {
        let mut rate = Rate::default();
        let at = Instant::from_millis;
        assert!(rate.is_low(at(1000), 64));
        assert!(!rate.is_low(at(1001), 200));
        assert!(!rate.is_low(at(1050), 1));
        assert!(!rate.is_low(at(1110), 1), "the last window was full");
        assert!(rate.is_low(at(1220), 1));
    }
}
