//! Sets and maps: which element a key is in.
//!
//! Values and intervals are sorted, so that thousands cost a binary search. Keys of several fields
//! that hold ranges are found by a bit vector for each field (Lakshman and Stiliadis, 1998). What
//! packets add is in ordered maps with a bound.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use plumb_wire::Instant;

use super::limit::Bucket;
use super::rules::Verdict;

/// Fields that a key may have.
pub(super) const MOST_FIELDS: usize = 6;
/// Elements of several fields with ranges that a set may have.
pub(super) const MOST_CROSSED: usize = 4096;
/// Elements that packets may add where the set does not say how many, as in nftables.
const DEFAULT_SIZE: usize = 65_535;

/// The values of a key's fields; those that it does not have are 0.
pub(super) type Key = [u128; MOST_FIELDS];

/// What an element leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Nothing,
    Value(u128),
    Verdict(Verdict),
}

/// An element of the rules: the first and last value of each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) first: Key,
    pub(super) last: Key,
    pub(super) data: Data,
}

impl Element {
    fn overlaps(&self, other: &Self) -> bool {
        (0..MOST_FIELDS).all(|i| self.first[i] <= other.last[i] && other.first[i] <= self.last[i])
    }
}

/// Why a set cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// These two elements, by number, overlap.
    Overlap(usize, usize),
    TooMany,
}

/// The elements that rules give, found fast.
#[derive(Clone, Debug, Default)]
pub(super) struct Fixed {
    /// Of one field: sorted, without overlaps.
    single: Vec<(u128, u128, Data)>,
    /// Of several, without ranges: sorted.
    exact: Vec<(Key, Data)>,
    crossed: Crossed,
    /// What all else leads to.
    any: Option<Data>,
}

#[derive(Clone, Debug, Default)]
struct Crossed {
    axes: Vec<Axis>,
    words: usize,
    data: Vec<Data>,
}

/// One field: where its elementary intervals begin, and which elements each lies in.
#[derive(Clone, Debug, Default)]
struct Axis {
    starts: Vec<u128>,
    bits: Vec<u64>,
}

impl Fixed {
    /// A set of keys of `fields` fields. Overlapping elements become one if they `merge`.
    pub(super) fn new(
        fields: usize,
        elements: &[Element],
        any: Option<Data>,
        merge: bool,
    ) -> Result<Self, Conflict> {
        let mut order: Vec<usize> = (0..elements.len()).collect();
        order.sort_by_key(|i| (elements[*i].first, elements[*i].last));
        let mut fixed = Self {
            any,
            ..Self::default()
        };
        if fields == 1 {
            fixed.single(elements, &order, merge)?;
            return Ok(fixed);
        }
        let mut ranges = Vec::new();
        let mut before: Option<usize> = None;
        for i in order {
            let element = &elements[i];
            if element.first != element.last {
                ranges.push(i);
                continue;
            }
            match before.replace(i) {
                Some(other) if elements[other].first == element.first => {
                    if elements[other].data != element.data {
                        return Err(Conflict::Overlap(other, i));
                    }
                }
                _ => fixed.exact.push((element.first, element.data)),
            }
        }
        if ranges.len() > MOST_CROSSED {
            return Err(Conflict::TooMany);
        }
        fixed.crossed = Crossed::new(fields, elements, &ranges);
        // What two elements lead to must not depend on their order.
        for (n, i) in ranges.iter().enumerate() {
            for j in &ranges[n + 1..] {
                let (a, b) = (&elements[*i], &elements[*j]);
                if a.data != b.data && a.overlaps(b) {
                    return Err(Conflict::Overlap(*i, *j));
                }
            }
        }
        for (j, element) in elements.iter().enumerate() {
            if element.first == element.last
                && let Some(found) = fixed.crossed.find(&element.first)
                && found != element.data
            {
                let mut holders = ranges.iter().filter(|i| elements[**i].overlaps(element));
                return Err(Conflict::Overlap(holders.next().copied().unwrap_or(j), j));
            }
        }
        Ok(fixed)
    }

    fn single(
        &mut self,
        elements: &[Element],
        order: &[usize],
        merge: bool,
    ) -> Result<(), Conflict> {
        let mut owner = 0;
        for i in order {
            let (first, last) = (elements[*i].first[0], elements[*i].last[0]);
            let data = elements[*i].data;
            if let Some(before) = self.single.last_mut()
                && before.1 >= first
            {
                let is_same = before.0 == first && before.1 == last;
                if before.2 != data || !(merge || is_same) {
                    return Err(Conflict::Overlap(owner, *i));
                }
                before.1 = before.1.max(last);
                continue;
            }
            owner = *i;
            self.single.push((first, last, data));
        }
        Ok(())
    }

    /// What its elements lead to.
    pub(super) fn data(&self) -> impl Iterator<Item = Data> {
        let single = self.single.iter().map(|(.., data)| *data);
        let exact = self.exact.iter().map(|(_, data)| *data);
        let crossed = self.crossed.data.iter().copied();
        single.chain(exact).chain(crossed).chain(self.any)
    }

