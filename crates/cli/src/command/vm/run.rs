//! `plumb vm run`: a measurement from a machine.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use core::time::Duration;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use plumb_channel::{Configure, Ready};
use plumb_link::memory;
use plumb_vm::{RunnerName, Vm};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control::{self, Measurement, Order};
use super::machine::{Chosen, merge_hint};
use super::remote::{Broken, Line, Patience, Remote, drive};
use super::state::{Life, Place, Socket, State};
use super::uplink::{self, Uplink};
use super::words::LastWords;
use crate::args::{self, Command, ModeName, Prefix, VmRun};
use crate::command::feed::Feed;
use crate::command::interrupt::Interrupts;
use crate::command::network::Way;
use crate::command::prober::Prober as _;
use crate::command::session::{Plan, Session, SourceOf, Work, observer};
use crate::command::status::Status;
use crate::command::{ping, trace};
use crate::exit::{Exit, Failure};

pub(super) fn run(mut args: VmRun) -> anyhow::Result<Exit> {
    let measurement = core::mem::take(&mut args.measurement);
    let command = parse(measurement)?;
    let measurement = if let Command::Trace(what) = command {
        check_trace(&what)?;
        Measurement::Trace(what)
    } else if let Command::Ping(what) = command {
        check(what.mode, what.interface.as_deref())?;
        Measurement::Ping(what)
    } else {
        return Err(Failure::usage("a machine can `trace` and `ping`, and nothing else").into());
    };
    let order = Order {
        machine: args,
        measurement,
    };
    control::start_anew(&order);
    carry_out(order)
}

/// Measures from a machine.
pub(super) fn carry_out(order: Order) -> anyhow::Result<Exit> {
    let Order {
        machine,
        measurement,
    } = order;
    match measurement {
        Measurement::Trace(what) => {
            trace::run_with(*what, |plan, work| measure(&machine, plan, work))
        }
        Measurement::Ping(what) => {
            ping::run_with(*what, |plan, work| measure(&machine, plan, work))
        }
    }
}

/// The measurement, as plumb's own command line would be understood.
fn parse(measurement: Vec<OsString>) -> anyhow::Result<Command> {
    let program = OsString::from("plumb");
    let arguments = core::iter::once(program).chain(measurement).collect();
    // Settings of this system's sockets are none of a machine's.
    match crate::parse(arguments, &["mode", "interface", "source"])? {
        Ok(plumb) => Ok(plumb.command),
        Err(shown) => {
            drop(shown.print());
            let exit = if shown.use_stderr() {
                Exit::Usage
            } else {
                Exit::Reached
            };
            std::process::exit(exit as i32)
        }
    }
}

fn check_trace(args: &args::Trace) -> Result<(), Failure> {
    check(args.mode, args.interface.as_deref())?;
    if args.live || args.report {
        return Err(Failure::usage(
            "--live and --report do not work from a machine yet",
        ));
    }
    if args.dry_run {
        return Err(Failure::usage(
            "--dry-run sends nothing, so it needs no machine: use `plumb trace --dry-run`",
        ));
    }
    Ok(())
}

fn check(mode: ModeName, interface: Option<&str>) -> Result<(), Failure> {
    if mode != ModeName::Auto {
        return Err(Failure::usage(
            "--mode chooses among this system's sockets, and a machine uses none of them",
        ));
    }
    if interface.is_some() {
        return Err(Failure::usage(
            "a machine has one interface, so there is no --interface; see --uplink of \
             `plumb vm run`",
        ));
    }
    Ok(())
}

/// How long a machine that may end has to do so, before it is ended.
const GRACE: Duration = Duration::from_secs(1);
/// How long a machine's last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A machine before it is started.
enum Prepared {
    New {
        chosen: Chosen,
        uplink: Box<Uplink>,
        image: Option<Vec<u8>>,
    },
    Held {
        place: Place,
        addresses: Vec<(IpAddr, u8)>,
    },
}

/// A machine that runs.
enum Machine {
    Ours(Vm),
    Held { name: String, stream: UnixStream },
}

