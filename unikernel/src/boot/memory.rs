//! Which memory there is, and which of it is free.

use super::{u32_at, u64_at};

/// Addresses from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
}

impl Region {
    /// The region of `size` bytes from `start`; none if it ends beyond the address space.
    pub fn sized(start: u64, size: u64) -> Option<Self> {
        let end = start.checked_add(size)?;
        Some(Self { start, end })
    }

    /// Size in bytes.
    pub fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// What of it lies in `other` as well, perhaps nothing.
    fn within(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end).max(start);
        Self { start, end }
    }

    /// Says whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.within(other).size() > 0
    }
}

/// Most regions of usable memory that are looked at; further ones stay unused.
pub const MAX_REGIONS: usize = 32;

/// Everything beyond this address stays unused: the page tables of the image end there.
const LIMIT: u64 = 1 << 32;

/// The usable memory of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryMap {
    usable: [Region; MAX_REGIONS],
    len: usize,
}

/// What both boot protocols call memory that can be used.
pub(super) const USABLE: u32 = 1;

impl MemoryMap {
    /// Reads the entries of a loader's table. Both protocols begin them with start and size, 64
    /// bits each, and a 32-bit type. What is not usable, or not possible, is left out.
    pub(super) fn read<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut map = Self::default();
        for entry in entries {
            let start = u64_at(entry, 0).unwrap_or_default();
            let size = u64_at(entry, 8).unwrap_or_default();
            if let (Some(USABLE), Some(region)) = (u32_at(entry, 16), Region::sized(start, size)) {
                map.add(region);
            }
        }
        map
    }

    /// Adds usable memory; nothing happens if there are too many regions already.
    pub fn add(&mut self, region: Region) {
        if let Some(slot) = self.usable.get_mut(self.len) {
            *slot = region;
            self.len += 1;
        }
    }

    /// The regions of usable memory, as the loader listed them.
    pub fn usable(&self) -> &[Region] {
        self.usable.get(..self.len).unwrap_or_default()
    }

    /// Usable memory in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.usable().iter().map(|region| region.size());
        sizes.fold(0, u64::saturating_add)
    }

    /// The largest stretch of usable memory from `floor` on and below 4 GiB that none of `taken`
    /// lies in.
    pub fn largest_free(&self, floor: u64, taken: &[Region]) -> Option<Region> {
        let window = Region {
            start: floor,
            end: LIMIT.max(floor),
        };
        let mut best = None;
        for region in self.usable() {
            let region = region.within(window);
            // A stretch begins where the region does, or behind something that is taken.
            let starts = taken.iter().map(|taken| taken.end).chain([region.start]);
            for start in starts.filter(|&start| region.start <= start && start < region.end) {
                let inside = |taken: &Region| taken.start <= start && start < taken.end;
                if taken.iter().any(inside) {
                    continue;
                }
                let ends = taken.iter().filter(|taken| taken.size() > 0);
                let ends = ends.map(|taken| taken.start).filter(|&end| end >= start);
                let end = ends.fold(region.end, u64::min);
                let free = Region { start, end };
                if free.size() > best.map_or(0, Region::size) {
                    best = Some(free);
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(start: u64, end: u64) -> Region {
        Region { start, end }
    }

    fn map(regions: &[Region]) -> MemoryMap {
        let mut map = MemoryMap::default();
        for &region in regions {
            map.add(region);
        }
        map
    }

    #[test]
    fn the_heap_lies_behind_the_image_and_beside_the_module() {
        let memory = map(&[region(0, 0x9_fc00), region(0x10_0000, 0x80_0000)]);
        let free = |taken: &[Region]| memory.largest_free(0x22_0000, taken).unwrap();
        assert_eq!(free(&[]), region(0x22_0000, 0x80_0000));
        assert_eq!(free(&[region(0, 0)]), region(0x22_0000, 0x80_0000));
        let module = region(0x7f_0000, 0x80_0000);
        assert_eq!(free(&[module]), region(0x22_0000, 0x7f_0000));
        let module = region(0x30_0000, 0x40_0000);
        assert_eq!(free(&[module]), region(0x40_0000, 0x80_0000));
    }

    #[test]
    fn memory_beyond_4_gib_is_left_alone() {
        let memory = map(&[region(1 << 32, 1 << 33), region(0xf000_0000, 0x1_1000_0000)]);
        let free = memory.largest_free(0x20_0000, &[]);
        assert_eq!(free, Some(region(0xf000_0000, 1 << 32)));
        assert_eq!(memory.size(), 0x1_2000_0000);
    }

    #[test]
    fn a_machine_with_too_many_regions_uses_the_first() {
        let mut memory = MemoryMap::default();
        for at in 0..100 {
            memory.add(region(at * 10, at * 10 + 5));
        }
        assert_eq!(memory.usable().len(), MAX_REGIONS);
    }

    proptest! {
        #[test]
        fn what_is_free_is_usable_and_not_taken_and_nothing_larger_is(
            usable in proptest::collection::vec((0_u64..64, 0_u64..64), 0..4),
            taken in proptest::collection::vec((0_u64..64, 0_u64..64), 0..4),
            floor in 0_u64..64,
        ) {
            let make = |ends: &[(u64, u64)]| -> std::vec::Vec<Region> {
                ends.iter().map(|&(start, end)| region(start, end)).collect()
            };
            let (usable, taken) = (make(&usable), make(&taken));
            let good = |at: u64| {
                let has = |regions: &[Region]| {
                    regions.iter().any(|region| (region.start..region.end).contains(&at))
                };
                at >= floor && has(&usable) && !has(&taken)
            };
            let free = map(&usable).largest_free(floor, &taken);
            if let Some(free) = free {
                prop_assert!((free.start..free.end).all(good));
            }
            // No usable region has a longer run of free addresses.
            for region in &usable {
                let mut run = 0;
                for at in region.start..region.end {
                    run = if good(at) { run + 1 } else { 0 };
                    prop_assert!(run <= free.map_or(0, Region::size));
                }
            }
        }
    }
}
