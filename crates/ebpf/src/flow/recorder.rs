//! Loads the programs, and reads what they tell.

use core::mem::MaybeUninit;
use core::net::IpAddr;
use core::sync::atomic::AtomicU64;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use libbpf_rs::btf::Btf;
use libbpf_rs::skel::Skel as _;
use libbpf_rs::{IterOpts, Link, MapCore as _, MapFlags, MapHandle, MapIterOpts, OpenProgramMut};

use super::Live;
use super::capability::Capability;
use super::error::Error;
use super::event::Event;
use super::inbox::Inbox;
use super::loading;
use super::object;
use super::order::in_order;
use super::passes::{Passes, Purpose, events_of};
use super::programs::{self, PROGRAMS};

/// Which connections are watched. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Networks that either end may be in.
    pub prefixes: Vec<(IpAddr, u8)>,
    /// Ports that either end may have.
    pub ports: Vec<u16>,
    /// Inode number of a network namespace.
    pub netns: Option<u32>,
    /// Identifier of a control group; those below it count.
    pub cgroup: Option<u64>,
    /// One connection in so many, chosen at random.
    pub sample: u32,
}

/// How the programs are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which connections are watched.
    pub filter: Filter,
    /// A window is closed after this time.
    pub active_timeout: Duration,
    /// A window is closed when nothing has happened for this time.
    pub idle_timeout: Duration,
    /// A connection whose application closed it is told of after this time.
    pub orphan_timeout: Duration,
    /// Bytes between kernel and reader; a power of two.
    pub ring: u32,
    /// Sockets whose state is kept in a table, which costs each connection less than storage of its
    /// own: those that find room there. A power of two; less than 8: none.
    pub table: u32,
    /// Sockets beyond those in the table whose state can be kept where the kernel lets no program go
    /// over the storage of sockets, and they are found by their addresses.
    pub by_address: u32,
    /// Names of programs that are left out, of [`optional_programs`](super::optional_programs).
    pub without: Vec<String>,
    /// Whether the programs that run for each segment are loaded.
    pub per_segment: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            active_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(15),
            orphan_timeout: Duration::from_secs(5),
            ring: 4 << 20,
            table: 32 << 10,
            by_address: 256 << 10,
            without: Vec::new(),
            per_segment: false,
        }
    }
}

/// What the programs counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that found the ring full; one that tells of the handshake, too, counts twice.
    pub dropped: u64,
    /// Connections that were watched.
    pub connections: u64,
    /// Of these, those that ended.
    pub ended: u64,
    /// Connections that the kernel had no memory for.
    pub untracked: u64,
    /// Times that the reader was woken because the ring had filled up.
    pub wakes: u64,
}

/// The programs that go over the connections.
const OVER_ALL: [&str; 3] = [programs::PASS, programs::TABLE, programs::WALK];

/// The programs, running. They are gone when this is, or its process.
pub struct Recorder {
    inbox: Inbox,
    counts: MapHandle,
    passes: Passes,
    options: Options,
    live: Live,
    capabilities: Vec<Capability>,
    _links: Vec<Link>,
}

