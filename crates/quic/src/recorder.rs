//! From totals to profiles.

use core::net::SocketAddr;
use core::time::Duration;

use plumb_record::{
    FlowEnd, FlowEvent, FlowOpen, FlowPhase, FlowProfile, FlowProtocol, FlowState, WallTime,
};

/// Round-trip times without a loss after which a lossy phase is over.
const QUIET_ROUND_TRIPS: u32 = 3;
/// And the least time that takes.
const QUIET_AT_LEAST: Duration = Duration::from_millis(100);

/// Which connection it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identifier, unique on this host.
    pub flow_id: u64,
    /// Address and port of this end.
    pub local: SocketAddr,
    /// Address and port of the remote end.
    pub remote: SocketAddr,
    /// Which end opened it.
    pub open: FlowOpen,
    /// Name of the process.
    pub process: Option<String>,
}

/// What a QUIC library has counted since the connection began, and how the path is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes in UDP payloads sent.
    pub bytes_sent: u64,
    /// Bytes in UDP payloads received.
    pub bytes_received: u64,
    /// QUIC packets sent.
    pub packets_sent: Option<u64>,
    /// QUIC packets received.
    pub packets_received: Option<u64>,
    /// QUIC packets declared lost (RFC 9002 §6.1).
    pub packets_lost: Option<u64>,
    /// Congestion events, each the begin of a recovery period (RFC 9002 §7.3.2).
    pub congestion_events: Option<u64>,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Least round-trip time.
    pub rtt_min: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window_bytes: Option<u64>,
    /// Largest UDP payload that the path takes, in bytes.
    pub payload_bytes: Option<u32>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// One of the applications closed it, without an error of the transport.
    Closed,
    /// Nothing came from the remote end for too long (RFC 9000 §10.1).
    TimedOut,
    /// A stateless reset came (RFC 9000 §10.3), or the remote transport gave up.
    Reset,
    /// The remote end did not want the connection, or no version of it.
    Refused,
    /// This end gave up.
    Aborted,
    /// Any other error of the transport.
    Error,
}

/// Makes the profiles of one connection. Time is wall time, and given with every call.
#[derive(Clone, Debug)]
pub struct Recorder {
    identity: Identity,
    began: WallTime,
    before: Snapshot,
    state: FlowState,
    phase: FlowPhase,
    /// Packets lost at the last look, and since when there was no more.
    lost: u64,
    last_loss: WallTime,
    profiles: u32,
}

impl Recorder {
    /// The record of a connection whose handshake began at `at`.
    pub const fn new(identity: Identity, at: WallTime) -> Self {
        Self {
            identity,
            began: at,
            before: Snapshot {
                bytes_sent: 0,
                bytes_received: 0,
                packets_sent: None,
                packets_received: None,
                packets_lost: None,
                congestion_events: None,
                rtt: None,
                rtt_min: None,
                congestion_window_bytes: None,
                payload_bytes: None,
            },
            state: FlowState::New,
            phase: FlowPhase::Establishing,
            lost: 0,
            last_loss: at,
            profiles: 0,
        }
    }

    /// The handshake is over.
    pub fn established(&mut self, now: &Snapshot, at: WallTime) -> FlowProfile {
        let took = at.0.saturating_sub(self.began.0);
        let mut profile = self.close(now, at, FlowState::Established, FlowEvent::Established);
        profile.establishment_ns = Some(took);
        self.phase = FlowPhase::Open;
        self.lost = now.packets_lost.unwrap_or(0);
        profile
    }

    /// Looks at the totals; call it every few round-trip times while the connection is open. There
    /// is a profile if a lossy phase began (packets were lost since the last look) or ended (none
    /// for three round-trip times and 100 ms).
    pub fn look(&mut self, now: &Snapshot, at: WallTime) -> Option<FlowProfile> {
        if self.state != FlowState::Established {
            return None;
        }
        let lost = now.packets_lost.unwrap_or(0);
        let more = lost > self.lost;
        self.lost = lost;
        if more {
            self.last_loss = at;
        }
        match self.phase {
            FlowPhase::Open if more => {
                let profile = self.close(now, at, self.state, FlowEvent::LossyEntered);
                self.phase = FlowPhase::Lossy;
                Some(profile)
            }
            FlowPhase::Lossy if self.is_quiet(now, at) => {
                let profile = self.close(now, at, self.state, FlowEvent::LossyLeft);
                self.phase = FlowPhase::Open;
                Some(profile)
            }
            FlowPhase::Open | FlowPhase::Lossy | FlowPhase::Establishing => None,
        }
    }

