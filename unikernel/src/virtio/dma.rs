//! Memory that a device reads and writes.

use alloc::alloc::{Layout, alloc, alloc_zeroed, handle_alloc_error};
use core::ptr::NonNull;

/// Size of a page, which the addresses of legacy devices are counted in.
pub(crate) const PAGE: u32 = 4096;

/// Address of the last piece that was made. A host's addresses are too large for legacy page numbers:
/// the fake device takes what they lack from here.
#[cfg(any(test, feature = "fake-device"))]
pub(crate) static LAST: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// A page-aligned piece of memory whose address a device is given. The machine is identity mapped:
/// the address is the pointer's value.
///
/// Whoever gives the address to a device resets that device before this is dropped.
#[derive(Debug)]
pub(crate) struct Dma {
    pointer: NonNull<u8>,
    layout: Layout,
}

impl Dma {
    /// Memory that is all zero.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self::new(len, true)
    }

    /// Memory of any content. Its pages are not touched, so they cost nothing until they are used.
    pub(crate) fn untouched(len: usize) -> Self {
        Self::new(len, false)
    }

    /// The address that a device is given.
    pub(crate) fn address(&self) -> u64 {
        self.pointer.as_ptr().expose_provenance() as u64
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If `len` bytes from there are not inside.
    pub(crate) fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.len()), "outside of DMA");
        // SAFETY: the offset is inside of the allocation.
        unsafe { self.pointer.add(offset) }
    }

    fn new(len: usize, zero: bool) -> Self {
        assert!(len > 0, "no empty DMA memory");
        let Ok(layout) = Layout::from_size_align(len, PAGE as usize) else {
            panic!("DMA memory of {len} bytes")
        };
        // SAFETY: the layout is not empty.
        let pointer = unsafe {
            if zero {
                alloc_zeroed(layout)
            } else {
                alloc(layout)
            }
        };
        let Some(pointer) = NonNull::new(pointer) else {
            handle_alloc_error(layout)
        };
        #[cfg(any(test, feature = "fake-device"))]
        LAST.store(
            pointer.addr().get() as u64,
            core::sync::atomic::Ordering::Relaxed,
        );
        if !zero {
            initialised(pointer.as_ptr());
        }
        Self { pointer, layout }
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and not freed elsewhere.
        unsafe { alloc::alloc::dealloc(self.pointer.as_ptr(), self.layout) }
    }
}

/// Lets the compiler believe that someone wrote to the memory: whatever bytes are there are bytes,
/// not "uninitialised". A device may write there at any time, and what it says about how much it
/// wrote is not to be trusted.
fn initialised(pointer: *mut u8) {
    // SAFETY: the assembly is empty. It is given the pointer and may touch memory, so the compiler
    // has to assume that it wrote all of it.
    unsafe {
        core::arch::asm!("/* {0} */", in(reg) pointer, options(nostack, preserves_flags));
    }
}
