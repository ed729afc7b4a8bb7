//! What the loop needs of the link layer.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::{Instant, ProbeId, SendError};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the transmit queue and leaves with the next flush.
    Queued,
    /// It waits until its neighbour's address is known; [`Link::poll_fate`] has the rest.
    Waiting,
    /// There is no room for it now: it was not taken.
    NoRoom,
    /// It cannot be sent.
    Failed(SendError),
}

/// An interface that carries IP packets.
pub trait Link {
    /// Address of the interface.
    fn mac(&self) -> [u8; 6];

    /// Largest IP packet in bytes.
    fn mtu(&self) -> usize;

    /// IP addresses with prefix lengths.
    fn addresses(&self) -> Vec<(IpAddr, u8)>;

    /// Takes a packet of the engine.
    fn transmit(&mut self, probe: ProbeId, packet: &[u8], now: Instant) -> Fate;

    /// What became of the next packet that waited: never [`Fate::Waiting`].
    fn poll_fate(&mut self) -> Option<(ProbeId, Fate)>;

    /// Lets everything go that was queued.
    fn flush(&mut self);

    /// Hands the next received IP packet that may be the engine's to `take`; what concerns the link
    /// alone is answered here. Returns false if there is nothing more to receive.
    fn receive(&mut self, now: Instant, take: &mut dyn FnMut(&[u8])) -> bool;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Packets that were lost on the way from the network to the engine.
    fn dropped(&self) -> u64;

    /// Most time by which a round trip is longer as this machine sees it, if it is known: how long
    /// the nearest neighbour took to answer.
    fn rtt_error(&self) -> Option<Duration>;
}