    /// The connection is over, before or after its handshake.
    pub fn ended(&mut self, now: &Snapshot, end: End, at: WallTime) -> FlowProfile {
        let (state, reason) = match end {
            End::Closed => (FlowState::Finished, FlowEnd::Closed),
            End::TimedOut => (FlowState::NetworkError, FlowEnd::TimedOut),
            End::Reset => (FlowState::ProtocolError, FlowEnd::ResetReceived),
            End::Refused => (FlowState::ProtocolError, FlowEnd::Refused),
            End::Aborted => (FlowState::ProtocolError, FlowEnd::Aborted),
            End::Error => (FlowState::ProtocolError, FlowEnd::Error),
        };
        let mut profile = self.close(now, at, state, FlowEvent::Ended);
        profile.end_reason = Some(reason);
        profile
    }

    fn is_quiet(&self, now: &Snapshot, at: WallTime) -> bool {
        let round_trips = now.rtt.unwrap_or_default() * QUIET_ROUND_TRIPS;
        let quiet = Duration::from_nanos(at.0.saturating_sub(self.last_loss.0));
        quiet >= round_trips.max(QUIET_AT_LEAST)
    }

    /// The profile of the window that ends now, behind which the next one begins.
    fn close(
        &mut self,
        now: &Snapshot,
        at: WallTime,
        state: FlowState,
        event: FlowEvent,
    ) -> FlowProfile {
        let identity = &self.identity;
        let mut profile = FlowProfile::new(
            identity.flow_id,
            FlowProtocol::Quic,
            identity.local,
            identity.remote,
        );
        let since = |now: Option<u64>, before: Option<u64>| {
            now.map(|now| now.saturating_sub(before.unwrap_or(0)))
        };
        let before = &self.before;
        profile.profile = self.profiles;
        profile.open = Some(identity.open);
        profile.pid = Some(std::process::id());
        profile.process.clone_from(&identity.process);
        profile.start = self.began;
        // A clock that was set back does not make a window end before it began.
        profile.end = at.max(self.began);
        profile.state_before = self.state;
        profile.state = state;
        profile.phase = self.phase;
        profile.event = event;
        profile.bytes_sent = now.bytes_sent.saturating_sub(before.bytes_sent);
        profile.bytes_received = now.bytes_received.saturating_sub(before.bytes_received);
        profile.packets_sent = since(now.packets_sent, before.packets_sent);
        profile.packets_received = since(now.packets_received, before.packets_received);
        profile.packets_lost = since(now.packets_lost, before.packets_lost);
        profile.fast_recoveries = since(now.congestion_events, before.congestion_events)
            .map(|events| u32::try_from(events).unwrap_or(u32::MAX));
        profile.rtt_ns = now.rtt.map(nanos);
        profile.rtt_min_ns = now.rtt_min.map(nanos);
        profile.mss_bytes = now.payload_bytes;
        profile.congestion_window_packets = now
            .congestion_window_bytes
            .zip(now.payload_bytes)
            .and_then(|(window, payload)| window.checked_div(u64::from(payload)))
            .map(|packets| u32::try_from(packets).unwrap_or(u32::MAX));

        self.began = profile.end;
        self.before = *now;
        self.state = state;
        self.profiles += 1;
        profile
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorder() -> Recorder {
        let identity = Identity {
            flow_id: 7,
            local: "192.0.2.1:50000".parse().unwrap(),
            remote: "192.0.2.2:443".parse().unwrap(),
            open: FlowOpen::Active,
            process: Some("client".into()),
        };
        Recorder::new(identity, ms(0))
    }

    const fn ms(ms: u64) -> WallTime {
        WallTime(ms * 1_000_000)
    }

    fn totals(sent: u64, lost: u64) -> Snapshot {
        Snapshot {
            bytes_sent: sent * 1200,
            packets_sent: Some(sent),
            packets_lost: Some(lost),
            rtt: Some(Duration::from_millis(50)),
            congestion_window_bytes: Some(12_000),
            payload_bytes: Some(1200),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_clean_connection_gives_two_profiles_the_handshake_and_its_life() {
        let mut recorder = recorder();
        let first = recorder.established(&totals(3, 0), ms(50));
        for at in 1..20 {
            assert_eq!(recorder.look(&totals(3 + at, 0), ms(50 + at * 50)), None);
        }
        let last = recorder.ended(&totals(40, 0), End::Closed, ms(2000));

        assert_eq!((first.profile, last.profile), (0, 1));
        assert_eq!(first.establishment_ns, Some(50_000_000));
        assert_eq!(
            (first.state_before, first.state, first.phase),
            (
                FlowState::New,
                FlowState::Established,
                FlowPhase::Establishing
            )
        );
        assert_eq!(last.state, FlowState::Finished);
        assert_eq!(last.end_reason, Some(FlowEnd::Closed));
        assert_eq!((last.start, last.end), (ms(50), ms(2000)));
        assert_eq!(last.packets_sent, Some(37));
        assert_eq!(last.congestion_window_packets, Some(10));
    }

    #[test]
    fn a_loss_begins_a_lossy_phase_that_lasts_three_round_trips_beyond_the_last_loss() {
        let mut recorder = recorder();
        recorder.established(&totals(3, 0), ms(50));
        let entered = recorder.look(&totals(20, 2), ms(100)).unwrap();
        assert_eq!(entered.event, FlowEvent::LossyEntered);
        assert_eq!(entered.phase, FlowPhase::Open);
        assert_eq!(recorder.look(&totals(30, 3), ms(200)), None);
        assert_eq!(recorder.look(&totals(40, 3), ms(349)), None);
        let left = recorder.look(&totals(50, 3), ms(350)).unwrap();
        assert_eq!(left.event, FlowEvent::LossyLeft);
        assert_eq!(left.phase, FlowPhase::Lossy);
        assert_eq!(left.packets_lost, Some(1));
        let last = recorder.ended(&totals(60, 3), End::TimedOut, ms(900));
        assert_eq!(last.phase, FlowPhase::Open);
        assert_eq!(last.state, FlowState::NetworkError);
        assert_eq!(last.profile, 3);
    }

    #[test]
    fn a_handshake_that_fails_is_one_profile_from_new_to_an_error() {
        let mut recorder = recorder();
        assert_eq!(recorder.look(&totals(2, 2), ms(40)), None);
        let only = recorder.ended(&totals(3, 3), End::Refused, ms(60));
        assert_eq!(only.state_before, FlowState::New);
        assert_eq!(only.state, FlowState::ProtocolError);
        assert_eq!(only.end_reason, Some(FlowEnd::Refused));
        assert_eq!(only.establishment_ns, None);
    }

    proptest! {
        #[test]
        fn the_profiles_of_a_connection_add_up_to_its_totals(
            steps in prop::collection::vec((0_u64..50, 0_u64..3, 0_u64..400), 0..60)
        ) {
            let mut recorder = recorder();
            let mut profiles = vec![recorder.established(&totals(3, 0), ms(50))];
            let (mut sent, mut lost, mut at) = (3, 0, 50);
            for (more_sent, more_lost, later) in steps {
                (sent, lost, at) = (sent + more_sent, lost + more_lost, at + later);
                profiles.extend(recorder.look(&totals(sent, lost), ms(at)));
            }
            profiles.push(recorder.ended(&totals(sent, lost), End::Closed, ms(at)));

            let sum = |of: fn(&FlowProfile) -> Option<u64>| profiles.iter().filter_map(of).sum::<u64>();
            prop_assert_eq!(sum(|p| p.packets_sent), sent);
            prop_assert_eq!(sum(|p| p.packets_lost), lost);
            prop_assert_eq!(sum(|p| Some(p.bytes_sent)), sent * 1200);
            for (n, pair) in profiles.windows(2).enumerate() {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert_eq!(pair[0].state, pair[1].state_before);
                prop_assert_eq!(usize::try_from(pair[0].profile).unwrap(), n);
            }
        }
    }
}
