//! Running a function in virtual time.

use alloc::vec::Vec;

use plumb_wire::Instant;
use plumb_wire::frame::Port;

use crate::{Frame, Function, Output};

/// Runs a function in the time that the frames' own stamps say, so that a file in gives the same
/// file out, however fast the machine is.
#[derive(Debug)]
pub struct Player<F> {
    function: F,
    out: Output,
    batch: Vec<Frame>,
    now: Instant,
}

impl<F: Function> Player<F> {
    /// A player whose time begins with the first frame.
    pub fn new(function: F) -> Self {
        Self {
            function,
            out: Output::default(),
            batch: Vec::new(),
            now: Instant::ZERO,
        }
    }

    /// An empty frame to be filled and handed to [`frame`](Self::frame).
    pub fn empty(&mut self) -> Frame {
        self.out.empty()
    }

    /// Hands in a frame, after everything that was due before its stamp, and gives what leaves the
    /// function to `sink`. A stamp that lies before the last one counts as that.
    ///
    /// # Errors
    /// The first error of `sink`.
    pub fn frame<E>(
        &mut self,
        from: Port,
        mut frame: Frame,
        mut sink: impl FnMut(&mut F, Port, &Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = frame.at.max(self.now);
        while let Some(due) = self.function.poll_timeout().filter(|due| *due <= at) {
            self.timeout(due, &mut sink)?;
        }
        self.now = at;
        frame.at = at;
        self.batch.push(frame);
        self.function
            .handle_frames(from, &mut self.batch, at, &mut self.out);
        for left in self.batch.drain(..) {
            self.out.recycle(left);
        }
        self.give(&mut sink)
    }

    /// Lets time pass until the function holds no frame back.
    ///
    /// # Errors
    /// The first error of `sink`.
    pub fn finish<E>(
        &mut self,
        mut sink: impl FnMut(&mut F, Port, &Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        self.function.input_ended();
        while self.function.held() > 0 {
            let Some(due) = self.function.poll_timeout() else {
                break;
            };
            self.timeout(due, &mut sink)?;
        }
        Ok(())
    }

    /// The function.
    pub fn function(&mut self) -> &mut F {
        &mut self.function
    }

    /// Virtual time: that of the last frame or timeout.
    pub fn now(&self) -> Instant {
        self.now
    }

    fn timeout<E>(
        &mut self,
        due: Instant,
        sink: &mut impl FnMut(&mut F, Port, &Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        self.now = due.max(self.now);
        self.function.handle_timeout(self.now, &mut self.out);
        self.give(sink)
    }

    fn give<E>(
        &mut self,
        sink: &mut impl FnMut(&mut F, Port, &Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        for (port, frame) in self.out.sent().iter() {
            // Borrowed apart from `out`: the sink may ask the function, not the output.
            sink(&mut self.function, *port, frame)?;
        }
        self.out.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;
    use core::convert::Infallible;

    /// Holds each frame back for as many nanoseconds as its first byte says.
    #[derive(Debug, Default)]
    struct Hold(Vec<(Instant, Frame)>);

    impl Function for Hold {
        fn handle_frames(&mut self, _: Port, batch: &mut Vec<Frame>, now: Instant, _: &mut Output) {
            for frame in batch.drain(..) {
                let delay = core::time::Duration::from_nanos(frame.bytes[0].into());
                self.0.push((now + delay, frame));
            }
            self.0.sort_by_key(|(due, _)| *due);
        }

        fn handle_timeout(&mut self, now: Instant, out: &mut Output) {
            while self.0.first().is_some_and(|(due, _)| *due <= now) {
                let (due, mut frame) = self.0.remove(0);
                frame.at = due;
                out.send(Port::Right, frame);
            }
        }

        fn poll_timeout(&self) -> Option<Instant> {
            self.0.first().map(|(due, _)| *due)
        }

        fn held(&self) -> usize {
            self.0.len()
        }

        fn counters(&self) -> Vec<Counter> {
            Vec::new()
        }
    }

    #[test]
    fn what_is_due_comes_before_a_later_frame_and_the_end_waits_for_the_rest() {
        let mut player = Player::new(Hold::default());
        let mut seen = Vec::new();
        let mut sink = |_: &mut Hold, _, frame: &Frame| {
            seen.push((frame.at.as_nanos(), frame.bytes[0]));
            Ok::<_, Infallible>(())
        };
        // The third stamp lies before the second: it counts as that.
        for (at, delay) in [(100, 30), (120, 5), (90, 50), (140, 1)] {
            let frame = Frame::new(Instant::from_nanos(at), &[delay]);
            player.frame(Port::Left, frame, &mut sink).unwrap();
        }
        player.finish(&mut sink).unwrap();
        assert_eq!(seen, [(125, 5), (130, 30), (141, 1), (170, 50)]);
        assert_eq!(player.now(), Instant::from_nanos(170));
    }
}