impl core::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recorder")
            .field("options", &self.options)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// Loads and attaches every program that this kernel takes, and gives the connections that are
    /// there already.
    ///
    /// # Errors
    /// If a privilege or the kernel's types are missing, or the one program without which there is
    /// nothing is refused.
    pub fn start(options: Options) -> Result<(Self, Vec<Event>), Error> {
        Self::start_with(options, |_| {})
    }

    /// The same, after `alter` has had a look at each program that is to be loaded.
    fn start_with(
        options: Options,
        alter: impl Fn(&mut OpenProgramMut<'_>),
    ) -> Result<(Self, Vec<Event>), Error> {
        let types = Btf::from_vmlinux().map_err(|_| Error::NoTypes)?;
        loading::raise_limit();
        let mut verdicts = loading::verdicts(&types, &options.without, options.per_segment);
        let mut storage = [const { MaybeUninit::uninit() }; 3];
        let skel = object::load_all_taken(&mut storage, &options, &mut verdicts, &alter)?;
        let loaded = loading::live(&types, &verdicts);
        let event_len = if loaded.segments || loaded.stalls {
            Event::WIDE_LEN
        } else {
            Event::LEN
        };
        let maps = |map: &libbpf_rs::MapMut<'_>| {
            MapHandle::try_from(map).map_err(|e| Error::of("keep a map", &e))
        };
        let (counts, passes) = (maps(&skel.maps.counts)?, maps(&skel.maps.passes)?);
        let (states, table) = (maps(&skel.maps.states)?, maps(&skel.maps.table)?);
        object::fill_filters(&skel, &options.filter)?;

        let inbox = Inbox::of(&skel.maps.events)?;
        let passed = Inbox::of(&skel.maps.passed)?;

        let (mut links, mut passes_over, mut baseline) = (Vec::new(), Vec::new(), None);
        for program in skel.object().progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            let place = PROGRAMS.iter().position(|p| p.name == name);
            let Some(verdict) = place.and_then(|place| verdicts.get_mut(place)) else {
                continue;
            };
            if verdict.is_some() {
                continue;
            }
            let attached = match name.as_str() {
                programs::PASS => {
                    let map = MapIterOpts::from_fd(states.as_fd());
                    program.attach_iter_with_opts(IterOpts::Map(map))
                }
                programs::TABLE => {
                    let map = MapIterOpts::from_fd(table.as_fd());
                    program.attach_iter_with_opts(IterOpts::Map(map))
                }
                _ => program.attach(),
            };
            match attached {
                Ok(link) if OVER_ALL.contains(&&*name) => {
                    passes_over.push(link);
                }
                Ok(link) if name == programs::BASELINE => baseline = Some(link),
                Ok(link) => links.push(link),
                Err(error) => *verdict = Some(format!("cannot be attached: {error}")),
            }
        }
        if let Some(reason) = loading::required(&verdicts) {
            return Err(Error::Refused(reason));
        }
        let live = loading::live(&types, &verdicts);
        let capabilities = super::capability::list(&types, &verdicts);
        let recorder = Self {
            inbox,
            counts,
            passes: Passes {
                links: passes_over,
                made: AtomicU64::new(0),
                settings: passes,
                inbox: passed,
            },
            options,
            live,
            capabilities,
            _links: links,
        };
        let there = match &baseline {
            Some(link) => events_of(link, event_len).map_err(|source| Error::System {
                operation: "list the open sockets",
                source,
            })?,
            None => Vec::new(),
        };
        Ok((recorder, there))
    }

    /// Which figures are known.
    pub const fn live(&self) -> Live {
        self.live
    }

    /// What this kernel can tell, and why not the rest.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Takes all that the programs have told, in batches. Does not wait.
    pub fn take(&mut self, handle: impl FnMut(&[Event])) {
        self.inbox.for_each_batch(handle);
    }

    /// Goes over all connections for what has lasted, idled, or lost its application. What it finds,
    /// and what the programs told meanwhile, comes in batches, in order.
    ///
    /// # Errors
    /// If the kernel refuses the iterator.
    pub fn pass(&mut self, handle: impl FnMut(&[Event])) -> io::Result<()> {
        self.go_over(Purpose::Pass, handle)
    }

    /// Ends the window of every connection, and tells of them as [`pass`](Self::pass) does.
    ///
    /// # Errors
    /// If the kernel refuses the iterator.
    pub fn stop(&mut self, handle: impl FnMut(&[Event])) -> io::Result<()> {
        self.go_over(Purpose::Stop, handle)
    }

    /// Gives every connection as it stands, opening ones included, without ending its window. For
    /// [`Profiler::total`](super::Profiler::total).
    ///
    /// # Errors
    /// If the kernel refuses the iterator.
    pub fn look(&mut self, mut see: impl FnMut(Event)) -> io::Result<()> {
        let see = |events: Vec<Event>| events.into_iter().for_each(&mut see);
        self.passes.go_over(Purpose::Look, &self.options, see)
    }

    fn go_over(&self, purpose: Purpose, mut handle: impl FnMut(&[Event])) -> io::Result<()> {
        handle(&self.inbox.take_all());
        self.passes.go_over(purpose, &self.options, |passed| {
            handle(&in_order(self.inbox.take_all(), passed));
        })
    }

    /// What the programs counted.
    pub fn counts(&self) -> Counts {
        let values = self
            .counts
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY);
        let values = values.ok().flatten().unwrap_or_default();
        let sum = |n: usize| {
            let of_each = values
                .iter()
                .filter_map(|value| value.get(n * 8..)?.first_chunk());
            of_each.map(|bytes| u64::from_ne_bytes(*bytes)).sum()
        };
        Counts {
            dropped: sum(0),
            connections: sum(1),
            ended: sum(2),
            untracked: sum(3),
            wakes: sum(4),
        }
    }
}

/// Becomes readable when the ring has filled up to a quarter.
impl AsFd for Recorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ProgramType;

    use super::*;

    #[test]
    fn root_a_program_that_the_verifier_refuses_takes_no_other_along() {
        // What XDP programs get is not what a tracepoint's expect.
        let spoil = |program: &mut OpenProgramMut<'_>| {
            if program.name() == programs::DROP {
                program.set_prog_type(ProgramType::Xdp);
            }
        };
        let recorder = match Recorder::start_with(Options::default(), spoil) {
            Ok((recorder, _)) => recorder,
            Err(Error::Permission | Error::NoTypes) => {
                assert!(std::env::var_os("TESTS_NO_SKIP").is_none(), "not permitted");
                eprintln!("skipped: programs may not be loaded here");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let find = |name: &str| {
            let found = recorder.capabilities().iter().find(|c| c.name == name);
            found.unwrap().missing.clone()
        };
        let reason = find("drop").unwrap();
        assert!(reason.starts_with("the kernel refuses it: "), "{reason}");
        assert_eq!((find("state"), find("congestion")), (None, None));
        assert!([find("pass"), find("walk")].contains(&None));
        assert!(!recorder.live().duplicates && recorder.live().congestion);
    }
}
