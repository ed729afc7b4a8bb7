//! What profiles add up to. Labels have few values, which are all there from the start.

use plumb_record::{DnsProfile, FlowEnd, FlowEvent, FlowOpen, FlowProfile, FlowProtocol};

use super::text::{Histogram, Kind, Page, Scale};

/// Microseconds to seconds, in nanoseconds.
const DELAYS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Shares in millionths.
const RATIOS: &[u64] = &[
    0, 100, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
];
const BYTES: &[u64] = &[
    0,
    100,
    1000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
];

const EVENTS: [(FlowEvent, &str); 9] = [
    (FlowEvent::Established, "established"),
    (FlowEvent::LossyEntered, "lossy-entered"),
    (FlowEvent::LossyLeft, "lossy-left"),
    (FlowEvent::ActiveTimeout, "active-timeout"),
    (FlowEvent::IdleTimeout, "idle-timeout"),
    (FlowEvent::Orphaned, "orphaned"),
    (FlowEvent::Ended, "ended"),
    (FlowEvent::RecorderStopped, "recorder-stopped"),
    (FlowEvent::Evicted, "evicted"),
];
const ENDS: [(FlowEnd, &str); 8] = [
    (FlowEnd::Closed, "closed"),
    (FlowEnd::ResetReceived, "reset-received"),
    (FlowEnd::ResetSent, "reset-sent"),
    (FlowEnd::Refused, "refused"),
    (FlowEnd::TimedOut, "timed-out"),
    (FlowEnd::Unreachable, "unreachable"),
    (FlowEnd::Aborted, "aborted"),
    (FlowEnd::Error, "error"),
];
/// Response codes of name servers (IANA, DNS parameters), then the others, and none.
const RESULTS: [&str; 6] = [
    "noerror",
    "servfail",
    "nxdomain",
    "refused",
    "other",
    "unanswered",
];

/// A sum over the windows of profiles: name, help, and what a profile adds.
type Sum = (&'static str, &'static str, fn(&FlowProfile) -> Option<u64>);

const SUMS: [Sum; 15] = [
    (
        "plumb_flow_sent_bytes_total",
        "Payload sent, retransmissions included.",
        |p| Some(p.bytes_sent),
    ),
    (
        "plumb_flow_received_bytes_total",
        "Payload received in order.",
        |p| Some(p.bytes_received),
    ),
    (
        "plumb_flow_retransmitted_bytes_total",
        "Payload sent again.",
        |p| p.bytes_retransmitted,
    ),
    ("plumb_flow_sent_packets_total", "Segments sent.", |p| {
        p.packets_sent
    }),
    (
        "plumb_flow_received_packets_total",
        "Segments received.",
        |p| p.packets_received,
    ),
    (
        "plumb_flow_retransmitted_packets_total",
        "Segments sent again.",
        |p| p.packets_retransmitted,
    ),
    (
        "plumb_flow_lost_packets_total",
        "Segments that senders took for lost.",
        |p| p.packets_lost,
    ),
    (
        "plumb_flow_syn_retransmissions_total",
        "SYN segments sent again.",
        |p| p.syn_retransmitted.map(u64::from),
    ),
    (
        "plumb_flow_retransmission_timeouts_total",
        "Retransmission timeouts after the handshake.",
        |p| p.rtos.map(u64::from),
    ),
    (
        "plumb_flow_fast_recoveries_total",
        "Episodes of fast recovery.",
        |p| p.fast_recoveries.map(u64::from),
    ),
    (
        "plumb_flow_tail_loss_probes_total",
        "Tail loss probes sent.",
        |p| p.tail_loss_probes.map(u64::from),
    ),
    (
        "plumb_flow_spurious_retransmissions_total",
        "Retransmissions that the remote end reported as superfluous.",
        |p| p.spurious_retransmissions.map(u64::from),
    ),
    (
        "plumb_flow_out_of_order_packets_total",
        "Segments received ahead of a gap.",
        |p| p.out_of_order_packets.map(u64::from),
    ),
    (
        "plumb_flow_duplicate_packets_total",
        "Segments received whose data had been received.",
        |p| p.duplicate_packets_received.map(u64::from),
    ),
    (
        "plumb_flow_ce_marks_total",
        "Segments sent that met congestion.",
        |p| p.ce_marks,
    ),
];

/// The sums and distributions.
#[derive(Clone, Debug)]
pub(super) struct Aggregates {
    events: [u64; EVENTS.len()],
    ends: [u64; ENDS.len()],
    sums: [u64; SUMS.len()],
    rtt: Histogram,
    /// Of active and of passive opens.
    establishment: [Histogram; 2],
    retransmitted: Histogram,
    /// Sent and received.
    bytes: [Histogram; 2],
    lookups: [u64; RESULTS.len()],
    resolution: Histogram,
}

