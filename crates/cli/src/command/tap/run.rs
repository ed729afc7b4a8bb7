//! A session, from its first packet to its last.

mod status;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::Arc;

use plumb_ebpf::tap::{Chooser, Hook, Limits, Options, Session, Way};
use plumb_link::stage::{Needs, wait_alone, wait_for};
use plumb_link::{Clock, Interface, LearnedAddress, Watch, namespace};
use plumb_record::WallTime;
use plumb_wire::Instant;

use super::control::{self, Answer};
use super::failure;
use super::flows::Flows;
use super::machine::{Machines, Trouble};
use super::outputs::Target;
use super::requests::{Asked, Listener, Outcome, Requests};
use super::selection::{self, Chosen as Choosing, Selected, Shown};
use super::settings;
use super::sink::{Files, Sink, Taker};
use super::sources::{Chosen, Sources};
use crate::args::{AttachName, CollectorAddress, Reduction, TapRun};
use crate::command::interrupt::Interrupts;
use crate::exit::{Exit, Failure};
use crate::stage::Streams;

/// Packets that are taken out of the ring before anything else is looked after.
const BATCH: usize = 1024;
/// How long packets may lie in the ring. The kernel wakes nobody while packets flow: that costs more
/// than the copies.
const DELAY: Duration = Duration::from_millis(10);
/// How many times nothing comes before the kernel is to wake us again.
const QUIET: u32 = 10;
/// How many times a neighbour is looked for before packets are taken.
const NEIGHBOUR_TRIES: u32 = 50;
/// Bytes of a packet that flow records need, long extension headers of IPv6 included.
const FLOW_SNAPLEN: u32 = 192;
/// How often a step of the system clock is looked for where the kernel stamps copies.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// How often ways that are missing are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(args: &TapRun) -> anyhow::Result<ExitCode> {
    if args.sources.is_empty() && args.vm.is_empty() && args.mac.is_empty() {
        return Err(Failure::usage(
            "what is to be tapped: an interface, a bridge, a pattern such as 'vnet*', --vm or --mac",
        )
        .into());
    }
    if args.links.busy_poll.is_some() {
        return Err(Failure::usage(
            "--busy-poll is for stages that frames come to; a tap takes packets from the kernel in batches",
        )
        .into());
    }
    let (choice, mut shown) = selection::choice(&args.selection, args.bytecode.as_ref())?;
    let prefixes = selection::prefixes(&args.selection.cidr)?;
    shown.prefixes = prefixes.len() as u64;
    let (mut targets, mut collectors) = (Vec::new(), Vec::new());
    for text in &args.to {
        if text.starts_with("ipfix://") {
            let collector = text.parse::<CollectorAddress>();
            collectors.push(collector.map_err(|e| Failure::usage(format!("--to {text:?}: {e}")))?);
            continue;
        }
        let target = Target::new(text);
        targets.push(target.map_err(|e| Failure::usage(format!("--to {text:?}: {e}")))?);
    }
    let mut streams = Streams::default();
    let to_pipe = args.to.is_empty() && args.write.is_none() && args.flow.flows.is_none();
    if to_pipe {
        streams = Streams::take(&args.links, false, true)?;
    }
    let id = std::process::id();
    // Where `plumb tap list` looks, which is not where the interfaces are.
    let listener = Listener::open(id)?;
    let machines = Machines::new(&args.vm);
    if let Some(target) = &args.netns {
        namespace::join_network(target).map_err(|e| Failure::usage(e.to_string()))?;
    } else if args.sources.is_empty() && args.mac.is_empty() && args.to.is_empty() {
        // Nothing was named that would be looked for here.
        if let Some(network) = machines.elsewhere() {
            network
                .join()
                .map_err(|e| Failure::permission(e.to_string()))?;
        }
    }
    let clock = Clock::new();
    let taker = match &args.write {
        Some(path) => Some(Taker::Files(Files::create(
            path,
            args.rotate.map(|megabytes| megabytes * 1_000_000),
            args.keep,
        )?)),
        None if to_pipe => Some(Taker::Pipe(Box::new(streams.capture(&args.links)?))),
        None => None,
    };
    let mut limits = Limits::default();
    settings::reduce(&mut limits, &args.reduction);
    let flows = Flows::start(&args.flow, collectors, clock, limits.sample)?;
    let nobody_else = taker.is_none() && targets.is_empty();
    if flows.is_some() && nobody_else && limits.snaplen == 0 && !limits.headers_only {
        limits.snaplen = FLOW_SNAPLEN;
    }
    let session = Session::new(&Options {
        id,
        ring_len: (taker.is_some() || flows.is_some()).then_some(args.ring),
        limits,
        choice: choice.clone(),
        prefixes,
        outputs: Vec::new(),
        balance: args.balance,
        way: args.attach.map(|name| match name {
            AttachName::Tcx => Way::Tcx,
            AttachName::Clsact => Way::Clsact,
        }),
        wall_offset_ns: clock.wall_ns(Instant::ZERO),
    })
    .map_err(|e| failure(&e))?;
    let requests = listener.serve(Selected {
        choice,
        shown: shown.clone(),
        set: session.chooser().set().cloned(),
        builder: Arc::new(session.builder()?),
    })?;
    let mut sink = taker.map(|taker| Sink::new(taker, clock, args.links.gso, args.links.drop));
    if let Some(sink) = &mut sink {
        sink.set_snaplen(limits.snaplen);
    }
    let mut tap = Tap {
        args,
        sources: Sources::new(args),
        machines,
        troubles: BTreeSet::new(),
        session,
        sink,
        flows,
        targets,
        on: BTreeMap::new(),
        shown,
        clock,
        since: WallTime(clock.wall_ns(clock.now())),
        id,
        stopped: false,
        packets: 0,
    };
    // Before the first look, so that nothing that happens in between is missed.
    let watch = Watch::open()?;
    tap.begin(&watch)?;
    let status = tap.until_ended(&watch, &requests)?;
    Ok(ExitCode::from(status))
}

