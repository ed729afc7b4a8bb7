//! The report for machines, `plumb.live/1`.

use core::net::IpAddr;

use plumb_record::{LabelStackEntry, Method, Tunnel, WallTime};
use serde::Serialize;

use crate::live::explain;
use crate::live::model::{HopState, Target};
use crate::live::session::Session;

/// Name and version of the schema.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
pub(crate) enum LiveSchema {
    /// `plumb.live/1`.
    #[serde(rename = "plumb.live/1")]
    V1,
}

/// The value of `type` in a report.
#[derive(Clone, Copy, Debug, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReportType {
    /// `report`.
    Report,
}

/// What a continuous view found out about one target.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Report {
    /// Schema of this record.
    pub(crate) schema: LiveSchema,
    /// Always `report`.
    #[serde(rename = "type")]
    pub(crate) kind: ReportType,
    /// How the path was probed.
    pub(crate) method: Method,
    /// Source address of the probes.
    pub(crate) src: IpAddr,
    /// Destination.
    pub(crate) dst: IpAddr,
    /// The name that the user gave for the destination, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dst_name: Option<String>,
    /// When the view began.
    pub(crate) start: WallTime,
    /// When it ended.
    pub(crate) end: WallTime,
    /// Nanoseconds from the start of one round to that of the next, as last set.
    pub(crate) interval_ns: u64,
    /// Rounds that the statistics are of.
    pub(crate) rounds: u64,
    /// Whether the destination ever answered.
    pub(crate) reached: bool,
    /// Packets sent, pings and revelations included.
    pub(crate) probes_sent: u64,
    /// The hops in order of TTL.
    pub(crate) hops: Vec<HopReport>,
    /// The tunnels as last seen, in order of their first router on the path.
    pub(crate) tunnels: Vec<TunnelReport>,
    /// What changed, oldest first; the latest hundred at most.
    pub(crate) changes: Vec<ChangeReport>,
}

/// Statistics of one TTL.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct HopReport {
    /// TTL of the probes.
    pub(crate) ttl: u8,
    /// Address of the latest reply; null if there was none.
    pub(crate) addr: Option<IpAddr>,
    /// Name of the address, if names were asked for and it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// All addresses that answered, in order of their first reply.
    pub(crate) addresses: Vec<AddressReport>,
    /// Times that a reply came from another address than the one before.
    pub(crate) address_changes: u64,
    /// Probes sent.
    pub(crate) sent: u64,
    /// Probes answered in time.
    pub(crate) received: u64,
    /// Round-trip time of the latest reply in nanoseconds; null without a reply, as the others.
    pub(crate) rtt_last_ns: Option<u64>,
    /// Least round-trip time in nanoseconds.
    pub(crate) rtt_min_ns: Option<u64>,
    /// Mean round-trip time in nanoseconds.
    pub(crate) rtt_mean_ns: Option<u64>,
    /// Greatest round-trip time in nanoseconds.
    pub(crate) rtt_max_ns: Option<u64>,
    /// Sample standard deviation of the round-trip times in nanoseconds.
    pub(crate) rtt_stddev_ns: Option<u64>,
    /// Mean absolute difference of consecutive round-trip times in nanoseconds.
    pub(crate) jitter_mean_ns: Option<u64>,
    /// Greatest such difference in nanoseconds.
    pub(crate) jitter_max_ns: Option<u64>,
    /// Interarrival jitter in nanoseconds: such differences smoothed as in RFC 3550 §6.4.1.
    pub(crate) jitter_rfc3550_ns: Option<u64>,
    /// TTL of the latest reply as received.
    pub(crate) reply_ttl: Option<u8>,
    /// TTL of the probe as that reply quotes it.
    pub(crate) quoted_ttl: Option<u8>,
    /// Label stack that the probe carried, top first.
    pub(crate) mpls: Vec<LabelStackEntry>,
    /// TTL of the echo reply when the address was pinged.
    pub(crate) echo_reply_ttl: Option<u8>,
    /// Forward/return path length asymmetry, in hops.
    pub(crate) frpla: Option<i16>,
    /// Return tunnel length, in hops.
    pub(crate) rtla: Option<i16>,
    /// U-turn signature, in hops.
    pub(crate) uturn: Option<i16>,
    /// Vendors whose routers have this pair of initial TTLs.
    pub(crate) vendor: Vec<String>,
}

/// An address that answered at a TTL.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct AddressReport {
    /// The address.
    pub(crate) addr: IpAddr,
    /// Replies from it.
    pub(crate) received: u64,
    /// Round of its latest reply, from 1.
    pub(crate) last_round: u64,
}

