//! A trace from its first probe to its record.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use plumb_record::{Hop, Revelation, StopReason, Trigger};
use plumb_wire::{Instant, is_reserved};

use crate::engine::{EchoWaiter, Engine, JobState};
use crate::job::{JobId, Reveal, Trace};
use crate::observation::nanos;
use crate::reveal_job::Wish;
use crate::slab::Key;
use crate::task::{Common, EchoTtls, Owner, Work};
use crate::tnt::reveal::{Outcome, Request};
use crate::tnt::trigger::{self, Candidate};
use crate::tnt::view::View;
use crate::tnt::visible::{self, Span};
use crate::walk::{Path, Walk, WalkOptions};
use crate::{Event, assemble};

/// What a revelation found, with the pings of it.
#[derive(Debug)]
pub(crate) struct Revealed {
    pub(crate) outcome: Outcome,
    pub(crate) echoes: EchoTtls,
    pub(crate) probes: u32,
    /// Who paid; for all others it cost nothing.
    pub(crate) payer: Key,
}

#[derive(Debug)]
pub(crate) struct TraceJob {
    pub(crate) spec: Trace,
    pub(crate) flow: u16,
    pub(crate) started: Instant,
    /// The walk, as long as it goes on.
    pub(crate) task: Option<Key>,
    pub(crate) path: Option<Path>,
    pub(crate) echoes: EchoTtls,
    pub(crate) found: Option<Tunnels>,
    pub(crate) probes: u32,
    pub(crate) interrupted: bool,
}

/// The tunnels of a path, as far as they are known.
#[derive(Debug)]
pub(crate) struct Tunnels {
    pub(crate) spans: Vec<Span>,
    pub(crate) candidates: Vec<Candidate>,
    /// By candidate.
    pub(crate) revealed: Vec<Option<Arc<Revealed>>>,
    /// Candidates whose revelation was begun.
    pub(crate) begun: usize,
    pub(crate) waiting: usize,
}

/// What a trace needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To wait for what was begun.
    Wait,
    /// The revelation of the candidate.
    Reveal(usize),
    /// Nothing: the record can be written.
    Finish,
}

impl TraceJob {
    /// Looks at what is known and says what is needed next.
    pub(crate) fn next(&mut self) -> Next {
        let Some(path) = &self.path else {
            return Next::Wait;
        };
        let Some(options) = self.spec.options.tunnels.as_ref() else {
            return Next::Finish;
        };
        if self.interrupted {
            return Next::Finish;
        }
        if self.echoes.waiting > 0 {
            return Next::Wait;
        }
        let found = self.found.get_or_insert_with(|| {
            let view = View::new(path, |addr| self.echoes.get(addr));
            let spans = visible::classify(&view, options.opaque_ttl);
            let candidates = trigger::candidates(&view, &spans, options);
            let revealed = candidates.iter().map(|_| None).collect();
            Tunnels {
                spans,
                candidates,
                revealed,
                begun: 0,
                waiting: 0,
            }
        });
        if options.reveal == Reveal::Never {
            return Next::Finish;
        }
        if options.first_only {
            if found.waiting > 0 {
                return Next::Wait;
            }
            let success = |r: &Option<Arc<Revealed>>| {
                r.as_ref()
                    .is_some_and(|r| r.outcome.result == Revelation::Revealed)
            };
            if found.revealed.iter().any(success) {
                return Next::Finish;
            }
        }
        if found.begun < found.candidates.len() {
            found.begun += 1;
            return Next::Reveal(found.begun - 1);
        }
        if found.waiting > 0 {
            Next::Wait
        } else {
            Next::Finish
        }
    }

    /// What the revelation of a candidate needs to know.
    fn wish(&self, key: Key, candidate: usize) -> Option<Wish> {
        let path = self.path.as_ref()?;
        let c = self.found.as_ref()?.candidates.get(candidate)?;
        let addr = |at: usize| path.hops.get(at)?.answer.as_ref().map(|a| a.addr);
        let request = Request {
            start: addr(c.start)?,
            silent_ingress: c.start != c.ingress,
            egress: addr(c.egress)?,
            hidden_egress: c.trigger == Trigger::DupIp,
        };
        Some(Wish {
            request,
            trace: key,
            candidate,
            src: self.spec.src,
            flow: self.flow,
            options: Arc::clone(&self.spec.options),
            rtt: path.hops[..=c.egress]
                .iter()
                .filter_map(|hop| hop.answer.as_ref())
                .map(|answer| answer.rtt)
                .max()?,
            start_ttl: path.first_ttl.saturating_add(u8::try_from(c.start).ok()?),
        })
    }
}

