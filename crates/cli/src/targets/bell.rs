//! How who reads a list wakes who waits for it.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Wakes the event loop when the queue is no longer empty, if it sleeps.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) stream: UnixStream,
    armed: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
pub(super) struct Ringer {
    stream: Arc<UnixStream>,
    armed: Arc<AtomicBool>,
}

impl Bell {
    pub(super) fn new() -> io::Result<(Self, Ringer)> {
        let (stream, far) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let armed = Arc::new(AtomicBool::new(false));
        let ringer = Ringer {
            stream: Arc::new(far),
            armed: Arc::clone(&armed),
        };
        Ok((Self { stream, armed }, ringer))
    }

    /// Asks for the next ring.
    pub(super) fn arm(&mut self) {
        let mut old = [0; 16];
        while matches!(self.stream.read(&mut old), Ok(1..)) {}
        self.armed.store(true, Ordering::SeqCst);
    }
}

impl Ringer {
    pub(super) fn ring(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            // If the other end is gone, nobody needs to be woken.
            let _ = (&*self.stream).write(&[0]);
        }
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        // That a thread has ended may mean that the list has.
        let _ = (&*self.stream).write(&[0]);
    }
}
