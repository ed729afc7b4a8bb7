//! Revelations under way, each shared by all traces that cross the same pair of hops.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_record::{Method, Revelation as Result, StopReason};
use plumb_wire::is_reserved;

use crate::cache::{Cache, Lookup};
use crate::echo::{Echo, EchoOptions};
use crate::engine::{EchoWaiter, Engine};
use crate::job::TraceOptions;
use crate::slab::Key;
use crate::task::{Common, EchoTtls, Owner, Work};
use crate::tnt::reveal::{Answer, Ask, Request, Revelation};
use crate::trace_job::Revealed;
use crate::walk::WalkOptions;

/// What revelations are shared by: the routers on both sides, and whether one of them was silent.
pub(crate) type RevealKey = (IpAddr, IpAddr, bool, bool);

/// Shared revelations; those who wait are traces with the index of their candidate.
pub(crate) type Revelations = Cache<RevealKey, Arc<Revealed>, (Key, usize)>;

#[derive(Debug)]
pub(crate) struct RevealJob {
    key: RevealKey,
    revelation: Revelation,
    payer: Key,
    src: IpAddr,
    flow: u16,
    options: Arc<TraceOptions>,
    start_ttl: u8,
    buddy_wait: Duration,
    echoes: EchoTtls,
    pub(crate) probes: u32,
}

/// The trace that wants a revelation.
pub(crate) struct Wish {
    pub(crate) request: Request,
    pub(crate) trace: Key,
    pub(crate) candidate: usize,
    pub(crate) src: IpAddr,
    pub(crate) flow: u16,
    pub(crate) options: Arc<TraceOptions>,
    /// TTL at which the request's start answered.
    pub(crate) start_ttl: u8,
    /// Greatest round-trip time on the path up to the egress.
    pub(crate) rtt: Duration,
}

/// How many TTLs before the start a revelation begins, so that a path that differs a little still
/// shows the start (TNT's STARTTTL_OFF).
const LEAD: u8 = 2;

/// What is added to four round-trip times for the wait for a buddy. Every second buddy does not
/// exist, so a full wait for it would be most of the time that a revelation takes.
const BUDDY_GRACE: Duration = Duration::from_millis(50);

/// Destination port of walks to buddies: one that routers do not listen on.
const BUDDY_PORT: u16 = 33_435;

impl Engine {
    /// Asks for a revelation; `None` if the trace will be told later.
    pub(crate) fn ask_revelation(&mut self, wish: Wish) -> Option<Arc<Revealed>> {
        let r = &wish.request;
        let key = (r.start, r.egress, r.silent_ingress, r.hidden_egress);
        let who = (wish.trace, wish.candidate);
        match self.revelations.ask(key, who, self.now) {
            Lookup::Hit(revealed) => Some(revealed),
            Lookup::Pending => None,
            Lookup::Start => {
                let revelation = Revelation::new(wish.request);
                let ask = revelation.begin();
                let reveal = self.reveals.insert(RevealJob {
                    key,
                    revelation,
                    payer: wish.trace,
                    src: wish.src,
                    flow: wish.flow,
                    options: wish.options,
                    start_ttl: wish.start_ttl,
                    buddy_wait: wish.rtt * 4 + BUDDY_GRACE,
                    echoes: EchoTtls::default(),
                    probes: 0,
                });
                self.begin_ask(reveal, ask);
                None
            }
        }
    }

