//! The connections that are there, and those that have just ended. Pure: looks and ends in, rows
//! out.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use plumb_record::{FlowPhase, FlowProfile, FlowProtocol};
use plumb_wire::Instant;

use super::field::Field;

/// How long a connection is shown after its end.
const KEPT: Duration = Duration::from_secs(10);
/// Ended connections that are shown at most.
const MOST_ENDED: usize = 1000;
/// Connections that are shown at most. Others are counted.
const MOST: usize = 20_000;
/// At its end a connection has the rate of this time at least: one of microseconds would have any.
const LEAST: Duration = Duration::from_secs(1);
/// Two looks that are closer tell no rate.
const SOON: Duration = Duration::from_millis(50);

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Which connection: a process that reports its own numbers them itself, and the kernel is none.
pub(super) type Id = (u32, u64);

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    profile: FlowProfile,
    since: Instant,
    /// When its rates were told, and the bytes sent and received until then.
    told: (Instant, [u64; 2]),
    look: u64,
    rates: Option<Rates>,
    ended: Option<Instant>,
}

impl Connection {
    /// What was counted since its beginning, and how it stands.
    pub(super) const fn profile(&self) -> &FlowProfile {
        &self.profile
    }

    pub(super) const fn rates(&self) -> Option<Rates> {
        self.rates
    }

    /// Time since its beginning, or since it was first seen; of one that ended until then.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.ended.unwrap_or(now).since(self.since)
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// State in a word.
    pub(super) fn state(&self) -> &'static str {
        use plumb_record::FlowEnd as End;
        match (self.ended, self.profile.end_reason) {
            (Some(_), Some(End::Closed)) => "closed",
            (Some(_), Some(End::ResetReceived)) => "reset by peer",
            (Some(_), Some(End::ResetSent)) => "reset sent",
            (Some(_), Some(End::Refused)) => "refused",
            (Some(_), Some(End::TimedOut)) => "timed out",
            (Some(_), Some(End::Unreachable)) => "unreachable",
            (Some(_), Some(End::Aborted)) => "given up",
            (Some(_), Some(End::Error)) => "error",
            (Some(_), None) => "ended",
            (None, _) => match self.profile.phase {
                FlowPhase::Establishing => "opening",
                FlowPhase::Open => "open",
                FlowPhase::Lossy => "lossy",
            },
        }
    }

    /// All that a filter looks at, in lower case.
    fn words(&self) -> String {
        let profile = &self.profile;
        let owner = (profile.process.as_deref(), profile.cgroup.as_deref());
        format!(
            "{}/{} {}:{} {}:{} {} {}",
            owner.0.unwrap_or_default(),
            profile.pid.unwrap_or_default(),
            profile.local_addr,
            profile.local_port,
            profile.remote_addr,
            profile.remote_port,
            self.state(),
            owner.1.unwrap_or_default(),
        )
        .to_lowercase()
    }
}

/// All connections that are shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    connections: BTreeMap<Id, Connection>,
    ended: VecDeque<Id>,
    look: u64,
    /// Connections of the last look that there was no room for.
    hidden: u64,
}

impl Model {
    /// A look begins.
    pub(super) fn begin_look(&mut self) {
        self.look += 1;
        self.hidden = 0;
    }

    /// A connection as it stands, with what was counted since its beginning.
    pub(super) fn handle_look(&mut self, total: FlowProfile, now: Instant) {
        self.put(total, now, false);
    }

    /// A look is over: what it did not show is not there any more.
    pub(super) fn end_look(&mut self, now: Instant) {
        let look = self.look;
        self.connections.retain(|(reporter, _), connection| {
            *reporter != 0 || connection.ended.is_some() || connection.look >= look
        });
        self.forget(now);
    }

    /// A connection has ended, with what was counted since its beginning.
    pub(super) fn handle_end(&mut self, total: FlowProfile, now: Instant) {
        self.put(total, now, true);
    }

    /// A connection was established, after so long.
    pub(super) fn handle_established(&mut self, total: FlowProfile, now: Instant) {
        self.put(total, now, false);
    }

    /// A process reported a window of a connection of its own.
    pub(super) fn handle_report(&mut self, mut window: FlowProfile, now: Instant) {
        let ended = window.end_reason.is_some();
        if let Some(known) = self.connections.get(&id(&window)) {
            add(&mut window, &known.profile);
        }
        self.put(window, now, ended);
    }

