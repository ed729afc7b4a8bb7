//! A way past the ordered maps for what was looked up last.
//!
//! A shortcut remembers numbers of a slab by a hash of what was asked for, and knows nothing else:
//! whoever takes an answer sees in the slab whether it is what was meant, so that a wrong or an old
//! one costs a look at the map, and what packets do never depends on what is remembered.

use alloc::boxed::Box;
use alloc::vec;

use super::{Endpoint, Protocol};

/// Places of a table: the numbers fit a core's nearest cache.
const PLACES: usize = 4096;
const BITS: u32 = PLACES.trailing_zeros();

/// Numbers that may be what is looked for.
#[derive(Clone, Debug)]
pub(super) struct Shortcut(Box<[u32]>);

impl Default for Shortcut {
    fn default() -> Self {
        Self(vec![u32::MAX; PLACES].into_boxed_slice())
    }
}

impl Shortcut {
    /// The number that was remembered for this key, or for another one.
    pub(super) fn guess(&self, key: Key) -> u32 {
        self.0.get(key.place()).copied().unwrap_or(u32::MAX)
    }

    /// Remembers a number.
    pub(super) fn remember(&mut self, key: Key, id: u32) {
        if let Some(place) = self.0.get_mut(key.place()) {
            *place = id;
        }
    }
}

/// What is looked for, in one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64);

impl Key {
    /// A mapping, by one of its endpoints.
    pub(super) const fn endpoint(protocol: Protocol, endpoint: Endpoint) -> Self {
        Self((protocol as u64) << 48 | word(endpoint))
    }

    /// A session, by the number of its mapping and its other end.
    pub(super) const fn session(mapping: u32, remote: Endpoint) -> Self {
        Self(word(remote) ^ (mapping as u64).rotate_left(32))
    }

    /// Fibonacci hashing (Knuth, TAOCP 3, 6.4): the top bits of a product.
    fn place(self) -> usize {
        let hash = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(hash >> (u64::BITS - BITS)).unwrap_or(0)
    }
}

const fn word(endpoint: Endpoint) -> u64 {
    (endpoint.address.to_bits() as u64) << 16 | endpoint.port as u64
}
