//! What is watched for each segment, where that was asked for: `struct flow_segments` of `event.h`,
//! and what it makes of a profile.

use plumb_record::{FlowMptcp, FlowProfile};

use super::Live;
use super::event::Cursor;

/// Totals since the connection was established, but for extremes, which are those of the window that
/// the event ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    rtt_sum_us: u64,
    distance_sum: u64,
    distance_squares: u128,
    rtt_count: u32,
    rtt_min_us: u32,
    rtt_max_us: u32,
    distance_count: u32,
    distance_max: u32,
    zero_windows: u32,
    stalls: u32,
}

impl Segments {
    /// Bytes that it takes.
    pub(super) const LEN: usize = 64;

    /// Reads it; `None` if these bytes are none, or the connection is not watched so.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut read = Cursor(bytes);
        let (rtt_sum_us, distance_sum) = (read.u64()?, read.u64()?);
        let (low, high) = (u128::from(read.u64()?), u128::from(read.u64()?));
        let [rtt_count, rtt_min_us, rtt_max_us] = read.words()?;
        let [distance_count, distance_max] = read.words()?;
        let [zero_windows, stalls, known] = read.words()?;
        (known != 0).then_some(Self {
            rtt_sum_us,
            distance_sum,
            distance_squares: low + (high << 32),
            rtt_count,
            rtt_min_us,
            rtt_max_us,
            distance_count,
            distance_max,
            zero_windows,
            stalls,
        })
    }

    /// What came since an earlier look, extremes as they are. A pass over the connections may have
    /// looked in the middle of a change.
    fn since(&self, earlier: &Self) -> Self {
        let narrow =
            |now: u32, then: u32| now.wrapping_sub(then).cast_signed().max(0).cast_unsigned();
        Self {
            rtt_sum_us: self.rtt_sum_us.saturating_sub(earlier.rtt_sum_us),
            distance_sum: self.distance_sum.saturating_sub(earlier.distance_sum),
            distance_squares: self
                .distance_squares
                .saturating_sub(earlier.distance_squares),
            rtt_count: narrow(self.rtt_count, earlier.rtt_count),
            rtt_min_us: self.rtt_min_us,
            rtt_max_us: self.rtt_max_us,
            distance_count: narrow(self.distance_count, earlier.distance_count),
            distance_max: self.distance_max,
            zero_windows: narrow(self.zero_windows, earlier.zero_windows),
            stalls: narrow(self.stalls, earlier.stalls),
        }
    }

    /// Fills in a profile, after an earlier one's figures; extremes only of a window that has ended.
    pub(super) fn fill(&self, profile: &mut FlowProfile, earlier: &Self, has_extremes: bool) {
        const US: u64 = 1000;
        let delta = self.since(earlier);
        profile.rtt_samples = Some(delta.rtt_count.into());
        profile.zero_windows = Some(delta.zero_windows);
        let known = |extreme: u32| (has_extremes && extreme != 0).then_some(u64::from(extreme));
        if delta.rtt_count != 0 {
            let (min, max) = (known(delta.rtt_min_us), known(delta.rtt_max_us));
            let mean = delta.rtt_sum_us * US / u64::from(delta.rtt_count);
            profile.rtt_sample_min_ns = min.map(|us| us * US);
            profile.rtt_sample_max_ns = max.map(|us| us * US);
            profile.rtt_sample_mean_ns =
                Some(within(mean, min.map(|us| us * US), max.map(|us| us * US)));
        }
        if let Some(distance) = delta.distance() {
            let max = known(delta.distance_max);
            profile.out_of_order_distance_max_bytes = max;
            profile.out_of_order_distance_mean_bytes = Some(within(distance.0, None, max));
            profile.out_of_order_distance_stddev_bytes = Some(distance.1);
        }
    }

    /// Fills in what a multipath connection has.
    pub(super) fn fill_multipath(&self, mptcp: &mut FlowMptcp, earlier: &Self) {
        mptcp.head_of_line_stalls = Some(self.since(earlier).stalls);
    }

    /// Mean and standard deviation, of all and not of a sample of them; `None` if there is none.
    fn distance(&self) -> Option<(u64, u64)> {
        let count = u128::from(self.distance_count);
        let sum = u128::from(self.distance_sum);
        let mean = sum.checked_div(count)?;
        // n^2 times the variance, which is less than 2^(2 * 32 + 2 * 32).
        let variance =
            (count.saturating_mul(self.distance_squares)).saturating_sub(sum.saturating_mul(sum));
        let deviation = variance.isqrt() / count;
        Some((
            u64::try_from(mean).unwrap_or(u64::MAX),
            u64::try_from(deviation).unwrap_or(u64::MAX),
        ))
    }
}

