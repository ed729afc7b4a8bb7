//! Which outside ports are taken, and by whom.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;

use plumb_wire::SplitMix64;

use super::Protocol;

/// The ports of the pool. Addresses are numbered in the pool's order.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    preserve: bool,
    taken: BTreeMap<(usize, Protocol), Taken>,
    /// Ports of a block; 0 where there are no blocks.
    block: u16,
    /// Blocks in use, by address and number: how many mappings are in each.
    blocks: BTreeMap<(usize, u16), u32>,
}

/// Ports of one address and protocol.
#[derive(Debug)]
struct Taken {
    bits: Box<[u64; 1024]>,
    count: u32,
}

impl Default for Taken {
    fn default() -> Self {
        Self {
            bits: Box::new([0; 1024]),
            count: 0,
        }
    }
}

impl Taken {
    fn has(&self, port: u16) -> bool {
        self.bits[usize::from(port / 64)] >> (port % 64) & 1 == 1
    }

    fn set(&mut self, port: u16, taken: bool) {
        if self.has(port) != taken {
            self.bits[usize::from(port / 64)] ^= 1 << (port % 64);
            if taken {
                self.count += 1;
            } else {
                self.count -= 1;
            }
        }
    }
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>, preserve: bool, block: u16) -> Self {
        Self {
            range,
            preserve,
            taken: BTreeMap::new(),
            block,
            blocks: BTreeMap::new(),
        }
    }

    /// Takes this very port; false if it is taken.
    pub(super) fn reserve(&mut self, address: usize, protocol: Protocol, port: u16) -> bool {
        let taken = self.taken.entry((address, protocol)).or_default();
        let free = !taken.has(port);
        taken.set(port, true);
        free
    }

    /// Takes a free port for an inside endpoint with port `wanted`: in the same half of the port
    /// space (RFC 4787 REQ-3), of the same parity where there is one (REQ-4), else at random
    /// (RFC 6056 §3.3.1).
    pub(super) fn allocate(
        &mut self,
        address: usize,
        protocol: Protocol,
        wanted: u16,
        random: &mut SplitMix64,
    ) -> Option<u16> {
        let (low, high) = (*self.range.start(), *self.range.end());
        let (low, high) = match wanted {
            0..1024 if low < 1024 => (low, high.min(1023)),
            1024.. if high >= 1024 => (low.max(1024), high),
            _ => (low, high),
        };
        self.within(address, protocol, wanted, low..=high, random)
    }

    /// Takes a free port of a block.
    pub(super) fn allocate_in(
        &mut self,
        address: usize,
        protocol: Protocol,
        wanted: u16,
        block: u16,
        random: &mut SplitMix64,
    ) -> Option<u16> {
        let ports = self.ports_of(block);
        let port = self.within(address, protocol, wanted, ports, random)?;
        *self.blocks.entry((address, block)).or_default() += 1;
        Some(port)
    }

    /// A block that no host has, at random.
    pub(super) fn free_block(&self, address: usize, random: &mut SplitMix64) -> Option<u16> {
        let span = u32::from(*self.range.end()) - u32::from(*self.range.start()) + 1;
        let count = u16::try_from(span / u32::from(self.block.max(1))).unwrap_or(u16::MAX);
        let start = random.below(count.into());
        (0..u64::from(count))
            .filter_map(|i| u16::try_from((start + i) % u64::from(count)).ok())
            .find(|block| !self.blocks.contains_key(&(address, *block)))
    }

    /// The ports of a block.
    pub(super) fn ports_of(&self, block: u16) -> RangeInclusive<u16> {
        let first = self
            .range
            .start()
            .saturating_add(block.saturating_mul(self.block));
        first
            ..=first
                .saturating_add(self.block.saturating_sub(1))
                .min(*self.range.end())
    }

    /// Gives a port back. Returns its block, where nothing is left in that.
    pub(super) fn release(&mut self, address: usize, protocol: Protocol, port: u16) -> Option<u16> {
        if let Some(taken) = self.taken.get_mut(&(address, protocol)) {
            taken.set(port, false);
        }
        if self.block == 0 || !self.range.contains(&port) {
            return None;
        }
        let block = (port - self.range.start()) / self.block;
        let count = self.blocks.get_mut(&(address, block))?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.blocks.remove(&(address, block));
        Some(block)
    }

    fn within(
        &mut self,
        address: usize,
        protocol: Protocol,
        wanted: u16,
        ports: RangeInclusive<u16>,
        random: &mut SplitMix64,
    ) -> Option<u16> {
        let taken = self.taken.entry((address, protocol)).or_default();
        if self.preserve && ports.contains(&wanted) && !taken.has(wanted) {
            taken.set(wanted, true);
            return Some(wanted);
        }
        let (low, high) = (u32::from(*ports.start()), u32::from(*ports.end()));
        let count = (high + 1).saturating_sub(low);
        if count == 0 || taken.count > u32::from(u16::MAX) {
            return None;
        }
        let start = u32::try_from(random.below(count.into())).unwrap_or(0);
        let mut other = None;
        for i in 0..count {
            let port = u16::try_from(low + (start + i) % count).unwrap_or(u16::MAX);
            if taken.has(port) {
                continue;
            }
            if port % 2 == wanted % 2 {
                other = Some(port);
                break;
            }
            other = other.or(Some(port));
        }
        taken.set(other?, true);
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_port_of_the_range_is_given_out_once() {
        let mut ports = Ports::new(1000..=1100, false, 0);
        let mut random = SplitMix64::new(1);
        let mut take = |wanted| ports.allocate(0, Protocol::Udp, wanted, &mut random);
        let high: BTreeSet<_> = (0..77).map(|_| take(5000).unwrap()).collect();
        assert_eq!(high, (1024..=1100).collect());
        assert_eq!(take(5000), None);
        let low: BTreeSet<_> = (0..24).map(|_| take(53).unwrap()).collect();
        assert_eq!(low, (1000..=1023).collect());
        assert_eq!(take(53), None);
        ports.release(0, Protocol::Udp, 1050);
        let again = ports.allocate(0, Protocol::Udp, 5001, &mut SplitMix64::new(2));
        assert_eq!(again, Some(1050));
        assert!(
            ports
                .allocate(1, Protocol::Udp, 5000, &mut SplitMix64::new(2))
                .is_some()
        );
        assert!(
            ports
                .allocate(0, Protocol::Tcp, 5000, &mut SplitMix64::new(2))
                .is_some()
        );
    }
}
