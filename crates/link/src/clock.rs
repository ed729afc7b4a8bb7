//! Monotonic time, and kernel timestamps brought into it.

use plumb_wire::Instant;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The machine's monotonic clock, with the wall time that belonged to it when it was made.
///
/// Wall time is not read again unless somebody asks for it ([`follow`](Self::follow)): a step of the
/// system clock during a measurement changes no record of it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Wall time minus monotonic time.
    offset_ns: u64,
}

impl Clock {
    /// Reads both clocks.
    pub fn new() -> Self {
        let (monotonic, wall) = both();
        Self {
            offset_ns: wall.saturating_sub(monotonic.as_nanos()),
        }
    }

    /// Goes over to a later reading if the system clock was stepped between the two. Readings differ
    /// a little without that, which must not part the end of one time from the beginning of the next.
    /// Says whether it was stepped.
    pub const fn follow(&mut self, later: Self) -> bool {
        let stepped = self.offset_ns.abs_diff(later.offset_ns) > KernelTime::STEP_NS;
        if stepped {
            *self = later;
        }
        stepped
    }

    /// The time: nanoseconds of CLOCK_MONOTONIC.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(nanos(clock_gettime(ClockId::Monotonic)))
    }

    /// Wall time at `at`, in nanoseconds since the Unix epoch.
    pub const fn wall_ns(&self, at: Instant) -> u64 {
        at.as_nanos().saturating_add(self.offset_ns)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Brings kernel timestamps, which are wall time, into monotonic time.
///
/// What is read from a queue arrived after the queue was last seen empty and before now. A
/// timestamp that falls outside this window was taken on the other side of a step of the system
/// clock: it is tried with the relation of the clocks before the step, and failing that it counts
/// as the nearer end of the window. So no step, however large, moves a packet's time by more than
/// the packet can have waited.
#[derive(Clone, Copy, Debug)]
pub struct KernelTime {
    now: Instant,
    /// Wall time minus monotonic time, at `now` and before the last step.
    offset_ns: u64,
    previous_offset_ns: u64,
    /// When the queue was last known to be empty.
    floor: Instant,
}

impl KernelTime {
    /// Two readings of both clocks differ by less than this unless the system clock was stepped:
    /// slewing moves both, and what remains is the time between the two readings.
    const STEP_NS: u64 = 1_000_000;

    /// Starts with a queue that is empty now.
    pub fn new() -> Self {
        let (now, wall) = both();
        Self::from_reading(now, wall)
    }

    /// Reads both clocks again, as before every round of reading the queue.
    pub fn refresh(&mut self) {
        let (now, wall) = both();
        self.reading(now, wall);
    }

    /// Takes note that the queue was seen empty after the last [`refresh`](Self::refresh).
    pub const fn drained(&mut self) {
        self.floor = self.now;
    }

    /// The monotonic time of a kernel timestamp in nanoseconds since the Unix epoch.
    pub fn instant(&mut self, wall_ns: u64) -> Instant {
        if let Some(at) = self.within(wall_ns) {
            return at;
        }
        // Later than the last reading: most often, because the packet came during this round.
        self.refresh();
        self.within(wall_ns).unwrap_or_else(|| {
            Instant::from_nanos(wall_ns.saturating_sub(self.offset_ns)).clamp(self.floor, self.now)
        })
    }

    fn within(&self, wall_ns: u64) -> Option<Instant> {
        [self.offset_ns, self.previous_offset_ns]
            .into_iter()
            .filter_map(|offset| wall_ns.checked_sub(offset).map(Instant::from_nanos))
            .find(|at| (self.floor..=self.now).contains(at))
    }

    const fn from_reading(now: Instant, wall_ns: u64) -> Self {
        let offset_ns = wall_ns.saturating_sub(now.as_nanos());
        Self {
            now,
            offset_ns,
            previous_offset_ns: offset_ns,
            floor: now,
        }
    }

    const fn reading(&mut self, now: Instant, wall_ns: u64) {
        let offset_ns = wall_ns.saturating_sub(now.as_nanos());
        if offset_ns.abs_diff(self.offset_ns) >= Self::STEP_NS {
            self.previous_offset_ns = self.offset_ns;
        }
        self.offset_ns = offset_ns;
        self.now = now;
    }
}

impl Default for KernelTime {
    fn default() -> Self {
        Self::new()
    }
}

/// Monotonic time, and wall time at the same moment.
fn both() -> (Instant, u64) {
    let read = || {
        let before = nanos(clock_gettime(ClockId::Monotonic));
        let wall = nanos(clock_gettime(ClockId::Realtime));
        let after = nanos(clock_gettime(ClockId::Monotonic));
        // Rounded up, so that what the kernel stamps before this call is never later than it.
        let took = after - before;
        (took, before + took.div_ceil(2), wall)
    };
    sharpest(read)
}

/// The reading that took least. Who loses the processor in the middle of one would take the wait for a
/// step of the clock.
fn sharpest(mut read: impl FnMut() -> (u64, u64, u64)) -> (Instant, u64) {
    const SHARP_NS: u64 = 20_000;
    let mut best = read();
    for _ in 1..8 {
        if best.0 <= SHARP_NS {
            break;
        }
        best = best.min(read());
    }
    let (_, at, wall) = best;
    (Instant::from_nanos(at), wall)
}

fn nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const START: Instant = Instant::from_nanos(5_000_000_000);
    const WALL: u64 = 1_800_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn after(seconds: u64) -> Instant {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_follows_a_step_and_nothing_smaller() {
        let at = |offset_ns| Clock { offset_ns };
        let mut clock = at(WALL);
        // Between two readings of both clocks some time passes.
        assert!(!clock.follow(at(WALL + 900_000)));
        assert_eq!(clock.wall_ns(START), WALL + 5 * SECOND);
        for stepped in [
            WALL + 3600 * SECOND,
            WALL - SECOND,
            WALL - SECOND + 2_000_000,
        ] {
            assert!(clock.follow(at(stepped)));
            assert_eq!(clock.wall_ns(START), stepped + 5 * SECOND);
        }
    }

    #[test]
    fn a_reading_that_was_interrupted_is_made_again() {
        let mut readings = [
            (9_000_000, 5, WALL + 4_500_000),
            (50_000, 100, WALL),
            (70, 200, WALL),
        ]
        .into_iter();
        assert_eq!(
            sharpest(|| readings.next().unwrap()),
            (Instant::from_nanos(200), WALL)
        );
        // Where none is sharp, the best of some.
        let mut took = 1_000_000;
        let mut slower = || {
            took += 1_000_000;
            (took, took, WALL)
        };
        assert_eq!(
            sharpest(&mut slower),
            (Instant::from_nanos(2_000_000), WALL)
        );
        assert_eq!(took, 9_000_000);
    }

    #[test]
    fn a_timestamp_keeps_its_distance_from_now() {
        let mut time = KernelTime::from_reading(START, WALL);
        time.reading(after(10), WALL + 10 * SECOND);
        assert_eq!(time.within(WALL + 4 * SECOND), Some(after(4)));
    }

    #[test]
    fn a_packet_stamped_before_a_step_keeps_its_time() {
        for step in [-3600i64, -5, 5, 3600] {
            let mut time = KernelTime::from_reading(START, WALL);
            let stepped = (WALL + 10 * SECOND).saturating_add_signed(step * 1_000_000_000);
            time.reading(after(10), stepped);
            // Stamped by the old clock at 2 s, by the new one at 9 s. Within ten seconds the two
            // cannot be told apart, and the error is the step at most.
            let old = time.within(WALL + 2 * SECOND);
            let error = old.map(|at| at.since(after(2)).max(after(2).since(at)));
            assert!(
                error <= Some(Duration::from_secs(step.unsigned_abs())),
                "{step}"
            );
            if step.abs() > 10 {
                assert_eq!(old, Some(after(2)), "{step}");
                assert_eq!(time.within(stepped - SECOND), Some(after(9)), "{step}");
            }
        }
    }

    #[test]
    fn no_timestamp_leaves_the_window_in_which_the_packet_can_have_come() {
        let mut time = KernelTime::new();
        let floor = time.floor;
        for wall_ns in [0, 1, u64::MAX, WALL] {
            let at = time.instant(wall_ns);
            assert!(floor <= at && at <= Clock::new().now());
        }
    }

    #[test]
    fn a_drained_queue_raises_the_floor() {
        let mut time = KernelTime::from_reading(START, WALL);
        time.reading(after(10), WALL + 10 * SECOND);
        time.drained();
        assert_eq!(time.within(WALL + 4 * SECOND), None);
    }

    #[test]
    fn wall_time_goes_with_monotonic_time() {
        let clock = Clock::new();
        let now = clock.now();
        assert_eq!(
            clock.wall_ns(now + Duration::from_secs(1)) - clock.wall_ns(now),
            SECOND
        );
        assert!(clock.wall_ns(now) > 1_700_000_000 * SECOND);
    }
}