struct Tap<'a> {
    args: &'a TapRun,
    sources: Sources,
    machines: Machines,
    /// What was last wrong with them.
    troubles: BTreeSet<Trouble>,
    session: Session,
    sink: Option<Sink>,
    flows: Option<Flows>,
    targets: Vec<Target>,
    on: BTreeMap<u32, Chosen>,
    shown: Shown,
    clock: Clock,
    since: WallTime,
    id: u32,
    stopped: bool,
    packets: u64,
}

impl Tap<'_> {
    /// Gets on the interfaces that there are.
    fn begin(&mut self, watch: &Watch) -> anyhow::Result<()> {
        let mut all = Interface::list()?;
        if !self.args.wait
            && let Some(missing) = self.sources.missing(&all)
        {
            return Err(Failure::usage(format!(
                "{missing}; `ip link` shows those that there are, and --wait waits for one"
            ))
            .into());
        }
        self.find_outputs(&all)?;
        // A neighbour answers soon, if at all.
        for _ in 0..NEIGHBOUR_TRIES {
            if self.targets.iter().all(|target| !target.is_asking()) {
                break;
            }
            wait_for(&[watch.as_fd()], Some(DELAY))?;
            watch.changes();
            all = Interface::list()?;
            self.find_outputs(&all)?;
        }
        let conflict = self.follow(&all, true)?;
        if let Some(conflict) = conflict {
            return Err(Failure::usage(conflict).into());
        }
        let status = self.status()?;
        writeln!(io::stderr().lock(), "tap {}", control::line(&status))?;
        if let Some(reason) = self.session.in_user_space() {
            self.say(&format!(
                "the kernel does not load the filter ({reason}), so it copies every packet to plumb, \
                 which runs the filter: all is as you asked, but costs more"
            ))?;
        }
        Ok(())
    }

    fn say(&self, what: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "tap {}: {what}", self.id)
    }

    /// Looks for the ways to the outputs, and tells the kernel if they are different.
    fn find_outputs(&mut self, all: &[Interface]) -> anyhow::Result<()> {
        if self.targets.is_empty() {
            return Ok(());
        }
        let before: Vec<_> = self.targets.iter().map(Target::output).collect();
        for target in &mut self.targets {
            target.find(all);
        }
        let outputs: Vec<_> = self.targets.iter().map(Target::output).collect();
        if outputs != before || self.on.is_empty() {
            match self.session.set_outputs(&outputs) {
                // It has just gone, which will be told.
                Err(error) if !self.on.is_empty() => self.say(&error.to_string())?,
                set => set.map_err(|e| failure(&e))?,
            }
        }
        Ok(())
    }

    /// Gets on interfaces that are to be tapped and off those that are not any more. Returns why not,
    /// if an output is among them, or a machine is not found at first.
    fn follow(&mut self, all: &[Interface], first: bool) -> anyhow::Result<Option<String>> {
        let found = self.machines.look();
        let learned = if self.sources.has_macs() {
            LearnedAddress::list()?
        } else {
            Vec::new()
        };
        let waits = |trouble: &&Trouble| self.args.wait && matches!(trouble, Trouble::Missing(_));
        if first && let Some(trouble) = found.troubles.iter().find(|trouble| !waits(trouble)) {
            let hint = match trouble {
                Trouble::Missing(_) => "; --wait waits for one",
                Trouble::Several(..) | Trouble::Elsewhere(..) => "",
            };
            return Ok(Some(format!("{trouble}{hint}")));
        }
        for trouble in found.troubles.difference(&self.troubles) {
            // That its interfaces are gone is said of each.
            if !matches!(trouble, Trouble::Missing(_)) {
                self.say(&trouble.to_string())?;
            }
        }
        self.troubles = found.troubles;
        let mut wanted = self.sources.choose(all, &found.devices, &learned);
        // Whoever was named stays, whatever it is called now.
        for (index, chosen) in &self.on {
            let still = all.iter().find(|interface| interface.index == *index);
            let is_in = wanted.iter().any(|other| other.index == *index);
            if let Some(interface) = still
                && chosen.by_name
                && !is_in
            {
                wanted.push(Chosen {
                    name: interface.name.clone(),
                    ..chosen.clone()
                });
            }
        }
        let outputs: Vec<u32> = self.targets.iter().map(|t| t.output().interface).collect();
        let mut conflict = None;
        wanted.retain(|chosen| {
            let is_output = outputs.contains(&chosen.index);
            if is_output {
                conflict = Some(format!(
                    "copies would leave by {}, which is tapped itself: a tap never feeds itself",
                    chosen.name
                ));
            }
            !is_output
        });
        if first && conflict.is_some() {
            return Ok(conflict);
        }
        let gone: Vec<u32> = self
            .on
            .keys()
            .copied()
            .filter(|index| wanted.iter().all(|chosen| chosen.index != *index))
            .collect();
        for index in gone {
            self.session.detach(index);
            if let Some(chosen) = self.on.remove(&index) {
                self.say(&format!("{} is gone", chosen.name))?;
            }
        }
        for chosen in wanted {
            let known = self.on.get(&chosen.index);
            if known == Some(&chosen) {
                continue;
            }
            if let Some(sink) = &mut self.sink {
                sink.port(chosen.index, &chosen.name, chosen.is_port);
            }
            if let Some(flows) = &mut self.flows {
                flows.port(chosen.index, &chosen.name, chosen.is_port);
            }
            if known.is_none() {
                match self.get_on(&chosen) {
                    Ok(way) if !first => {
                        self.say(&format!("on {} ({})", chosen.name, way.name()))?
                    }
                    Ok(_) => {}
                    Err(error) if first => return Err(failure(&error).into()),
                    // It may have gone again.
                    Err(error) => {
                        self.say(&format!("{}: {error}", chosen.name))?;
                        continue;
                    }
                }
            }
            self.on.insert(chosen.index, chosen);
        }
        Ok(None)
    }

    fn get_on(&mut self, chosen: &Chosen) -> Result<Way, plumb_ebpf::tap::Error> {
        let mut way = Way::Tcx;
        for (hook, receives) in [(Hook::Ingress, true), (Hook::Egress, false)] {
            if self.sources.wants(chosen, receives) {
                way = self.session.attach(chosen.index, hook)?;
            }
        }
        Ok(way)
    }

    fn until_ended(&mut self, watch: &Watch, requests: &Requests) -> anyhow::Result<u8> {
        let mut interrupts = Interrupts::watch()?;
        let interrupts_fd = interrupts.fd()?;
        let mut quiet = 0;
        let mut look_at = self.clock.now() + LOOK_EVERY;
        let status = loop {
            let count = self.pass()?;
            if self.is_done() {
                break 0;
            }
            let is_closed = self.sink.as_ref().is_some_and(Sink::is_closed)
                || self.flows.as_ref().is_some_and(Flows::is_closed);
            if is_closed {
                break CLOSED_STATUS;
            }
            if interrupts.count() > 0 {
                break Exit::Interrupted as u8;
            }
            if self.stopped {
                break 0;
            }
            quiet = if count > 0 { 0 } else { quiet + 1 };
            self.follow_clock()?;
            let now = self.clock.now();
            let changes = watch.changes();
            let troubled = self.targets.iter().any(|target| target.found.is_err());
            let searching = !self.machines.is_empty() || self.sources.has_macs() || troubled;
            let is_due = now >= look_at && searching;
            if changes.interfaces || is_due || (changes.paths && !self.targets.is_empty()) {
                let all = Interface::list()?;
                self.find_outputs(&all)?;
                if changes.interfaces || is_due {
                    self.follow(&all, false)?;
                }
                look_at = now + LOOK_EVERY;
            }
            requests.attend(|asked| self.answer(asked));
            let is_idle = quiet > QUIET;
            self.session
                .wake_at_next(is_idle)
                .map_err(|e| failure(&e))?;
            let flows_due = self.flows.as_ref().and_then(Flows::poll_timeout);
            let limit = if count == BATCH {
                Some(Duration::ZERO)
            } else if quiet <= QUIET + 1 && self.takes_packets() {
                // Once more when the kernel was told to wake us: a packet may have been on its way.
                Some(DELAY)
            } else if searching {
                Some(LOOK_EVERY)
            } else {
                None
            };
            // Copies that the kernel stamps are not seen here.
            let stamps = (!self.targets.is_empty()).then_some(CLOCK_EVERY);
            let limit = limit
                .into_iter()
                .chain(stamps)
                .chain(flows_due.map(|at| at.since(now)))
                .min();
            // What came before the kernel knew that it was to wake us; unless the next stage is full.
            if is_idle && self.has_room() && !self.session.is_drained() {
                continue;
            }
            let [caller, call] = requests.fds();
            let others = [watch.as_fd(), caller, call, interrupts_fd.as_fd()];
            self.sleep(limit, &others)?;
        };
        self.end(status)?;
        Ok(status)
    }

    /// Takes note of a step of the system clock: a session may last for longer than clocks are right.
    fn follow_clock(&mut self) -> anyhow::Result<()> {
        if !self.clock.follow(Clock::new()) {
            return Ok(());
        }
        if let Some(sink) = &mut self.sink {
            sink.set_clock(self.clock);
        }
        if let Some(flows) = &mut self.flows {
            flows.set_clock(self.clock);
        }
        let offset_ns = self.clock.wall_ns(Instant::ZERO);
        self.session
            .set_wall_offset(offset_ns)
            .map_err(|e| failure(&e).into())
    }

    /// Takes packets out of the ring; says how many.
    fn pass(&mut self) -> anyhow::Result<usize> {
        if !self.takes_packets() {
            return Ok(0);
        }
        let (sink, flows) = (&mut self.sink, &mut self.flows);
        if let Some(sink) = sink {
            sink.retry()?;
        }
        let mut failed = None;
        let (most, mut packets) = (self.args.count, self.packets);
        let count = if sink.as_ref().is_none_or(Sink::has_room) {
            self.session.consume(BATCH, |packet| {
                if most.is_some_and(|most| packets >= most) {
                    return false;
                }
                packets += 1;
                if let Some(flows) = flows.as_mut() {
                    flows.packet(&packet);
                }
                match sink.as_mut().map_or(Ok(true), |sink| sink.packet(&packet)) {
                    Ok(goes_on) => goes_on,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            })
        } else {
            0
        };
        self.packets = packets;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if let Some(sink) = sink {
            sink.flush()?;
        }
        if let Some(flows) = flows {
            flows.turn(self.clock.now())?;
        }
        Ok(count)
    }

    /// Whether the next stage, if there is one, takes packets.
    fn has_room(&self) -> bool {
        self.sink.as_ref().is_none_or(Sink::has_room)
    }

    /// Whether packets come to this process.
    const fn takes_packets(&self) -> bool {
        self.sink.is_some() || self.flows.is_some()
    }

    fn is_done(&self) -> bool {
        self.args.count.is_some_and(|most| self.packets >= most)
    }

    fn sleep(&mut self, limit: Option<Duration>, others: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let mut others = others.to_vec();
        let has_room = self.has_room();
        // As long as the next stage is full, packets in the ring are no news.
        others.extend(self.session.ring_fd().filter(|_| has_room));
        match self.sink.as_mut().map(|sink| &mut sink.taker) {
            Some(Taker::Pipe(pipe)) => {
                let needs = Needs {
                    receive: false,
                    send: !has_room,
                };
                wait_alone(&mut **pipe, needs, &others, limit)?;
            }
            Some(Taker::Files(_)) | None => {
                wait_for(&others, limit)?;
            }
        }
        Ok(())
    }

    /// Leaves all interfaces, and writes what is still in the ring.
    fn end(&mut self, status: u8) -> anyhow::Result<()> {
        let indices: Vec<u32> = self.on.keys().copied().collect();
        let interfaces = self.interfaces();
        for index in indices {
            self.session.detach(index);
        }
        if status != CLOSED_STATUS {
            for _ in 0..200 {
                let count = if self.is_done() { 0 } else { self.pass()? };
                let Some(sink) = &mut self.sink else {
                    if count == 0 {
                        break;
                    }
                    continue;
                };
                sink.retry()?;
                sink.flush()?;
                if count == 0 && sink.is_flushed() {
                    break;
                }
                if !sink.is_flushed() {
                    self.sleep(Some(DELAY), &[])?;
                }
            }
        }
        if let Some(flows) = &mut self.flows {
            flows.finish()?;
        }
        if self.args.links.counters {
            let mut status = self.status()?;
            status.interfaces = interfaces;
            self.report(&status)?;
        }
        Ok(())
    }

    fn answer(&mut self, asked: Asked) -> Outcome {
        let mut before = None;
        let done = match asked {
            Asked::Status => match self.status() {
                Ok(status) => return Answer::Status(Box::new(status)).into(),
                Err(error) => Err(error),
            },
            Asked::Set { chosen, reduction } => self.set(chosen, &reduction, &mut before),
            Asked::Stop => {
                self.stopped = true;
                Ok(())
            }
        };
        let answer = match done {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused(format!("{error:#}")),
        };
        Outcome { answer, before }
    }

    fn set(
        &mut self,
        chosen: Option<Box<Choosing>>,
        reduction: &Reduction,
        before: &mut Option<Chooser>,
    ) -> anyhow::Result<()> {
        if let Some(chosen) = chosen {
            let chooser = self.session.choose(chosen.chooser);
            *before = Some(chooser.map_err(|e| failure(&e))?);
            self.shown = chosen.shown;
        }
        let mut limits = self.session.limits();
        settings::reduce(&mut limits, reduction);
        if let Some(flows) = &mut self.flows {
            flows.set_sample(limits.sample)?;
        }
        self.session.set_limits(limits).map_err(|e| failure(&e))?;
        if let Some(sink) = &mut self.sink {
            sink.set_snaplen(limits.snaplen);
        }
        Ok(())
    }
}

/// The exit status of a stage whose reader is gone.
const CLOSED_STATUS: u8 = 141;
