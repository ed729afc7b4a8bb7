//! From events to performance profiles: which window an event ends, and what happened in it.
//!
//! The machine of Flowcorder: New, then Established, which loops where a lossy phase begins and
//! ends, then an end. The kernel tells totals; a profile has the difference to the event before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use plumb_record::{
    FlowEnd, FlowEvent, FlowMptcp, FlowOpen, FlowPhase, FlowProfile, FlowProtocol, FlowState,
    WallTime,
};

use super::close;
use super::counters::{Counters, HertzMeter, Kept};
use super::event::{Event, EventKind, flag, state};
use super::segments::{self, Segments};

/// Which programs run, and so which figures are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Timeouts and fast recoveries are seen (`tcp_cong_state_set`).
    pub congestion: bool,
    /// Tail loss probes are seen (`tcp_retransmit_skb`).
    pub tail_loss_probes: bool,
    /// Received resets are seen (`tcp_receive_reset`).
    pub resets_received: bool,
    /// Sent resets are seen (`tcp_send_reset`).
    pub resets_sent: bool,
    /// Received duplicates are seen (`kfree_skb` with socket).
    pub duplicates: bool,
    /// Segments out of order are counted (`tcp_sock.rcv_ooopack`).
    pub out_of_order: bool,
    /// Each segment is watched (`tcp_probe`).
    pub segments: bool,
    /// Each segment of multipath connections is watched (`subflow_check_data_avail`).
    pub stalls: bool,
}

impl Live {
    /// All there is.
    pub const ALL: Self = Self {
        congestion: true,
        tail_loss_probes: true,
        resets_received: true,
        resets_sent: true,
        duplicates: true,
        out_of_order: true,
        segments: true,
        stalls: true,
    };
}

/// What a [`Profiler`] is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which figures are known.
    pub live: Live,
    /// Connections that are remembered at most.
    pub max_connections: usize,
}

/// What is remembered of a connection.
#[derive(Clone, Debug)]
struct Connection {
    /// Where the open window began.
    since: u64,
    counters: Kept,
    segments: Option<Box<Segments>>,
}

/// The machine: events in, profiles out.
///
/// Times of profiles are nanoseconds of the clock that events carry; who has a clock on the wall
/// adds the difference.
#[derive(Debug)]
pub struct Profiler {
    config: Config,
    connections: BTreeMap<u64, Connection>,
    /// Each in a place of its own: they are long, and go from hand to hand.
    profiles: VecDeque<Box<FlowProfile>>,
    hertz: HertzMeter,
    unknown: u64,
    /// Connections that the last sweep did not find in the kernel.
    suspects: BTreeSet<u64>,
    ends_lost: u64,
}

