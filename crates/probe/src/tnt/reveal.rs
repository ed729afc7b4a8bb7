//! Revelation of what a tunnel hides: direct (DPR), backward recursive (BRPR), and by the other
//! end of point-to-point links (buddy).

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use plumb_record::{LsrMethod, Revelation as Result, StopReason};
use plumb_wire::is_reserved;

use crate::observation::Observation;
use crate::reply::ReplyKind;
use crate::walk::Path;

/// What is to be revealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// The last router that answers before what is hidden.
    pub(crate) start: IpAddr,
    /// The ingress, silent, lies between `start` and what is hidden.
    pub(crate) silent_ingress: bool,
    /// The first router that answers behind what is hidden.
    pub(crate) egress: IpAddr,
    /// The egress label edge router is hidden as well (ultimate hop popping): use buddies.
    pub(crate) hidden_egress: bool,
}

/// A hidden router that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// `None` if it was silent.
    pub(crate) addr: Option<IpAddr>,
    pub(crate) method: LsrMethod,
    pub(crate) step: u8,
    /// TTL of the probe in the walk that showed it.
    pub(crate) ttl: u8,
    pub(crate) rtt_ns: Option<u64>,
    pub(crate) reply_ttl: Option<u8>,
    pub(crate) quoted_ttl: Option<u8>,
}

/// A probe sequence that a revelation wants, and the name under which its result comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A walk to the address with the trace's own method.
    Target(IpAddr),
    /// A UDP walk to the other end of the target's link, were the link a /30.
    Buddy30(Ipv4Addr),
    /// A UDP walk to the other end of the target's link, were the link a /31.
    Buddy31(Ipv4Addr),
    /// One echo request to the first address of the target's /30. It answers if it is a host,
    /// that is, if the block is divided into /31 links (RFC 3021).
    First(Ipv4Addr),
}

/// An answer to an [`Ask`].
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Path(&'a Path),
    /// Whether the address itself sent an echo reply.
    Echo(bool),
}

/// A finished revelation.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result,
    /// From ingress to egress.
    pub(crate) found: Vec<Found>,
    /// Nothing suggests that more routers are hidden.
    pub(crate) complete: bool,
    /// What the last step came to, if earlier ones found routers and it could be done.
    pub(crate) last_step: Option<Result>,
}

/// A revelation in progress.
#[derive(Debug)]
pub(crate) struct Revelation {
    request: Request,
    target: IpAddr,
    step: u8,
    found: Vec<Found>,
    buddy: Option<Buddy>,
    /// What the last walk failed with.
    failure: Result,
    outcome: Option<Outcome>,
}

/// The buddies of the current target, and what is known of them.
#[derive(Debug)]
struct Buddy {
    asked: Vec<Ask>,
    over_30: Option<core::result::Result<Found, Result>>,
    over_31: Option<core::result::Result<Found, Result>>,
    first_answers: Option<bool>,
}

/// Steps after which a revelation is given up: no real tunnel is as long.
const MOST_STEPS: u8 = 32;

impl Revelation {
    pub(crate) const fn new(request: Request) -> Self {
        Self {
            request,
            target: request.egress,
            step: 1,
            found: Vec::new(),
            buddy: None,
            failure: Result::NothingRevealed,
            outcome: None,
        }
    }

    /// Silent hops after which a walk to a buddy cannot show a hidden router any more.
    pub(crate) fn buddy_gap(&self) -> u8 {
        1 + u8::from(self.request.silent_ingress)
    }

    /// What to ask for first.
    pub(crate) const fn begin(&self) -> Ask {
        Ask::Target(self.target)
    }

    pub(crate) const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub(crate) fn into_outcome(self) -> Option<Outcome> {
        self.outcome
    }

    /// Addresses found so far.
    pub(crate) fn found(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let found = self.outcome.as_ref().map_or(&self.found, |o| &o.found);
        found.iter().filter_map(|f| f.addr)
    }

    /// Takes the answer to an ask and returns what to ask for next; nothing if it waits for
    /// another answer, or has its outcome.
    pub(crate) fn on_answer(&mut self, ask: Ask, answer: &Answer<'_>) -> Vec<Ask> {
        if self.outcome.is_some() {
            return Vec::new();
        }
        match (ask, answer) {
            (Ask::Target(target), Answer::Path(path)) if target == self.target => {
                self.on_target(path)
            }
            (_, answer) => self.on_buddy(ask, answer),
        }
    }