/// A tunnel, and when it was seen.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct TunnelReport {
    /// The tunnel, as in `plumb.trace/1`.
    #[serde(flatten)]
    pub(crate) tunnel: Tunnel,
    /// Round that found it first, from 1.
    pub(crate) since_round: u64,
    /// Round of the latest check that showed it so.
    pub(crate) confirmed_round: u64,
}

/// Something that changed.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct ChangeReport {
    /// Round that showed it, from 1.
    pub(crate) round: u64,
    /// When it was seen.
    pub(crate) time: WallTime,
    /// What it was, in words.
    pub(crate) text: String,
}

/// The record of a target. `wall` gives the wall time of an instant.
pub(crate) fn report(
    session: &Session,
    target: &Target,
    wall: impl Fn(plumb_wire::Instant) -> WallTime,
    end: WallTime,
) -> Report {
    let dst = target.dst();
    Report {
        schema: LiveSchema::V1,
        kind: ReportType::Report,
        method: target.method(),
        src: target.src(),
        dst,
        dst_name: (target.name() != dst.to_string()).then(|| target.name().to_owned()),
        start: wall(session.started()),
        end,
        interval_ns: u64::try_from(session.pace().interval.as_nanos()).unwrap_or(u64::MAX),
        rounds: target.rounds(),
        reached: target.reached(),
        probes_sent: target.probes_sent(),
        hops: target.hops().map(|hop| hop_report(session, hop)).collect(),
        tunnels: target
            .tunnels()
            .iter()
            .map(|state| TunnelReport {
                tunnel: state.tunnel.clone(),
                since_round: state.since_round,
                confirmed_round: state.confirmed_round,
            })
            .collect(),
        changes: target
            .changes()
            .map(|change| ChangeReport {
                round: change.round,
                time: wall(change.at),
                text: explain::change(&change.what),
            })
            .collect(),
    }
}

fn hop_report(session: &Session, hop: &HopState) -> HopReport {
    let s = hop.statistics();
    let latest = hop.latest();
    let signature = hop.signature();
    HopReport {
        ttl: hop.ttl(),
        addr: hop.current(),
        name: hop
            .current()
            .and_then(|addr| session.name(addr))
            .map(str::to_owned),
        addresses: hop
            .addresses()
            .iter()
            .map(|seen| AddressReport {
                addr: seen.addr,
                received: seen.received,
                last_round: seen.last_round,
            })
            .collect(),
        address_changes: hop.changes(),
        sent: s.sent(),
        received: s.received(),
        rtt_last_ns: s.last(),
        rtt_min_ns: s.best(),
        rtt_mean_ns: s.average(),
        rtt_max_ns: s.worst(),
        rtt_stddev_ns: s.deviation(),
        jitter_mean_ns: s.jitter_mean(),
        jitter_max_ns: s.jitter_worst(),
        jitter_rfc3550_ns: s.jitter_smoothed(),
        reply_ttl: latest.and_then(|hop| hop.reply_ttl),
        quoted_ttl: latest.and_then(|hop| hop.quoted_ttl),
        mpls: latest.map(|hop| hop.mpls.clone()).unwrap_or_default(),
        echo_reply_ttl: signature.and_then(|s| s.echo_reply_ttl),
        frpla: signature.and_then(|s| s.frpla),
        rtla: signature.and_then(|s| s.rtla),
        uturn: signature.and_then(|s| s.uturn),
        vendor: signature.map(|s| s.vendor.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::live::testing::{World, pace};

    #[test]
    fn the_record_says_what_the_screen_says() {
        let mut world = World::lab("php", pace());
        world.run(Duration::from_millis(10_500));
        let session = &world.session;
        let target = session.target(0).unwrap();
        let wall = |at: plumb_wire::Instant| WallTime(at.as_nanos());
        let report = report(session, target, wall, wall(world.now));
        let value: Value = serde_json::to_value(report).unwrap();
        assert_eq!(value["schema"], "plumb.live/1");
        assert_eq!(value["type"], "report");
        assert_eq!(value["rounds"], 11);
        assert_eq!(value["hops"].as_array().unwrap().len(), 5);
        for (at, hop) in value["hops"].as_array().unwrap().iter().enumerate() {
            assert_eq!(hop["ttl"], at + 1);
            assert_eq!((&hop["sent"], &hop["received"]), (&11.into(), &11.into()));
            let time = |name: &str| hop[name].as_u64().unwrap();
            assert!(time("rtt_min_ns") <= time("rtt_mean_ns"));
            assert!(time("rtt_mean_ns") <= time("rtt_max_ns"));
        }
        assert_eq!(value["hops"][2]["frpla"], 3);
        let tunnel = &value["tunnels"][0];
        assert_eq!(tunnel["type"], "invisible");
        assert_eq!(tunnel["lsrs"].as_array().unwrap().len(), 3);
        assert_eq!(tunnel["since_round"], 1);
    }
}