impl Prepared {
    fn of(args: &VmRun, status: &mut Status) -> anyhow::Result<Self> {
        let Some(name) = &args.vm else {
            let chosen = Chosen::of(&args.machine)?;
            // What is built in is expected to work, so that is not worth a word.
            if args.verbose || chosen.why.is_some() && chosen.name() != RunnerName::Embedded {
                let why = chosen.why.as_deref().unwrap_or("as you wish");
                status.line(&format!("{} ({why})", chosen.uses));
            }
            if let Some(hint) = merge_hint(&args.machine) {
                status.line(hint);
            }
            let image = args.image.as_deref().map(|path| {
                std::fs::read(path).map_err(|e| {
                    Failure::usage(format!("cannot read the image {}: {e}", path.display()))
                })
            });
            return Ok(Self::New {
                chosen,
                image: image.transpose()?,
                uplink: Box::new(uplink::open(&args.machine)?),
            });
        };
        let place = State::open()?.machine(name)?;
        if place.life() != Some(Life::Held) {
            return Err(super::stay::no_machine(name).into());
        }
        let (machine, _) = super::stay::ask(&place)
            .map_err(|e| Failure::usage(format!("the machine {name} does not answer: {e:#}")))?;
        if machine.busy {
            status.line(&format!("{name} is busy: waiting for its turn"));
        }
        let addresses = machine.addresses.iter().filter_map(|a| a.parse().ok());
        Ok(Self::Held {
            place,
            addresses: addresses
                .map(|Prefix(address, len)| (address, len))
                .collect(),
        })
    }

    fn addresses(&self) -> &[(IpAddr, u8)] {
        match self {
            Self::New { uplink, .. } => &uplink.addresses,
            Self::Held { addresses, .. } => addresses,
        }
    }

    /// Whether its network is this process's own and ends with it.
    fn is_private(&self) -> bool {
        match self {
            Self::New { uplink, .. } => uplink.is_private(),
            Self::Held { .. } => false,
        }
    }

    /// Starts the machine with what `remote` has to say by now.
    fn start(&mut self, args: &VmRun, remote: &mut Remote) -> anyhow::Result<Machine> {
        match self {
            Self::New {
                chosen,
                uplink,
                image,
            } => {
                let image = image.as_deref().unwrap_or(plumb_vm::IMAGE);
                let module = remote.module();
                let vm = chosen.launch(&args.machine, uplink, image, &module)?;
                Ok(Machine::Ours(vm))
            }
            Self::Held { place, .. } => {
                let name = place.name.clone();
                let stream = place
                    .connect(Socket::Job)
                    .with_context(|| format!("cannot speak with the machine {name}"))?;
                stream.set_nonblocking(true)?;
                Ok(Machine::Held { name, stream })
            }
        }
    }
}

impl Machine {
    fn line(&self) -> Line<'_> {
        match self {
            Self::Ours(vm) => Line {
                stream: &vm.channel,
                console: Some(vm.console.as_fd()),
                process: Some(vm.process.as_fd()),
            },
            Self::Held { stream, .. } => Line {
                stream,
                console: None,
                process: None,
            },
        }
    }

    /// What to say when it has failed.
    fn failure(&self, broken: Broken, last_words: &mut LastWords) -> Failure {
        let message = match self {
            Self::Ours(vm) => {
                if matches!(broken, Broken::Ended | Broken::Closed) {
                    wait_for_end(vm, LAST_WORDS);
                }
                last_words.read(vm.console.as_fd());
                let runner = vm.runner;
                match last_words.summary() {
                    Some(words) => format!("{broken} ({runner}); its last words: {words}"),
                    None => format!("{broken} ({runner}), without a word on its console"),
                }
            }
            Self::Held { name, .. } => format!("{broken}; see `plumb vm logs {name}`"),
        };
        Failure {
            exit: Exit::Partial,
            message,
        }
    }
}

