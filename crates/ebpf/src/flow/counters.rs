//! What the kernel counts about a connection, and the difference between two looks at it.

use super::event::{Event, flag};

/// Totals since the beginning of a connection, of payload where bytes are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) bytes_sent: u64,
    pub(super) bytes_acked: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_retrans: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) segs_out: u32,
    pub(super) segs_in: u32,
    pub(super) data_segs_out: u32,
    pub(super) data_segs_in: u32,
    pub(super) total_retrans: u32,
    pub(super) lost: u32,
    pub(super) rtos: u32,
    pub(super) fast_recoveries: u32,
    pub(super) tail_loss_probes: u32,
    pub(super) dsack_dups: u32,
    pub(super) reord_seen: u32,
    pub(super) rcv_ooopack: u32,
    pub(super) duplicates: u32,
    pub(super) resets_sent: u32,
    pub(super) resets_received: u32,
    pub(super) delivered_ce: u32,
    pub(super) busy: [u32; 3],
}

impl Counters {
    /// More than any of the counters grows between two looks that are taken at the same time.
    const AT_ONCE: u32 = 1 << 16;

    pub(super) fn of(event: &Event) -> Self {
        // The kernel counts the sequence numbers that SYN and FIN take; a passive socket is made
        // when its own SYN has been acknowledged.
        let tcp = !event.has(flag::META);
        let acked = u64::from(tcp && event.has(flag::ACTIVE))
            + u64::from(tcp && event.has(flag::FIN_ACKED));
        // So does the end of a multipath connection's data, which is acknowledged after all of it.
        let most = if tcp { u64::MAX } else { event.bytes_sent };
        let received = u64::from(tcp && event.has(flag::FIN_RECEIVED));
        Self {
            bytes_sent: event.bytes_sent,
            bytes_acked: event.bytes_acked.saturating_sub(acked).min(most),
            bytes_received: event.bytes_received.saturating_sub(received),
            bytes_retrans: event.bytes_retrans,
            duplicate_bytes: event.duplicate_bytes,
            segs_out: event.segs_out,
            segs_in: event.segs_in,
            data_segs_out: event.data_segs_out,
            data_segs_in: event.data_segs_in,
            total_retrans: event.total_retrans,
            lost: event.lost,
            rtos: event.rtos,
            fast_recoveries: event.fast_recoveries,
            tail_loss_probes: event.tail_loss_probes,
            dsack_dups: event.dsack_dups,
            reord_seen: event.reord_seen,
            rcv_ooopack: event.rcv_ooopack,
            duplicates: event.duplicates,
            resets_sent: event.resets_sent,
            resets_received: event.resets_received,
            delivered_ce: event.delivered_ce,
            busy: event.busy,
        }
    }

    /// What came since an earlier look. The kernel's counters of 32 bits wrap. Two looks at the same
    /// time may be told in the other order than they were taken; nothing came between these.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let wide = |now: u64, then: u64| now.saturating_sub(then);
        let narrow = |now: u32, then: u32| {
            let since = now.wrapping_sub(then);
            if since > u32::MAX - Self::AT_ONCE {
                0
            } else {
                since
            }
        };
        Self {
            bytes_sent: wide(self.bytes_sent, earlier.bytes_sent),
            bytes_acked: wide(self.bytes_acked, earlier.bytes_acked),
            bytes_received: wide(self.bytes_received, earlier.bytes_received),
            bytes_retrans: wide(self.bytes_retrans, earlier.bytes_retrans),
            duplicate_bytes: wide(self.duplicate_bytes, earlier.duplicate_bytes),
            segs_out: narrow(self.segs_out, earlier.segs_out),
            segs_in: narrow(self.segs_in, earlier.segs_in),
            data_segs_out: narrow(self.data_segs_out, earlier.data_segs_out),
            data_segs_in: narrow(self.data_segs_in, earlier.data_segs_in),
            total_retrans: narrow(self.total_retrans, earlier.total_retrans),
            lost: narrow(self.lost, earlier.lost),
            rtos: narrow(self.rtos, earlier.rtos),
            fast_recoveries: narrow(self.fast_recoveries, earlier.fast_recoveries),
            tail_loss_probes: narrow(self.tail_loss_probes, earlier.tail_loss_probes),
            dsack_dups: narrow(self.dsack_dups, earlier.dsack_dups),
            reord_seen: narrow(self.reord_seen, earlier.reord_seen),
            rcv_ooopack: narrow(self.rcv_ooopack, earlier.rcv_ooopack),
            duplicates: narrow(self.duplicates, earlier.duplicates),
            resets_sent: narrow(self.resets_sent, earlier.resets_sent),
            resets_received: narrow(self.resets_received, earlier.resets_received),
            delivered_ce: narrow(self.delivered_ce, earlier.delivered_ce),
            busy: core::array::from_fn(|n| narrow(self.busy[n], earlier.busy[n])),
        }
    }
}

