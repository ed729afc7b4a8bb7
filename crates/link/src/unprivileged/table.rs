//! A bounded number of things, found by key, of which the least recently used one goes first.

use core::hash::Hash;
use std::collections::HashMap;

use plumb_wire::Instant;

/// Values in numbered slots.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<usize>,
    by_key: HashMap<K, usize>,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    used: Instant,
}

/// Where a new value could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// There is room.
    Free,
    /// In the place of the one that was not used for the longest time.
    Oldest {
        slot: usize,
        /// When it was last used.
        used: Instant,
    },
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// An empty table with room for `capacity` values, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            capacity: capacity.max(1),
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn find(&self, key: &K) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn vacancy(&self) -> Vacancy {
        if self.by_key.len() < self.capacity {
            return Vacancy::Free;
        }
        let used = |slot: usize| Some((self.slots[slot].as_ref()?.used, slot));
        (0..self.slots.len())
            .filter_map(used)
            .min()
            .map_or(Vacancy::Free, |(used, slot)| Vacancy::Oldest { slot, used })
    }

    /// Puts a value under a key that is not there.
    pub(super) fn insert(&mut self, key: K, value: V, now: Instant) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Entry {
            key,
            value,
            used: now,
        });
        self.by_key.insert(key, slot);
        slot
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<V> {
        let entry = self.slots.get_mut(slot)?.take()?;
        self.by_key.remove(&entry.key);
        self.free.push(slot);
        Some(entry.value)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut V> {
        Some(&mut self.slots.get_mut(slot)?.as_mut()?.value)
    }

    /// The value in a slot, which counts as used now.
    pub(super) fn touch(&mut self, slot: usize, now: Instant) -> Option<&mut V> {
        let entry = self.slots.get_mut(slot)?.as_mut()?;
        entry.used = now;
        Some(&mut entry.value)
    }

    pub(super) fn entry(&mut self, slot: usize) -> Option<(K, &mut V)> {
        let entry = self.slots.get_mut(slot)?.as_mut()?;
        Some((entry.key, &mut entry.value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().flatten().map(|entry| &entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut table = Table::new(2);
        let a = table.insert('a', 1, at(1));
        let b = table.insert('b', 2, at(2));
        table.touch(a, at(3));
        let oldest = Vacancy::Oldest {
            slot: b,
            used: at(2),
        };
        assert_eq!(table.vacancy(), oldest);
        assert_eq!(table.remove(b), Some(2));
        assert_eq!((table.find(&'b'), table.vacancy()), (None, Vacancy::Free));
        let c = table.insert('c', 3, at(4));
        assert_eq!((c, table.find(&'c')), (b, Some(b)), "a slot is used again");
        assert_eq!(table.values().sum::<i32>(), 4);
        assert_eq!(table.remove(7), None);
    }
}