    fn put(&mut self, mut total: FlowProfile, now: Instant, ended: bool) {
        let id = id(&total);
        let known = self.connections.get(&id);
        if known.is_some_and(|known| known.ended.is_some()) {
            return;
        }
        if known.is_none() && self.connections.len() >= MOST {
            let Some(oldest) = self.ended.pop_front() else {
                self.hidden += 1;
                return;
            };
            self.connections.remove(&oldest);
        }
        let known = self.connections.get(&id);
        let began = now
            .since(Instant::ZERO)
            .saturating_sub(Duration::from_nanos(
                total.end.0.saturating_sub(total.start.0),
            ));
        let since = known.map_or(Instant::ZERO + began, |known| known.since);
        let mut rates = known.and_then(|known| known.rates);
        let bytes = [total.bytes_sent, total.bytes_received];
        let mut told = (now, bytes);
        if let Some(known) = known {
            // What only the handshake tells.
            let before = &known.profile;
            total.establishment_ns = total.establishment_ns.or(before.establishment_ns);
            total.syn_retransmitted = total.syn_retransmitted.or(before.syn_retransmitted);
            total.syn_ack_retransmitted =
                total.syn_ack_retransmitted.or(before.syn_ack_retransmitted);
            total.cgroup = total.cgroup.or_else(|| before.cgroup.clone());
            let passed = now.since(known.told.0);
            if ended {
                rates = Some(rates_between(known.told.1, bytes, passed.max(LEAST)));
            } else if passed >= SOON {
                rates = Some(rates_between(known.told.1, bytes, passed));
            } else {
                told = known.told;
            }
        } else if ended {
            rates = Some(rates_between([0; 2], bytes, LEAST));
        }
        let connection = Connection {
            profile: total,
            since,
            told,
            look: self.look,
            rates,
            ended: ended.then_some(now),
        };
        self.connections.insert(id, connection);
        if ended {
            self.ended.push_back(id);
            self.forget(now);
        }
    }

    /// Ended connections that have been shown for long enough go.
    fn forget(&mut self, now: Instant) {
        while let Some(id) = self.ended.front() {
            let connection = self.connections.get(id);
            let at = connection.and_then(|connection| connection.ended);
            let fresh = at.is_some_and(|at| now.since(at) < KEPT);
            if fresh && self.ended.len() <= MOST_ENDED {
                break;
            }
            self.connections.remove(id);
            self.ended.pop_front();
        }
    }

    /// Connections that are alive, and ended ones that are shown.
    pub(super) fn counts(&self) -> (u64, u64) {
        let ended = self.ended.len() as u64;
        let all = self.connections.len() as u64 + self.hidden;
        (all.saturating_sub(ended), ended)
    }

    /// Connections that there is no room for.
    pub(super) const fn hidden(&self) -> u64 {
        self.hidden
    }

    pub(super) fn get(&self, id: Id) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// Those whose words contain `filter`, in order.
    pub(super) fn rows(
        &self,
        sort: Field,
        reverse: bool,
        filter: &str,
        now: Instant,
    ) -> Vec<(Id, &Connection)> {
        let filter = filter.to_lowercase();
        let wanted = self
            .connections
            .iter()
            .filter(|(_, connection)| filter.is_empty() || connection.words().contains(&filter));
        let mut rows: Vec<_> = wanted
            .map(|(id, connection)| (sort.key(connection, now), *id, connection))
            .collect();
        rows.sort_by(|a, b| a.0.order(&b.0, reverse).then(a.1.cmp(&b.1)));
        let rows = rows.into_iter();
        rows.map(|(_, id, connection)| (id, connection)).collect()
    }
}

fn id(profile: &FlowProfile) -> Id {
    let reporter = match profile.protocol {
        // No process has the number 0.
        FlowProtocol::Quic => profile.pid.unwrap_or(u32::MAX),
        FlowProtocol::Tcp | FlowProtocol::MptcpSubflow | FlowProtocol::Mptcp => 0,
    };
    (reporter, profile.flow_id)
}

fn rates_between(before: [u64; 2], after: [u64; 2], passed: Duration) -> Rates {
    let nanos = passed.max(SOON).as_nanos();
    let rate = |before: u64, after: u64| {
        let bytes = u128::from(after.saturating_sub(before));
        let rate = bytes.saturating_mul(1_000_000_000) / nanos;
        u64::try_from(rate).unwrap_or(u64::MAX)
    };
    Rates {
        sent: rate(before[0], after[0]),
        received: rate(before[1], after[1]),
    }
}