impl Profiler {
    /// A machine that has seen nothing.
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            connections: BTreeMap::new(),
            profiles: VecDeque::new(),
            hertz: HertzMeter::new(),
            unknown: 0,
            suspects: BTreeSet::new(),
            ends_lost: 0,
        }
    }

    /// Connections that are remembered.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether no connection is remembered.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Events of connections that had been forgotten, or whose beginning was lost.
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Connections that were forgotten because their end had been lost.
    pub const fn ends_lost(&self) -> u64 {
        self.ends_lost
    }

    /// Forgets connections whose end was lost: those that two sweeps in a row do not find among the
    /// ones that are `there`, as cookies of a look that began at `began`.
    ///
    /// An end is lost where the ring was full; the kernel may also leave a run of a program out on a
    /// processor that is in the middle of one (`recursion_misses`). One look may miss a connection:
    /// those that end meanwhile make the iterator skip others.
    pub fn sweep(&mut self, there: &BTreeSet<u64>, began: u64) {
        let missing: BTreeSet<u64> = self
            .connections
            .iter()
            .filter(|(cookie, connection)| connection.since < began && !there.contains(cookie))
            .map(|(&cookie, _)| cookie)
            .collect();
        for cookie in missing.intersection(&self.suspects) {
            self.connections.remove(cookie);
            self.ends_lost += 1;
        }
        self.suspects = missing.difference(&self.suspects).copied().collect();
    }

    /// Takes an event.
    pub fn handle(&mut self, event: &Event) {
        self.hertz.note(event.at, event.jiffies);
        if event.kind == EventKind::Look {
            return;
        }
        let mut opened = None;
        // Told already if a pass over the connections met their end.
        if let Some(opening) = event.opening()
            && !self.connections.contains_key(&event.cookie)
        {
            let counters = Counters::of(&opening);
            let profile = self.profile(&opening, None, &counters);
            self.profiles.push_back(profile);
            if event.kind == EventKind::Opened {
                self.remember(&opening, counters);
            } else {
                opened = Some(Connection {
                    since: opening.at,
                    counters: counters.into(),
                    segments: None,
                });
            }
        }
        if event.kind == EventKind::Opened {
            return;
        }
        let counters = Counters::of(event);
        if event.kind == EventKind::Baseline {
            self.remember(event, counters);
            return;
        }
        let began = event.kind == EventKind::Established
            || event.old_state == state::SYN_SENT
            // The event of the handshake was lost; there has been none since.
            || event.sequence <= 1;
        let before = match event.kind {
            _ if opened.is_some() => opened,
            EventKind::Established => None,
            EventKind::Closed => self.connections.remove(&event.cookie),
            EventKind::LossyEntered
            | EventKind::LossyLeft
            | EventKind::Baseline
            | EventKind::ActiveTimeout
            | EventKind::IdleTimeout
            | EventKind::Orphaned
            | EventKind::Opened
            | EventKind::Stopped
            | EventKind::Look => self.connections.get(&event.cookie).cloned(),
        };
        if before.is_none() && !began {
            self.unknown += 1;
            return;
        }
        let profile = self.profile(event, before.as_ref(), &counters);
        self.profiles.push_back(profile);
        if event.kind != EventKind::Closed && event.kind != EventKind::Stopped {
            self.remember(event, counters);
        }
    }

    /// How the connection of an event stands: a profile of all its life, with what the kernel has
    /// counted since its beginning. Nothing is remembered.
    pub fn total(&self, event: &Event) -> FlowProfile {
        *self.profile(event, None, &Counters::of(event))
    }

    /// The next profile, in the order of events.
    pub fn poll_profile(&mut self) -> Option<Box<FlowProfile>> {
        self.profiles.pop_front()
    }

    /// Begins a window.
    fn remember(&mut self, event: &Event, counters: Counters) {
        let connection = Connection {
            since: event.at,
            counters: counters.into(),
            segments: event.segments.clone(),
        };
        let full = self.connections.len() >= self.config.max_connections;
        if full && !self.connections.contains_key(&event.cookie) {
            // The oldest: cookies are given out in order, if not quite (per processor).
            self.connections.pop_first();
        }
        self.connections.insert(event.cookie, connection);
    }

    fn profile(
        &self,
        event: &Event,
        before: Option<&Connection>,
        now: &Counters,
    ) -> Box<FlowProfile> {
        let (cookie, protocol) = (event.cookie, protocol(event));
        let mut profile = Box::new(FlowProfile::new(
            cookie,
            protocol,
            event.local,
            event.remote,
        ));
        profile.profile = event.sequence;
        profile.open = if event.has(flag::ACTIVE) {
            Some(FlowOpen::Active)
        } else {
            event.has(flag::PASSIVE).then_some(FlowOpen::Passive)
        };
        profile.pid = (event.pid != 0).then_some(event.pid);
        profile.process = text(&event.comm);
        profile.cgroup_id = (event.cgroup != 0).then_some(event.cgroup);
        profile.netns = (event.netns != 0).then_some(event.netns);

        self.course(&mut profile, event);
        profile.end = WallTime(event.at);
        profile.start = WallTime(match before {
            Some(connection) => connection.since,
            None if event.syn_at != 0 => event.syn_at,
            None => event.at - profile.establishment_ns.unwrap_or(0).min(event.at),
        });
        let delta = before.map_or(*now, |connection| {
            now.since(&connection.counters.counters())
        });
        self.amounts(&mut profile, event, &delta);
        if !event.has(flag::META) {
            gauges(&mut profile, event);
        }
        profile.mptcp = multipath(event, &delta);
        if profile.phase != FlowPhase::Establishing {
            segments::fill(
                self.config.live,
                event.segments.as_deref(),
                before.and_then(|connection| connection.segments.as_deref()),
                &mut profile,
                event.kind != EventKind::Look,
            );
        }
        profile
    }

    /// Fills in states, phase, event, end, and what belongs to the handshake.
    fn course(&self, profile: &mut FlowProfile, event: &Event) {
        let opening = event.kind == EventKind::Established
            || matches!(event.old_state, state::SYN_SENT | state::SYN_RECV);
        let opening = opening && !event.has(flag::META);
        (profile.state_before, profile.phase) = if opening {
            (FlowState::New, FlowPhase::Establishing)
        } else if event.has(flag::LOSSY) {
            (FlowState::Established, FlowPhase::Lossy)
        } else {
            (FlowState::Established, FlowPhase::Open)
        };
        profile.state = if event.kind == EventKind::Look {
            profile.state_before
        } else {
            FlowState::Established
        };
        profile.event = match event.kind {
            EventKind::Established | EventKind::Opened => FlowEvent::Established,
            EventKind::LossyEntered => FlowEvent::LossyEntered,
            EventKind::LossyLeft => FlowEvent::LossyLeft,
            EventKind::ActiveTimeout => FlowEvent::ActiveTimeout,
            EventKind::IdleTimeout => FlowEvent::IdleTimeout,
            EventKind::Orphaned => FlowEvent::Orphaned,
            EventKind::Look => FlowEvent::ActiveTimeout,
            EventKind::Stopped | EventKind::Baseline => FlowEvent::RecorderStopped,
            EventKind::Closed => {
                let end = close::reason(event);
                profile.state = close::state_after(end);
                profile.end_reason = Some(end);
                profile.errno = (event.error != 0).then_some(event.error);
                FlowEvent::Ended
            }
        };
        if opening {
            if event.has(flag::ACTIVE) {
                profile.syn_retransmitted = Some(event.total_retrans);
            } else {
                profile.syn_ack_retransmitted = Some(event.total_retrans);
            }
        }
        if event.kind == EventKind::Established {
            profile.establishment_ns = if event.syn_at != 0 {
                event.at.checked_sub(event.syn_at)
            } else if event.has(flag::SUBFLOW) {
                None
            } else {
                smoothed(event)
            };
        }
    }

    /// Fills in what is counted.
    fn amounts(&self, profile: &mut FlowProfile, event: &Event, delta: &Counters) {
        profile.bytes_sent = delta.bytes_sent;
        profile.bytes_received = delta.bytes_received;
        profile.bytes_acked = Some(delta.bytes_acked);
        profile.bytes_retransmitted = Some(delta.bytes_retrans);
        if event.has(flag::META) {
            return;
        }
        let live = self.config.live;
        let opening = profile.phase == FlowPhase::Establishing;
        profile.packets_sent = Some(delta.segs_out.into());
        profile.packets_received = Some(delta.segs_in.into());
        profile.data_packets_sent = Some(delta.data_segs_out.into());
        profile.data_packets_received = Some(delta.data_segs_in.into());
        profile.packets_retransmitted = Some(delta.total_retrans.into());
        profile.packets_lost = Some(delta.lost.into());
        if live.congestion && !opening {
            profile.rtos = Some(delta.rtos);
            profile.fast_recoveries = Some(delta.fast_recoveries);
        }
        if live.tail_loss_probes && !opening {
            profile.tail_loss_probes = Some(delta.tail_loss_probes);
        }
        profile.spurious_retransmissions = Some(delta.dsack_dups);
        profile.reorderings = Some(delta.reord_seen);
        if live.duplicates {
            profile.duplicate_packets_received = Some(delta.duplicates);
            profile.duplicate_bytes_received = Some(delta.duplicate_bytes);
        }
        if live.out_of_order {
            profile.out_of_order_packets = Some(delta.rcv_ooopack);
        }
        if live.resets_received {
            profile.resets_received = Some(delta.resets_received);
        }
        if live.resets_sent {
            // The kernel resets the remote end after it has closed the socket.
            let after = profile.end_reason == Some(FlowEnd::ResetSent) && delta.resets_sent == 0;
            profile.resets_sent = Some(delta.resets_sent + u32::from(after));
        }
        profile.ce_marks = Some(delta.delivered_ce.into());
        if let Some(tick) = self.hertz.tick_ns() {
            let [alone, window, buffer] = delta.busy.map(|jiffies| u64::from(jiffies) * tick);
            profile.busy_ns = Some(alone + window + buffer);
            profile.receive_window_limited_ns = Some(window);
            profile.send_buffer_limited_ns = Some(buffer);
        }
    }
}

