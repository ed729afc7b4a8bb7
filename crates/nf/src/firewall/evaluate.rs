//! What rules make of a packet.

use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::Frame;
use crate::conntrack::{Conntrack, Tracked};
use crate::dissect::Dissected;

use super::compile::MOST_JUMPS;
use super::limit::{Allowance, Bucket};
use super::load::load;
use super::rules::{Count, Named, Op, Operand, Rules, Update, Value, Verdict};
use super::set::{Data, Dynamic, Key, MOST_FIELDS};
use super::syntax::ast::{Family, Hook, How, Reject};

/// A packet on its way through the chains.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) frame: &'a Frame,
    pub(super) dissected: &'a Dissected,
    pub(super) from: Port,
    /// Bytes behind the Ethernet header, as counters and limits count.
    pub(super) len: u32,
    pub(super) mark: u32,
    /// What connection tracking says; before it, that there is no connection, or that it is not to
    /// look for one.
    pub(super) tracked: Tracked,
    pub(super) hook: Hook,
}

impl<'a> Packet<'a> {
    pub(super) fn new(frame: &'a Frame, dissected: &'a Dissected, from: Port) -> Self {
        let len = match &dissected.ip {
            Some(ip) => ip.len,
            None => {
                let behind = frame.bytes.len().saturating_sub(dissected.network);
                u32::try_from(behind).unwrap_or(u32::MAX)
            }
        };
        Self {
            frame,
            dissected,
            from,
            len,
            mark: 0,
            tracked: Tracked::not_yet(),
            hook: Hook::Prerouting,
        }
    }

    fn is_seen_by(&self, family: Family) -> bool {
        let is_v4 = self.dissected.ip.as_ref().map(|ip| ip.src.is_ipv4());
        match family {
            Family::Bridge => true,
            Family::Inet => is_v4.is_some(),
            Family::Ip => is_v4 == Some(true),
            Family::Ip6 => is_v4 == Some(false),
        }
    }
}

/// What changes while rules are evaluated.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Of those sets whose elements come and go.
    pub(super) sets: Vec<Option<Dynamic>>,
    pub(super) counters: Vec<Count>,
    pub(super) limits: Vec<Bucket>,
    pub(super) quotas: Vec<Allowance>,
    /// Packets that rules matched, by chain and rule.
    pub(super) hits: Vec<Vec<Count>>,
    /// Chains that called another one and the rules where they go on, while a packet is looked at.
    calls: Vec<(usize, usize)>,
}

impl State {
    /// How everything is at the start.
    pub(super) fn new(rules: &Rules, now: Instant) -> Self {
        fn starts<T: Copy>(all: &[Named<T>]) -> Vec<T> {
            all.iter().map(|named| named.start).collect()
        }
        let sets = rules.sets.iter().map(|set| {
            let mut dynamic = set.dynamic.then(|| Dynamic::new(set.size))?;
            for (element, timeout) in &set.start {
                dynamic.add(element.first, element.data, *timeout, true, now);
            }
            Some(dynamic)
        });
        let hits = rules.chains.iter();
        Self {
            sets: sets.collect(),
            counters: starts(&rules.counters),
            limits: starts(&rules.limits),
            quotas: starts(&rules.quotas),
            hits: hits
                .map(|chain| chain.rules.iter().map(|_| Count::default()).collect())
                .collect(),
            calls: Vec::with_capacity(MOST_JUMPS),
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accept,
    Drop,
    Reject(Reject),
}

/// What has decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// No chain has seen it.
    Nothing,
    Rule(usize, usize),
    Policy(usize),
}

/// Something that a rule wants to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged<'a> {
    pub(super) chain: usize,
    pub(super) rule: usize,
    pub(super) prefix: &'a str,
    pub(super) level: &'static str,
    pub(super) hook: Hook,
}

/// Evaluates rules.
pub(super) struct Evaluator<'a> {
    pub(super) rules: &'a Rules,
    pub(super) state: &'a mut State,
    pub(super) conntrack: &'a mut Conntrack,
    pub(super) now: Instant,
    pub(super) log: &'a mut dyn FnMut(&Packet<'_>, Logged<'_>),
}

/// How a rule went on.
enum Next {
    /// It does not match.
    Break,
    Verdict(Verdict),
    Reject(Reject),
}

