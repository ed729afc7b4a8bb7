//! The function of a stage that is only a way to somewhere.

use plumb_nf::{Counter, Frame, Function, Output, Port};
use plumb_wire::Instant;

/// A function that passes everything on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pass;

impl Function for Pass {
    fn handle_frames(&mut self, from: Port, batch: &mut Vec<Frame>, _: Instant, out: &mut Output) {
        for frame in batch.drain(..) {
            out.send(from.opposite(), frame);
        }
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Output) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn counters(&self) -> Vec<Counter> {
        Vec::new()
    }
}
