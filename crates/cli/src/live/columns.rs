//! The columns of the hop table, and which of them fit.

use core::fmt::Write;

use crate::live::model::HopState;

/// A column with a figure for each hop. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Probes lost, in percent.
    Loss,
    /// Probes sent.
    Sent,
    /// Probes answered.
    Received,
    /// Latest round-trip time.
    Last,
    /// Mean round-trip time.
    Average,
    /// Least round-trip time.
    Best,
    /// Greatest round-trip time.
    Worst,
    /// Standard deviation of the round-trip times.
    Deviation,
    /// Difference of the two latest round-trip times.
    Jitter,
    /// Mean absolute difference of consecutive round-trip times.
    JitterMean,
    /// Greatest difference of consecutive round-trip times.
    JitterWorst,
    /// Interarrival jitter of RFC 3550.
    JitterSmoothed,
    /// TTL of the reply as received.
    ReplyTtl,
    /// TTL of the echo reply as received.
    EchoTtl,
    /// TTL of the probe as quoted.
    QuotedTtl,
    /// Forward/return path length asymmetry.
    Frpla,
    /// Return tunnel length.
    Rtla,
    /// U-turn signature.
    Uturn,
    /// Labels of the stack that the probe carried, top first.
    Labels,
    /// Vendors that the fingerprint fits.
    Vendor,
}

/// A choice of columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ColumnSet {
    /// Loss and delay, as mtr shows them.
    #[default]
    Delay,
    /// Loss and the four kinds of jitter.
    Jitter,
    /// What tells of tunnels.
    Tunnels,
}

impl ColumnSet {
    /// The set that the key switches to.
    pub(crate) const fn next(self) -> Self {
        match self {
            Self::Delay => Self::Jitter,
            Self::Jitter => Self::Tunnels,
            Self::Tunnels => Self::Delay,
        }
    }

    /// What the set is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Jitter => "jitter",
            Self::Tunnels => "tunnels",
        }
    }

    /// The columns in order, each with its rank: where space is short, the highest rank goes
    /// first.
    const fn columns(self) -> &'static [(Column, u8)] {
        use Column as C;
        match self {
            Self::Delay => &[
                (C::Loss, 0),
                (C::Sent, 3),
                (C::Last, 1),
                (C::Average, 2),
                (C::Best, 5),
                (C::Worst, 4),
                (C::Deviation, 6),
                (C::JitterMean, 7),
            ],
            Self::Jitter => &[
                (C::Loss, 0),
                (C::Received, 6),
                (C::Last, 3),
                (C::Jitter, 4),
                (C::JitterMean, 1),
                (C::JitterWorst, 2),
                (C::JitterSmoothed, 5),
            ],
            Self::Tunnels => &[
                (C::Loss, 6),
                (C::Last, 7),
                (C::ReplyTtl, 2),
                (C::EchoTtl, 4),
                (C::QuotedTtl, 5),
                (C::Frpla, 1),
                (C::Rtla, 3),
                (C::Uturn, 8),
                (C::Labels, 0),
                (C::Vendor, 9),
            ],
        }
    }

    /// The columns of the set that fit into `width`, in order.
    pub(crate) fn fit(self, width: usize) -> Vec<Column> {
        let mut columns = self.columns().to_vec();
        while columns.iter().map(|(c, _)| c.width() + 1).sum::<usize>() > width {
            let Some(last) = columns.iter().map(|(_, rank)| *rank).max() else {
                break;
            };
            columns.retain(|(_, rank)| *rank != last);
        }
        columns.into_iter().map(|(column, _)| column).collect()
    }
}

