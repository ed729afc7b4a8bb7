//! The job channel: either end, with bytes in the place of the other.

use core::time::Duration;
use std::sync::Arc;

use plumb_channel::{Configure, Guest, Host, Limits, News};
use plumb_probe::{Config, Job, Ping, PingOptions, Trace, TraceOptions};
use plumb_wire::Instant;

/// Reads bytes as what a guest says, in pieces as the first byte has it, in a session that has a
/// trace and a ping under way.
///
/// # Panics
/// If a fault goes away, or a job ends twice.
pub fn host(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else {
        return;
    };
    let configure = Configure {
        session: 1,
        engine: Config::default(),
        seed: 1,
        packets: true,
    };
    let limits = Limits {
        text: 1 << 10,
        ..Limits::default()
    };
    let mut now = Instant::from_millis(1000);
    let mut host = Host::new(&configure, limits, now);
    let (src, dst) = ([5, 0, 1, 1].into(), [5, 0, 8, 2].into());
    let jobs = [
        Job::Trace(Trace {
            src,
            dst,
            options: Arc::new(TraceOptions {
                report_hops: true,
                ..TraceOptions::default()
            }),
        }),
        Job::Ping(Ping {
            src,
            dst,
            options: Arc::new(PingOptions::default()),
        }),
    ];
    for job in &jobs {
        assert!(host.start(job).is_ok(), "an empty inbox has room");
    }
    host.finish();
    let mut ends = 0;
    let mut fault = None;
    for bytes in data.chunks(usize::from(*piece) + 1) {
        now = now + Duration::from_millis(1);
        let outcome = host.handle_bytes(bytes, now);
        assert!(fault.is_none() || outcome.err() == fault, "a fault stays");
        fault = outcome.err();
        while let Some(news) = host.poll_news() {
            match news {
                News::Event(
                    plumb_probe::Event::Trace { started, .. }
                    | plumb_probe::Event::Ping { started, .. },
                ) => {
                    assert!(started <= now, "nothing begins in the future");
                    ends += 1;
                }
                News::Refused { .. } => ends += 1,
                News::Packet { at, .. } => assert!(at <= now, "nothing comes from the future"),
                News::Finished => assert_eq!(ends, jobs.len(), "no job is left"),
                News::Ready(_) | News::Text(_) | News::Event(_) => {}
            }
        }
    }
    assert_eq!(host.active() + ends, jobs.len(), "every job ends once");
}

/// Reads bytes as what a host says, in pieces as the first byte has it.
///
/// # Panics
/// If the guest holds more than its share.
pub fn guest(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else {
        return;
    };
    let mut guest = Guest::default();
    for bytes in data.chunks(usize::from(*piece) + 1) {
        guest.handle_bytes(bytes);
        loop {
            match guest.poll_order() {
                Ok(Some(_)) => guest.took(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        let said = guest.transmit().len();
        guest.handle_sent(said);
    }
}
