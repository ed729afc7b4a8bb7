//! From a reply to the task whose probe it answers.

use alloc::vec;
use alloc::vec::Vec;

use crate::random::Random;

/// Flow identifiers that the engine uses: valid as ICMP identifier, as checksum (never 0x0000 or
/// 0xffff), and as source port outside of the kernel's ephemeral range by default.
const FIRST: u16 = 0x8000;
const COUNT: u16 = 0x7fff;

const NONE: u32 = u32::MAX;

/// Chains of tasks by flow identifier. Many tasks may share one: they differ in destination.
#[derive(Debug)]
pub(crate) struct FlowTable {
    heads: Vec<u32>,
    next: Vec<u32>,
    last: u16,
}

impl FlowTable {
    pub(crate) fn new(window: usize, random: &mut Random) -> Self {
        let buckets = window.next_power_of_two().clamp(64, 1 << 15);
        Self {
            heads: vec![NONE; buckets],
            next: Vec::new(),
            last: random.below(COUNT),
        }
    }

    /// A flow identifier that was not given out for as long as possible.
    pub(crate) const fn allocate(&mut self) -> u16 {
        self.last = (self.last + 1) % COUNT;
        FIRST + self.last
    }

    fn bucket(&self, flow: u16) -> usize {
        usize::from(flow) & (self.heads.len() - 1)
    }

    pub(crate) fn insert(&mut self, flow: u16, task: u32) {
        let at = task as usize;
        if self.next.len() <= at {
            self.next.resize(at + 1, NONE);
        }
        let bucket = self.bucket(flow);
        self.next[at] = core::mem::replace(&mut self.heads[bucket], task);
    }

    pub(crate) fn remove(&mut self, flow: u16, task: u32) {
        let bucket = self.bucket(flow);
        let after = self.next[task as usize];
        if self.heads[bucket] == task {
            self.heads[bucket] = after;
            return;
        }
        let mut at = self.heads[bucket];
        while at != NONE {
            let next = self.next[at as usize];
            if next == task {
                self.next[at as usize] = after;
                return;
            }
            at = next;
        }
    }

    /// Indices of the tasks that may have `flow`; tasks with others may be among them.
    pub(crate) fn candidates(&self, flow: u16) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.heads[self.bucket(flow)];
        core::iter::from_fn(move || {
            let task = at;
            if task == NONE {
                return None;
            }
            at = self.next[task as usize];
            Some(task)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_flow_are_found_until_they_are_removed() {
        let mut table = FlowTable::new(64, &mut Random::new(1));
        for task in 0..5 {
            table.insert(0x9000, task);
        }
        table.insert(0x9001, 5);
        table.remove(0x9000, 4);
        table.remove(0x9000, 2);
        table.remove(0x9000, 0);
        assert_eq!(table.candidates(0x9000).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(table.candidates(0x9001).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn allocated_flows_do_not_repeat_for_32767_times() {
        let mut table = FlowTable::new(64, &mut Random::new(1));
        let mut flows: Vec<u16> = (0..COUNT).map(|_| table.allocate()).collect();
        flows.sort_unstable();
        flows.dedup();
        assert_eq!(flows.len(), usize::from(COUNT));
        assert!(flows.iter().all(|f| (0x8000..0xffff).contains(f)));
    }
}