const fn protocol(event: &Event) -> FlowProtocol {
    if event.has(flag::META) {
        FlowProtocol::Mptcp
    } else if event.has(flag::SUBFLOW) {
        FlowProtocol::MptcpSubflow
    } else {
        FlowProtocol::Tcp
    }
}

/// Smoothed round-trip time; a passive join of a multipath connection begins with a made-up one.
fn smoothed(event: &Event) -> Option<u64> {
    const MADE_UP: u32 = 1000 << 3;
    let made_up = event.has(flag::SUBFLOW) && event.has(flag::PASSIVE) && event.srtt_us8 == MADE_UP;
    (event.srtt_us8 != 0 && !made_up).then(|| u64::from(event.srtt_us8) * 125)
}

/// Fills in what is as it stands.
fn gauges(profile: &mut FlowProfile, event: &Event) {
    profile.rtt_ns = smoothed(event);
    if profile.rtt_ns.is_some() {
        profile.rtt_variance_ns = Some(u64::from(event.mdev_us4) * 250);
    }
    // All ones before the first sample.
    if !matches!(event.min_rtt_us, 0 | u32::MAX) {
        profile.rtt_min_ns = Some(u64::from(event.min_rtt_us) * 1000);
    }
    if event.rcv_rtt_us8 != 0 {
        profile.receiver_rtt_ns = Some(u64::from(event.rcv_rtt_us8) * 125);
    }
    profile.zero_window_probes = Some(event.probes_out.into());
    profile.ecn = Some(event.ecn);
    let known = |value: u32| (value != 0).then_some(value);
    profile.mss_bytes = known(event.mss);
    profile.path_mtu_bytes = known(event.pmtu);
    profile.congestion_window_packets = known(event.cwnd);
    profile.send_window_bytes = Some(event.snd_wnd);
    profile.receive_buffer_bytes = known(event.rcvbuf);
    profile.congestion_control = text(&event.congestion);
    if event.rate_interval_us != 0 {
        let bytes = u128::from(event.rate_delivered) * u128::from(event.mss);
        let rate = bytes * 1_000_000 / u128::from(event.rate_interval_us);
        profile.delivery_rate_bytes_per_second = Some(u64::try_from(rate).unwrap_or(u64::MAX));
    }
    if event.paced && event.pacing_rate != u64::MAX {
        profile.pacing_rate_bytes_per_second = Some(event.pacing_rate);
    }
}

fn multipath(event: &Event, delta: &Counters) -> Option<FlowMptcp> {
    let meta = event.has(flag::META);
    if !meta && !event.has(flag::SUBFLOW) {
        return None;
    }
    let mut mptcp = FlowMptcp {
        token: event.token,
        ..FlowMptcp::default()
    };
    if meta {
        mptcp.subflows = (event.subflows != 0).then(|| event.subflows.into());
        mptcp.reinjected_bytes = Some(delta.bytes_retrans);
    } else {
        mptcp.path_index = Some(event.path_index);
        mptcp.local_id = Some(event.local_id);
        mptcp.remote_id = Some(event.remote_id);
        mptcp.backup = Some(event.has(flag::BACKUP));
    }
    Some(mptcp)
}

/// Text up to the first zero; `None` if there is none.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = bytes.get(..end).filter(|text| !text.is_empty())?;
    // Mostly it is what it should be, which is told sooner than what is wrong.
    let text = match core::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(text).into_owned(),
    };
    Some(text)
}

#[cfg(test)]
mod tests;
