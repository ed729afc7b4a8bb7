//! A session: programs and maps in the kernel, and the interfaces that they are on.

use core::mem::MaybeUninit;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::attach::{Attachment, Way};
use super::choice::Choice;
use super::chooser::{Builder, Chooser, Prefix};
use super::encapsulation::Output;
use super::layout::{
    BALANCE, Config, Counters, DEDUPLICATE, HEADERS_ONLY, LIMIT_RATE, MASK, MAX_OUTPUTS,
    NEEDS_FLOW, TO_RING, WAKE,
};
use super::program::Hook;
use super::record::Packet;
use super::ring::Ring;
use super::user_space::UserSpace;
use super::{Error, map_error, sys};

#[expect(unreachable_pub, unused_qualifications, reason = "this is generated")]
#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::allow_attributes_without_reason,
    reason = "this is generated"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/tap.skel.rs"));
}

/// What of the chosen packets is handed on. The default is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a packet that are kept; 0 for all.
    pub snaplen: u32,
    /// One packet in so many, by chance; 0 and 1 for all.
    pub sample: u32,
    /// One flow in so many, always the same ones; 0 and 1 for all.
    pub sample_flows: u32,
    /// Keep headers up to the transport payload only.
    pub headers_only: bool,
    /// Overwrite the transport payload with zeros, and keep its length.
    pub mask: bool,
    /// Packets in a second at most, segments counted; 0 for no cap.
    pub packets_per_s: u64,
    /// Bytes in a second at most; 0 for no cap.
    pub bytes_per_s: u64,
    /// Copies of a packet that another interface has within so many nanoseconds are left out; 0 for
    /// none.
    pub dedup_ns: u64,
}

/// How a session begins.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its number, which tells its clones from those of others.
    pub id: u32,
    /// Bytes of the ring, a power of two; nothing if packets are not read here.
    pub ring_len: Option<u32>,
    /// What is handed on.
    pub limits: Limits,
    /// Which packets are chosen.
    pub choice: Choice,
    /// Prefixes of which one address of a packet must be in, or none.
    pub prefixes: Vec<Prefix>,
    /// Where clones go.
    pub outputs: Vec<Output>,
    /// A flow goes to one of the outputs, not to all.
    pub balance: bool,
    /// How programs are attached; else as the kernel can.
    pub way: Option<Way>,
    /// Wall time minus CLOCK_MONOTONIC, in nanoseconds.
    pub wall_offset_ns: u64,
}

/// Programs and maps of a session, and the interfaces that it is on. When it is dropped, everything
/// is gone.
#[derive(Debug)]
pub struct Session {
    // Before what they refer to.
    attached: BTreeMap<(u32, Hook), Attachment>,
    leaving: BTreeMap<u32, Attachment>,
    chooser: Chooser,
    ring: Option<Ring>,
    kernel: Kernel,
    config: Config,
    limits: Limits,
    outputs: Vec<Output>,
    way: Option<Way>,
    user_space: Option<UserSpace>,
}

/// What the kernel holds for a session.
#[derive(Debug)]
struct Kernel {
    encapsulate: OwnedFd,
    ring: MapHandle,
    config: MapHandle,
    outputs: MapHandle,
    counters: MapHandle,
    builder: Builder,
}

impl Kernel {
    fn load(ring_len: u32) -> Result<Self, Error> {
        libbpf_rs::set_print(None);
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::TapSkelBuilder::default()
            .open(&mut storage)
            .map_err(|e| Error::load(&e))?;
        open.maps
            .ring
            .set_max_entries(ring_len)
            .map_err(|e| Error::load(&e))?;
        let loaded = open.load().map_err(|e| Error::load(&e))?;
        let map =
            |map: &libbpf_rs::MapMut<'_>| MapHandle::try_from(map).map_err(|e| Error::load(&e));
        let owned = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned()
                .map_err(|source| Error::Map { source })
        };
        let deliver = [
            owned(loaded.progs.deliver_received.as_fd())?,
            owned(loaded.progs.deliver_sent.as_fd())?,
        ];
        let delivery = map(&loaded.maps.delivery)?;
        for (index, program) in (0u32..).zip(&deliver) {
            put(&delivery, index, &program.as_raw_fd().to_ne_bytes())?;
        }
        let counters = map(&loaded.maps.counters)?;
        Ok(Self {
            encapsulate: owned(loaded.progs.encapsulate.as_fd())?,
            ring: map(&loaded.maps.ring)?,
            config: map(&loaded.maps.config)?,
            outputs: map(&loaded.maps.outputs)?,
            builder: Builder {
                counters: owned(counters.as_fd())?,
                // It holds its programs only as long as somebody has it open.
                delivery: owned(delivery.as_fd())?,
                deliver,
                in_user_space: false,
            },
            counters,
        })
    }
}

