//! A trace as a row of routers, the revealed ones at their places.

use core::net::IpAddr;

use plumb_record::{Hop, Lsr, LsrMethod, Revelation, Role, Trace, Tunnel, TunnelType, Variant};

/// A router on a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Router<'a> {
    /// How it is known.
    pub(crate) known: Known<'a>,
    /// Its tunnels, as indices into [`Trace::tunnels`], and what it does there. At most one ends
    /// and one begins.
    pub(crate) places: Vec<(usize, Role)>,
    /// Tunnels that may end here, as indices into [`Trace::tunnels`]: a trigger fired, but nothing
    /// was revealed.
    pub(crate) suspicions: Vec<usize>,
}

/// How a router is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Known<'a> {
    /// It answered at a TTL, or nothing did.
    Hop(&'a Hop),
    /// A revelation showed it.
    Lsr(&'a Lsr),
    /// A revelation showed it to be the egress of its tunnel.
    Egress(&'a Lsr),
    /// There are, or may be, more routers here, but nothing shows them.
    Hidden,
}

impl Router<'_> {
    /// What it does in the tunnel at `index`.
    pub(crate) fn role(&self, index: usize) -> Option<Role> {
        self.places
            .iter()
            .find(|(of, _)| *of == index)
            .map(|(_, role)| *role)
    }

    fn is_hop_with(&self, addr: Option<IpAddr>) -> bool {
        matches!(self.known, Known::Hop(hop) if hop.addr == addr)
    }
}

/// The routers on a path from the first hop to the last.
pub(crate) fn routers(trace: &Trace) -> Vec<Router<'_>> {
    let mut path: Vec<Router<'_>> = trace
        .hops
        .iter()
        .map(|hop| Router {
            known: Known::Hop(hop),
            places: Vec::new(),
            suspicions: Vec::new(),
        })
        .collect();
    let mut from = 0;
    for (index, tunnel) in trace.tunnels.iter().enumerate() {
        let has = |router: &Router<'_>, role: Role| {
            matches!(router.known, Known::Hop(hop)
                if hop.tunnel.is_some_and(|t| t.id == tunnel.id && t.role == role))
        };
        let member = |router: &Router<'_>| {
            has(router, Role::Ingress) || has(router, Role::Lsr) || has(router, Role::Egress)
        };
        if is_suspicion(tunnel) {
            // Not from `from`: it may be within a tunnel that another sign showed.
            let ingress = position(&path, 0, |r| r.is_hop_with(tunnel.ingress)).unwrap_or(from);
            if let Some(at) = position(&path, ingress, |r| r.is_hop_with(tunnel.egress)) {
                path[at].suspicions.push(index);
            }
            continue;
        }
        // The hop that begins a tunnel names it, unless it begins two.
        let ingress = position(&path, from, |r| has(r, Role::Ingress)).or_else(|| {
            let first = position(&path, from, member).or_else(|| behind_silence(&path, tunnel))?;
            match tunnel.ingress {
                Some(addr) => (from..first)
                    .rev()
                    .find(|&i| path[i].is_hop_with(Some(addr))),
                None => first.checked_sub(1).filter(|&i| path[i].is_hop_with(None)),
            }
        });
        let mut next = match ingress {
            Some(at) => {
                path[at].places.push((index, Role::Ingress));
                at + 1
            }
            None => position(&path, from, member)
                .or_else(|| position(&path, from, |r| r.is_hop_with(tunnel.egress)))
                .unwrap_or(path.len()),
        };
        for lsr in &tunnel.lsrs {
            let seen = (lsr.method == LsrMethod::Seen)
                .then(|| position(&path, next, |r| r.is_hop_with(lsr.addr)))
                .flatten();
            let at = seen.unwrap_or_else(|| {
                path.insert(next, revealed(Known::Lsr(lsr)));
                next
            });
            path[at].places.push((index, Role::Lsr));
            next = at + 1;
        }
        let hides = matches!(tunnel.kind, TunnelType::Invisible | TunnelType::Opaque);
        let hidden = hides && !tunnel.complete;
        if hidden {
            path.insert(next, revealed(Known::Hidden));
            path[next].places.push((index, Role::Lsr));
            next += 1;
        }
        if let Some(lsr) = &tunnel.hidden_egress {
            path.insert(next, revealed(Known::Egress(lsr)));
            path[next].places.push((index, Role::Egress));
            from = next;
            continue;
        }
        let egress = position(&path, next, |r| has(r, Role::Egress)).or_else(|| {
            tunnel
                .egress
                .and_then(|addr| position(&path, next, |r| r.is_hop_with(Some(addr))))
        });
        match egress {
            Some(at) => {
                path[at].places.push((index, Role::Egress));
                from = at;
            }
            None => {
                from = next.saturating_sub(1);
                if hidden {
                    // Nobody knows the end, which is hidden as well.
                    path[from].places = vec![(index, Role::Egress)];
                }
            }
        }
    }
    path
}

/// Whether a trigger fired, but nothing more is known of the tunnel.
///
/// Not so with ultimate hop popping: that an address answered twice has no other cause.
pub(crate) fn is_suspicion(tunnel: &Tunnel) -> bool {
    tunnel.kind == TunnelType::Invisible
        && tunnel.variant != Some(Variant::Uhp)
        && tunnel.revelation != Revelation::Revealed
        && tunnel.lsrs.is_empty()
}

/// Where an address that answers twice follows a silent hop, if that is how `tunnel` shows.
fn behind_silence(path: &[Router<'_>], tunnel: &Tunnel) -> Option<usize> {
    let addr = |router: &Router<'_>| match router.known {
        Known::Hop(hop) => Some(hop.addr),
        Known::Lsr(_) | Known::Egress(_) | Known::Hidden => None,
    };
    let found = path.windows(3).position(|three| {
        addr(&three[0]) == Some(None)
            && matches!(addr(&three[1]), Some(Some(_)))
            && addr(&three[1]) == addr(&three[2])
    })?;
    (tunnel.variant == Some(Variant::Uhp)).then_some(found + 1)
}

fn revealed(known: Known<'_>) -> Router<'_> {
    Router {
        known,
        places: Vec::new(),
        suspicions: Vec::new(),
    }
}

fn position<'a>(
    path: &[Router<'a>],
    from: usize,
    is: impl Fn(&Router<'a>) -> bool,
) -> Option<usize> {
    (from..path.len()).find(|&i| is(&path[i]))
}