/// What of them is known where these programs run.
pub(super) fn fill(
    live: Live,
    segments: Option<&Segments>,
    earlier: Option<&Segments>,
    profile: &mut FlowProfile,
    has_extremes: bool,
) {
    let Some(segments) = segments else {
        return;
    };
    let earlier = earlier.copied().unwrap_or_default();
    if let Some(mptcp) = &mut profile.mptcp
        && mptcp.path_index.is_none()
    {
        if live.stalls {
            segments.fill_multipath(mptcp, &earlier);
        }
    } else if live.segments {
        segments.fill(profile, &earlier, has_extremes);
    }
}

/// A value no less than the one and no greater than the other: they may have been read at different
/// times.
fn within(value: u64, min: Option<u64>, max: Option<u64>) -> u64 {
    value.max(min.unwrap_or(0)).min(max.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, SocketAddr};

    use plumb_record::FlowProtocol;

    use super::*;
    use crate::flow::event::Event;

    fn profile() -> FlowProfile {
        let end = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        FlowProfile::new(1, FlowProtocol::Tcp, end, end)
    }

    /// These distances, after others.
    fn ahead(distances: &[u64]) -> Segments {
        let mut all = Segments::default();
        for &distance in distances {
            all.distance_count += 1;
            all.distance_sum += distance;
            all.distance_squares += u128::from(distance).pow(2);
            all.distance_max = all.distance_max.max(u32::try_from(distance).unwrap());
        }
        all
    }

    #[test]
    fn every_member_is_read_from_where_the_header_has_it() {
        let header = include_str!("event.h");
        let body = header.split_once("struct flow_segments {").unwrap().1;
        let body = body.split_once("};").unwrap().0;
        let (mut offset, mut offsets) = (Event::LEN, Vec::new());
        for line in body.lines() {
            let line = line.trim();
            let size = match line.split(' ').next() {
                Some("__u64") => 8,
                Some("__u32") => 4,
                _ => continue,
            };
            let name = line.split([' ', ';']).nth(1).unwrap();
            offsets.push((name, offset));
            offset += size;
        }
        assert_eq!(offset, Event::WIDE_LEN);
        let put = |members: &[&str]| {
            let mut bytes = vec![0; Event::WIDE_LEN];
            // Nothing but its kind is needed to read the event.
            bytes[270] = 4;
            for member in members {
                let found = offsets.iter().find(|(name, _)| name == member);
                bytes[found.unwrap().1] = 7;
            }
            Event::parse(&bytes).unwrap().segments
        };
        assert_eq!(put(&["rtt_count"]), None);
        let with = |member| *put(&["known", member]).unwrap();
        assert_eq!(with("rtt_sum_us").rtt_sum_us, 7);
        assert_eq!(with("distance_sum").distance_sum, 7);
        assert_eq!(with("distance_squares_low").distance_squares, 7);
        assert_eq!(with("distance_squares_high").distance_squares, 7 << 32);
        assert_eq!(with("rtt_count").rtt_count, 7);
        assert_eq!(with("rtt_min_us").rtt_min_us, 7);
        assert_eq!(with("rtt_max_us").rtt_max_us, 7);
        assert_eq!(with("distance_count").distance_count, 7);
        assert_eq!(with("distance_max").distance_max, 7);
        assert_eq!(with("zero_windows").zero_windows, 7);
        assert_eq!(with("stalls").stalls, 7);
    }

    #[test]
    fn a_profile_has_what_came_since_the_one_before() {
        let before = Segments {
            rtt_sum_us: 1000,
            rtt_count: 10,
            zero_windows: 3,
            ..ahead(&[1448, 9000])
        };
        let mut now = Segments {
            rtt_sum_us: 1600,
            rtt_count: 12,
            rtt_min_us: 250,
            rtt_max_us: 350,
            zero_windows: 5,
            ..ahead(&[1448, 9000, 1448, 2896, 4344])
        };
        now.distance_max = 4344;
        let mut profile = profile();
        fill(Live::ALL, Some(&now), Some(&before), &mut profile, true);
        assert_eq!(profile.rtt_samples, Some(2));
        assert_eq!(profile.rtt_sample_min_ns, Some(250_000));
        assert_eq!(profile.rtt_sample_mean_ns, Some(300_000));
        assert_eq!(profile.rtt_sample_max_ns, Some(350_000));
        assert_eq!(profile.zero_windows, Some(2));
        assert_eq!(profile.out_of_order_distance_mean_bytes, Some(2896));
        // 1448 times the root of two thirds.
        assert_eq!(profile.out_of_order_distance_stddev_bytes, Some(1182));
        assert_eq!(profile.out_of_order_distance_max_bytes, Some(4344));
    }

    #[test]
    fn where_there_was_none_or_nobody_watches_nothing_is_said_of_it() {
        let mut nothing = profile();
        let none = Segments::default();
        fill(Live::ALL, Some(&none), None, &mut nothing, true);
        assert_eq!(
            (nothing.rtt_samples, nothing.zero_windows),
            (Some(0), Some(0))
        );
        assert_eq!(nothing.rtt_sample_mean_ns, None);
        assert_eq!(nothing.out_of_order_distance_max_bytes, None);

        let mut unwatched = profile();
        let off = Live {
            segments: false,
            stalls: false,
            ..Live::ALL
        };
        fill(off, Some(&ahead(&[1])), None, &mut unwatched, true);
        fill(Live::ALL, None, None, &mut unwatched, true);
        assert_eq!(unwatched, profile());
    }

    #[test]
    fn stalls_are_those_of_the_connection_and_not_of_its_paths() {
        let stalled = Segments {
            stalls: 4,
            ..Segments::default()
        };
        for (path_index, stalls) in [(None, Some(4)), (Some(0), None)] {
            let mut profile = profile();
            profile.mptcp = Some(FlowMptcp {
                path_index,
                ..FlowMptcp::default()
            });
            fill(Live::ALL, Some(&stalled), None, &mut profile, true);
            assert_eq!(profile.mptcp.unwrap().head_of_line_stalls, stalls);
            assert_eq!(profile.rtt_samples.is_some(), path_index.is_some());
        }
    }

    #[test]
    fn a_mean_stays_between_extremes_that_were_read_at_another_time() {
        let torn = Segments {
            rtt_sum_us: 900,
            rtt_count: 1,
            rtt_min_us: 200,
            rtt_max_us: 300,
            ..Segments::default()
        };
        let mut profile = profile();
        fill(Live::ALL, Some(&torn), None, &mut profile, true);
        assert_eq!(profile.rtt_sample_mean_ns, Some(300_000));
        // Of all the connection's life: extremes would be those of the open window.
        fill(Live::ALL, Some(&torn), None, &mut profile, false);
        assert_eq!(profile.rtt_sample_mean_ns, Some(900_000));
        assert_eq!(profile.rtt_sample_max_ns, None);
    }

    #[test]
    fn no_distance_that_a_window_allows_overflows() {
        let all = Segments {
            distance_count: u32::MAX,
            distance_sum: (1 << 30) * u64::from(u32::MAX),
            distance_squares: (1 << 60) * u128::from(u32::MAX),
            ..Segments::default()
        };
        assert_eq!(all.distance(), Some((1 << 30, 0)));
    }
}
