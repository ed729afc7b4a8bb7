//! Taking little memory: giving back what was needed once, and sharing what others have as well.

use std::io;

/// Gives the kernel back what the allocator has and nobody uses, and what the main thread's stack
/// once reached down to. For a process that has finished starting and will live long with little.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
    trim_stack();
}

/// Keeps nothing in reserve, and lets blocks of some pages come from the kernel, which hands them
/// out untouched and takes them back. For a process of which there may be hundreds: buffers that
/// are hardly ever full cost what is in them.
pub fn spare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers, and holds for what is allocated from now on.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 16 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 0);
        libc::mallopt(libc::M_TOP_PAD, 0);
    }
}

/// Lets the kernel merge pages of this process with equal ones of others that allow it (KSM), now
/// and later. Takes one system call and allocates nothing.
///
/// # Errors
/// If the kernel does not know it (before 6.4) or does not allow it.
pub fn merge() -> io::Result<()> {
    const PR_SET_MEMORY_MERGE: libc::c_int = 67;
    // SAFETY: this operation takes numbers only.
    match unsafe { libc::prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How far below its end the main thread's stack is looked at. The kernel keeps at least 128 MiB
/// below the stack free of everything else.
const REACH: usize = 1 << 20;
const PAGE: usize = 4096;

#[inline(never)]
fn trim_stack() {
    if rustix::thread::gettid() != rustix::process::getpid() {
        // Something else may be below the stack of another thread.
        return;
    }
    let here = 0_u8;
    // A page of this function's own frame and of the call's stays.
    let end = (core::ptr::from_ref(&here).addr() & !(PAGE - 1)) - PAGE;
    // SAFETY: nothing below a stack's end is in use, so nobody misses what is there, and where
    // there is no stack there is nothing: then this fails, having done the rest.
    unsafe {
        libc::madvise(
            core::ptr::with_exposed_provenance_mut(end - REACH),
            REACH,
            libc::MADV_DONTNEED,
        );
    }
}