impl Aggregates {
    pub(super) fn new() -> Self {
        let delays = || Histogram::new(Scale::Billionths, DELAYS);
        let bytes = || Histogram::new(Scale::One, BYTES);
        Self {
            events: [0; EVENTS.len()],
            ends: [0; ENDS.len()],
            sums: [0; SUMS.len()],
            rtt: delays(),
            establishment: [delays(), delays()],
            retransmitted: Histogram::new(Scale::Millionths, RATIOS),
            bytes: [bytes(), bytes()],
            lookups: [0; RESULTS.len()],
            resolution: delays(),
        }
    }

    /// A window is over.
    pub(super) fn handle_profile(&mut self, profile: &FlowProfile) {
        count(&mut self.events, &EVENTS, profile.event);
        if profile.protocol == FlowProtocol::Mptcp {
            // Its paths are counted.
            return;
        }
        if let Some(end) = profile.end_reason {
            count(&mut self.ends, &ENDS, end);
        }
        for (sum, (_, _, of)) in self.sums.iter_mut().zip(&SUMS) {
            *sum = sum.saturating_add(of(profile).unwrap_or(0));
        }
        if let Some(ns) = profile.establishment_ns {
            let [active, passive] = &mut self.establishment;
            match profile.open {
                Some(FlowOpen::Active) => active.observe(ns),
                Some(FlowOpen::Passive) => passive.observe(ns),
                None => {}
            }
        }
        let rtt = profile.rtt_ns;
        if let Some(ns) = rtt.filter(|_| profile.event != FlowEvent::Established) {
            self.rtt.observe(ns);
        }
    }

    /// A connection is over, of which this is the whole.
    pub(super) fn handle_end(&mut self, total: &FlowProfile) {
        if total.protocol == FlowProtocol::Mptcp {
            return;
        }
        let [sent, received] = &mut self.bytes;
        sent.observe(total.bytes_sent);
        received.observe(total.bytes_received);
        let again = total.packets_retransmitted.unwrap_or(0);
        let with_data = total.data_packets_sent.unwrap_or(0);
        let millionths = again.saturating_mul(1_000_000).checked_div(with_data);
        if let Some(millionths) = millionths {
            self.retransmitted.observe(millionths);
        }
    }