    fn begin_ask(&mut self, reveal: Key, ask: Ask) {
        let Some(job) = self.reveals.get(reveal) else {
            return;
        };
        let options = Arc::clone(&job.options);
        let (method, dst) = match ask {
            Ask::Target(dst) => (options.method, dst),
            Ask::Buddy30(dst) | Ask::Buddy31(dst) => (Method::UdpParis, dst.into()),
            Ask::First(dst) => (Method::IcmpParis, dst.into()),
        };
        let is_buddy = !matches!(ask, Ask::Target(_));
        let common = Common {
            method,
            src: job.src,
            dst,
            flow: job.flow,
            dst_port: if is_buddy {
                BUDDY_PORT
            } else {
                options.dst_port
            },
            tos: options.tos,
            size: options.size,
            ttl: u8::MAX,
        };
        let owner = Owner::Reveal(reveal, ask);
        let payer = job.payer;
        let wait = if is_buddy {
            options.wait.min(job.buddy_wait)
        } else {
            options.wait
        };
        if let Ask::First(_) = ask {
            let echo = EchoOptions {
                count: Some(1),
                enough: Some(1),
                interval: wait,
                eager: true,
                wait,
            };
            let work = Work::Echo(Echo::new(echo, self.now));
            self.spawn(common, owner, payer, work);
            return;
        }
        let gap = job.revelation.buddy_gap();
        let walk = WalkOptions {
            first_ttl: job.start_ttl.saturating_sub(LEAD).max(1),
            max_ttl: if is_buddy {
                // It is of use only right behind the ingress, which may be one router further off.
                job.start_ttl.saturating_add(gap + 1)
            } else {
                // The hidden part may be longer than what the trace's own limit leaves.
                options.max_ttl.max(job.start_ttl.saturating_add(32))
            },
            attempts: options.attempts,
            gap_limit: if is_buddy { gap } else { options.gap_limit },
            wait,
            parallel: options.parallel,
        };
        self.spawn_walk(common, owner, payer, walk);
    }

    pub(crate) fn on_reveal_answer(&mut self, reveal: Key, ask: Ask, work: Work) {
        let Some(job) = self.reveals.get_mut(reveal) else {
            // It was decided without this answer.
            return;
        };
        let asks = match work {
            Work::Walk(walk) => {
                let path = walk.finish(StopReason::Interrupted);
                job.revelation.on_answer(ask, &Answer::Path(&path))
            }
            Work::Echo(echo) => {
                let Ask::First(first) = ask else {
                    return;
                };
                let answers = echo.answered_by == Some(first.into());
                job.revelation.on_answer(ask, &Answer::Echo(answers))
            }
        };
        self.ping_found(reveal);
        for ask in asks {
            self.begin_ask(reveal, ask);
        }
        self.finish_reveal(reveal);
    }

    /// Pings the routers found so far while the revelation goes on.
    fn ping_found(&mut self, reveal: Key) {
        let Some(job) = self.reveals.get(reveal) else {
            return;
        };
        let (payer, src, options) = (job.payer, job.src, Arc::clone(&job.options));
        let new: Vec<IpAddr> = job
            .revelation
            .found()
            .filter(|addr| !is_reserved(*addr) && !job.echoes.contains(*addr))
            .collect();
        for addr in new {
            let known = self.ask_echo_ttl(addr, EchoWaiter::Reveal(reveal), payer, src, &options);
            if let Some(job) = self.reveals.get_mut(reveal) {
                job.echoes.add(addr, known);
            }
        }
    }

    pub(crate) fn on_reveal_echo(&mut self, reveal: Key, addr: IpAddr, ttl: Option<u8>) {
        if let Some(job) = self.reveals.get_mut(reveal) {
            job.echoes.learn(addr, ttl);
            self.finish_reveal(reveal);
        }
    }

    fn finish_reveal(&mut self, reveal: Key) {
        let done = self
            .reveals
            .get(reveal)
            .is_some_and(|job| job.revelation.outcome().is_some() && job.echoes.waiting == 0);
        if !done {
            return;
        }
        let Some(job) = self.reveals.remove(reveal) else {
            return;
        };
        let Some(outcome) = job.revelation.into_outcome() else {
            return;
        };
        let failed = matches!(
            outcome.result,
            Result::TargetSilent | Result::IngressMissing
        );
        let revealed = Arc::new(Revealed {
            outcome,
            echoes: job.echoes,
            probes: job.probes,
            payer: job.payer,
        });
        let waiters = self
            .revelations
            .learn(job.key, Arc::clone(&revealed), failed, self.now);
        for (trace, candidate) in waiters {
            self.on_trace_revealed(trace, candidate, &revealed);
        }
    }
}
