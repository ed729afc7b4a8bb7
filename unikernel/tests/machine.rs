//! The whole machine but for its devices, in the labs.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use plumb_channel::{Configure, Host, Limits, News, Refusal};
use plumb_probe::{Config, Engine, Event, Job, Ping, PingOptions, Trace, TraceOptions};
use plumb_record::StopReason;
use plumb_sim::{Network, Topology, labs};
use plumb_unikernel::run::End;
use plumb_wire::{Engine as _, Instant};
use world::{START, Shared, World, configure};

fn topology(lab: &str) -> Topology {
    let lab = labs().iter().find(|l| l.name == lab).unwrap();
    Topology::from_toml(lab.toml).unwrap()
}

/// The host's part: when all is done, the machine may end.
fn shut_down(world: &mut World) {
    if world.is_finished() {
        world.host.shutdown();
        world.on_news = Some(Box::new(|_| {}));
    }
}

/// The same jobs in an engine without anything around it.
fn directly(topology: &Topology, config: Config, seed: u64, jobs: &[Job]) -> Vec<Event> {
    let mut network = Network::new(topology, 1);
    let mut engine = Engine::new(config, seed);
    let mut now = START;
    for job in jobs {
        engine.start(job.clone(), now).unwrap();
    }
    let mut events = Vec::new();
    let mut buffer = [0; 2048];
    while engine.active() > 0 {
        while let Some(t) = engine.poll_transmit(now, &mut buffer) {
            engine.handle_sent(t.probe, now);
            network.handle_packet(now, &buffer[..t.len]);
        }
        network.handle_timeout(now);
        while let Some(t) = network.poll_transmit(now, &mut buffer) {
            engine.handle_packet(now, &buffer[..t.len]);
        }
        engine.handle_timeout(now);
        events.extend(core::iter::from_fn(|| engine.poll_event()));
        let next = [network.poll_timeout(), engine.poll_timeout()];
        now = now.max(next.into_iter().flatten().min().unwrap_or(now));
    }
    events
}

fn traces(events: Vec<Event>) -> Vec<plumb_record::Trace> {
    let traces = events.into_iter().filter_map(|event| match event {
        Event::Trace { trace, .. } => Some(*trace),
        Event::Hop { .. } | Event::PingReply { .. } | Event::Ping { .. } => None,
    });
    traces.collect()
}

fn trace(src: IpAddr, dst: IpAddr, options: &Arc<TraceOptions>) -> Job {
    Job::Trace(Trace {
        src,
        dst,
        options: Arc::clone(options),
    })
}

#[test]
fn in_every_lab_the_records_are_those_of_the_engine_alone() {
    for lab in labs() {
        let topology = Topology::from_toml(lab.toml).unwrap();
        for parallel in [1, 8] {
            let configure = configure(1);
            let shared = Shared::new(&topology, &configure);
            let options = Arc::new(TraceOptions {
                parallel,
                ..TraceOptions::default()
            });
            let jobs: Vec<Job> = lab
                .targets
                .iter()
                .map(|target| {
                    let dst = target.parse().unwrap();
                    trace(shared.source(dst), dst, &options)
                })
                .collect();
            for job in &jobs {
                shared.start(job);
            }
            shared.0.borrow_mut().host.finish();
            shared.0.borrow_mut().on_news = Some(Box::new(shut_down));
            let module = shared.module();
            assert_eq!(shared.run(&module), End::Shutdown, "{}", lab.name);
            let mut expected = traces(directly(&topology, configure.engine, 1, &jobs));
            for trace in &mut expected {
                // The Ethernet of this world takes no time.
                trace.rtt_error_ns = Some(0);
            }
            let found = traces(shared.events());
            assert_eq!(found, expected, "{} {parallel}", lab.name);
            assert_eq!(found.len(), lab.targets.len(), "{}", lab.name);
        }
    }
}

