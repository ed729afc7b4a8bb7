//! Statistics over the round-trip times of one hop.

use std::collections::VecDeque;

/// Samples that the history keeps: what the widest terminal can show.
pub(crate) const HISTORY: usize = 512;

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// No reply in time.
    Lost,
    /// A reply whose round-trip time could not be told.
    Untimed,
    /// Round-trip time in nanoseconds.
    Rtt(u64),
}

/// Running statistics over probes; all times are in nanoseconds.
///
/// Nothing grows with the number of probes but the history, which is bounded by [`HISTORY`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RttStatistics {
    sent: u64,
    received: u64,
    timed: u64,
    last: Option<u64>,
    best: Option<u64>,
    worst: Option<u64>,
    mean: f64,
    squares: f64,
    jitter: Option<u64>,
    jitter_sum: u64,
    jitter_worst: Option<u64>,
    jitter_smoothed: f64,
    history: VecDeque<Sample>,
}

impl RttStatistics {
    /// Adds one probe.
    pub(crate) fn add(&mut self, sample: Sample) {
        self.sent += 1;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(sample);
        let rtt = match sample {
            Sample::Lost => return,
            Sample::Untimed => {
                self.received += 1;
                return;
            }
            Sample::Rtt(rtt) => rtt,
        };
        self.received += 1;
        self.timed += 1;
        if let Some(last) = self.last.replace(rtt) {
            let difference = rtt.abs_diff(last);
            self.jitter = Some(difference);
            self.jitter_sum = self.jitter_sum.saturating_add(difference);
            self.jitter_worst = self.jitter_worst.max(Some(difference));
            self.jitter_smoothed += (nanos(difference) - self.jitter_smoothed) / 16.0;
        }
        self.best = Some(self.best.map_or(rtt, |best| best.min(rtt)));
        self.worst = self.worst.max(Some(rtt));
        // Welford's update: no cancellation, however long the view runs.
        let delta = nanos(rtt) - self.mean;
        self.mean += delta / nanos(self.timed);
        self.squares += delta * (nanos(rtt) - self.mean);
    }

    /// Probes sent.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Probes answered in time.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Probes not answered in time.
    pub(crate) const fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// Probes not answered, in percent of those sent; zero before the first.
    pub(crate) fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            return 0.0;
        }
        100.0 * nanos(self.lost()) / nanos(self.sent)
    }

    /// Round-trip time of the latest reply.
    pub(crate) const fn last(&self) -> Option<u64> {
        self.last
    }

    /// Least round-trip time.
    pub(crate) const fn best(&self) -> Option<u64> {
        self.best
    }

    /// Greatest round-trip time.
    pub(crate) const fn worst(&self) -> Option<u64> {
        self.worst
    }

    /// Arithmetic mean of the round-trip times.
    pub(crate) fn average(&self) -> Option<u64> {
        (self.timed > 0).then(|| rounded(self.mean))
    }

    /// Sample standard deviation (divisor n - 1, as mtr has it); zero for a single reply.
    pub(crate) fn deviation(&self) -> Option<u64> {
        match self.timed {
            0 => None,
            1 => Some(0),
            n => Some(rounded((self.squares / nanos(n - 1)).sqrt())),
        }
    }

    /// Absolute difference of the two latest round-trip times.
    pub(crate) const fn jitter(&self) -> Option<u64> {
        self.jitter
    }

    /// Mean absolute difference of consecutive round-trip times.
    pub(crate) fn jitter_mean(&self) -> Option<u64> {
        self.jitter.map(|_| self.jitter_sum / (self.timed - 1))
    }

    /// Greatest absolute difference of consecutive round-trip times.
    pub(crate) const fn jitter_worst(&self) -> Option<u64> {
        self.jitter_worst
    }

    /// Interarrival jitter of RFC 3550 §6.4.1, with round-trip instead of transit times: the
    /// absolute differences smoothed with a gain of 1/16.
    pub(crate) fn jitter_smoothed(&self) -> Option<u64> {
        self.jitter.map(|_| rounded(self.jitter_smoothed))
    }

    /// The latest samples, oldest first.
    pub(crate) fn history(&self) -> impl DoubleEndedIterator<Item = Sample> + ExactSizeIterator {
        self.history.iter().copied()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits hold 104 days in nanoseconds"
)]
const fn nanos(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "means and deviations of u64 nanoseconds; the cast saturates"
)]
const fn rounded(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_without_a_time_counts_as_received_and_changes_no_time() {
        let mut s = of([Some(10), Some(20)]);
        s.add(Sample::Untimed);
        assert_eq!((s.sent(), s.received(), s.lost()), (3, 3, 0));
        assert_eq!(s.average(), Some(15));
        assert_eq!(s.jitter_mean(), Some(10));
    }

    fn of(samples: impl IntoIterator<Item = Option<u64>>) -> RttStatistics {
        let mut statistics = RttStatistics::default();
        for sample in samples {
            statistics.add(sample.map_or(Sample::Lost, Sample::Rtt));
        }
        statistics
    }

    #[test]
    fn before_the_first_probe_there_is_nothing_to_say() {
        let none = of([]);
        assert_eq!(none.loss_percent(), 0.0);
        assert_eq!(none.average(), None);
        assert_eq!(none.deviation(), None);
        assert_eq!(none.jitter_mean(), None);
    }

    #[test]
    fn the_figures_are_those_worked_out_by_hand() {
        let s = of([Some(10), Some(20), None, Some(14), Some(40)]);
        assert_eq!((s.sent(), s.received(), s.lost()), (5, 4, 1));
        assert_eq!(s.loss_percent(), 20.0);
        assert_eq!(s.last(), Some(40));
        assert_eq!((s.best(), s.worst()), (Some(10), Some(40)));
        assert_eq!(s.average(), Some(21));
        // Squared distances from 21: 121 + 1 + 49 + 361 = 532; 532 / 3 = 177.33; its root 13.3.
        assert_eq!(s.deviation(), Some(13));
        // Differences, the loss passed over: 10, 6, 26.
        assert_eq!(s.jitter(), Some(26));
        assert_eq!(s.jitter_mean(), Some(14));
        assert_eq!(s.jitter_worst(), Some(26));
        // 10/16 = 0.625; + (6 - 0.625)/16 = 0.961; + (26 - 0.961)/16 = 2.526.
        assert_eq!(s.jitter_smoothed(), Some(3));
    }

    #[test]
    fn one_reply_has_no_jitter_and_no_deviation() {
        let s = of([None, Some(7)]);
        assert_eq!(s.deviation(), Some(0));
        assert_eq!(s.jitter_mean(), None);
        assert_eq!(s.jitter_smoothed(), None);
    }

    #[test]
    fn a_constant_delay_far_from_zero_does_not_deviate() {
        let s = of((0..100_000).map(|_| Some(86_400_000_000_000)));
        assert_eq!(s.deviation(), Some(0));
        assert_eq!(s.average(), Some(86_400_000_000_000));
    }

    #[test]
    fn the_history_keeps_the_latest_samples_only() {
        let s = of((0..2000).map(Some));
        assert_eq!(s.history().len(), HISTORY);
        assert_eq!(s.history().next_back(), Some(Sample::Rtt(1999)));
        assert_eq!(s.history().next(), Some(Sample::Rtt(2000 - 512)));
    }
}
