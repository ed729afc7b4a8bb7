//! Giving back memory that was needed once.

/// Gives the kernel back what the allocator has and nobody uses. For a process that has finished
/// starting and will live long with little.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
