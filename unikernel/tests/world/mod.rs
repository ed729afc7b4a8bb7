//! A machine in a simulated internet on a virtual clock: time passes only while it sleeps.

use core::cell::RefCell;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use plumb_channel::{Configure, Host, Limits, News};
use plumb_probe::{Config, Event, Job};
use plumb_sim::{Hub, Topology};
use plumb_unikernel::net::{Config as Addresses, Interface, Prefix};
use plumb_unikernel::platform::{Nic, Platform, Stream};
use plumb_unikernel::run::{End, run};
use plumb_wire::{Engine as _, Instant};

/// When the machine is switched on.
pub(crate) const START: Instant = Instant::from_millis(10);
/// Memory for jobs.
pub(crate) const MEMORY: usize = 4 << 20;

/// What a host does when it has looked.
pub(crate) type Turn = Box<dyn FnMut(&mut World)>;

/// What is around the machine.
pub(crate) struct World {
    pub(crate) now: Instant,
    hub: Hub,
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
    addresses: Addresses,
}

#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Rc<RefCell<World>>);

impl Shared {
    pub(crate) fn new(topology: &Topology, configure: &Configure) -> Self {
        let (own, gateway) = (topology.vantage(), topology.gateway());
        let addresses = Addresses {
            v4: own.v4.map(|(address, len)| Prefix { address, len }),
            gateway_v4: gateway.v4.map(|(address, _)| address),
            v6: own.v6.map(|(address, len)| Prefix { address, len }),
            gateway_v6: gateway.v6.map(|(address, _)| address),
        };
        Self(Rc::new(RefCell::new(World {
            now: START,
            host: Host::new(configure, Limits::default(), START),
            hub: Hub::new(topology.clone(), 1),
            to_host: VecDeque::new(),
            stream_room: usize::MAX,
            host_listens: true,
            news: Vec::new(),
            on_news: None,
            queue_room: usize::MAX,
            queue: Vec::new(),
            most_queued: 0,
            closed: false,
            addresses,
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
        let (mut platform, mut stream) = (self.clone(), self.clone());
        let mut interface = self.interface();
        let end = run(&mut platform, &mut interface, &mut stream, module, MEMORY);
        self.0.borrow_mut().host_turn();
        end
    }

    /// The machine's interface.
    pub(crate) fn interface(&self) -> Interface<Self> {
        let (addresses, now) = (self.0.borrow().addresses, self.0.borrow().now);
        let mut interface = Interface::new(self.clone(), addresses);
        interface.start(now);
        interface
    }

    /// The source address of packets to `dst`.
    pub(crate) fn source(&self, dst: IpAddr) -> IpAddr {
        let Addresses { v4, v6, .. } = self.0.borrow().addresses;
        let own = match dst {
            IpAddr::V4(_) => v4.map(|v4| v4.address.into()),
            IpAddr::V6(_) => v6.map(|v6| v6.address.into()),
        };
        own.expect("an address of each family that a lab has")
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
        let next = [until, world.hub.poll_timeout()];
        let next = next.into_iter().flatten().min();
        let next = next.expect("a machine that has something to wait for");
        world.now = world.now.max(next);
        assert!(
            world.now.since(START) < Duration::from_secs(3600),
            "the machine never ends"
        );
    }
}

impl Nic for Shared {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let mut world = self.0.borrow_mut();
        let fits = world.queue.len() < world.queue_room;
        if fits {
            world.queue.push(frame.to_vec());
            world.most_queued = world.most_queued.max(world.queue.len());
        }
        fits
    }

    fn flush(&mut self) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        let queue: Vec<Vec<u8>> = world.queue.drain(..).collect();
        for frame in queue {
            world.hub.handle_packet(now, &frame);
        }
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let mut buffer = [0; 2048];
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.hub.handle_timeout(now);
        let Some(transmit) = world.hub.poll_transmit(now, &mut buffer) else {
            return false;
        };
        drop(world);
        take(&buffer[..transmit.len]);
        true
    }

    fn dropped(&self) -> u64 {
        0
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
