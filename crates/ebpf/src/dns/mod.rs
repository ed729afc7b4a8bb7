//! Name lookups of this host: what was asked, how long the answer took, and what it said.
//!
//! Two programs at a control group see what its sockets send and receive, in every network
//! namespace and before any resolver's cache hides it; [`Lookups`] makes records of it. The
//! programs run for every packet of these sockets, so they are only there when asked for.

mod lookups;

use core::cell::RefCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::net::SocketAddr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{
    ErrorExt, Link, MapCore, MapFlags, MapHandle, OpenObject, RingBuffer, RingBufferBuilder,
};
use plumb_wire::Instant;

use crate::denied::is_refused_unprivileged;

pub use lookups::{Lookups, Seen};

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::std_instead_of_core,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    unreachable_pub,
    unused_qualifications,
    reason = "this is generated"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/dns.skel.rs"));
}

/// Why lookups cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control group cannot be opened.
    #[error("cannot open the control group {}: {source}", path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The kernel refused the programs or their map.
    #[error("the kernel refused the programs that watch name lookups: {0:#}")]
    Kernel(#[from] libbpf_rs::Error),
}

impl Error {
    /// Whether a capability is missing: CAP_BPF, CAP_NET_ADMIN and, for names of processes,
    /// CAP_PERFMON.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Cgroup { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            Self::Kernel(error) => is_refused_unprivileged(error),
        }
    }
}

/// Watches the name lookups of a control group and of those below it. When it is dropped, or the
/// process ends, nothing is left in the kernel.
pub struct Recorder {
    _links: [Link; 2],
    ring: RingBuffer<'static>,
    /// The messages, as what can be waited for.
    messages: MapHandle,
    counters: MapHandle,
    lookups: Rc<RefCell<Lookups>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Starts to watch a control group by its directory in the unified hierarchy; that of the root
    /// is all of the host.
    ///
    /// # Errors
    ///
    /// What is missing, or what the kernel refused.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        let cgroup = File::open(directory).map_err(|source| Error::Cgroup {
            path: directory.to_owned(),
            source,
        })?;
        libbpf_rs::set_print(None);
        let mut storage = [MaybeUninit::uninit(), MaybeUninit::uninit()];
        let [with_names, without] = &mut storage;
        // Older kernels do not tell these programs which process runs.
        let loaded = match load(with_names, true) {
            Ok(loaded) => loaded,
            Err(refused) => load(without, false).map_err(|_| refused)?,
        };
        let fd = cgroup.as_raw_fd();
        let links = [
            loaded.progs.sent.attach_cgroup(fd)?,
            loaded.progs.received.attach_cgroup(fd)?,
        ];
        let counters = MapHandle::try_from(&loaded.maps.bss)?;
        let messages = MapHandle::try_from(&loaded.maps.messages)?;
        let lookups = Rc::new(RefCell::new(Lookups::default()));
        let taker = Rc::clone(&lookups);
        let mut builder = RingBufferBuilder::new();
        builder.add(&loaded.maps.messages, move |record| {
            if let Some(seen) = parse(record) {
                taker.borrow_mut().handle_message(&seen);
            }
            0
        })?;
        let ring = builder
            .build()
            .context("cannot read the ring buffer of messages")?;
        Ok(Self {
            _links: links,
            ring,
            messages,
            counters,
            lookups,
        })
    }

    /// Readable when there is something to [`read`](Self::read).
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.messages.as_fd()
    }

    /// Takes what the kernel has seen since, and gives up what has waited for too long.
    /// `wall_offset_ns` is wall time minus CLOCK_MONOTONIC, as it is now.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn read(&mut self, now: Instant, wall_offset_ns: u64) -> Result<(), Error> {
        self.lookups.borrow_mut().set_wall_offset(wall_offset_ns);
        self.ring.consume()?;
        self.lookups.borrow_mut().handle_timeout(now);
        Ok(())
    }

    /// The lookups, to take records from.
    pub fn lookups(&self) -> core::cell::RefMut<'_, Lookups> {
        self.lookups.borrow_mut()
    }

    /// Messages that found no room in the ring.
    pub fn lost(&self) -> u64 {
        let value = self.counters.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY);
        let value = value.ok().flatten();
        value
            .and_then(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)))
            .unwrap_or(0)
    }
}

fn load(
    storage: &mut MaybeUninit<OpenObject>,
    names_process: bool,
) -> libbpf_rs::Result<skeleton::DnsSkel<'_>> {
    let mut open = skeleton::DnsSkelBuilder::default().open(storage)?;
    if let Some(data) = &mut open.maps.rodata_data {
        data.names_process = names_process;
    }
    open.load()
}

/// Reads `struct dns_message` of `dns.bpf.c`.
fn parse(record: &[u8]) -> Option<Seen<'_>> {
    let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let u16_at = |at: usize| Some(u16::from_ne_bytes(record.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<[u8; 16]> { record.get(at..at + 16)?.try_into().ok() };
    let pid = u32::from_ne_bytes(record.get(32..36)?.try_into().ok()?);
    let len = usize::from(u16_at(36)?);
    let (local_port, remote_port) = (u16_at(38)?, u16_at(40)?);
    let version = *record.get(42)?;
    let comm = record.get(76..92)?;
    let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Seen {
        at: Instant::from_nanos(u64_at(0)?),
        is_sent: *record.get(43)? != 0,
        local: SocketAddr::new(lookups::address(version, address(44)?), local_port),
        remote: SocketAddr::new(lookups::address(version, address(60)?), remote_port),
        socket: u64_at(8)?,
        netns_cookie: u64_at(16)?,
        cgroup_id: u64_at(24)?,
        process: (pid != 0).then(|| (pid, String::from_utf8_lossy(comm).into_owned())),
        payload: record.get(92..92 + len)?,
    })
}