#[test]
fn ten_thousand_targets_pass_through_a_small_machine() {
    const TARGETS: u32 = 10_000;
    let topology = topology("wide");
    let configure = Configure {
        engine: Config {
            rate: Some(10_000),
            ..Config::default()
        },
        ..configure(1)
    };
    let shared = Shared::new(&topology, &configure);
    let src = shared.source([5, 16, 0, 1].into());
    let options = Arc::new(TraceOptions::default());
    let mut sent = 0;
    // A host that sends what there is room for, a little at a time.
    let feed = move |world: &mut World| {
        while world.host.has_room() && sent < TARGETS {
            let dst = IpAddr::from(u32::to_be_bytes(0x0510_0001 + sent));
            world.host.start(&trace(src, dst, &options)).unwrap();
            sent += 1;
        }
        if sent == TARGETS {
            world.host.finish();
        }
        shut_down(world);
    };
    {
        let mut world = shared.0.borrow_mut();
        world.on_news = Some(Box::new(feed));
        world.stream_room = 5000;
        world.queue_room = 16;
    }
    let module = shared.module();
    assert_eq!(shared.run(&module), End::Shutdown);
    let traces = traces(shared.events());
    assert_eq!(traces.len(), 10_000);
    let reached = traces
        .iter()
        .filter(|t| t.stop_reason == StopReason::Completed);
    assert_eq!(reached.count(), 10_000);
    assert!(shared.0.borrow().most_queued <= 16);
    let Some(News::Ready(ready)) = shared.0.borrow().news.first().cloned() else {
        panic!("no Ready");
    };
    assert!(ready.window < 1000, "{} at once", ready.window);
}

#[test]
fn a_host_that_does_not_listen_stops_the_machine_and_loses_nothing() {
    let topology = topology("plain");
    let shared = Shared::new(&topology, &configure(1));
    let dst = [5, 0, 4, 2].into();
    let ping = Arc::new(PingOptions {
        count: Some(30_000),
        interval: Duration::from_millis(1),
        ..PingOptions::default()
    });
    let job = Job::Ping(Ping {
        src: shared.source(dst),
        dst,
        options: ping,
    });
    shared.start(&job);
    {
        let mut world = shared.0.borrow_mut();
        world.host.finish();
        world.stream_room = 1000;
        world.host_listens = false;
        world.on_news = Some(Box::new(shut_down));
    }
    let module = shared.module();
    // The host begins to listen after ten minutes.
    let mut platform = Sleepy(shared.clone(), Instant::from_millis(600_000));
    let (mut link, mut stream) = (shared.interface(), shared.clone());
    let end = plumb_unikernel::run::run(
        &mut platform,
        &mut link,
        &mut stream,
        &module,
        world::MEMORY,
    );
    assert_eq!(end, End::Shutdown);
    let events = shared.events();
    let replies = events
        .iter()
        .filter(|e| matches!(e, Event::PingReply { .. }))
        .count();
    assert_eq!(replies, 30_000);
    let Some(Event::Ping { ping, .. }) = events.last() else {
        panic!("no summary");
    };
    assert_eq!(ping.sent, 30_000);
    let most = platform.0.0.borrow().most_queued;
    assert!(most > 0);
}

/// A platform whose host begins to listen at some time.
struct Sleepy(Shared, Instant);

impl plumb_unikernel::platform::Platform for Sleepy {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wait(&mut self, until: Option<Instant>) {
        self.0.0.borrow_mut().host_listens = self.0.now() >= self.1;
        self.0.wait(until.or(Some(self.1)));
    }
}

#[test]
fn jobs_are_stopped_and_those_that_wait_are_refused() {
    let topology = topology("silent");
    let configure = Configure {
        engine: Config {
            window: 1,
            ..Config::default()
        },
        ..configure(1)
    };
    let shared = Shared::new(&topology, &configure);
    let dst = [5, 0, 9, 2].into();
    let options = Arc::new(TraceOptions {
        wait: Duration::from_secs(20),
        first_ttl: 2,
        max_ttl: 3,
        ..TraceOptions::default()
    });
    let src = shared.source(dst);
    for last in 0..3 {
        shared.start(&trace(src, [5, 0, 9, last].into(), &options));
    }
    shared.start(&trace([9, 9, 9, 9].into(), dst, &options));
    shared.0.borrow_mut().on_news = Some(Box::new(|world: &mut World| {
        if !world.news.is_empty() {
            world.host.stop_all();
            world.host.finish();
            world.on_news = Some(Box::new(shut_down));
        }
    }));
    let module = shared.module();
    assert_eq!(shared.run(&module), End::Shutdown);
    let world = shared.0.borrow();
    let stopped = world.news.iter().filter(|news| {
        matches!(
            news,
            News::Refused {
                why: Refusal::Stopped,
                ..
            }
        )
    });
    assert_eq!(stopped.count(), 3);
    drop(world);
    let traces = traces(shared.events());
    assert_eq!(traces.len(), 1);
    assert_eq!(traces[0].stop_reason, StopReason::Interrupted);
    assert!(shared.0.borrow().now.since(START) < Duration::from_secs(20));
}

