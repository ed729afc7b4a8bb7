//! A ping that a user asked for.

use alloc::boxed::Box;
use core::net::IpAddr;

use plumb_record::{
    Method, Ping as PingRecord, PingReply, PingSchema, PingType, ReplyType, WallTime,
};
use plumb_wire::Instant;

use crate::Event;
use crate::echo::{Echo, EchoOptions, Outcome};
use crate::engine::{Engine, JobState};
use crate::job::{JobId, Ping};
use crate::observation::nanos;
use crate::slab::Key;
use crate::task::{Common, Owner, Work};

#[derive(Debug)]
pub(crate) struct PingJob {
    spec: Ping,
    started: Instant,
    pub(crate) task: Option<Key>,
}

impl Engine {
    pub(crate) fn start_ping(&mut self, ping: Ping) -> Key {
        let options = ping.options.clone();
        let common = Common {
            method: Method::IcmpParis,
            src: ping.src,
            dst: ping.dst,
            flow: self.flows.allocate(),
            dst_port: 0,
            tos: options.tos,
            size: options.size,
            ttl: options.ttl,
        };
        let echo = EchoOptions {
            count: options.count,
            enough: None,
            interval: options.interval,
            eager: false,
            wait: options.wait,
        };
        let job = self.jobs.insert(JobState::Ping(PingJob {
            spec: ping,
            started: self.now,
            task: None,
        }));
        let work = Work::Echo(Echo::new(echo, self.now));
        let task = self.spawn(common, Owner::Job(job), job, work);
        if let Some(JobState::Ping(ping)) = self.jobs.get_mut(job) {
            ping.task = Some(task);
        }
        job
    }

    pub(crate) fn on_ping_outcomes(&mut self, key: Key, dst: IpAddr, outcomes: &[Outcome]) {
        let Some(JobState::Ping(ping)) = self.jobs.get(key) else {
            return;
        };
        if !ping.spec.options.report_replies {
            return;
        }
        for outcome in outcomes {
            let answer = outcome.answer.as_ref();
            let reply = PingReply {
                schema: PingSchema::V1,
                kind: ReplyType::Reply,
                dst,
                seq: outcome.number,
                addr: answer.map(|a| a.addr),
                rtt_ns: answer.map(|a| nanos(a.rtt)),
                reply_ttl: answer.map(|a| a.reply_ttl),
                reply_size: answer.map(|a| a.reply_size),
                icmp_type: answer.and_then(|a| a.icmp).map(|(kind, _)| kind),
                icmp_code: answer.and_then(|a| a.icmp).map(|(_, code)| code),
            };
            let job = JobId(key.to_bits());
            self.events.push_back(Event::PingReply { job, reply });
        }
    }

    pub(crate) fn on_pinged(&mut self, key: Key, common: &Common, echo: &Echo) {
        let Some(JobState::Ping(ping)) = self.jobs.get(key) else {
            return;
        };
        let summary = &echo.summary;
        let any = summary.received > 0;
        let record = PingRecord {
            schema: PingSchema::V1,
            kind: PingType::Ping,
            src: common.src,
            dst: common.dst,
            dst_name: None,
            start: WallTime::default(),
            sent: summary.sent,
            received: summary.received,
            duplicates: summary.duplicates,
            late: summary.late,
            rtt_min_ns: any.then_some(summary.min_ns),
            rtt_mean_ns: summary.mean_ns(),
            rtt_max_ns: any.then_some(summary.max_ns),
            rtt_stddev_ns: summary.stddev_ns(),
            rtt_error_ns: None,
        };
        let event = Event::Ping {
            job: JobId(key.to_bits()),
            started: ping.started,
            ping: Box::new(record),
        };
        self.finish_job(key, event);
    }
}
