//! The heap: all memory between the image and whatever else the loader put there. Pages that are
//! never used are never touched.

use core::alloc::{GlobalAlloc, Layout};

use plumb_unikernel::boot::Region;
use talc::{TalcCell, source::Manual};

use crate::memory::{self, Kind};

struct Heap(TalcCell<Manual>);

// SAFETY: there is one processor, and handlers of interrupts allocate nothing.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(TalcCell::new(Manual));

/// Lets the heap have a region; panics if it cannot be used.
///
/// # Safety
/// It must be memory, and nobody else's.
pub(crate) unsafe fn give(region: Region) {
    assert!(
        memory::map(region, Kind::Memory),
        "the heap is out of reach"
    );
    let size = usize::try_from(region.size()).unwrap_or(usize::MAX);
    // SAFETY: mapped; the rest is the caller's promise.
    let end = unsafe { HEAP.0.claim(memory::pointer(region.start), size) };
    assert!(end.is_some(), "too little memory for a heap");
}

/// Nothing here can go on without memory, so that allocating never fails: it ends the machine, with
/// words that say what would help.
fn out_of_memory(wanted: usize) -> ! {
    panic!("out of memory: no {wanted} bytes left, the machine needs more");
}

// SAFETY: what the inner allocator promises.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.0.alloc(layout) };
        if block.is_null() {
            out_of_memory(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.0.realloc(block, layout, size) };
        if block.is_null() {
            out_of_memory(size);
        }
        block
    }
}
