//! Page tables: every address means itself, in pages of 2 MiB, entered as they are needed.
//!
//! The first 4 MiB are there from the start (`boot/entry.s`). The tables can be written in ring 3,
//! where instructions run at full speed under every hypervisor. Entries only ever become present, so
//! nothing has to be flushed (Intel SDM volume 3, 4.10.2.3).

use core::ptr;

use plumb_unikernel::boot::{Physical, Region};

const PAGE: u64 = 1 << 21;
/// Present, writable, for ring 3.
const TABLE: u64 = 0x07;
/// The same, a page of 2 MiB.
const MEMORY: u64 = 0x87;
/// The same, not cached.
const DEVICE: u64 = 0x9f;
/// Where the tables end.
const LIMIT: u64 = 1 << 32;

unsafe extern "C" {
    static mut page_pointers: [u64; 512];
    static mut page_directories: [u64; 2048];
}

/// The pointer that an address is.
pub(crate) fn pointer<T>(address: u64) -> *mut T {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "addresses have 64 bits here"
    )]
    ptr::with_exposed_provenance_mut(address as usize)
}

/// What lies at an address, for the processor's caches.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Device,
}

/// Maps the pages of a region; false if it reaches beyond 4 GiB, or there is nothing to map.
pub(crate) fn map(region: Region, kind: Kind) -> bool {
    if region.size() == 0 || region.end > LIMIT {
        return false;
    }
    let flags = match kind {
        Kind::Memory => MEMORY,
        Kind::Device => DEVICE,
    };
    let tables = (&raw mut page_directories).expose_provenance() as u64;
    let pointers = (&raw mut page_pointers).expose_provenance() as u64;
    let (first, last) = (region.start / PAGE, (region.end - 1) / PAGE);
    for page in first..=last {
        // SAFETY: below 4 GiB there are 2048 pages. No reference to the tables is ever made, and an
        // entry that is present is left as it is.
        unsafe {
            let entry = pointer::<u64>(tables + page * 8);
            if entry.read_volatile() == 0 {
                entry.write_volatile((page * PAGE) | flags);
            }
        }
    }
    for directory in first / 512..=last / 512 {
        // SAFETY: as above; there are 4 directories.
        unsafe {
            let entry = pointer::<u64>(pointers + directory * 8);
            if entry.read_volatile() == 0 {
                entry.write_volatile((tables + directory * 4096) | TABLE);
            }
        }
    }
    true
}

/// What the loader left in memory.
pub(crate) struct Loaded;

impl Physical for Loaded {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let region = Region::sized(address, length as u64)?;
        if address == 0 || !map(region, Kind::Memory) {
            return None;
        }
        // SAFETY: mapped, and any bytes will do. Nothing is written there as long as the result
        // lives: it is all read before the heap begins, and the heap spares what is read later.
        Some(unsafe { core::slice::from_raw_parts(pointer(address), length) })
    }
}