/// Adds what was counted before to a window, which makes it the total.
fn add(window: &mut FlowProfile, before: &FlowProfile) {
    window.bytes_sent = window.bytes_sent.saturating_add(before.bytes_sent);
    window.bytes_received = window.bytes_received.saturating_add(before.bytes_received);
    for (sum, before) in [
        (&mut window.bytes_acked, before.bytes_acked),
        (&mut window.bytes_retransmitted, before.bytes_retransmitted),
        (&mut window.packets_sent, before.packets_sent),
        (&mut window.packets_received, before.packets_received),
        (&mut window.data_packets_sent, before.data_packets_sent),
        (
            &mut window.data_packets_received,
            before.data_packets_received,
        ),
        (
            &mut window.packets_retransmitted,
            before.packets_retransmitted,
        ),
        (&mut window.packets_lost, before.packets_lost),
        (&mut window.ce_marks, before.ce_marks),
    ] {
        *sum = match (*sum, before) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests {
    use plumb_record::FlowEnd;

    use super::*;
    use crate::command::flow::live::testing::profile;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000_000 + seconds * 1000)
    }

    fn sent(id: u64, bytes: u64) -> FlowProfile {
        let mut profile = profile(id);
        profile.bytes_sent = bytes;
        profile
    }

    fn look(model: &mut Model, profiles: &[FlowProfile], now: Instant) {
        model.begin_look();
        for profile in profiles {
            model.handle_look(profile.clone(), now);
        }
        model.end_look(now);
    }

    fn shown(model: &Model, sort: Field, now: Instant) -> Vec<u64> {
        let rows = model.rows(sort, false, "", now);
        rows.iter().map(|(id, _)| id.1).collect()
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let mut model = Model::default();
        look(&mut model, &[sent(1, 1000), sent(2, 9000)], at(0));
        assert_eq!(model.get((0, 1)).unwrap().rates(), None);
        look(&mut model, &[sent(1, 5000), sent(2, 9000)], at(2));
        let rates = |id| model.get((0, id)).unwrap().rates().unwrap().sent;
        assert_eq!((rates(1), rates(2)), (2000, 0));
        assert_eq!(shown(&model, Field::Rate, at(2)), [1, 2]);
        assert_eq!(
            shown(&model, Field::named("bytes_sent").unwrap(), at(2)),
            [2, 1]
        );
    }

    #[test]
    fn what_ended_stays_for_a_while_and_what_is_gone_does_not() {
        let mut model = Model::default();
        look(&mut model, &[sent(1, 1), sent(2, 1), sent(3, 1)], at(0));
        let mut end = sent(1, 10);
        end.end_reason = Some(FlowEnd::Closed);
        model.handle_end(end, at(1));
        // The third is not seen any more, and nobody knows how it ended.
        look(&mut model, &[sent(2, 1)], at(2));
        assert_eq!(model.counts(), (1, 1));
        assert_eq!(model.get((0, 1)).unwrap().state(), "closed");
        assert_eq!(model.get((0, 1)).unwrap().profile().bytes_sent, 10);
        look(&mut model, &[sent(2, 1)], at(12));
        assert_eq!(model.counts(), (1, 0));
        assert_eq!(shown(&model, Field::Age, at(12)), [2]);
    }

    #[test]
    fn what_only_the_handshake_tells_is_not_forgotten() {
        let mut model = Model::default();
        let mut established = sent(1, 0);
        established.establishment_ns = Some(7);
        model.handle_established(established, at(0));
        look(&mut model, &[sent(1, 5)], at(1));
        let connection = model.get((0, 1)).unwrap();
        assert_eq!(connection.profile().establishment_ns, Some(7));
    }

    #[test]
    fn reports_of_a_process_are_summed_and_outlive_looks() {
        let mut model = Model::default();
        let mut report = sent(1, 100);
        report.protocol = FlowProtocol::Quic;
        report.pid = Some(9);
        report.packets_lost = Some(2);
        model.handle_report(report.clone(), at(0));
        look(&mut model, &[sent(1, 1)], at(1));
        report.end_reason = Some(FlowEnd::Closed);
        model.handle_report(report, at(2));
        let connection = model.get((9, 1)).unwrap();
        assert_eq!(connection.profile().bytes_sent, 200);
        assert_eq!(connection.profile().packets_lost, Some(4));
        assert_eq!(model.counts(), (1, 1));
    }

    #[test]
    fn what_is_shown_is_bounded_and_the_rest_counted() {
        let mut model = Model::default();
        for n in 0..5000 {
            let mut end = sent(n, 1);
            end.end_reason = Some(FlowEnd::Closed);
            model.handle_end(end, at(0));
        }
        assert_eq!(model.counts(), (0, MOST_ENDED as u64));
        let many: Vec<_> = (0..25_000).map(|n| sent(10_000 + n, 1)).collect();
        look(&mut model, &many, at(1));
        // Those that ended make room.
        assert_eq!((model.counts(), model.hidden()), ((25_000, 0), 5000));
        assert_eq!(model.connections.len(), MOST);
        look(&mut model, &many[..3], at(2));
        assert_eq!((model.counts(), model.hidden()), ((3, 0), 0));
    }

    #[test]
    fn a_filter_looks_at_process_addresses_state_and_group() {
        let mut model = Model::default();
        let mut nginx = sent(1, 1);
        (nginx.process, nginx.pid) = (Some("Nginx".into()), Some(42));
        nginx.cgroup = Some("/system.slice/web".into());
        look(&mut model, &[nginx, sent(2, 1)], at(0));
        for (filter, count) in [
            ("nginx", 1),
            ("NGINX/42", 1),
            ("192.0.2.2:443", 2),
            ("open", 2),
            ("system.slice", 1),
            ("no such", 0),
            ("", 2),
        ] {
            let rows = model.rows(Field::Rate, false, filter, at(0));
            assert_eq!(rows.len(), count, "{filter}");
        }
    }
}
