//! A stateful firewall between two ports, whose rules are written as for nftables.
//!
//! A [`Ruleset`] is read from a subset of what `nft -f` takes; what is not understood is refused
//! with its place. A [`Firewall`] evaluates it as the kernel would where it forwards: reassembly,
//! the chains of prerouting in front of connection tracking, tracking, the other chains of
//! prerouting, those of forward, those of postrouting. A stage is a wire: Ethernet addresses and
//! TTL stay, and what is not IP meets the chains of tables of the family bridge only.

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of many kinds of words few can stand in a place, and the others are refused alike"
)]
mod compile;
mod evaluate;
mod event;
mod explain;
mod limit;
mod load;
mod narrow;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "one kind of refusal is a segment, all others are messages"
)]
mod reject;
mod rules;
mod set;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of many kinds of words few can stand in a place, and the others are refused alike"
)]
mod syntax;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::antispoof::Antispoof;
use crate::conntrack::{self, Conntrack, Refused};
use crate::dissect::{Dissected, Fault};
use crate::function::Detail;
use crate::reassembly::{self, Outcome, Reassembler};
use crate::{Counter, Frame, Function, Output};

pub use event::Event;
pub use syntax::{Complaint, Error, Include, Source};

use evaluate::{By, Evaluator, Fate, Packet, State};
use reject::Pace;
use rules::{Named, Rules};
use syntax::ast::{Hook, Reject};

/// Events that are kept at most until the owner takes them; what is more is counted as lost.
const MOST_EVENTS: usize = 65_536;

/// Rules, read and found good.
#[derive(Clone, Debug)]
pub struct Ruleset(Rules);

impl Ruleset {
    /// Reads rules from a file and those that it includes. `defines` are variables that are given
    /// beforehand, `ports` the names of the left and the right interface. `include` gives the files
    /// that a path stands for; it is told the name of the file that asks, and the path.
    ///
    /// # Errors
    /// The first thing that is wrong, or not supported.
    pub fn parse(
        main: Source,
        defines: &[(String, String)],
        ports: &[String; 2],
        include: &mut Include<'_>,
    ) -> Result<Self, Error> {
        let (commands, sources) = syntax::parse(main, defines, include)
            .map_err(|(sources, (span, complaint))| sources.error(span, complaint))?;
        compile::compile(commands, &sources, ports)
            .map(Self)
            .map_err(|(span, complaint)| sources.error(span, complaint))
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.0.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// How many chains packets meet of themselves.
    pub fn base_chains(&self) -> usize {
        self.0.before.len() + self.0.after.len()
    }
}

/// Bytes behind the beginning of a header that are sure to be in the beginning of a frame.
const MOST_REACH: usize = crate::function::HEAD_LEN / 2;

/// What a firewall does besides evaluating rules.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Every packet passes, with a comment that says what would have become of it and why.
    pub explain: bool,
    /// How connections are tracked.
    pub conntrack: conntrack::Config,
    /// How fragments are put together.
    pub reassembly: reassembly::Config,
    /// Packets with a source that cannot be are dropped before they meet a rule; none to let them
    /// pass.
    pub antispoof: Option<Antispoof>,
    /// Keys the hash of the connections.
    pub seed: u64,
}

/// Why a frame was dropped, or what else was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    accepted: u64,
    dropped_by_rule: u64,
    dropped_by_policy: u64,
    rejected: u64,
    malformed: u64,
    spoofed: u64,
    no_room: u64,
    answers: u64,
    lost_events: u64,
}

/// A firewall.
#[derive(Debug)]
pub struct Firewall {
    config: Config,
    rules: Rules,
    /// None until the first packet tells the time.
    state: Option<State>,
    conntrack: Conntrack,
    reassembler: Reassembler,
    pace: Pace,
    events: VecDeque<Event>,
    counts: Counts,
}

/// What was decided about a packet.
struct Decision {
    fate: Fate,
    by: By,
    /// None of what is not IP, or was dropped before tracking.
    seen: Option<Seen>,
    refused: Option<Refused>,
}