    /// A name was looked up.
    pub(super) fn handle_lookup(&mut self, lookup: &DnsProfile) {
        let place = match (lookup.resolution_ns, lookup.response_code) {
            (None, _) => 5,
            (Some(_), Some(0)) => 0,
            (Some(_), Some(2)) => 1,
            (Some(_), Some(3)) => 2,
            (Some(_), Some(5)) => 3,
            (Some(_), _) => 4,
        };
        if let Some(count) = self.lookups.get_mut(place) {
            *count += 1;
        }
        if let Some(ns) = lookup.resolution_ns {
            self.resolution.observe(ns);
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.family(
            "plumb_flow_profiles_total",
            Kind::Counter,
            "Profiles made, by the event that ended the window.",
        );
        for ((_, event), count) in EVENTS.iter().zip(self.events) {
            page.sample(&[("event", event)], count);
        }
        page.family(
            "plumb_flow_connection_ends_total",
            Kind::Counter,
            "Connections that ended, by the way they did.",
        );
        for ((_, reason), count) in ENDS.iter().zip(self.ends) {
            page.sample(&[("reason", reason)], count);
        }
        for ((name, help, _), sum) in SUMS.iter().zip(self.sums) {
            page.single(name, Kind::Counter, help, sum);
        }
        page.family(
            "plumb_flow_rtt_seconds",
            Kind::Histogram,
            "Smoothed round-trip time at the end of each window but that of the handshake.",
        );
        self.rtt.write(page, &[]);
        page.family(
            "plumb_flow_establishment_seconds",
            Kind::Histogram,
            "Time of the handshake, by the end that opened: active is this host.",
        );
        for (open, histogram) in ["active", "passive"].iter().zip(&self.establishment) {
            histogram.write(page, &[("open", open)]);
        }
        page.family(
            "plumb_flow_retransmission_ratio",
            Kind::Histogram,
            "Segments sent again of those with data, of each connection that ended and sent any.",
        );
        self.retransmitted.write(page, &[]);
        page.family(
            "plumb_flow_connection_bytes",
            Kind::Histogram,
            "Payload of each connection that ended.",
        );
        for (direction, histogram) in ["sent", "received"].iter().zip(&self.bytes) {
            histogram.write(page, &[("direction", direction)]);
        }
    }

    /// What is there only where lookups are watched.
    pub(super) fn write_lookups(&self, page: &mut Page) {
        page.family(
            "plumb_flow_dns_lookups_total",
            Kind::Counter,
            "Name lookups that ended, by what the answer said.",
        );
        for (result, count) in RESULTS.iter().zip(self.lookups) {
            page.sample(&[("result", result)], count);
        }
        page.family(
            "plumb_flow_dns_resolution_seconds",
            Kind::Histogram,
            "Time from the first question to its answer.",
        );
        self.resolution.write(page, &[]);
    }
}

fn count<T: PartialEq, const N: usize>(counts: &mut [u64; N], names: &[(T, &str); N], what: T) {
    let place = names.iter().position(|(name, _)| *name == what);
    if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(event: FlowEvent) -> FlowProfile {
        let socket = |text: &str| text.parse().unwrap();
        let mut profile = FlowProfile::new(
            1,
            FlowProtocol::Tcp,
            socket("192.0.2.1:1000"),
            socket("192.0.2.2:443"),
        );
        profile.event = event;
        profile
    }

    fn page(aggregates: &Aggregates) -> String {
        let mut page = Page::default();
        aggregates.write(&mut page);
        aggregates.write_lookups(&mut page);
        page.finish()
    }

    #[track_caller]
    fn has(page: &str, line: &str) {
        assert!(page.lines().any(|l| l == line), "no '{line}' in:\n{page}");
    }

    #[test]
    fn a_connection_is_counted_once_where_it_belongs() {
        let mut aggregates = Aggregates::new();
        let mut established = profile(FlowEvent::Established);
        established.open = Some(FlowOpen::Active);
        established.establishment_ns = Some(20_000_000);
        established.rtt_ns = Some(20_000_000);
        established.syn_retransmitted = Some(1);
        aggregates.handle_profile(&established);
        let mut ended = profile(FlowEvent::Ended);
        ended.end_reason = Some(FlowEnd::ResetReceived);
        ended.rtt_ns = Some(30_000_000);
        (ended.bytes_sent, ended.bytes_received) = (1000, 5);
        (ended.packets_retransmitted, ended.data_packets_sent) = (Some(1), Some(100));
        aggregates.handle_profile(&ended);
        aggregates.handle_end(&ended);
        let page = page(&aggregates);
        for line in [
            "plumb_flow_profiles_total{event=\"established\"} 1",
            "plumb_flow_profiles_total{event=\"idle-timeout\"} 0",
            "plumb_flow_connection_ends_total{reason=\"reset-received\"} 1",
            "plumb_flow_sent_bytes_total 1000",
            "plumb_flow_syn_retransmissions_total 1",
            "plumb_flow_rtt_seconds_count 1",
            "plumb_flow_rtt_seconds_sum 0.03",
            "plumb_flow_establishment_seconds_bucket{open=\"active\",le=\"0.01\"} 0",
            "plumb_flow_establishment_seconds_bucket{open=\"active\",le=\"0.025\"} 1",
            "plumb_flow_establishment_seconds_count{open=\"passive\"} 0",
            "plumb_flow_retransmission_ratio_bucket{le=\"0.005\"} 0",
            "plumb_flow_retransmission_ratio_bucket{le=\"0.01\"} 1",
            "plumb_flow_connection_bytes_bucket{direction=\"sent\",le=\"1000\"} 1",
            "plumb_flow_connection_bytes_bucket{direction=\"sent\",le=\"100\"} 0",
        ] {
            has(&page, line);
        }
    }

    #[test]
    fn the_whole_of_a_multipath_connection_does_not_count_its_paths_again() {
        let mut aggregates = Aggregates::new();
        let mut whole = profile(FlowEvent::Ended);
        whole.protocol = FlowProtocol::Mptcp;
        whole.bytes_sent = 77;
        whole.end_reason = Some(FlowEnd::Closed);
        aggregates.handle_profile(&whole);
        aggregates.handle_end(&whole);
        let page = page(&aggregates);
        has(&page, "plumb_flow_sent_bytes_total 0");
        has(
            &page,
            "plumb_flow_connection_ends_total{reason=\"closed\"} 0",
        );
        has(&page, "plumb_flow_profiles_total{event=\"ended\"} 1");
    }

    #[test]
    fn what_happens_adds_no_series() {
        let series = |page: &str| -> Vec<String> {
            let samples = page.lines().filter(|line| !line.starts_with('#'));
            let names = samples.filter_map(|line| line.rsplit_once(' '));
            names.map(|(name, _)| name.to_owned()).collect()
        };
        let mut aggregates = Aggregates::new();
        let before = series(&page(&aggregates));
        for (event, _) in EVENTS {
            let mut profile = profile(event);
            profile.rtt_ns = Some(u64::MAX);
            profile.establishment_ns = Some(0);
            profile.bytes_sent = u64::MAX;
            aggregates.handle_profile(&profile);
            aggregates.handle_end(&profile);
        }
        assert_eq!(series(&page(&aggregates)), before);
    }
}
