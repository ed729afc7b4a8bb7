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
/// machine makes a round trip longer. The first request, for which the first probe has to wait in
/// any case, does not count: while its answer is under way the machine sets up its other devices
/// and does not look. The others travel beside the probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    neighbor: Option<IpAddr>,
    asked: u8,
    round_trips: Option<(Duration, Duration)>,
}

impl Calibration {
    /// Takes the time that a neighbour took to answer, if that can be told. Returns whether it should
    /// be asked once more.
    pub(super) fn take(&mut self, neighbor: IpAddr, round_trip: Option<Duration>) -> bool {
        let Some(measured) = self.neighbor else {
            self.neighbor = Some(neighbor);
            return true;
        };
        if measured != neighbor || self.asked >= ROUND_TRIPS {
            return false;
        }
        self.asked += 1;
        if let Some(round_trip) = round_trip {
            let (least, most) = self.round_trips.unwrap_or((round_trip, round_trip));
            self.round_trips = Some((least.min(round_trip), most.max(round_trip)));
        }
        self.asked < ROUND_TRIPS
    }

    /// The shortest and the longest round trip so far.
    pub const fn round_trips(&self) -> Option<(Duration, Duration)> {
        self.round_trips
    }
}