/// What a comment says of a packet's connection.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: conntrack::State,
    invalid: Option<conntrack::Invalid>,
}

impl Firewall {
    /// A firewall that knows no connection yet.
    pub fn new(ruleset: Ruleset, config: Config) -> Self {
        Self {
            rules: ruleset.0,
            state: None,
            conntrack: Conntrack::new(config.conntrack, config.seed),
            reassembler: Reassembler::new(config.reassembly),
            pace: Pace::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
            config,
        }
    }

    /// Takes other rules in place of those that it has. Connections stay; so do counters, limits
    /// and quotas of rules that are in both, and the elements of sets that packets have added.
    pub fn reload(&mut self, ruleset: Ruleset, now: Instant) {
        let rules = ruleset.0;
        if let Some(old) = &self.state {
            let mut new = State::new(&rules, now);
            carry(
                &self.rules.counters,
                &old.counters,
                &rules.counters,
                &mut new.counters,
            );
            carry(
                &self.rules.limits,
                &old.limits,
                &rules.limits,
                &mut new.limits,
            );
            carry(
                &self.rules.quotas,
                &old.quotas,
                &rules.quotas,
                &mut new.quotas,
            );
            for (set, into) in rules.sets.iter().zip(&mut new.sets) {
                let mut olds = self.rules.sets.iter().zip(&old.sets);
                let found = olds.find(|(old, _)| set.dynamic && old.is_like(set));
                if let (Some((_, Some(found))), Some(into)) = (found, into) {
                    into.take(found);
                }
            }
            let mut hits = BTreeMap::new();
            for (chain, counts) in self.rules.chains.iter().zip(&old.hits) {
                let rules = chain.rules.iter().map(|rule| &rule.identity[..]);
                hits.extend(rules.zip(counts.iter().copied()));
            }
            for (chain, counts) in rules.chains.iter().zip(&mut new.hits) {
                for (rule, count) in chain.rules.iter().zip(counts) {
                    if let Some(old) = hits.get(&rule.identity[..]) {
                        *count = *old;
                    }
                }
            }
            self.state = Some(new);
        }
        self.rules = rules;
    }

