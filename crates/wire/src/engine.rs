//! The verbs that every engine has and every driver calls.

use crate::Instant;

/// Names one packet that an engine gave to its driver, so that the driver can report when, or
/// that it could not, send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// A packet that [`Engine::poll_transmit`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes written at the start of the buffer: one whole IP packet.
    pub len: usize,
    /// What to call the packet when its transmit time or its failure is reported.
    pub probe: ProbeId,
}

/// Why a driver could not send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendError {
    /// No route to the destination (ENETUNREACH, EHOSTUNREACH).
    NoRoute,
    /// The interface is down or gone (ENETDOWN, ENODEV, ENXIO).
    InterfaceDown,
    /// Not permitted, for example by a local packet filter (EPERM, EACCES).
    Forbidden,
    /// Larger than the interface's MTU (EMSGSIZE).
    TooBig,
    /// Any other error that concerns this packet.
    Other,
}

/// A protocol engine: packets and time in, packets and events out, no I/O of its own.
///
/// A driver repeats: send all that [`poll_transmit`](Self::poll_transmit) gives, take all that
/// [`poll_event`](Self::poll_event) gives, then wait for a packet or for
/// [`poll_timeout`](Self::poll_timeout), and hand in what came. Times never go backwards, except
/// `at` of a packet or transmission, which is when the kernel saw it and may lie in the past.
pub trait Engine {
    /// What the engine tells its owner.
    type Event;

    /// Takes an IP packet that arrived `at`. What is not for this engine is counted and ignored.
    fn handle_packet(&mut self, at: Instant, packet: &[u8]);

    /// Takes the time at which a packet really left.
    fn handle_sent(&mut self, probe: ProbeId, at: Instant);

    /// Takes the news that a packet could not be sent.
    fn handle_send_error(&mut self, probe: ProbeId, at: Instant, error: SendError);

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// Writes the next packet that may leave at `now` into `into`, which must hold 1500 bytes.
    fn poll_transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<Transmit>;

    /// Takes the next event.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When the engine wants [`handle_timeout`](Self::handle_timeout) or
    /// [`poll_transmit`](Self::poll_transmit) called again, if nothing arrives before.
    fn poll_timeout(&self) -> Option<Instant>;
}
