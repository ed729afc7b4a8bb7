//! ^C: the first ends the round, the second quits.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Counts the signals that ask plumb to end.
#[derive(Debug)]
pub(crate) struct Interrupts {
    stream: UnixStream,
    seen: usize,
}

impl Interrupts {
    /// Takes over SIGINT, SIGTERM and SIGHUP, except what whoever started plumb wants ignored
    /// (nohup, and shells for what runs in the background).
    pub(crate) fn watch() -> io::Result<Self> {
        Self::of(&[SIGINT, SIGTERM, SIGHUP])
    }

    /// The same without SIGHUP, which means something else to some.
    pub(crate) fn watch_but_hangup() -> io::Result<Self> {
        Self::of(&[SIGINT, SIGTERM])
    }

    fn of(signals: &[i32]) -> io::Result<Self> {
        let (stream, far) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let ignored = ignored();
        for signal in signals.iter().copied() {
            if ignored >> (signal - 1) & 1 == 1 {
                continue;
            }
            pipe::register(signal, far.try_clone()?)?;
        }
        Ok(Self { stream, seen: 0 })
    }

    /// How many have come.
    pub(crate) fn count(&mut self) -> usize {
        let mut bytes = [0; 16];
        while let Ok(read @ 1..) = self.stream.read(&mut bytes) {
            self.seen += read;
        }
        self.seen
    }

    /// What becomes readable when one comes.
    pub(crate) fn fd(&self) -> io::Result<impl AsFd + use<>> {
        self.stream.try_clone()
    }
}

/// The mask of ignored signals, the lowest bit for signal 1 (proc(5)).
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}