    /// Takes the next packet that met a `log` statement. What nobody takes is lost after 65 536.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn frame(&mut self, from: Port, frame: Frame, now: Instant, out: &mut Output) {
        let packet = Dissected::new(&frame);
        let is_malformed = matches!(
            packet.fault,
            Some(Fault::EthernetCutOff | Fault::IpHeader | Fault::IpChecksum | Fault::IpLength)
        );
        if is_malformed {
            self.counts.malformed += 1;
            let why = packet.fault.map_or("", Fault::words);
            return self.dropped_early("malformed", why, from, frame, out);
        }
        let antispoof = self.config.antispoof.as_ref();
        if let Some(spoofed) = antispoof.and_then(|check| check.check(from, &packet, &frame)) {
            self.counts.spoofed += 1;
            return self.dropped_early("spoofed", spoofed.words(), from, frame, out);
        }
        if !packet.ip.is_some_and(|ip| ip.is_piece()) {
            return self.whole(from, &packet, frame, now, out);
        }
        // A dry run keeps order and number of the frames: each fragment passes at once.
        let passing = self.config.explain.then(|| out.copy(&frame));
        match self.reassembler.push(from, &packet, frame, now, out) {
            Outcome::Alone(frame) => {
                if let Some(passing) = passing {
                    out.recycle(passing);
                }
                self.whole(from, &packet, frame, now, out);
            }
            Outcome::Taken => {
                if let Some(mut passing) = passing {
                    passing.comment.clear();
                    let words = "fragment: waits for the others of its datagram, or was dropped";
                    passing.comment.push_str(words);
                    out.send(from.opposite(), passing);
                }
            }
            Outcome::Whole(datagram) => {
                let whole = datagram.whole;
                let packet = Dissected::new(&whole);
                let decision = self.decide(from, &packet, &whole, now);
                self.count(&decision);
                if let Some(mut passing) = passing {
                    self.comment(&mut passing.comment, &decision);
                    out.send(from.opposite(), passing);
                } else {
                    self.refuse(&decision, from, &packet, &whole, now, out);
                }
                for fragment in datagram.fragments {
                    if decision.fate == Fate::Accept && !self.config.explain {
                        out.send(from.opposite(), fragment);
                    } else {
                        out.recycle(fragment);
                    }
                }
                out.recycle(whole);
            }
        }
    }

    /// A frame that is all of its datagram.
    fn whole(
        &mut self,
        from: Port,
        packet: &Dissected,
        mut frame: Frame,
        now: Instant,
        out: &mut Output,
    ) {
        let decision = self.decide(from, packet, &frame, now);
        self.count(&decision);
        if self.config.explain {
            let mut comment = core::mem::take(&mut frame.comment);
            self.comment(&mut comment, &decision);
            frame.comment = comment;
            out.send(from.opposite(), frame);
        } else if decision.fate == Fate::Accept {
            out.send(from.opposite(), frame);
        } else {
            self.refuse(&decision, from, packet, &frame, now, out);
            out.recycle(frame);
        }
    }

    fn decide(&mut self, from: Port, packet: &Dissected, frame: &Frame, now: Instant) -> Decision {
        let rules = &self.rules;
        let state = self.state.get_or_insert_with(|| State::new(rules, now));
        let (events, counts) = (&mut self.events, &mut self.counts);
        let mut log = |packet: &Packet<'_>, logged: evaluate::Logged<'_>| {
            if events.len() >= MOST_EVENTS {
                counts.lost_events += 1;
                return;
            }
            let rule = rules
                .chains
                .get(logged.chain)
                .and_then(|c| c.rules.get(logged.rule));
            events.push_back(Event {
                at: now,
                prefix: logged.prefix.to_string(),
                level: logged.level,
                place: rule.map(|rule| rule.place.clone()).unwrap_or_default(),
                from: packet.from,
                to: (logged.hook != Hook::Prerouting).then(|| packet.from.opposite()),
                len: packet.len,
                mark: packet.mark,
                packet: *packet.dissected,
            });
        };
        let mut evaluator = Evaluator {
            rules,
            state,
            conntrack: &mut self.conntrack,
            now,
            log: &mut log,
        };
        let mut seen = Packet::new(frame, packet, from);
        let mut by = By::Nothing;
        let mut fate = evaluator.run(&mut seen, &rules.before, &mut by);
        let was_tracked = fate == Fate::Accept;
        if was_tracked {
            if seen.tracked.state != conntrack::State::Untracked {
                let conntrack = &mut *evaluator.conntrack;
                conntrack.track(packet, frame, now, &mut seen.tracked);
            }
            fate = evaluator.run(&mut seen, &rules.after, &mut by);
        }
        let mut refused = None;
        if fate == Fate::Accept
            && let Err(why) = self.conntrack.confirm(&mut seen.tracked, now)
        {
            fate = Fate::Drop;
            refused = Some(why);
        }
        Decision {
            fate,
            by,
            seen: (was_tracked && packet.ip.is_some()).then_some(Seen {
                state: seen.tracked.state,
                invalid: seen.tracked.invalid,
            }),
            refused,
        }
    }

    fn count(&mut self, decision: &Decision) {
        let counts = &mut self.counts;
        *match (decision.fate, decision.refused, decision.by) {
            (Fate::Accept, ..) => &mut counts.accepted,
            (Fate::Reject(_), ..) => &mut counts.rejected,
            (Fate::Drop, Some(_), _) => &mut counts.no_room,
            (Fate::Drop, None, By::Policy(_)) => &mut counts.dropped_by_policy,
            (Fate::Drop, None, By::Rule(..) | By::Nothing) => &mut counts.dropped_by_rule,
        } += 1;
    }

    fn comment(&self, into: &mut String, decision: &Decision) {
        into.clear();
        if let Some(refused) = decision.refused {
            into.push_str("drop: ");
            into.push_str(refused.words());
            return;
        }
        explain::verdict(into, &self.rules, decision.fate, decision.by, decision.seen);
    }

    /// Tells the sender of a packet that it was refused, if a rule wants that.
    fn refuse(
        &mut self,
        decision: &Decision,
        from: Port,
        packet: &Dissected,
        frame: &Frame,
        now: Instant,
        out: &mut Output,
    ) {
        let (Fate::Reject(reject), Some(ip)) = (decision.fate, &packet.ip) else {
            return;
        };
        let Some(mut answer) = reject::answer(frame, packet, reject) else {
            return;
        };
        if reject != Reject::TcpReset && !self.pace.allows(ip.src, now) {
            return;
        }
        self.counts.answers += 1;
        answer.at = now;
        out.send(from, answer);
    }

    fn dropped_early(&self, what: &str, why: &str, from: Port, mut frame: Frame, out: &mut Output) {
        if !self.config.explain {
            return out.recycle(frame);
        }
        frame.comment.clear();
        for part in ["drop: ", what, ": ", why] {
            frame.comment.push_str(part);
        }
        out.send(from.opposite(), frame);
    }
}

