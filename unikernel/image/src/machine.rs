//! The machine as the library's loop sees it.

use alloc::vec::Vec;
use core::time::Duration;

use plumb_unikernel::platform::Platform;
use plumb_wire::Instant;

use crate::clock::Clock;
use crate::interrupts::{Calibration, Interrupts};

/// Clock and sleep. Interrupts are switched on with the first sleep: nothing that costs an exit is
/// done before the first packet has left.
pub(crate) struct Machine {
    clock: Clock,
    sleep: Sleep,
}

enum Sleep {
    /// Looks at the devices all the time.
    Never,
    /// Not yet, with the inputs that the devices use.
    Unprepared(Option<Calibration>, Vec<u32>),
    Ready(Interrupts),
}

impl Machine {
    /// `inputs` of the I/O APIC are those that the devices interrupt with.
    pub(crate) fn new(
        clock: Clock,
        calibration: Calibration,
        inputs: Vec<u32>,
        poll: bool,
    ) -> Self {
        let sleep = if poll {
            Sleep::Never
        } else {
            Sleep::Unprepared(Some(calibration), inputs)
        };
        Self { clock, sleep }
    }
}

impl Platform for Machine {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wait(&mut self, until: Option<Instant>) {
        match &mut self.sleep {
            Sleep::Never => {}
            Sleep::Unprepared(calibration, inputs) => {
                if let Some(calibration) = calibration.take() {
                    let interrupts = calibration.finish(&self.clock, inputs);
                    self.sleep = Sleep::Ready(interrupts);
                }
            }
            Sleep::Ready(interrupts) => {
                let now = self.clock.now();
                let rest = until.map_or(u64::MAX, |until| {
                    until.as_nanos().saturating_sub(now.as_nanos())
                });
                if rest > 0 {
                    interrupts.sleep(rest);
                }
            }
        }
    }

    fn wake_time(&self) -> Duration {
        WAKE_TIME
    }
}

/// Where an exit is emulated (PVM), halting, an interrupt and its acknowledgement take about as
/// long; elsewhere they take less.
const WAKE_TIME: Duration = Duration::from_micros(150);
