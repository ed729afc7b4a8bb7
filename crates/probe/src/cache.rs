//! Results shared between jobs, with an expiry and a bound.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use plumb_wire::Instant;

/// What a cache knows of a key.
#[derive(Debug)]
enum Entry<V, W> {
    /// Being measured for these.
    Pending(Vec<W>),
    Known {
        value: V,
        expires: Instant,
    },
}

/// What to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup<V> {
    /// Known.
    Hit(V),
    /// Being measured; the asker will be told.
    Pending,
    /// Unknown: the asker has to start the measurement, and will be told as all others.
    Start,
}

/// A cache whose misses are measured once however many ask meanwhile.
#[derive(Debug)]
pub(crate) struct Cache<K, V, W> {
    entries: BTreeMap<K, Entry<V, W>>,
    /// Known keys in the order in which they were learnt.
    order: VecDeque<(Instant, K)>,
    lifetime: Duration,
    bound: usize,
}

/// How long a failure is believed: it may have been a router's rate limit.
const FAILURE_LIFETIME: Duration = Duration::from_secs(60);

impl<K: Copy + Ord, V: Clone, W> Cache<K, V, W> {
    pub(crate) const fn new(lifetime: Duration, bound: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            order: VecDeque::new(),
            lifetime,
            bound,
        }
    }

    pub(crate) fn ask(&mut self, key: K, who: W, now: Instant) -> Lookup<V> {
        match self.entries.get_mut(&key) {
            Some(Entry::Known { value, expires }) if *expires > now => Lookup::Hit(value.clone()),
            Some(Entry::Pending(waiters)) => {
                waiters.push(who);
                Lookup::Pending
            }
            Some(Entry::Known { .. }) | None => {
                self.entries.insert(key, Entry::Pending([who].into()));
                Lookup::Start
            }
        }
    }

    /// Stores a result and returns who asked for it.
    pub(crate) fn learn(&mut self, key: K, value: V, failed: bool, now: Instant) -> Vec<W> {
        let lifetime = if failed {
            self.lifetime.min(FAILURE_LIFETIME)
        } else {
            self.lifetime
        };
        let expires = now + lifetime;
        let before = self.entries.insert(key, Entry::Known { value, expires });
        self.order.push_back((expires, key));
        while self.order.len() > self.bound
            || self
                .order
                .front()
                .is_some_and(|(expires, _)| *expires <= now)
        {
            let Some((learnt, oldest)) = self.order.pop_front() else {
                break;
            };
            // A key that expired and was learnt again has a later entry in `order`.
            let same = matches!(self.entries.get(&oldest), Some(Entry::Known { expires, .. }) if *expires == learnt);
            if same {
                self.entries.remove(&oldest);
            }
        }
        match before {
            Some(Entry::Pending(waiters)) => waiters,
            Some(Entry::Known { .. }) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_asker_measures_and_all_are_told() {
        let mut cache: Cache<u8, char, u8> = Cache::new(SECOND, 10);
        let now = Instant::from_millis(0);
        assert_eq!(cache.ask(1, 100, now), Lookup::Start);
        assert_eq!(cache.ask(1, 101, now), Lookup::Pending);
        assert_eq!(cache.learn(1, 'x', false, now), [100, 101]);
        assert_eq!(cache.ask(1, 102, now), Lookup::Hit('x'));
    }

    #[test]
    fn entries_expire_and_the_oldest_goes_when_there_are_too_many() {
        let mut cache: Cache<u8, char, u8> = Cache::new(SECOND, 2);
        let at = Instant::from_millis;
        for (key, time) in [(1, 0), (2, 10), (3, 20)] {
            assert_eq!(cache.ask(key, 0, at(time)), Lookup::Start);
            cache.learn(key, 'x', false, at(time));
        }
        assert_eq!(cache.ask(1, 0, at(30)), Lookup::Start);
        assert_eq!(cache.ask(2, 0, at(30)), Lookup::Hit('x'));
        assert_eq!(cache.ask(2, 0, at(1010)), Lookup::Start);
        cache.learn(2, 'y', false, at(1015));
        assert_eq!(cache.ask(2, 0, at(1020)), Lookup::Hit('y'));
        assert!(cache.order.len() <= 2);
    }

    #[test]
    fn failures_are_forgotten_sooner() {
        let mut cache: Cache<u8, char, u8> = Cache::new(SECOND * 3600, 9);
        cache.ask(1, 0, Instant::ZERO);
        cache.learn(1, 'x', true, Instant::ZERO);
        assert_eq!(
            cache.ask(1, 0, Instant::from_millis(59_999)),
            Lookup::Hit('x')
        );
        assert_eq!(cache.ask(1, 0, Instant::from_millis(60_000)), Lookup::Start);
    }
}
