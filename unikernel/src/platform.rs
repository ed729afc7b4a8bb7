//! What the loop needs of the machine that it runs on.

use core::time::Duration;

use plumb_wire::Instant;

/// Time and sleep.
pub trait Platform {
    /// Monotonic time since boot.
    fn now(&self) -> Instant;

    /// Sleeps until a device interrupts or it is `until`, whichever comes first; returns at once if
    /// an interrupt has come since the last call. A timer is always armed, so that a lost interrupt
    /// delays the loop and does not end it.
    fn wait(&mut self, until: Option<Instant>);

    /// About how long it takes to fall asleep and be woken: shorter waits are better spent looking
    /// for what is waited for.
    fn wake_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// A network interface that carries whole Ethernet frames, without frame check sequence.
pub trait Nic {
    /// Address of the interface.
    fn mac(&self) -> [u8; 6];

    /// Largest IP packet in bytes.
    fn mtu(&self) -> usize;

    /// Copies a frame into the transmit queue. It leaves with the next [`flush`](Self::flush).
    /// Returns false if the queue is full: nothing was taken.
    fn transmit(&mut self, frame: &[u8]) -> bool;

    /// Tells the device of what was queued. Frames count as sent at the time at which this is
    /// called.
    fn flush(&mut self);

    /// Hands the next received frame to `take` and gives its buffer back to the device; false if
    /// there is none.
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool;

    /// Frames that the device reported as damaged or that did not fit.
    fn dropped(&self) -> u64;
}

/// A reliable, ordered stream of bytes to the process that started this machine.
pub trait Stream {
    /// Copies bytes into the transmit queue, as many as there is room for, and returns how many
    /// those were. They leave with the next [`flush`](Self::flush).
    fn send(&mut self, bytes: &[u8]) -> usize;

    /// Tells the device of what was queued.
    fn flush(&mut self);

    /// Copies received bytes and returns how many there were.
    fn receive(&mut self, into: &mut [u8]) -> usize;

    /// Whether the other end is known to be gone.
    fn is_closed(&self) -> bool;
}