    /// What a key leads to; none if it is not in the set.
    pub(super) fn find(&self, key: &Key) -> Option<Data> {
        let behind = self.single.partition_point(|(first, ..)| *first <= key[0]);
        if let Some((_, last, data)) = behind.checked_sub(1).and_then(|at| self.single.get(at))
            && key[0] <= *last
        {
            return Some(*data);
        }
        if let Ok(at) = self.exact.binary_search_by(|(known, _)| known.cmp(key)) {
            return self.exact.get(at).map(|(_, data)| *data);
        }
        self.crossed.find(key).or(self.any)
    }
}

impl Crossed {
    fn new(fields: usize, elements: &[Element], ranges: &[usize]) -> Self {
        if ranges.is_empty() {
            return Self::default();
        }
        let words = ranges.len().div_ceil(64);
        let axes = (0..fields).map(|field| {
            let mut starts = BTreeSet::from([0]);
            for i in ranges {
                starts.insert(elements[*i].first[field]);
                if let Some(behind) = elements[*i].last[field].checked_add(1) {
                    starts.insert(behind);
                }
            }
            let starts: Vec<u128> = starts.into_iter().collect();
            let mut bits = vec![0; starts.len() * words];
            for (number, i) in ranges.iter().enumerate() {
                let (first, last) = (elements[*i].first[field], elements[*i].last[field]);
                let from = starts.partition_point(|start| *start < first);
                let to = starts.partition_point(|start| *start <= last);
                for row in from..to {
                    bits[row * words + number / 64] |= 1 << (number % 64);
                }
            }
            Axis { starts, bits }
        });
        Self {
            axes: axes.collect(),
            words,
            data: ranges.iter().map(|i| elements[*i].data).collect(),
        }
    }

    fn find(&self, key: &Key) -> Option<Data> {
        let mut rows = [&[][..]; MOST_FIELDS];
        for ((axis, value), row) in self.axes.iter().zip(key).zip(&mut rows) {
            let at = axis.starts.partition_point(|start| start <= value) - 1;
            *row = &axis.bits[at * self.words..][..self.words];
        }
        let rows = &rows[..self.axes.len()];
        for word in 0..self.words {
            let all = rows.iter().fold(u64::MAX, |all, row| all & row[word]);
            if all != 0 {
                let bit = usize::try_from(all.trailing_zeros()).unwrap_or(0);
                return self.data.get(word * 64 + bit).copied();
            }
        }
        None
    }
}

/// Elements that come and go.
#[derive(Clone, Debug)]
pub(super) struct Dynamic {
    elements: BTreeMap<Key, Living>,
    expiry: BTreeSet<(Instant, Key)>,
    pub(super) size: usize,
    /// Additions for which there was no room.
    pub(super) full: u64,
}

#[derive(Clone, Debug)]
struct Living {
    expires: Option<Instant>,
    data: Data,
    bucket: Option<Bucket>,
}

impl Dynamic {
    pub(super) fn new(size: Option<u32>) -> Self {
        let size = size.and_then(|size| usize::try_from(size).ok());
        Self {
            elements: BTreeMap::new(),
            expiry: BTreeSet::new(),
            size: size.unwrap_or(DEFAULT_SIZE),
            full: 0,
        }
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Data> {
        let found = self.elements.get(key)?;
        found
            .expires
            .is_none_or(|at| at > now)
            .then_some(found.data)
    }

    /// Adds an element, if it is not there; a time that it has runs anew if it is `renewed`. False
    /// if there is no room.
    pub(super) fn add(
        &mut self,
        key: Key,
        data: Data,
        timeout: Option<Duration>,
        renewed: bool,
        now: Instant,
    ) -> bool {
        self.expire(now);
        let expires = timeout.map(|timeout| now + timeout);
        if let Some(found) = self.elements.get_mut(&key) {
            if renewed && let (Some(old), Some(new)) = (found.expires, expires) {
                self.expiry.remove(&(old, key));
                self.expiry.insert((new, key));
                found.expires = Some(new);
            }
            return true;
        }
        if self.elements.len() >= self.size {
            self.full += 1;
            return false;
        }
        if let Some(at) = expires {
            self.expiry.insert((at, key));
        }
        let living = Living {
            expires,
            data,
            bucket: None,
        };
        self.elements.insert(key, living);
        true
    }

    /// The limit of an element; `fresh` where it has none yet.
    pub(super) fn bucket(&mut self, key: &Key, fresh: Bucket) -> Option<&mut Bucket> {
        let found = self.elements.get_mut(key)?;
        Some(found.bucket.get_or_insert(fresh))
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(found) = self.elements.remove(key)
            && let Some(at) = found.expires
        {
            self.expiry.remove(&(at, *key));
        }
    }

    /// Takes over the elements of another.
    pub(super) fn take(&mut self, other: &Self) {
        for (key, living) in &other.elements {
            if self.elements.len() >= self.size {
                break;
            }
            if let Some(old) = self.elements.insert(*key, living.clone())
                && let Some(at) = old.expires
            {
                self.expiry.remove(&(at, *key));
            }
            if let Some(at) = living.expires {
                self.expiry.insert((at, *key));
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, key)) = self.expiry.first().copied()
            && at <= now
        {
            self.expiry.pop_first();
            self.elements.remove(&key);
        }
    }
}