fn measure(args: &VmRun, plan: Plan, work: &mut dyn Work) -> anyhow::Result<Exit> {
    let Plan {
        input,
        family,
        way,
        mut engine,
        seed,
        mut capture,
        progress,
        clock,
    } = plan;
    let mut status = Status::new(progress, input.list.is_some());
    // Names are looked up in this system's network, before a lab's private one is entered.
    let feed = Feed::open(&input, family, &mut status)?;
    let mut prepared = Prepared::of(args, &mut status)?;
    let sources = sources(&way, prepared.addresses())?;
    if input.list.is_none() {
        // A machine makes room for as many as there may be.
        engine.window = engine.window.min(input.arguments.len());
    }
    let mut interrupts = Interrupts::watch().context("cannot watch for signals")?;
    status.announce(engine.rate);
    let mut session = Session::new(work, feed, sources, status, clock, &engine);
    session.begin()?;
    let configure = Configure {
        session: random(),
        engine,
        seed,
        packets: capture.is_some(),
    };
    let mut remote = Remote::new(&configure, clock.now());
    // What can be said before the machine runs is there when it does.
    session.try_turn(&mut remote, clock.now(), 0)?;
    let machine = prepared.start(args, &mut remote)?;
    // While the machine boots.
    memory::trim();
    plumb_link::capability::drop_all().map_err(|e| Failure::permission(e.to_string()))?;
    session.start_feed();
    let signals = interrupts.fd().context("cannot watch for signals")?;
    let bell = session.bell()?;
    let mut watch = vec![signals.as_fd()];
    watch.extend(bell.as_ref().map(AsFd::as_fd));
    let mut nobody = ();
    let patience = Patience {
        deadline: args.deadline.map(|seconds| seconds.0),
        ..Patience::default()
    };
    let mut told = !args.verbose;
    let outcome = drive(
        &mut remote,
        machine.line(),
        &clock,
        patience,
        &watch,
        observer(&mut capture, &mut nobody),
        |remote, now| {
            for text in remote.texts() {
                session.status.line(&format!("the machine says: {text}"));
            }
            if let Some(ready) = remote.ready().filter(|_| !told) {
                told = true;
                session.status.line(&describe(ready));
            }
            session.turn(remote, now, interrupts.count())
        },
    )?;
    let outcome = outcome.map_err(|broken| machine.failure(broken, &mut remote.last_words).into());
    let finished = remote.is_finished();
    if let Machine::Ours(vm) = &machine
        && finished
    {
        // It ends while the last is written here.
        remote.shut_down(&vm.channel);
    }
    if remote.unreported() > 0 {
        let lost = remote.unreported();
        let line = format!("the capture lacks {lost} packets that the machine could not send");
        session.status.line(&line);
    }
    let exit = session.end(remote.stats(), remote.dropped(), capture, outcome);
    match machine {
        // It dies with this process in any case, which takes longer: its network ends with it.
        Machine::Ours(vm) if finished && prepared.is_private() => core::mem::forget(vm),
        Machine::Ours(vm) if finished => wait_for_end(&vm, GRACE),
        Machine::Ours(_) | Machine::Held { .. } => {}
    }
    exit
}

/// Waits for the end of a machine's process. If it does not come, dropping the machine ends it.
fn wait_for_end(vm: &Vm, limit: Duration) {
    let mut fds = [PollFd::new(&vm.process, PollFlags::IN)];
    let timeout = Timespec::try_from(limit).ok();
    let _ = poll(&mut fds, timeout.as_ref());
}

fn describe(ready: &Ready) -> String {
    let addresses: Vec<String> = ready
        .addresses
        .iter()
        .map(|(address, len)| format!("{address}/{len}"))
        .collect();
    format!(
        "the machine is ready: {}, room for {} targets at once",
        addresses.join(" "),
        ready.window
    )
}

/// What says which of the machine's addresses leads to a destination.
fn sources(way: &Way, addresses: &[(IpAddr, u8)]) -> Result<SourceOf, Failure> {
    let own: Vec<IpAddr> = addresses.iter().map(|(address, _)| *address).collect();
    if own.is_empty() {
        return Err(Failure::usage(
            "the machine has no address: give it one with --address",
        ));
    }
    if let Some(chosen) = way.source
        && !own.contains(&chosen)
    {
        return Err(Failure::usage(format!(
            "--source {chosen} is none of the machine's addresses"
        )));
    }
    let mut own = own;
    // What was chosen comes first.
    own.sort_by_key(|address| Some(*address) != way.source);
    Ok(Box::new(move |dst: IpAddr| {
        let mut fitting = own.iter().filter(|own| own.is_ipv4() == dst.is_ipv4());
        fitting.next().copied().ok_or_else(|| {
            let version = if dst.is_ipv4() { "IPv4" } else { "IPv6" };
            format!("{dst}: the machine has no {version} address")
        })
    }))
}

/// A number that differs from run to run.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