/// Counters as they are remembered of a connection. Of most, a host has nothing to tell but how much
/// they carried; of a hundred thousand, the other zeros would be 10 MB.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    /// All others are zero.
    Clean {
        bytes_sent: u64,
        bytes_acked: u64,
        bytes_received: u64,
        segs_out: u32,
        segs_in: u32,
        data_segs_out: u32,
        data_segs_in: u32,
        busy: [u32; 3],
    },
    /// Something went wrong once.
    Other(Box<Counters>),
}

impl Kept {
    pub(super) fn counters(&self) -> Counters {
        match *self {
            Self::Clean {
                bytes_sent,
                bytes_acked,
                bytes_received,
                segs_out,
                segs_in,
                data_segs_out,
                data_segs_in,
                busy,
            } => Counters {
                bytes_sent,
                bytes_acked,
                bytes_received,
                segs_out,
                segs_in,
                data_segs_out,
                data_segs_in,
                busy,
                ..Counters::default()
            },
            Self::Other(ref counters) => **counters,
        }
    }
}

impl From<Counters> for Kept {
    fn from(counters: Counters) -> Self {
        let clean = Self::Clean {
            bytes_sent: counters.bytes_sent,
            bytes_acked: counters.bytes_acked,
            bytes_received: counters.bytes_received,
            segs_out: counters.segs_out,
            segs_in: counters.segs_in,
            data_segs_out: counters.data_segs_out,
            data_segs_in: counters.data_segs_in,
            busy: counters.busy,
        };
        if clean.counters() == counters {
            clean
        } else {
            Self::Other(Box::new(counters))
        }
    }
}

/// Finds out how long a jiffy is: the kernel does not say, but events carry both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct HertzMeter {
    first: Option<(u64, u32)>,
    tick_ns: Option<u64>,
}

impl HertzMeter {
    /// Long enough to tell 250 Hz from 300.
    const ENOUGH_NS: u64 = 200_000_000;

    pub(super) const fn new() -> Self {
        Self {
            first: None,
            tick_ns: None,
        }
    }

    pub(super) fn note(&mut self, at: u64, jiffies: u32) {
        if self.tick_ns.is_some() || jiffies == 0 {
            return;
        }
        let (first_at, first_jiffies) = *self.first.get_or_insert((at, jiffies));
        let passed = at.saturating_sub(first_at);
        if passed >= Self::ENOUGH_NS {
            let ticks = u64::from(jiffies.wrapping_sub(first_jiffies));
            let hertz = ticks * 1_000_000_000 / passed;
            let nearest = [100, 250, 300, 1000]
                .into_iter()
                .min_by_key(|&known: &u64| known.abs_diff(hertz));
            self.tick_ns = nearest.map(|hertz| 1_000_000_000 / hertz);
        }
    }

    /// Nanoseconds of a jiffy, once they are known.
    pub(super) const fn tick_ns(&self) -> Option<u64> {
        self.tick_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_clean_connections_take_little() {
        let clean = Counters {
            bytes_sent: 1 << 40,
            bytes_acked: 2,
            bytes_received: 3,
            segs_out: 4,
            segs_in: 5,
            data_segs_out: 6,
            data_segs_in: 7,
            busy: [8, 9, 10],
            ..Counters::default()
        };
        let kept = Kept::from(clean);
        assert!(matches!(kept, Kept::Clean { .. }));
        assert_eq!(kept.counters(), clean);
        let lossy = Counters { lost: 1, ..clean };
        let kept = Kept::from(lossy);
        assert!(matches!(kept, Kept::Other(_)));
        assert_eq!(kept.counters(), lossy);
        assert!(size_of::<Kept>() <= 56);
    }
}
