//! A machine in a simulated internet on a virtual clock: time passes only while it sleeps.

use core::cell::RefCell;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use plumb_channel::{Configure, Host, Limits, News};
use plumb_probe::{Config, Event, Job};
use plumb_sim::{Network, Topology};
use plumb_unikernel::link::{Fate, Link};
use plumb_unikernel::platform::{Platform, Stream};
use plumb_unikernel::run::{End, run};
use plumb_wire::{Engine as _, Instant, ProbeId};

/// When the machine is switched on.
pub(crate) const START: Instant = Instant::from_millis(10);
/// Memory for jobs.
pub(crate) const MEMORY: usize = 4 << 20;

/// What a host does when it has looked.
pub(crate) type Turn = Box<dyn FnMut(&mut World)>;

/// What is around the machine.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) network: Network,
    pub(crate) host: Host,
    /// What the host is told, before it has looked.
    to_host: VecDeque<u8>,
    /// Bytes that fit into the stream's queue.
    pub(crate) stream_room: usize,
    /// Whether the host takes anything.
    pub(crate) host_listens: bool,
    /// What the host does in a round; it may say things.
    pub(crate) news: Vec<News>,
    pub(crate) on_news: Option<Turn>,
    /// Packets that fit into the transmit queue.
    pub(crate) queue_room: usize,
    queue: Vec<Vec<u8>>,
    pub(crate) most_queued: usize,
    pub(crate) closed: bool,
    addresses: Vec<(IpAddr, u8)>,
}

#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Rc<RefCell<World>>);

impl Shared {
    pub(crate) fn new(topology: &Topology, configure: &Configure) -> Self {
        let network = Network::new(topology, 1);
        let vantage = network.vantage();
        let v4 = vantage.v4.map(|(a, len)| (IpAddr::from(a), len));
        let v6 = vantage.v6.map(|(a, len)| (IpAddr::from(a), len));
        Self(Rc::new(RefCell::new(World {
            now: START,
            host: Host::new(configure, Limits::default(), START),
            network,
            to_host: VecDeque::new(),
            stream_room: usize::MAX,
            host_listens: true,
            news: Vec::new(),
            on_news: None,
            queue_room: usize::MAX,
            queue: Vec::new(),
            most_queued: 0,
            closed: false,
            addresses: [v4, v6].into_iter().flatten().collect(),
        })))
    }

    /// What the host has said so far, as a boot module.
    pub(crate) fn module(&self) -> Vec<u8> {
        let mut world = self.0.borrow_mut();
        let bytes = world.host.transmit().to_vec();
        world.host.handle_sent(bytes.len());
        bytes
    }

    /// Runs the machine until it ends.
    pub(crate) fn run(&self, module: &[u8]) -> End {
        let (mut platform, mut link, mut stream) = (self.clone(), self.clone(), self.clone());
        let end = run(&mut platform, &mut link, &mut stream, module, MEMORY);
        self.0.borrow_mut().host_turn();
        end
    }

    /// The source address of packets to `dst`.
    pub(crate) fn source(&self, dst: IpAddr) -> IpAddr {
        let world = self.0.borrow();
        let mut own = world.addresses.iter();
        own.find(|(own, _)| own.is_ipv4() == dst.is_ipv4())
            .expect("an address of each family that a lab has")
            .0
    }

    pub(crate) fn start(&self, job: &Job) {
        let started = self.0.borrow_mut().host.start(job);
        started.expect("a job that the engine takes");
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let world = self.0.borrow();
        let events = world.news.iter().filter_map(|news| match news {
            News::Event(event) => Some(event.clone()),
            News::Ready(_)
            | News::Refused { .. }
            | News::Packet { .. }
            | News::Text(_)
            | News::Finished => None,
        });
        events.collect()
    }
}

impl World {
    /// The host looks what there is.
    fn host_turn(&mut self) {
        if !self.host_listens {
            return;
        }
        let bytes: Vec<u8> = self.to_host.drain(..).collect();
        self.host
            .handle_bytes(&bytes, self.now)
            .expect("a guest that says nothing wrong");
        while let Some(news) = self.host.poll_news() {
            self.news.push(news);
        }
        if let Some(mut turn) = self.on_news.take() {
            turn(self);
            self.on_news.get_or_insert(turn);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.news.last(), Some(News::Finished))
    }
}

impl Platform for Shared {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn wait(&mut self, until: Option<Instant>) {
        let mut world = self.0.borrow_mut();
        let heard = world.to_host.len();
        world.host_turn();
        // The host's turn is an interrupt.
        if heard > 0 && world.host_listens || !world.host.transmit().is_empty() {
            return;
        }
        let next = [until, world.network.poll_timeout()];
        let next = next.into_iter().flatten().min();
        let next = next.expect("a machine that has something to wait for");
        world.now = world.now.max(next);
        assert!(
            world.now.since(START) < Duration::from_secs(3600),
            "the machine never ends"
        );
    }
}

impl Link for Shared {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn addresses(&self) -> Vec<(IpAddr, u8)> {
        self.0.borrow().addresses.clone()
    }

    fn transmit(&mut self, _: ProbeId, packet: &[u8], _: Instant) -> Fate {
        let mut world = self.0.borrow_mut();
        if world.queue.len() >= world.queue_room {
            return Fate::NoRoom;
        }
        world.queue.push(packet.to_vec());
        world.most_queued = world.most_queued.max(world.queue.len());
        Fate::Queued
    }

    fn poll_fate(&mut self) -> Option<(ProbeId, Fate)> {
        None
    }

    fn flush(&mut self) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        let queue: Vec<Vec<u8>> = world.queue.drain(..).collect();
        for packet in queue {
            world.network.handle_packet(now, &packet);
        }
    }

    fn receive(&mut self, now: Instant, take: &mut dyn FnMut(&[u8])) -> bool {
        let mut buffer = [0; 2048];
        let mut world = self.0.borrow_mut();
        world.network.handle_timeout(now);
        let Some(transmit) = world.network.poll_transmit(now, &mut buffer) else {
            return false;
        };
        drop(world);
        take(&buffer[..transmit.len]);
        true
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn rtt_error(&self) -> Option<Duration> {
        Some(Duration::from_micros(70))
    }
}

impl Stream for Shared {
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut world = self.0.borrow_mut();
        let room = world.stream_room.saturating_sub(world.to_host.len());
        let len = bytes.len().min(room);
        world.to_host.extend(&bytes[..len]);
        len
    }

    fn flush(&mut self) {}

    fn receive(&mut self, into: &mut [u8]) -> usize {
        let mut world = self.0.borrow_mut();
        let len = world.host.transmit().len().min(into.len());
        into[..len].copy_from_slice(&world.host.transmit()[..len]);
        world.host.handle_sent(len);
        len
    }

    fn is_closed(&self) -> bool {
        self.0.borrow().closed
    }
}

/// A configuration without a cap on the rate.
pub(crate) fn configure(session: u64) -> Configure {
    Configure {
        session,
        engine: Config {
            rate: None,
            ..Config::default()
        },
        seed: 1,
        packets: false,
    }
}