impl Column {
    /// Its heading.
    pub(crate) const fn heading(self) -> &'static str {
        match self {
            Self::Loss => "loss%",
            Self::Sent => "sent",
            Self::Received => "recv",
            Self::Last => "last",
            Self::Average => "avg",
            Self::Best => "best",
            Self::Worst => "worst",
            Self::Deviation => "stdev",
            Self::Jitter => "jitter",
            Self::JitterMean => "jmean",
            Self::JitterWorst => "jworst",
            Self::JitterSmoothed => "j3550",
            Self::ReplyTtl => "rttl",
            Self::EchoTtl => "ettl",
            Self::QuotedTtl => "qttl",
            Self::Frpla => "frpla",
            Self::Rtla => "rtla",
            Self::Uturn => "uturn",
            Self::Labels => "labels",
            Self::Vendor => "vendor",
        }
    }

    /// What it says, in a line.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Loss => "probes not answered in time",
            Self::Sent => "probes sent",
            Self::Received => "probes answered in time",
            Self::Last => "latest round-trip time",
            Self::Average => "mean round-trip time",
            Self::Best => "least round-trip time",
            Self::Worst => "greatest round-trip time",
            Self::Deviation => "standard deviation of the round-trip times",
            Self::Jitter => "difference between the two latest round-trip times",
            Self::JitterMean => "mean difference between consecutive round-trip times",
            Self::JitterWorst => "greatest difference between consecutive round-trip times",
            Self::JitterSmoothed => "interarrival jitter (RFC 3550): differences smoothed by 1/16",
            Self::ReplyTtl => "TTL of the reply",
            Self::EchoTtl => "TTL of the echo reply when the hop was pinged",
            Self::QuotedTtl => "TTL that the probe had when it was given up",
            Self::Frpla => "hops that the way back is longer than the way there",
            Self::Rtla => "hops of a tunnel on the way back",
            Self::Uturn => "hops that errors take more than echo replies",
            Self::Labels => "MPLS labels of the probe, top first",
            Self::Vendor => "vendors whose routers have these initial TTLs",
        }
    }

    /// Its width in characters.
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Loss | Self::Sent | Self::Received => 5,
            Self::Last
            | Self::Average
            | Self::Best
            | Self::Worst
            | Self::Deviation
            | Self::Jitter
            | Self::JitterMean
            | Self::JitterWorst
            | Self::JitterSmoothed => 6,
            Self::ReplyTtl | Self::EchoTtl | Self::QuotedTtl | Self::Rtla => 4,
            Self::Frpla | Self::Uturn => 5,
            Self::Labels => 12,
            Self::Vendor => 16,
        }
    }

    /// True if it holds words rather than a figure.
    pub(crate) const fn is_text(self) -> bool {
        matches!(self, Self::Labels | Self::Vendor)
    }

    /// The figure of a hop; empty if there is none.
    pub(crate) fn value(self, hop: &HopState) -> String {
        let s = hop.statistics();
        let time = |nanos: Option<u64>| nanos.map(milliseconds).unwrap_or_default();
        let number = |n: Option<i32>| n.map(|n| n.to_string()).unwrap_or_default();
        let latest = hop.latest();
        let signature = hop.signature();
        match self {
            Self::Loss if s.sent() == 0 => String::new(),
            Self::Loss => percent(s.loss_percent()),
            Self::Sent => s.sent().to_string(),
            Self::Received => s.received().to_string(),
            Self::Last => time(s.last()),
            Self::Average => time(s.average()),
            Self::Best => time(s.best()),
            Self::Worst => time(s.worst()),
            Self::Deviation => time(s.deviation()),
            Self::Jitter => time(s.jitter()),
            Self::JitterMean => time(s.jitter_mean()),
            Self::JitterWorst => time(s.jitter_worst()),
            Self::JitterSmoothed => time(s.jitter_smoothed()),
            Self::ReplyTtl => number(latest.and_then(|hop| hop.reply_ttl).map(i32::from)),
            Self::QuotedTtl => number(latest.and_then(|hop| hop.quoted_ttl).map(i32::from)),
            Self::EchoTtl => number(signature.and_then(|s| s.echo_reply_ttl).map(i32::from)),
            Self::Frpla => number(signature.and_then(|s| s.frpla).map(i32::from)),
            Self::Rtla => number(signature.and_then(|s| s.rtla).map(i32::from)),
            Self::Uturn => number(signature.and_then(|s| s.uturn).map(i32::from)),
            Self::Labels => labels(hop),
            Self::Vendor => signature.map(|s| s.vendor.join("/")).unwrap_or_default(),
        }
    }
}

/// The labels of a hop's latest reply, top first, separated by `/`.
pub(crate) fn labels(hop: &HopState) -> String {
    let mut text = String::new();
    for lse in hop.latest().iter().flat_map(|hop| &hop.mpls) {
        let separator = if text.is_empty() { "" } else { "/" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{}", lse.label);
    }
    text
}

/// A time in milliseconds in at most six characters, with the decimals that fit.
pub(crate) fn milliseconds(nanos: u64) -> String {
    let micros = nanos.saturating_add(500) / 1000;
    let (whole, part) = (micros / 1000, micros % 1000);
    match whole {
        0..10 => format!("{whole}.{part:03}"),
        10..100 => format!("{whole}.{:02}", part / 10),
        100..1000 => format!("{whole}.{}", part / 100),
        _ => whole.to_string(),
    }
}

fn percent(loss: f64) -> String {
    // A single loss among many must not look like none, nor a single reply like none.
    if loss > 0.0 && loss < 0.05 {
        "<0.1".to_owned()
    } else if loss > 99.95 && loss < 100.0 {
        ">99.9".to_owned()
    } else if loss >= 100.0 {
        "100".to_owned()
    } else {
        format!("{loss:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_six_characters() {
        for (nanos, text) in [
            (0, "0.000"),
            (1_499, "0.001"),
            (9_999_600, "10.00"),
            (12_345_678, "12.34"),
            (123_456_789, "123.4"),
            (1_234_567_890, "1234"),
        ] {
            assert_eq!(milliseconds(nanos), text);
        }
    }

    #[test]
    fn rounding_never_hides_a_loss_or_a_reply() {
        assert_eq!(percent(0.0), "0.0");
        assert_eq!(percent(0.001), "<0.1");
        assert_eq!(percent(99.999), ">99.9");
        assert_eq!(percent(100.0), "100");
    }

    #[test]
    fn what_matters_least_goes_first_when_space_is_short() {
        use Column as C;
        assert_eq!(ColumnSet::Delay.fit(200).len(), 8);
        assert_eq!(
            ColumnSet::Delay.fit(27),
            [C::Loss, C::Sent, C::Last, C::Average]
        );
        assert_eq!(ColumnSet::Delay.fit(6), [C::Loss]);
        assert_eq!(ColumnSet::Delay.fit(0), []);
        assert_eq!(ColumnSet::Tunnels.fit(13), [C::Labels]);
    }

    #[test]
    fn the_key_comes_back_to_the_first_set() {
        let first = ColumnSet::default();
        assert_eq!(first.next().next().next(), first);
        assert_ne!(first.next(), first);
    }
}
