//! What chooses packets in the kernel: the filters of both directions, and a set of prefixes behind
//! them. Both are put together beside a session that runs, and then take their place.

use core::mem::MaybeUninit;
use core::net::IpAddr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::choice::Choice;
use super::layout::{EXCLUDE, INCLUDE};
use super::program::{Filter, Hook, Maps};
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
    include!(concat!(env!("OUT_DIR"), "/choose.skel.rs"));
}

/// Prefixes that a set can have.
pub const MAX_PREFIXES: usize = 1 << 20;
/// Prefixes that are handed to the kernel by one call.
const BATCH: usize = 4096;

/// A prefix and what it says of packets with an address in it. The longest prefix of an address
/// counts; what one address excludes, the other does not include again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its address.
    pub address: IpAddr,
    /// Its length in bits.
    pub len: u8,
    /// Packets are chosen; else they are not.
    pub include: bool,
}

impl Prefix {
    /// Appends it as the kernel has it.
    fn key(&self, to: &mut Vec<u8>) {
        to.extend(u32::from(self.len).to_ne_bytes());
        match self.address {
            IpAddr::V4(address) => to.extend(address.octets()),
            IpAddr::V6(address) => to.extend(address.octets()),
        }
    }
}

/// Prefixes in the kernel, and the programs that look addresses up in them.
#[derive(Debug)]
pub struct PrefixSet {
    delivery: MapHandle,
    len: usize,
}

impl PrefixSet {
    /// How many prefixes it was made of.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn load(prefixes: &[Prefix], deliver: &[OwnedFd; 2]) -> Result<Self, Error> {
        if prefixes.len() > MAX_PREFIXES {
            return Err(Error::TooManyPrefixes(prefixes.len()));
        }
        let (v6, v4): (Vec<Prefix>, Vec<Prefix>) =
            prefixes.iter().partition(|prefix| prefix.address.is_ipv6());
        let room = |prefixes: &[Prefix]| u32::try_from(prefixes.len().max(1)).unwrap_or(1);
        let mut storage = MaybeUninit::uninit();
        let mut open = skeleton::ChooseSkelBuilder::default()
            .open(&mut storage)
            .map_err(|e| Error::load(&e))?;
        let sized = open.maps.prefixes4.set_max_entries(room(&v4));
        sized
            .and_then(|()| open.maps.prefixes6.set_max_entries(room(&v6)))
            .map_err(|e| Error::load(&e))?;
        if let Some(constants) = &mut open.maps.rodata_data {
            constants.set_includes = prefixes.iter().any(|prefix| prefix.include).into();
        }
        let loaded = open.load().map_err(|e| Error::load(&e))?;
        add(&loaded.maps.prefixes4, &v4)?;
        add(&loaded.maps.prefixes6, &v6)?;
        let programs = [
            deliver[0].as_fd(),
            deliver[1].as_fd(),
            loaded.progs.choose_received.as_fd(),
            loaded.progs.choose_sent.as_fd(),
        ];
        let delivery = MapHandle::try_from(&loaded.maps.delivery).map_err(|e| Error::load(&e))?;
        for (index, program) in (0u32..).zip(programs) {
            let program = program.as_raw_fd().to_ne_bytes();
            delivery
                .update(&index.to_ne_bytes(), &program, MapFlags::ANY)
                .map_err(|e| map_error(&e))?;
        }
        Ok(Self {
            delivery,
            len: prefixes.len(),
        })
    }
}

/// Puts prefixes of one family into their map.
fn add(map: &impl MapCore, prefixes: &[Prefix]) -> Result<(), Error> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for prefixes in prefixes.chunks(BATCH) {
        keys.clear();
        values.clear();
        for prefix in prefixes {
            let said = if prefix.include { INCLUDE } else { EXCLUDE };
            prefix.key(&mut keys);
            values.extend(said.to_ne_bytes());
        }
        let count = u32::try_from(prefixes.len()).unwrap_or(0);
        let batch = map.update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY);
        if batch.is_ok() {
            continue;
        }
        // Kernels before 5.14 take one by one.
        let keys = keys.chunks(keys.len() / prefixes.len());
        for (key, value) in keys.zip(values.chunks(4)) {
            map.update(key, value, MapFlags::ANY)
                .map_err(|e| map_error(&e))?;
        }
    }
    Ok(())
}

/// Makes what chooses packets, for the session that it belongs to.
#[derive(Debug)]
pub struct Builder {
    pub(crate) counters: OwnedFd,
    pub(crate) delivery: OwnedFd,
    pub(crate) deliver: [OwnedFd; 2],
    /// The kernel hands on all packets of the set, and the filter runs in user space.
    pub(crate) in_user_space: bool,
}

impl Builder {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            counters: self.counters.try_clone()?,
            delivery: self.delivery.try_clone()?,
            deliver: [self.deliver[0].try_clone()?, self.deliver[1].try_clone()?],
            in_user_space: self.in_user_space,
        })
    }

    /// Puts a set of prefixes together; nothing for none.
    ///
    /// # Errors
    /// If there are more than [`MAX_PREFIXES`], or the kernel refuses.
    pub fn prefixes(&self, prefixes: &[Prefix]) -> Result<Option<Arc<PrefixSet>>, Error> {
        if prefixes.is_empty() {
            return Ok(None);
        }
        PrefixSet::load(prefixes, &self.deliver).map(|set| Some(Arc::new(set)))
    }

    /// Puts filters together that choose what `choice` says, and of that what `set` says.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn build(&self, choice: &Choice, set: Option<Arc<PrefixSet>>) -> Result<Chooser, Error> {
        let maps = Maps {
            counters: self.counters.as_fd(),
            delivery: set
                .as_ref()
                .map_or(self.delivery.as_fd(), |set| set.delivery.as_fd()),
        };
        let in_user_space = self.in_user_space.then(|| choice.clone());
        let all = Choice::default();
        let in_kernel = if self.in_user_space { &all } else { choice };
        let filter = |hook| Filter::load(in_kernel, hook, maps, set.is_some());
        Ok(Chooser {
            filters: [filter(Hook::Ingress)?, filter(Hook::Egress)?],
            set,
            in_user_space,
        })
    }
}

/// What chooses the packets of a session.
#[derive(Debug)]
pub struct Chooser {
    filters: [Filter; 2],
    set: Option<Arc<PrefixSet>>,
    /// What is left to be chosen where the ring is read.
    in_user_space: Option<Choice>,
}

impl Chooser {
    /// The set that it looks addresses up in.
    pub const fn set(&self) -> Option<&Arc<PrefixSet>> {
        self.set.as_ref()
    }

    pub(crate) const fn in_user_space(&self) -> Option<&Choice> {
        self.in_user_space.as_ref()
    }

    pub(crate) fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        self.filters[hook as usize].as_fd()
    }

    /// Lets go of one whose place another has taken, once no packet is within it any more: its calls
    /// would lead nowhere. It may take some ten milliseconds.
    pub fn retire(self) {
        if self.set.is_some() {
            sys::wait_for_programs();
        }
    }
}
