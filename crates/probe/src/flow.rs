//! From a reply to the task whose probe it answers.

use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::random::Random;

/// Flow identifiers that the engine uses: valid as ICMP identifier, as checksum (never 0x0000 or
/// 0xffff), and as source port outside of the kernel's ephemeral range by default.
const FIRST: u16 = 0x8000;
const COUNT: u16 = 0x7fff;

const NONE: u32 = u32::MAX;

/// Tasks by flow identifier and destination, and by flow identifier alone.
#[derive(Debug)]
pub(crate) struct FlowTable {
    exact: Chains,
    any: Chains,
    last: u16,
}

impl FlowTable {
    pub(crate) fn new(window: usize, random: &mut Random) -> Self {
        let buckets = window.next_power_of_two().clamp(64, 1 << 15);
        Self {
            exact: Chains::new(buckets),
            any: Chains::new(buckets),
            last: random.below(COUNT),
        }
    }

    /// A flow identifier that was not given out for as long as possible.
    pub(crate) const fn allocate(&mut self) -> u16 {
        self.last = (self.last + 1) % COUNT;
        FIRST + self.last
    }

    pub(crate) fn insert(&mut self, flow: u16, dst: IpAddr, task: u32) {
        self.exact.insert(hash(flow, dst), task);
        self.any.insert(u64::from(flow), task);
    }

    pub(crate) fn remove(&mut self, flow: u16, dst: IpAddr, task: u32) {
        self.exact.remove(hash(flow, dst), task);
        self.any.remove(u64::from(flow), task);
    }

    /// Indices of the tasks that may have this flow and destination; others may be among them.
    pub(crate) fn exact(&self, flow: u16, dst: IpAddr) -> impl Iterator<Item = u32> + '_ {
        self.exact.bucket(hash(flow, dst))
    }

    /// Indices of tasks that may have this flow, to any destination: the newest ones, since a user
    /// may give the same flow to a million targets.
    pub(crate) fn any(&self, flow: u16) -> impl Iterator<Item = u32> + '_ {
        self.any.bucket(u64::from(flow)).take(64)
    }
}

/// Mixes a flow with a destination (the finalizer of MurmurHash3).
fn hash(flow: u16, dst: IpAddr) -> u64 {
    let dst = match dst {
        IpAddr::V4(a) => u64::from(a.to_bits()),
        IpAddr::V6(a) => {
            let [high, low] = [a.to_bits() >> 64, a.to_bits()];
            #[expect(clippy::cast_possible_truncation, reason = "the halves of the address")]
            {
                (high as u64).rotate_left(32) ^ low as u64
            }
        }
    };
    let mut h = dst ^ u64::from(flow) << 48;
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

/// Doubly linked chains of small numbers in a fixed number of buckets.
#[derive(Debug)]
struct Chains {
    heads: Vec<u32>,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

impl Chains {
    /// `buckets` is a power of two.
    fn new(buckets: usize) -> Self {
        Self {
            heads: vec![NONE; buckets],
            links: Vec::new(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits count")]
    fn at(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    fn insert(&mut self, hash: u64, item: u32) {
        let alone = Link {
            before: NONE,
            after: NONE,
        };
        if self.links.len() <= item as usize {
            self.links.resize(item as usize + 1, alone);
        }
        let at = self.at(hash);
        let after = core::mem::replace(&mut self.heads[at], item);
        self.links[item as usize] = Link { after, ..alone };
        if let Some(next) = self.links.get_mut(after as usize) {
            next.before = item;
        }
    }

    fn remove(&mut self, hash: u64, item: u32) {
        let Link { before, after } = self.links[item as usize];
        match self.links.get_mut(before as usize) {
            Some(previous) => previous.after = after,
            None => {
                let at = self.at(hash);
                self.heads[at] = after;
            }
        }
        if let Some(next) = self.links.get_mut(after as usize) {
            next.before = before;
        }
    }

    fn bucket(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.heads[self.at(hash)];
        core::iter::from_fn(move || {
            let item = at;
            at = self.links.get(item as usize)?.after;
            Some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[test]
    fn allocated_flows_do_not_repeat_for_32767_times() {
        let mut table = FlowTable::new(64, &mut Random::new(1));
        let flows: BTreeSet<u16> = (0..COUNT).map(|_| table.allocate()).collect();
        assert_eq!(flows.len(), usize::from(COUNT));
        assert!(flows.iter().all(|f| (0x8000..0xffff).contains(f)));
    }

    proptest! {
        #[test]
        fn tasks_are_found_until_they_are_removed(steps in proptest::collection::vec((0u32..40, 0u16..4, 0u8..3), 1..200)) {
            let mut table = FlowTable::new(64, &mut Random::new(1));
            let mut model = alloc::collections::BTreeMap::new();
            for (task, flow, host) in steps {
                let dst = IpAddr::from([5, 0, 0, host]);
                match model.remove(&task) {
                    Some((flow, dst)) => table.remove(flow, dst, task),
                    None => {
                        model.insert(task, (flow, dst));
                        table.insert(flow, dst, task);
                    }
                }
                for (task, (flow, dst)) in &model {
                    prop_assert!(table.exact(*flow, *dst).any(|t| t == *task));
                    prop_assert!(table.any(*flow).any(|t| t == *task));
                }
                let all: BTreeSet<u32> = (0..4).flat_map(|flow| table.any(flow)).collect();
                prop_assert_eq!(all.len(), model.len());
            }
        }
    }
}
