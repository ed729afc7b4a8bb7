//! Tunnels and their places on the path.

use core::net::IpAddr;

use plumb_record::{Lsr, Revelation, Role, Trace, Tunnel};

use crate::output::path::{Known, Router, is_suspicion, routers};
use crate::output::text;

/// A tunnel as the latest check that could see it showed it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TunnelState {
    /// The tunnel.
    pub(crate) tunnel: Tunnel,
    /// Where it lies.
    pub(crate) place: Place,
    /// What gave it away, with the numbers that did.
    pub(crate) evidence: String,
    /// Round of the check that found it first.
    pub(crate) since_round: u64,
    /// Round of the latest check that showed it as it is here.
    pub(crate) confirmed_round: u64,
}

impl TunnelState {
    /// True if a trigger fired, but nothing more is known: there may be no tunnel.
    pub(crate) fn is_suspicion(&self) -> bool {
        is_suspicion(&self.tunnel)
    }

    /// One of its routers that are no hops.
    pub(crate) fn hidden(&self, index: usize) -> Option<&Hidden> {
        self.place.hidden.get(index).map(|(_, router)| router)
    }
}

/// Where a tunnel lies among the hops of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// TTL of the hop after which its description goes: the ingress, or the hop before the first
    /// router that is known.
    pub(crate) title_after: u8,
    /// TTLs of the first and the last hop that belong to it, if any does.
    pub(crate) hops: Option<(u8, u8)>,
    /// TTL of the hop that ends it or, if that is only suspected, would end it.
    pub(crate) egress_ttl: Option<u8>,
    /// TTL of the ingress, if it is a hop.
    pub(crate) ingress_ttl: Option<u8>,
    /// Routers that are no hops, each with the TTL of the hop before it.
    pub(crate) hidden: Vec<(u8, Hidden)>,
    path: Vec<(u8, IpAddr)>,
}

/// A router that is no hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Revealed.
    Lsr(Lsr),
    /// Revealed, and the end of the tunnel.
    Egress(Lsr),
    /// There are, or may be, more, but nothing shows them.
    Unknown,
}

impl Hidden {
    /// Its address, if it is known.
    pub(crate) const fn addr(&self) -> Option<IpAddr> {
        match self {
            Self::Lsr(lsr) | Self::Egress(lsr) => lsr.addr,
            Self::Unknown => None,
        }
    }
}

impl Place {
    /// The place of the tunnel at `index` in the trace that found it.
    fn of(trace: &Trace, path: &[Router<'_>], index: usize) -> Option<Self> {
        let mut place = Self {
            title_after: 0,
            hops: None,
            egress_ttl: None,
            ingress_ttl: None,
            hidden: Vec::new(),
            path: Vec::new(),
        };
        let mut last = trace.first_ttl.saturating_sub(1);
        let mut found = false;
        for router in path {
            let role = router.role(index);
            let before = last;
            if let Known::Hop(hop) = router.known {
                last = hop.ttl;
                if router.suspicions.contains(&index) {
                    place.egress_ttl = Some(hop.ttl);
                    found = true;
                }
            }
            let Some(role) = role else { continue };
            if !found {
                place.title_after = before;
                found = true;
            }
            let hidden = match router.known {
                Known::Hop(hop) => {
                    let first = place.hops.map_or(hop.ttl, |(first, _)| first);
                    place.hops = Some((first, hop.ttl));
                    match role {
                        Role::Ingress => {
                            place.title_after = hop.ttl;
                            place.ingress_ttl = Some(hop.ttl);
                        }
                        Role::Egress => place.egress_ttl = Some(hop.ttl),
                        Role::Lsr => {}
                    }
                    continue;
                }
                Known::Lsr(lsr) => Hidden::Lsr(lsr.clone()),
                Known::Egress(lsr) => Hidden::Egress(lsr.clone()),
                Known::Hidden => Hidden::Unknown,
            };
            place.hidden.push((last, hidden));
        }
        if !found {
            return None;
        }
        let (first, last) = place.span();
        place.path = trace
            .hops
            .iter()
            .filter(|hop| (first..=last).contains(&hop.ttl))
            .filter_map(|hop| Some((hop.ttl, hop.addr?)))
            .collect();
        Some(place)
    }

    /// True if the hop belongs to the tunnel.
    pub(crate) fn contains(&self, ttl: u8) -> bool {
        self.hops
            .is_some_and(|(first, last)| (first..=last).contains(&ttl))
    }

    /// True if another address than the check saw answers now at a hop of the tunnel.
    pub(crate) fn is_contradicted_by(&self, current: impl Fn(u8) -> Option<IpAddr>) -> bool {
        self.path
            .iter()
            .any(|(ttl, addr)| current(*ttl).is_some_and(|now| now != *addr))
    }

    /// TTLs of the first and last hop that it touches.
    fn span(&self) -> (u8, u8) {
        self.hops.unwrap_or((
            self.title_after,
            self.egress_ttl.unwrap_or(self.title_after),
        ))
    }
}

/// The tunnels after a check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    /// What is there.
    pub(crate) tunnels: Vec<TunnelState>,
    /// What was not there before.
    pub(crate) appeared: Vec<Tunnel>,
    /// What is there no more.
    pub(crate) disappeared: Vec<Tunnel>,
}

/// Compares what a check found with what was known.
///
/// A check that lost a reply is no proof of change: a tunnel beyond the last hop that it reached
/// is kept, and so are revealed routers if the new revelation failed for silence.
pub(crate) fn check(mut known: Vec<TunnelState>, trace: &Trace, round: u64) -> Checked {
    let mut checked = Checked::default();
    let path = routers(trace);
    for (index, tunnel) in trace.tunnels.iter().enumerate() {
        let Some(place) = Place::of(trace, &path, index) else {
            continue;
        };
        let before = known
            .iter()
            .position(|k| k.tunnel.ingress == tunnel.ingress && k.tunnel.egress == tunnel.egress)
            .map(|index| known.remove(index));
        let failed = matches!(
            tunnel.revelation,
            Revelation::TargetSilent | Revelation::IngressMissing
        );
        match before {
            Some(before) if failed && before.tunnel.lsrs.len() > tunnel.lsrs.len() => {
                checked.tunnels.push(before);
            }
            before => {
                if before.as_ref().is_none_or(TunnelState::is_suspicion) && !is_suspicion(tunnel) {
                    checked.appeared.push(tunnel.clone());
                }
                checked.tunnels.push(TunnelState {
                    tunnel: tunnel.clone(),
                    evidence: evidence(trace, &place, tunnel),
                    place,
                    since_round: before.map_or(round, |before| before.since_round),
                    confirmed_round: round,
                });
            }
        }
    }
    let reached = trace
        .hops
        .iter()
        .rfind(|hop| hop.addr.is_some())
        .map_or(0, |hop| hop.ttl);
    for before in known {
        let (first, last) = before.place.span();
        let overlapped = checked.tunnels.iter().any(|now| {
            let (now_first, now_last) = now.place.span();
            now_first < last && first < now_last
        });
        if last > reached && !overlapped {
            checked.tunnels.push(before);
        } else if !before.is_suspicion() {
            checked.disappeared.push(before.tunnel);
        }
    }
    checked.tunnels.sort_by_key(|t| t.place.title_after);
    checked
}

fn evidence(trace: &Trace, place: &Place, tunnel: &Tunnel) -> String {
    let ttl = place.egress_ttl.unwrap_or(place.span().1);
    let hop = trace.hops.iter().find(|hop| hop.ttl == ttl);
    text::trigger(tunnel.trigger, hop)
}