/// Takes over what has the same identity.
fn carry<T: Copy>(old: &[Named<T>], from: &[T], new: &[Named<T>], into: &mut [T]) {
    let names = old.iter().map(|named| &named.identity[..]);
    let known: BTreeMap<_, _> = names.zip(from).collect();
    for (named, value) in new.iter().zip(into) {
        if let Some(old) = known.get(&named.identity[..]) {
            *value = **old;
        }
    }
}

impl Function for Firewall {
    fn handle_frames(
        &mut self,
        from: Port,
        batch: &mut Vec<Frame>,
        now: Instant,
        out: &mut Output,
    ) {
        for frame in batch.drain(..) {
            self.frame(from, frame, now, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
        self.conntrack.handle_timeout(now);
        self.reassembler.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [
            self.conntrack.poll_timeout(),
            self.reassembler.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn heads_suffice(&self) -> bool {
        self.rules.reach <= MOST_REACH
    }

    fn counters(&self) -> Vec<Counter> {
        let counts = &self.counts;
        let mut counters: Vec<_> = [
            ("accepted_packets", counts.accepted),
            ("dropped_by_rule_packets", counts.dropped_by_rule),
            ("dropped_by_policy_packets", counts.dropped_by_policy),
            ("rejected_packets", counts.rejected),
            ("dropped_malformed_frames", counts.malformed),
            ("dropped_spoofed_frames", counts.spoofed),
            ("dropped_no_room_for_connection_packets", counts.no_room),
            ("sent_refusals", counts.answers),
            ("suppressed_refusals", self.pace.suppressed),
            ("lost_log_entries", counts.lost_events),
        ]
        .map(|(name, value)| Counter { name, value })
        .into();
        counters.extend(self.conntrack.counters());
        counters.extend(self.reassembler.counters());
        counters
    }

    fn details(&self) -> Vec<Detail> {
        let Some(state) = &self.state else {
            return Vec::new();
        };
        let mut details = Vec::new();
        for (chain, hits) in self.rules.chains.iter().zip(&state.hits) {
            for (rule, hits) in chain.rules.iter().zip(hits) {
                let own = rule.counter.and_then(|number| state.counters.get(number));
                let count = own.unwrap_or(hits);
                let (family, table) = (chain.family.name(), &chain.table);
                details.push(Detail {
                    name: alloc::format!(
                        "{} table {family} {table} chain {}: {}",
                        rule.place,
                        chain.name,
                        rule.text
                    ),
                    packets: count.packets,
                    bytes: count.bytes,
                });
            }
        }
        for (named, count) in self.rules.counters.iter().zip(&state.counters) {
            if !named.name.is_empty() {
                details.push(Detail {
                    name: alloc::format!("counter {}", named.name),
                    packets: count.packets,
                    bytes: count.bytes,
                });
            }
        }
        details
    }
}