#[test]
fn a_source_address_that_is_not_the_machines_is_refused() {
    let shared = Shared::new(&topology("plain"), &configure(1));
    let options = Arc::new(TraceOptions::default());
    shared.start(&trace([9, 9, 9, 9].into(), [5, 0, 4, 2].into(), &options));
    {
        let mut world = shared.0.borrow_mut();
        world.host.finish();
        world.on_news = Some(Box::new(shut_down));
    }
    let module = shared.module();
    assert_eq!(shared.run(&module), End::Shutdown);
    let world = shared.0.borrow();
    assert!(matches!(
        world.news[1],
        News::Refused {
            why: Refusal::NotMyAddress,
            ..
        }
    ));
}

#[test]
fn a_client_that_dies_in_mid_session_does_not_spoil_the_next() {
    let topology = topology("php");
    let shared = Shared::new(&topology, &configure(1));
    let options = Arc::new(TraceOptions::default());
    let dst = [5, 0, 8, 2].into();
    let src = shared.source(dst);
    for _ in 0..5 {
        shared.start(&trace(src, dst, &options));
    }
    // The first client is never heard of again once the machine has begun.
    shared.0.borrow_mut().on_news = Some(Box::new(|world: &mut World| {
        if world.news.len() >= 2 {
            world.news.clear();
            let configure = Configure {
                seed: 9,
                ..configure(2)
            };
            world.host = Host::new(&configure, Limits::default(), world.now);
            let options = Arc::new(TraceOptions::default());
            let job = trace([5, 0, 1, 1].into(), [5, 0, 8, 2].into(), &options);
            world.host.start(&job).unwrap();
            world.host.finish();
            world.on_news = Some(Box::new(shut_down));
        }
    }));
    let module = shared.module();
    assert_eq!(shared.run(&module), End::Shutdown);
    let found = traces(shared.events());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tunnels.len(), 1);
}

#[test]
fn every_packet_is_reported_when_that_is_asked_for() {
    let configure = Configure {
        packets: true,
        ..configure(1)
    };
    let shared = Shared::new(&topology("plain"), &configure);
    let options = Arc::new(TraceOptions::default());
    let dst = [5, 0, 4, 2].into();
    shared.start(&trace(shared.source(dst), dst, &options));
    {
        let mut world = shared.0.borrow_mut();
        world.host.finish();
        world.on_news = Some(Box::new(shut_down));
    }
    let module = shared.module();
    assert_eq!(shared.run(&module), End::Shutdown);
    let world = shared.0.borrow();
    let (mut sent, mut received) = (0, 0);
    for news in &world.news {
        if let News::Packet { sent: true, .. } = news {
            sent += 1;
        } else if let News::Packet { .. } = news {
            received += 1;
        }
    }
    let stats = world.host.stats();
    assert_eq!((sent, received), (stats.sent, stats.replies));
    assert!(sent > 3);
}

#[test]
fn the_machine_ends_when_the_host_is_gone_or_speaks_nonsense() {
    let shared = Shared::new(&topology("plain"), &configure(1));
    shared.0.borrow_mut().closed = true;
    assert_eq!(shared.run(&[]), End::Closed);
    let shared = Shared::new(&topology("plain"), &configure(1));
    let mut module = shared.module();
    module.extend([1, 0, 0, 0, 99]);
    let End::Fault(fault) = shared.run(&module) else {
        panic!("nonsense is understood");
    };
    assert_eq!(fault.to_string(), "a frame of unknown kind 99");
    let world = shared.0.borrow();
    let Some(News::Text(text)) = world.news.last() else {
        panic!("{:?}", world.news);
    };
    assert_eq!(text, "the host sent a frame of unknown kind 99");
}