    fn on_target(&mut self, path: &Path) -> Vec<Ask> {
        match self.between(path) {
            Err(failure) => {
                self.failure = failure;
                self.ask_buddies()
            }
            Ok(new) => {
                let first = new.first().and_then(|f| f.addr);
                self.advance(new, first)
            }
        }
    }

    /// The routers that the path shows between ingress and target and that were not known.
    fn between(&self, path: &Path) -> core::result::Result<Vec<Found>, Result> {
        let (last, before) = path.hops.split_last().ok_or(Result::TargetSilent)?;
        let reached = path.stop == StopReason::Completed
            && last.answer.as_ref().is_some_and(|a| a.addr == self.target);
        if !reached {
            return Err(Result::TargetSilent);
        }
        let is =
            |hop: &crate::walk::WalkHop, addr| hop.answer.as_ref().is_some_and(|a| a.addr == addr);
        // An address that answers twice in a row is left behind whole.
        let start = before
            .iter()
            .rposition(|hop| is(hop, self.request.start))
            .ok_or(Result::IngressMissing)?;
        let from = start + 1 + usize::from(self.request.silent_ingress);
        let new: Vec<(u8, Option<&Observation>)> = before
            .iter()
            .zip(path.first_ttl..)
            .skip(from)
            .map(|(hop, ttl)| (ttl, hop.answer.as_ref()))
            // The target itself may answer as a router one hop early.
            .filter(|(_, a)| a.is_none_or(|a| a.addr != self.target))
            .collect();
        if new.is_empty() {
            return Err(Result::NothingRevealed);
        }
        let same = matches!(new.as_slice(), [(_, Some(a)), (_, Some(b))] if a.addr == b.addr);
        let method = if new.len() == 1 || same {
            LsrMethod::Brpr
        } else {
            LsrMethod::Dpr
        };
        let mut found: Vec<Found> = new
            .iter()
            .map(|(ttl, answer)| Found::new(*answer, *ttl, method, self.step))
            .collect();
        found.dedup_by(|a, b| a.addr.is_some() && a.addr == b.addr);
        Ok(found)
    }

    /// Puts new routers before the known ones and goes on from the one nearest to the ingress.
    fn advance(&mut self, mut new: Vec<Found>, next: Option<IpAddr>) -> Vec<Ask> {
        let known = |addr: IpAddr| {
            addr == self.request.start
                || addr == self.request.egress
                || self.found.iter().any(|f| f.addr == Some(addr))
        };
        let loops = new.iter().filter_map(|f| f.addr).any(known);
        if loops {
            // Whatever this path is, it is not the tunnel seen so far.
            return self.finish(false);
        }
        new.append(&mut self.found);
        self.found = new;
        self.buddy = None;
        match next {
            Some(next) if !is_reserved(next) && self.step < MOST_STEPS => {
                self.step += 1;
                self.target = next;
                [Ask::Target(next)].into()
            }
            _ => self.finish(false),
        }
    }

    fn ask_buddies(&mut self) -> Vec<Ask> {
        let IpAddr::V4(target) = self.target else {
            return self.finish(true);
        };
        if !self.request.hidden_egress {
            return self.finish(true);
        }
        let asked = buddies(target);
        self.buddy = Some(Buddy {
            asked: asked.clone(),
            // The ends of the block have no buddy in a /30.
            over_30: (asked.len() == 1).then_some(Err(Result::TargetSilent)),
            over_31: None,
            first_answers: None,
        });
        asked
    }

    fn on_buddy(&mut self, ask: Ask, answer: &Answer<'_>) -> Vec<Ask> {
        let found = match answer {
            Answer::Path(path) => self.behind_start(path),
            Answer::Echo(_) => Err(Result::TargetSilent),
        };
        let Some(buddy) = self.buddy.as_mut().filter(|b| b.asked.contains(&ask)) else {
            // An answer to a step that is over.
            return Vec::new();
        };
        match (ask, answer) {
            (Ask::Buddy30(_), _) => buddy.over_30 = Some(found),
            (Ask::Buddy31(_), _) => buddy.over_31 = Some(found),
            (Ask::First(_), Answer::Echo(answers)) => buddy.first_answers = Some(*answers),
            (Ask::First(_) | Ask::Target(_), _) => {}
        }
        match buddy.verdict() {
            None => Vec::new(),
            Some(Err(failure)) => {
                self.failure = failure;
                self.finish(true)
            }
            Some(Ok(mut found)) => {
                found.step = self.step;
                self.advance([found].into(), found.addr)
            }
        }
    }