impl Engine {
    pub(crate) fn start_trace(&mut self, trace: Trace) -> Key {
        let options = Arc::clone(&trace.options);
        let flow = options.flow.unwrap_or_else(|| self.flows.allocate());
        let common = Common {
            method: options.method,
            src: trace.src,
            dst: trace.dst,
            flow,
            dst_port: options.dst_port,
            tos: options.tos,
            size: options.size,
            ttl: u8::MAX,
        };
        let walk = WalkOptions {
            first_ttl: options.first_ttl,
            max_ttl: options.max_ttl,
            attempts: options.attempts,
            gap_limit: options.gap_limit,
            wait: options.wait,
            parallel: options.parallel,
        };
        let job = self.jobs.insert(JobState::Trace(TraceJob {
            spec: trace,
            flow,
            started: self.now,
            task: None,
            path: None,
            echoes: EchoTtls::default(),
            found: None,
            probes: 0,
            interrupted: false,
        }));
        let task = self.spawn_walk(common, Owner::Job(job), job, walk);
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(job) {
            trace.task = Some(task);
        }
        job
    }

    /// A TTL of a trace's walk has answered or is silent for good.
    pub(crate) fn on_trace_hop(&mut self, key: Key, task: Key, ttl: u8) {
        let Some(Work::Walk(walk)) = self.tasks.get(task).map(|t| &t.work) else {
            return;
        };
        let (Some(hop), Some(JobState::Trace(trace))) = (walk.hop(ttl), self.jobs.get(key)) else {
            return;
        };
        if trace.spec.options.report_hops {
            let record = match &hop.answer {
                Some(answer) => answer.to_hop(ttl, trace.started),
                None => Hop {
                    ttl,
                    attempt: hop.attempts,
                    sent_after_ns: nanos(hop.sent.since(trace.started)),
                    ..Hop::default()
                },
            };
            self.events.push_back(Event::Hop {
                job: JobId(key.to_bits()),
                hop: Box::new(record),
            });
        }
        let Some(answer) = hop.answer.as_ref().filter(|a| a.is_time_exceeded()) else {
            return;
        };
        let addr = answer.addr;
        let wanted = trace.spec.options.tunnels.is_some()
            && !is_reserved(addr)
            && !trace.echoes.contains(addr);
        if !wanted {
            return;
        }
        let (src, options) = (trace.spec.src, Arc::clone(&trace.spec.options));
        let known = self.ask_echo_ttl(addr, EchoWaiter::Trace(key), key, src, &options);
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(key) {
            trace.echoes.add(addr, known);
        }
    }

    pub(crate) fn on_trace_echo(&mut self, key: Key, addr: IpAddr, ttl: Option<u8>) {
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(key) {
            trace.echoes.learn(addr, ttl);
            self.advance_trace(key);
        }
    }

    pub(crate) fn on_trace_walked(&mut self, key: Key, walk: Walk) {
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(key) {
            trace.task = None;
            trace.path = Some(walk.finish(StopReason::Interrupted));
            self.advance_trace(key);
        }
    }

    pub(crate) fn on_trace_revealed(
        &mut self,
        key: Key,
        candidate: usize,
        revealed: &Arc<Revealed>,
    ) {
        if let Some(JobState::Trace(trace)) = self.jobs.get_mut(key)
            && let Some(found) = trace.found.as_mut()
        {
            found.revealed[candidate] = Some(Arc::clone(revealed));
            found.waiting = found.waiting.saturating_sub(1);
            self.advance_trace(key);
        }
    }

    /// Does what the trace needs until it waits for something or ends.
    pub(crate) fn advance_trace(&mut self, key: Key) {
        loop {
            let Some(JobState::Trace(trace)) = self.jobs.get_mut(key) else {
                return;
            };
            match trace.next() {
                Next::Wait => return,
                Next::Finish => {
                    let event = Event::Trace {
                        job: JobId(key.to_bits()),
                        started: trace.started,
                        trace: Box::new(assemble::trace(trace, key, self.now)),
                    };
                    self.finish_job(key, event);
                    return;
                }
                Next::Reveal(candidate) => {
                    let Some(wish) = trace.wish(key, candidate) else {
                        continue;
                    };
                    let known = self.ask_revelation(wish);
                    if let Some(JobState::Trace(trace)) = self.jobs.get_mut(key)
                        && let Some(found) = trace.found.as_mut()
                    {
                        found.waiting += usize::from(known.is_none());
                        found.revealed[candidate] = known;
                    }
                }
            }
        }
    }
}
