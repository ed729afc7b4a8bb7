//! How much of a round-trip time is this machine's doing.

use core::net::IpAddr;
use core::time::Duration;

/// Round trips that are measured.
const ROUND_TRIPS: u8 = 4;

/// Round trips to the nearest neighbour, measured with requests for its address, one after the
/// other.
///
/// They take the way that probes take, through queue, exit, hypervisor, interrupt and sleep, and
/// their ends are timed as those of probes are. So the longest of them is the most by which the
/// machine makes a round trip longer. It begins with the request that the first probe has to wait
/// for in any case; the others travel beside the probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    neighbor: Option<IpAddr>,
    count: u8,
    least: Duration,
    most: Duration,
}

impl Calibration {
    /// Takes a round trip. Returns whether there should be another to the same neighbour.
    pub(super) fn take(&mut self, neighbor: IpAddr, round_trip: Duration) -> bool {
        if *self.neighbor.get_or_insert(neighbor) != neighbor || self.count >= ROUND_TRIPS {
            return false;
        }
        if self.count == 0 {
            self.least = round_trip;
        }
        self.least = self.least.min(round_trip);
        self.most = self.most.max(round_trip);
        self.count += 1;
        self.count < ROUND_TRIPS
    }

    /// The shortest and the longest round trip so far.
    pub fn round_trips(&self) -> Option<(Duration, Duration)> {
        (self.count > 0).then_some((self.least, self.most))
    }
}