fn put(map: &MapHandle, key: u32, value: &[u8]) -> Result<(), Error> {
    map.update(&key.to_ne_bytes(), value, MapFlags::ANY)
        .map_err(|e| map_error(&e))
}

/// The size of a ring that is not read.
const SMALLEST_RING: u32 = 4096;

impl Session {
    /// Loads programs and maps. If the kernel refuses the filter and packets are only read here, they
    /// are chosen here, too ([`in_user_space`](Self::in_user_space)).
    ///
    /// # Errors
    /// If the kernel refuses, with its reason.
    pub fn new(options: &Options) -> Result<Self, Error> {
        if options.outputs.len() > MAX_OUTPUTS {
            return Err(Error::TooManyOutputs);
        }
        let ring_len = options.ring_len.unwrap_or(SMALLEST_RING);
        let mut kernel = Kernel::load(ring_len)?;
        let ring = match options.ring_len {
            None => None,
            Some(len) => {
                let map = kernel.ring.as_fd().try_clone_to_owned();
                let ring = map.and_then(|map| Ring::new(map, len as usize));
                Some(ring.map_err(|source| Error::Map { source })?)
            }
        };
        let set = kernel.builder.prefixes(&options.prefixes)?;
        let can_fall_back =
            ring.is_some() && options.outputs.is_empty() && !is_capped(&options.limits);
        let (chooser, user_space) = match kernel.builder.build(&options.choice, set.clone()) {
            Ok(chooser) => (chooser, None),
            Err(error @ (Error::Verifier { .. } | Error::TooLong(_)))
                if can_fall_back && !error.is_permission() =>
            {
                kernel.builder.in_user_space = true;
                let chooser = kernel.builder.build(&options.choice, set)?;
                (chooser, Some(UserSpace::new(error.to_string())))
            }
            Err(error) => return Err(error),
        };
        let config = Config {
            wall_offset: options.wall_offset_ns,
            id: options.id,
            flags: if ring.is_some() { TO_RING } else { 0 }
                | if options.balance { BALANCE } else { 0 },
            watermark: ring_len / 4,
            ..Config::default()
        };
        let mut session = Self {
            attached: BTreeMap::new(),
            leaving: BTreeMap::new(),
            chooser,
            ring,
            kernel,
            config,
            limits: options.limits,
            outputs: Vec::new(),
            way: options.way,
            user_space,
        };
        session.set_limits(options.limits)?;
        session.set_outputs(&options.outputs)?;
        Ok(session)
    }

    /// Takes packets of an interface; says how it is attached.
    ///
    /// # Errors
    /// If there is no such interface, or the kernel refuses.
    pub fn attach(&mut self, interface: u32, hook: Hook) -> Result<Way, Error> {
        let program = self.chooser.program(hook);
        // Whatever was there belonged to an interface that is gone, or is the same.
        self.attached.remove(&(interface, hook));
        let attachment = Attachment::new(program, interface, hook, self.way, self.config.id | 1)
            .map_err(|source| Error::Attach { interface, source })?;
        let way = attachment.way();
        self.attached.insert((interface, hook), attachment);
        Ok(way)
    }

    /// Leaves an interface.
    pub fn detach(&mut self, interface: u32) {
        self.attached.retain(|(index, _), _| *index != interface);
    }

    /// The interfaces that packets are taken from.
    pub fn interfaces(&self) -> impl Iterator<Item = (u32, Hook, Way)> {
        self.attached
            .iter()
            .map(|((index, hook), attachment)| (*index, *hook, attachment.way()))
    }

