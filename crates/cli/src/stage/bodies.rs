//! Bodies of frames of which only the beginning is with a function.

use core::num::NonZeroU32;

use plumb_link::stage::{Body, LinkError, Place};
use plumb_nf::{Frame, Port};

/// At most one for each side that frames come from.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    kept: [Option<(NonZeroU32, Body)>; 2],
    /// The last name that was given.
    last: u32,
}

impl Bodies {
    /// Keeps the body of a frame that has come, and names it, so that no other frame can ever be taken
    /// for that one.
    pub(super) fn keep(&mut self, from: Port, frame: &mut Frame, body: Body) {
        self.last = self.last.wrapping_add(1).max(1);
        let name = NonZeroU32::new(self.last).unwrap_or(NonZeroU32::MIN);
        frame.body = Some(name);
        let len = frame.bytes.len() + body.len();
        frame.original_len = u32::try_from(len).unwrap_or(u32::MAX);
        self.kept[from as usize] = Some((name, body));
    }

    /// Gives up the body of a frame that is not there any more.
    pub(super) fn forget(&mut self, from: Port) {
        self.kept[from as usize] = None;
    }

    /// Whether a frame may wait to be sent without its body: only until the next one comes.
    pub(super) fn may_wait(&self, frame: &Frame, to: Port) -> bool {
        frame.body.is_none() || self.side(frame) == Some(to.opposite())
    }

    /// Takes the body of a frame if it is at this place, with the side that it came from.
    pub(super) fn take(&mut self, frame: &Frame, place: Place) -> Option<(Port, Body)> {
        let from = self.side(frame)?;
        let (_, body) = self.kept[from as usize].take_if(|(_, body)| body.place() == place)?;
        Some((from, body))
    }

    /// Keeps a body that could not be sent.
    pub(super) fn put_back(&mut self, from: Port, frame: &Frame, body: Option<Body>) {
        self.kept[from as usize] = frame.body.zip(body);
    }

    /// Makes a frame whole. False if its body is gone.
    ///
    /// # Errors
    /// If the kernel fails.
    pub(super) fn complete(&mut self, frame: &mut Frame) -> Result<bool, LinkError> {
        if frame.body.is_none() {
            return Ok(true);
        }
        let kept = self.side(frame).map(|from| &mut self.kept[from as usize]);
        let Some((_, body)) = kept.and_then(Option::take) else {
            return Ok(false);
        };
        frame.body = None;
        frame.original_len = 0;
        body.append_to(&mut frame.bytes)?;
        Ok(true)
    }

    fn side(&self, frame: &Frame) -> Option<Port> {
        [Port::Left, Port::Right].into_iter().find(|from| {
            let kept = &self.kept[*from as usize];
            kept.as_ref()
                .is_some_and(|(name, _)| Some(*name) == frame.body)
        })
    }
}
