//! The machine of a measurement: a new one, or one that stays.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use plumb_channel::{Configure, Ready};
use plumb_link::{Clock, Observer, Turn, capability, memory};
use plumb_probe::Config;
use plumb_vm::{RunnerName, Vm};
use plumb_wire::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::machine::{Chosen, merge_hint};
use super::remote::{Broken, Line, Patience, Remote, drive};
use super::state::{Life, Place, Socket, State};
use super::uplink::{self, Uplink};
use super::words::LastWords;
use crate::args::{Prefix, VmRun};
use crate::command::session::SourceOf;
use crate::command::status::Status;
use crate::exit::{Exit, Failure};

/// How long a machine that may end has to do so, before it is ended.
const GRACE: Duration = Duration::from_secs(1);
/// How long a machine's last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A machine that measures, and the session with its engine.
pub(super) struct Probe<'a> {
    args: &'a VmRun,
    prepared: Prepared,
    machine: Option<Machine>,
    /// The engine in it.
    pub(super) remote: Remote,
    clock: Clock,
    /// Whether it has been said what machine it is.
    told: bool,
}

impl<'a> Probe<'a> {
    /// A session whose jobs are to be done as `engine` says. What the engine is told before the
    /// machine starts is there when it does.
    pub(super) fn new(
        args: &'a VmRun,
        prepared: Prepared,
        (engine, seed, packets): (Config, u64, bool),
        clock: Clock,
    ) -> Self {
        let configure = Configure {
            session: random(),
            engine,
            seed,
            packets,
        };
        Self {
            args,
            prepared,
            machine: None,
            remote: Remote::new(&configure, clock.now()),
            clock,
            told: !args.verbose,
        }
    }

    /// Starts the machine, and gives up every privilege.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.machine = Some(self.prepared.start(self.args, &mut self.remote)?);
        capability::drop_all().map_err(|e| Failure::permission(e.to_string()))?;
        // While the machine boots.
        memory::trim();
        Ok(())
    }

    /// Lets the machine and `turn` talk until `turn` says stop. It gets lines for people, too.
    pub(super) fn drive(
        &mut self,
        watch: &[BorrowedFd<'_>],
        observer: &mut dyn Observer,
        mut turn: impl FnMut(&mut Remote, &[String], Instant) -> Turn,
    ) -> anyhow::Result<()> {
        let Some(machine) = &self.machine else {
            return Ok(());
        };
        let patience = Patience {
            deadline: self.args.deadline.map(|seconds| seconds.0),
            ..Patience::default()
        };
        let told = &mut self.told;
        let outcome = drive(
            &mut self.remote,
            machine.line(),
            &self.clock,
            patience,
            watch,
            observer,
            |remote, now| {
                let texts = remote.texts().into_iter();
                let mut lines: Vec<String> = texts
                    .map(|text| format!("the machine says: {text}"))
                    .collect();
                if let Some(ready) = remote.ready().filter(|_| !*told) {
                    *told = true;
                    lines.push(describe(ready));
                }
                turn(remote, &lines, now)
            },
        )?;
        outcome.map_err(|broken| machine.failure(broken, &mut self.remote.last_words).into())
    }

    /// Lets a machine that has finished end, while the last is written here.
    pub(super) fn shut_down(&mut self) {
        if let Some(Machine::Ours(vm)) = &self.machine
            && self.remote.is_finished()
        {
            self.remote.shut_down(&vm.channel);
        }
    }

    /// Waits until nothing is left of it.
    pub(super) fn end(self) {
        let finished = self.remote.is_finished();
        match self.machine {
            // It dies with this process in any case, which takes longer: its network ends with it.
            Some(Machine::Ours(vm)) if finished && self.prepared.is_private() => {
                core::mem::forget(vm);
            }
            Some(Machine::Ours(vm)) if finished => wait_for_end(&vm, GRACE),
            Some(Machine::Ours(_) | Machine::Held { .. }) | None => {}
        }
    }
}

/// A machine before it is started.
pub(super) enum Prepared {
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
    /// Chooses a runner and makes the uplink, or finds the machine that stays.
    pub(super) fn of(args: &VmRun, status: &mut Status) -> anyhow::Result<Self> {
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

    /// What says which of its addresses leads to a destination; `wanted` is to be one of them.
    pub(super) fn sources(&self, wanted: Option<IpAddr>) -> Result<SourceOf, Failure> {
        sources(wanted, self.addresses())
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
                let vm = chosen.launch(None, &args.machine, uplink, image, &module)?;
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
fn sources(wanted: Option<IpAddr>, addresses: &[(IpAddr, u8)]) -> Result<SourceOf, Failure> {
    let own: Vec<IpAddr> = addresses.iter().map(|(address, _)| *address).collect();
    if own.is_empty() {
        return Err(Failure::usage(
            "the machine has no address: give it one with --address",
        ));
    }
    if let Some(chosen) = wanted
        && !own.contains(&chosen)
    {
        return Err(Failure::usage(format!(
            "--source {chosen} is none of the machine's addresses"
        )));
    }
    let mut own = own;
    // What was chosen comes first.
    own.sort_by_key(|address| Some(*address) != wanted);
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