    /// Changes what is added to CLOCK_MONOTONIC for wall time: the system clock was stepped.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_wall_offset(&mut self, wall_offset_ns: u64) -> Result<(), Error> {
        self.config.wall_offset = wall_offset_ns;
        self.configure()
    }

    /// What is handed on.
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Why the kernel does not choose packets, where that is done here ([`Session::consume`]): it has
    /// refused the filter that the session began with. It stays so for filters that come later.
    pub fn in_user_space(&self) -> Option<&str> {
        self.user_space.as_ref().map(|it| it.reason.as_str())
    }

    /// Says no to what the kernel can only do after it has chosen.
    fn needs_kernel(&self, is_needed: bool) -> Result<(), Error> {
        match &self.user_space {
            Some(UserSpace { reason, .. }) if is_needed => {
                let reason = reason.clone();
                Err(Error::InUserSpace { reason })
            }
            _ => Ok(()),
        }
    }

    /// Changes what is handed on, from the next packet on.
    ///
    /// # Errors
    /// If the kernel refuses, or does not choose packets and is to cap them.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), Error> {
        let capped = is_capped(&limits);
        self.needs_kernel(capped)?;
        self.limits = limits;
        // A filter that runs here has to see packets as a whole, and where their payload begins.
        let here = self.user_space.is_some();
        self.config.snaplen = if here { 0 } else { limits.snaplen };
        self.config.sample = limits.sample;
        self.config.flow_threshold = match limits.sample_flows {
            0 | 1 => 0,
            n => u32::MAX / n,
        };
        self.config.packets_per_s = limits.packets_per_s.min(MAX_RATE);
        self.config.bytes_per_s = limits.bytes_per_s.min(MAX_RATE);
        self.config.dedup_ns = limits.dedup_ns;
        for (flag, is_set) in [
            (HEADERS_ONLY, limits.headers_only && !here),
            (MASK, limits.mask || limits.headers_only && here),
            (LIMIT_RATE, capped),
            (DEDUPLICATE, limits.dedup_ns > 0),
        ] {
            self.config.flags = self.config.flags & !flag | if is_set { flag } else { 0 };
        }
        self.configure_flow();
        // No clone leaves before there is who masks it.
        self.see_to_outputs()?;
        self.configure()
    }

    /// Makes choosers for this session, in any thread.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn builder(&self) -> io::Result<Builder> {
        self.kernel.builder.try_clone()
    }

    /// What chooses packets now.
    pub const fn chooser(&self) -> &Chooser {
        &self.chooser
    }

    /// Changes which packets are chosen; no packet goes by unseen meanwhile. Returns what has chosen
    /// them before, which is to be retired.
    ///
    /// # Errors
    /// If the kernel refuses; what has chosen before goes on.
    pub fn choose(&mut self, chooser: Chooser) -> Result<Chooser, Error> {
        for ((interface, hook), attachment) in &self.attached {
            let Err(source) = attachment.replace(chooser.program(*hook)) else {
                continue;
            };
            for ((_, hook), attachment) in &self.attached {
                // Where this fails too, the interface is gone.
                let _ = attachment.replace(self.chooser.program(*hook));
            }
            let interface = *interface;
            return Err(Error::Attach { interface, source });
        }
        Ok(core::mem::replace(&mut self.chooser, chooser))
    }

    /// Changes where clones go.
    ///
    /// # Errors
    /// If there are too many, or the kernel refuses or does not choose packets.
    pub fn set_outputs(&mut self, outputs: &[Output]) -> Result<(), Error> {
        if outputs.len() > MAX_OUTPUTS {
            return Err(Error::TooManyOutputs);
        }
        self.needs_kernel(!outputs.is_empty())?;
        self.outputs = outputs.to_vec();
        // No clone leaves before there is who cuts, masks and wraps it.
        self.see_to_outputs()?;
        for (index, output) in (0u32..).zip(outputs) {
            put(&self.kernel.outputs, index, &output.raw().bytes())?;
        }
        self.config.outputs = u32::try_from(outputs.len()).unwrap_or(0);
        self.configure_flow();
        self.configure()
    }

    /// The programs look for the flow of a packet only where that decides something.
    fn configure_flow(&mut self) {
        let is_needed = self.config.flow_threshold > 0
            || self.config.flags & (HEADERS_ONLY | BALANCE | MASK) != 0
            || self.outputs.iter().any(|output| output.path.is_some());
        self.config.flags =
            self.config.flags & !NEEDS_FLOW | if is_needed { NEEDS_FLOW } else { 0 };
    }

    /// Puts the program that cuts and encapsulates on the interfaces that need it.
    fn see_to_outputs(&mut self) -> Result<(), Error> {
        let cuts = self.config.snaplen > 0 || self.config.flags & (HEADERS_ONLY | MASK) != 0;
        let needed: Vec<u32> = self
            .outputs
            .iter()
            .filter(|output| output.interface != 0 && (cuts || output.path.is_some()))
            .map(|output| output.interface)
            .collect();
        self.leaving.retain(|index, _| needed.contains(index));
        for interface in needed {
            if self.leaving.contains_key(&interface) {
                continue;
            }
            let attachment = Attachment::new(
                self.kernel.encapsulate.as_fd(),
                interface,
                Hook::Egress,
                self.way,
                self.config.id & !1 | 2,
            )
            .map_err(|source| Error::Attach { interface, source })?;
            self.leaving.insert(interface, attachment);
        }
        Ok(())
    }

    /// Lets the kernel wake whoever polls [`Session::ring_fd`] at the next packet (or no more).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn wake_at_next(&mut self, wake: bool) -> Result<(), Error> {
        let flags = self.config.flags & !WAKE | if wake { WAKE } else { 0 };
        if flags != self.config.flags {
            self.config.flags = flags;
            self.configure()?;
        }
        Ok(())
    }

    fn configure(&self) -> Result<(), Error> {
        put(&self.kernel.config, 0, &self.config.bytes())
    }

    /// Hands up to `most` packets to `sink`, until it returns false; says how many.
    pub fn consume(&self, most: usize, mut sink: impl FnMut(Packet<'_>) -> bool) -> usize {
        let Some(ring) = &self.ring else {
            return 0;
        };
        let (limits, mut frame) = (&self.limits, Vec::new());
        ring.consume(most, |record| {
            let Some(packet) = Packet::parse(record) else {
                return true;
            };
            let packet = match (&self.user_space, self.chooser.in_user_space()) {
                (Some(here), Some(choice)) => here.choose(choice, limits, &packet, &mut frame),
                _ => Some(packet),
            };
            packet.is_none_or(&mut sink)
        })
    }

    /// Whether the ring holds nothing.
    pub fn is_drained(&self) -> bool {
        self.ring.as_ref().is_none_or(Ring::is_empty)
    }

    /// What becomes readable when the kernel wakes the reader, not with each packet; until
    /// [`Session::consume`] is called.
    pub fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().map(AsFd::as_fd)
    }

    /// What became of packets so far.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn counters(&self) -> Result<Counters, Error> {
        let values = self
            .kernel
            .counters
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| map_error(&e))?;
        let mut counters = Counters::default();
        for value in values.iter().flatten() {
            counters.add(value);
        }
        if let Some(here) = &self.user_space {
            here.correct(&mut counters);
        }
        Ok(counters)
    }

    pub(crate) fn any_program(&self) -> BorrowedFd<'_> {
        self.chooser.program(Hook::Ingress)
    }

    /// Runs the filter for one direction, and what follows it, on a packet of no interface.
    /// `context` is the beginning of `struct __sk_buff`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn try_packet(
        &self,
        hook: Hook,
        packet: &[u8],
        context: &[u32],
        repeat: i32,
    ) -> io::Result<sys::Ran> {
        sys::run(self.chooser.program(hook), packet, context, repeat)
    }

    /// Runs the program of outputs on a packet of no interface.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn try_output(&self, packet: &[u8], context: &[u32]) -> io::Result<sys::Ran> {
        sys::run(self.kernel.encapsulate.as_fd(), packet, context, 1)
    }
}

/// Whether packets in a second are limited.
const fn is_capped(limits: &Limits) -> bool {
    limits.packets_per_s > 0 || limits.bytes_per_s > 0
}

/// Above this, a billion times the rate does not fit into the bucket's 64 bits.
const MAX_RATE: u64 = 10_000_000_000;