impl Evaluator<'_> {
    /// Lets a packet meet base chains, one after the other, until one drops it. `by` is what has
    /// decided before; a rule is told before a policy.
    pub(super) fn run(&mut self, packet: &mut Packet<'_>, chains: &[usize], by: &mut By) -> Fate {
        let rules = self.rules;
        for number in chains {
            let Some(chain) = rules.chains.get(*number) else {
                continue;
            };
            if !packet.is_seen_by(chain.family) {
                continue;
            }
            if let Some(base) = &chain.base {
                packet.hook = base.hook;
            }
            let (fate, decided) = self.chain(packet, *number);
            let is_worth_more = fate != Fate::Accept
                || matches!(decided, By::Rule(..))
                || !matches!(by, By::Rule(..));
            if is_worth_more {
                *by = decided;
            }
            if fate != Fate::Accept {
                return fate;
            }
        }
        Fate::Accept
    }

    fn chain(&mut self, packet: &mut Packet<'_>, base: usize) -> (Fate, By) {
        let rules = self.rules;
        let policy = || {
            let drops = rules.chains[base].base.as_ref().is_some_and(|b| b.drops);
            let fate = if drops { Fate::Drop } else { Fate::Accept };
            (fate, By::Policy(base))
        };
        self.state.calls.clear();
        let (mut chain, mut at) = (base, 0);
        loop {
            let next = if at < rules.chains[chain].rules.len() {
                self.rule(packet, chain, at)
            } else {
                Next::Verdict(Verdict::Return)
            };
            let by = By::Rule(chain, at);
            match next {
                Next::Break | Next::Verdict(Verdict::Continue) => at += 1,
                Next::Reject(reject) => return (Fate::Reject(reject), by),
                Next::Verdict(Verdict::Accept) => return (Fate::Accept, by),
                Next::Verdict(Verdict::Drop) => return (Fate::Drop, by),
                Next::Verdict(Verdict::Return) => match self.state.calls.pop() {
                    Some(caller) => (chain, at) = caller,
                    None => return policy(),
                },
                Next::Verdict(Verdict::Jump(to)) => {
                    // More than `MOST_JUMPS` were refused when the rules were read.
                    self.state.calls.push((chain, at + 1));
                    (chain, at) = (to, 0);
                }
                Next::Verdict(Verdict::Goto(to)) => (chain, at) = (to, 0),
            }
        }
    }

    fn rule(&mut self, packet: &mut Packet<'_>, chain: usize, at: usize) -> Next {
        let rules = self.rules;
        let mut next = Next::Verdict(Verdict::Continue);
        for op in &rules.chains[chain].rules[at].ops {
            let goes_on = match op {
                Op::Narrow(comparison) => comparison.matches(packet),
                Op::Range {
                    key,
                    first,
                    last,
                    negated,
                } => load(packet, key)
                    .is_some_and(|value| (*first <= value && value <= *last) != *negated),
                Op::Lookup { key, set, negated } => self
                    .key(packet, key)
                    .is_some_and(|key| self.find(*set, &key).is_some() != *negated),
                Op::VerdictMap { key, set } => {
                    let key = self.key(packet, key);
                    let data = key.and_then(|key| self.find(*set, &key));
                    match data.and_then(Data::verdict) {
                        Some(verdict) => {
                            next = Next::Verdict(verdict);
                            true
                        }
                        None => false,
                    }
                }
                Op::Counter(number) => {
                    self.state.counters[*number].add(packet.len);
                    true
                }
                Op::Limit(number) => self.state.limits[*number].matches(packet.len, self.now),
                Op::Quota(number) => self.state.quotas[*number].matches(packet.len),
                Op::Log { prefix, level } => {
                    let logged = Logged {
                        chain,
                        rule: at,
                        prefix,
                        level,
                        hook: packet.hook,
                    };
                    (self.log)(packet, logged);
                    true
                }
                Op::Update(update) => self.update(packet, update),
                Op::SetMark(value) => match self.value(packet, value) {
                    Some(mark) => {
                        packet.mark = mark32(mark);
                        true
                    }
                    None => false,
                },
                Op::SetCtMark(value) => match self.value(packet, value) {
                    Some(mark) => {
                        self.conntrack.set_mark(&mut packet.tracked, mark32(mark));
                        true
                    }
                    None => false,
                },
                Op::Notrack => {
                    packet.tracked = Tracked::untracked();
                    true
                }
                Op::Reject(reject) => {
                    next = Next::Reject(*reject);
                    true
                }
                Op::Verdict(verdict) => {
                    next = Next::Verdict(*verdict);
                    true
                }
            };
            if !goes_on {
                return Next::Break;
            }
        }
        self.state.hits[chain][at].add(packet.len);
        next
    }

    fn key(&self, packet: &Packet<'_>, operands: &[Operand]) -> Option<Key> {
        let mut key = [0; MOST_FIELDS];
        for (value, operand) in key.iter_mut().zip(operands) {
            *value = load(packet, operand)?;
        }
        Some(key)
    }

    fn find(&self, set: usize, key: &Key) -> Option<Data> {
        match self.state.sets.get(set)? {
            Some(dynamic) => dynamic.find(key, self.now),
            None => self.rules.sets.get(set)?.fixed.find(key),
        }
    }

    fn value(&self, packet: &Packet<'_>, value: &Value) -> Option<u128> {
        match value {
            Value::Constant(value) => Some(*value),
            Value::Operand(operand) => load(packet, operand),
            Value::Map(key, set) => {
                let key = self.key(packet, key)?;
                self.find(*set, &key)?.value()
            }
        }
    }

    /// Changes a set; false ends the rule, as where there is no room.
    fn update(&mut self, packet: &Packet<'_>, update: &Update) -> bool {
        let Some(key) = self.key(packet, &update.key) else {
            return false;
        };
        let data = match &update.data {
            None => Data::Nothing,
            Some(value) => match self.value(packet, value) {
                Some(value) => Data::Value(value),
                None => return false,
            },
        };
        let (now, len) = (self.now, packet.len);
        let Some(Some(set)) = self.state.sets.get_mut(update.set) else {
            return false;
        };
        if update.how == How::Delete {
            set.remove(&key);
            return true;
        }
        let renewed = update.how == How::Update;
        if !set.add(key, data, update.timeout, renewed, now) {
            return false;
        }
        match update.limit {
            None => true,
            Some(limit) => set
                .bucket(&key, Bucket::new(limit))
                .is_some_and(|bucket| bucket.matches(len, now)),
        }
    }
}

/// Marks have 32 bits; values were checked when the rules were read, or come from fields as wide.
fn mark32(value: u128) -> u32 {
    u32::try_from(value & u128::from(u32::MAX)).unwrap_or(0)
}