    /// The router that says, right behind the start, that the buddy's port is unreachable.
    fn behind_start(&self, path: &Path) -> core::result::Result<Found, Result> {
        let (last, before) = path.hops.split_last().ok_or(Result::TargetSilent)?;
        let answer = last
            .answer
            .as_ref()
            .filter(|a| a.kind == ReplyKind::PortUnreachable)
            .ok_or(Result::TargetSilent)?;
        if answer.addr == self.request.start {
            return Err(Result::NothingRevealed);
        }
        let skip = usize::from(self.request.silent_ingress);
        let previous = before.len().checked_sub(1 + skip).map(|at| &before[at]);
        let start = previous.and_then(|hop| hop.answer.as_ref());
        if start.is_none_or(|a| a.addr != self.request.start) {
            return Err(Result::IngressMissing);
        }
        if answer.addr == self.target || answer.addr == self.request.egress {
            return Err(Result::NothingRevealed);
        }
        let ttl = path
            .first_ttl
            .saturating_add(u8::try_from(before.len()).unwrap_or(u8::MAX));
        Ok(Found::new(Some(answer), ttl, LsrMethod::Buddy, self.step))
    }

    /// Ends the revelation. `exhausted` says that it ended because there was nothing more to find.
    fn finish(&mut self, exhausted: bool) -> Vec<Ask> {
        let found = core::mem::take(&mut self.found);
        let result = if found.is_empty() {
            self.failure
        } else {
            Result::Revealed
        };
        // The target's silence after a buddy is how that search normally ends.
        let searched_out = self.failure == Result::NothingRevealed || self.buddy.is_some();
        let silent = found.iter().any(|f| f.addr.is_none());
        self.outcome = Some(Outcome {
            result,
            complete: exhausted && searched_out && !silent && !found.is_empty(),
            last_step: (exhausted && !found.is_empty()).then_some(self.failure),
            found,
        });
        Vec::new()
    }
}

impl Found {
    fn new(answer: Option<&Observation>, ttl: u8, method: LsrMethod, step: u8) -> Self {
        Self {
            addr: answer.map(|a| a.addr),
            method,
            step,
            ttl,
            rtt_ns: answer.map(|a| crate::observation::nanos(a.rtt)),
            reply_ttl: answer.map(|a| a.reply_ttl),
            quoted_ttl: answer.and_then(|a| a.quoted_ttl),
        }
    }
}

impl Buddy {
    /// The router behind the right buddy, or why there is none; `None` as long as that cannot be
    /// told. Where both prefix lengths lead to a router, whether the first address of the /30 is
    /// a host decides.
    const fn verdict(&self) -> Option<core::result::Result<Found, Result>> {
        match (self.over_30, self.over_31, self.first_answers) {
            // The buddy that is none is silent: what the other says is why.
            (Some(Err(Result::TargetSilent)), Some(only), _)
            | (Some(only), Some(Err(_)), _)
            | (Some(Err(_)), Some(only @ Ok(_)), _) => Some(only),
            (Some(_), Some(found), Some(true)) | (Some(found), Some(_), Some(false)) => Some(found),
            _ => None,
        }
    }
}

/// What to ask about the link of `target`. The first and last address of a /30 can only be hosts
/// of a /31; the two in the middle can be of either.
fn buddies(target: Ipv4Addr) -> Vec<Ask> {
    let bits = target.to_bits();
    let base = bits & !3;
    let at = |index: u32| Ipv4Addr::from_bits(base + index);
    match bits & 3 {
        0 => [Ask::Buddy31(at(1))].into(),
        3 => [Ask::Buddy31(at(2))].into(),
        1 => [Ask::Buddy30(at(2)), Ask::Buddy31(at(0)), Ask::First(at(0))].into(),
        _ => [Ask::Buddy30(at(1)), Ask::Buddy31(at(3)), Ask::First(at(0))].into(),
    }
}
