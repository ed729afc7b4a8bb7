//! What leaves a function: by a link at once, or when that has room.

use plumb_link::stage::{LinkError, Meta, Outgoing, Sent};
use plumb_nf::{Frame, Function, Port};
use plumb_wire::Instant;
use plumb_wire::pcapng::Direction;

use super::{MOST_WAITING, Run, index};

impl<F: Function> Run<'_, F> {
    /// Sends what the function has put out; what a link does not take waits.
    pub(super) fn dispatch(&mut self, now: Instant) -> Result<(), LinkError> {
        let mut sent = core::mem::take(self.out.sent());
        for (port, frame) in sent.drain(..) {
            let side = &mut self.sides[index(port)];
            let unsent = if side.waiting.is_empty() && side.takes(&frame) {
                self.offer(port, frame, now)?
            } else {
                Some(frame)
            };
            let Some(mut frame) = unsent else {
                continue;
            };
            if !self.bodies.may_wait(&frame, port) && !self.bodies.complete(&mut frame)? {
                self.lose(port, frame);
                continue;
            }
            let side = &mut self.sides[index(port)];
            if side.waiting.len() >= MOST_WAITING {
                side.dropped += 1;
                self.out.recycle(frame);
            } else {
                side.waiting.push_back(frame);
            }
        }
        *self.out.sent() = sent;
        for port in [Port::Left, Port::Right] {
            self.send_waiting(port, now)?;
        }
        Ok(())
    }

    /// Sends what waits, as far as the link takes it. Says whether it took anything.
    pub(super) fn send_waiting(&mut self, port: Port, now: Instant) -> Result<bool, LinkError> {
        let mut moved = false;
        while let Some(frame) = self.sides[index(port)].waiting.pop_front() {
            if !self.sides[index(port)].takes(&frame) {
                self.finish_offload(port, frame)?;
                continue;
            }
            if let Some(frame) = self.offer(port, frame, now)? {
                self.sides[index(port)].waiting.push_front(frame);
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Hands a frame to a link; returns it if it has to wait.
    fn offer(
        &mut self,
        port: Port,
        mut frame: Frame,
        now: Instant,
    ) -> Result<Option<Frame>, LinkError> {
        let link = &self.sides[index(port)].link;
        let mut body = None;
        if frame.body.is_some() {
            if let Some(place) = link.takes_bodies() {
                body = self.bodies.take(&frame, place);
            }
            if body.is_none() && !self.bodies.complete(&mut frame)? {
                self.lose(port, frame);
                return Ok(None);
            }
        }
        let side = &mut self.sides[index(port)];
        let outgoing = Outgoing {
            meta: Meta {
                at_ns: frame.at.as_nanos(),
                direction: Direction::Outbound,
                mark: 0,
                offload: frame.offload,
            },
            interface: 0,
            original_len: frame.original_len,
            comment: &frame.comment,
            bytes: &frame.bytes,
        };
        let sent = match body {
            None => side.link.send(outgoing)?,
            Some((from, body)) => {
                let mut body = Some(body);
                let sent = side.link.send_with_body(outgoing, &mut body)?;
                self.bodies.put_back(from, &frame, body);
                sent
            }
        };
        match sent {
            Sent::Taken if side.unflushed.is_none() => side.unflushed = Some(now),
            Sent::Full if self.live.drop => side.dropped += 1,
            Sent::Full => return Ok(Some(frame)),
            Sent::Taken | Sent::NoWay | Sent::Refused => {}
            Sent::Closed => side.closed = true,
        }
        self.out.recycle(frame);
        Ok(None)
    }

    /// Drops a frame that cannot be sent any more.
    fn lose(&mut self, port: Port, frame: Frame) {
        self.sides[index(port)].dropped += 1;
        self.out.recycle(frame);
    }

    /// Cuts a frame and completes its checksums, and puts the pieces where it was.
    fn finish_offload(&mut self, port: Port, mut frame: Frame) -> Result<(), LinkError> {
        let mut pieces = Vec::new();
        if !self.bodies.complete(&mut frame)? {
            self.out.recycle(frame);
        } else if frame.offload.gso.is_some() {
            plumb_nf::segment(frame, &mut self.out, &mut pieces);
        } else if plumb_nf::complete_checksum(&mut frame) {
            pieces.push(frame);
        } else {
            self.out.recycle(frame);
        }
        let side = &mut self.sides[index(port)];
        if pieces.is_empty() {
            side.dropped += 1;
        }
        for piece in pieces.into_iter().rev() {
            side.waiting.push_front(piece);
        }
        Ok(())
    }
}
