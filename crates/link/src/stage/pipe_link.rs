//! The pipe to a neighbour, and the rings that it turns into.

mod meeting;

use core::time::Duration;
use std::collections::VecDeque;
use std::os::fd::AsFd;

use plumb_wire::pcapng::TOKEN_LEN;
use rustix::event::PollFlags;

use self::meeting::Meeting;
use super::body::{Body, Kept, Place};
use super::ends::{Ends, Opened, PipeOptions};
use super::input::{Input, Next};
use super::output::Output;
use super::rendezvous::Joined;
use super::ring::{Corrupt, Lent, MAX_FRAME_LEN, Room};
use super::wait::{Event, Needs, Tag, Waiting};
use super::{Counters, Link, LinkError, LinkFrame, Outgoing, Received, Sent};

/// Between two tries to open a named pipe that nobody reads yet.
const OPEN_EVERY: Duration = Duration::from_millis(5);

/// What poll(2) says of a stream that nobody reads any more: of a pipe an error, of a socket that
/// neither way is open.
const GONE: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);

/// A link to the neighbour of a pipeline.
#[derive(Debug)]
pub struct PipeLink {
    options: PipeOptions,
    input: Option<Input>,
    output: Option<Output>,
    /// The other way of the socket that is read, until its writer says that it reads too.
    back: Option<Output>,
    /// What is written and read is one socket; who begins says so in its sections.
    is_one_socket: bool,
    meeting: Meeting,
    joined: Option<Joined>,
    /// Frames of the pipe's direction travel in the ring.
    switched: bool,
    /// The bytes of the section that come before the ring, until all of them are in the pipe.
    switching: Option<u64>,
    /// The token of the last ring.
    last: Option<[u8; TOKEN_LEN]>,
    /// The neighbour is gone, or has written what cannot be.
    parted: bool,
    /// What was in the ring of a neighbour that is gone when something was to be sent to it.
    left_over: VecDeque<LinkFrame>,
    /// Frames have travelled in a ring.
    upgraded: bool,
    /// Bytes of the beginning of frames in the ring that are wanted; none if all are.
    head_len: Option<usize>,
    /// What was left in the ring of the frame that was given last.
    lent: Option<Lent>,
    counters: Counters,
    /// Frames in the buffer of the pipe, or in the ring, that nobody was told of.
    unflushed: bool,
}

impl PipeLink {
    /// Opens the ends, and begins the stream that is written.
    ///
    /// # Errors
    /// If a path cannot be opened, or a descriptor is closed.
    pub fn open(ends: Ends, options: PipeOptions) -> Result<Self, LinkError> {
        let Opened {
            input,
            output,
            back,
            is_one_socket,
        } = Opened::of(ends, options)?;
        let meeting = match (&input, &output) {
            (Some(_), None) if options.upgrade => Meeting::MayBe { in_vain: false },
            _ => Meeting::Never,
        };
        let mut link = Self {
            options,
            input,
            output,
            back,
            is_one_socket,
            meeting,
            joined: None,
            switched: false,
            switching: None,
            last: None,
            parted: false,
            left_over: VecDeque::new(),
            upgraded: false,
            head_len: None,
            lent: None,
            counters: Counters::default(),
            unflushed: true,
        };
        link.begin();
        Ok(link)
    }

    /// Adds an interface that frames are captured on, and returns its number for
    /// [`LinkFrame::interface`].
    pub fn add_interface(&mut self, name: &str) -> u32 {
        let in_pipe = !self.switched;
        let output = self.output.as_mut();
        output.map_or(0, |output| output.add_interface(name, in_pipe))
    }

    /// Whether frames that come are in the ring.
    fn receives_from_ring(&self) -> bool {
        // What comes in through the pipe of the reader is the pipe's direction; for the writer, the
        // ring is the only way back.
        self.joined.is_some() && (self.input.is_none() || self.switched)
    }

    /// Whether frames that leave go into the ring.
    fn sends_to_ring(&self) -> bool {
        self.joined.is_some() && (self.output.is_none() || self.switched)
    }

    /// Hands a frame over by the ring, with what of it is in another; none if frames go elsewhere.
    fn send_to_ring(&mut self, frame: Outgoing<'_>, body: Option<&Lent>) -> Option<Sent> {
        if !self.sends_to_ring() {
            return None;
        }
        if self.parted {
            if self.output.is_none() {
                // What the neighbour has written, in the pipe and then in the ring, is there still.
                self.counters.no_way_frames += 1;
                return Some(Sent::NoWay);
            }
            self.part_keeping();
            return None;
        }
        let joined = self.joined.as_mut()?;
        let mut wake = false;
        let pushed = joined
            .producer
            .push(&frame.meta, frame.bytes, body, &mut wake);
        if wake {
            joined.wake_peer();
        }
        Some(match self.check(pushed) {
            Some(true) => {
                self.unflushed = true;
                let len = frame.bytes.len() + body.map_or(0, Lent::len);
                self.counters.send(len);
                Sent::Taken
            }
            Some(false) | None => Sent::Full,
        })
    }

    /// Says that the ring cannot be used any more, whether the neighbour is gone or is lying.
    fn check<T>(&mut self, result: Result<T, Corrupt>) -> Option<T> {
        if result.is_err() {
            self.parted = true;
        }
        result.ok()
    }
}

impl Link for PipeLink {
    fn receive(&mut self, frame: &mut LinkFrame) -> Result<Received, LinkError> {
        if let Some(kept) = self.left_over.pop_front() {
            *frame = kept;
            self.counters.receive(frame.bytes.len());
            return Ok(Received::Frame);
        }
        while self.receives_from_ring() {
            let Some(joined) = &mut self.joined else {
                break;
            };
            let mut wake = false;
            let consumer = &mut joined.consumer;
            let (meta, bytes) = (&mut frame.meta, &mut frame.bytes);
            self.lent = None;
            let mut popped =
                consumer.pop_head(self.head_len, meta, bytes, &mut self.lent, &mut wake);
            let mut ended = false;
            if popped == Ok(false) {
                ended = self.parted || consumer.is_closed();
                // What was written before the end is seen.
                if ended {
                    popped =
                        consumer.pop_head(self.head_len, meta, bytes, &mut self.lent, &mut wake);
                }
            }
            if wake {
                joined.wake_peer();
            }
            match popped {
                Ok(true) => {
                    frame.original_len = 0;
                    frame.comment.clear();
                    let len = frame.bytes.len() + self.lent.as_ref().map_or(0, Lent::len);
                    self.counters.receive(len);
                    return Ok(Received::Frame);
                }
                Ok(false) if !ended => return Ok(Received::Nothing),
                Ok(false) | Err(Corrupt) => self.part(),
            }
        }
        let Some(input) = &mut self.input else {
            return Ok(Received::Nothing);
        };
        // Looked at before the pipe: all of this is in it, or has been.
        let switched_at = match &self.joined {
            Some(joined) if joined.both_ways => joined.consumer.switched_at(),
            Some(_) | None => None,
        };
        let next = match input.next(frame) {
            // What else comes back through a socket is somebody's input, but not ours.
            Err(LinkError::Capture(_))
                if self.is_one_socket && self.counters.received_frames == 0 =>
            {
                return Ok(Received::End);
            }
            next => next?,
        };
        match next {
            Next::Frame => {
                if let Meeting::MayBe { in_vain } = &mut self.meeting {
                    *in_vain = true;
                }
                self.counters.receive(frame.bytes.len() + input.body_len());
                Ok(Received::Frame)
            }
            Next::Wait => match (switched_at, &self.meeting) {
                (None, _) => Ok(Received::Nothing),
                // Several programs may read the pipe, and another one may have got the switch.
                (Some(bytes), Meeting::Done(token)) if input.section_len() >= bytes => {
                    self.last = Some(*token);
                    self.switched = true;
                    self.receive(frame)
                }
                (Some(_), _) => Err(LinkError::Shared),
            },
            Next::End => Ok(Received::End),
            Next::Section(met) => {
                self.section(met);
                self.receive(frame)
            }
            Next::Switch(token) => {
                if self.last == Some(token) {
                    // That ring has come and gone.
                    return self.receive(frame);
                }
                self.meet();
                match (&self.meeting, &self.joined) {
                    (Meeting::Done(agreed), Some(joined))
                        if *agreed == token && joined.both_ways =>
                    {
                        self.last = Some(token);
                        self.switched = true;
                        self.receive(frame)
                    }
                    _ => Err(LinkError::Switch),
                }
            }
        }
    }

    fn send(&mut self, frame: Outgoing<'_>) -> Result<Sent, LinkError> {
        if frame.bytes.len() > MAX_FRAME_LEN {
            self.counters.refused_frames += 1;
            return Ok(Sent::Refused);
        }
        if let Some(sent) = self.send_to_ring(frame, None) {
            return Ok(sent);
        }
        let Some(output) = &mut self.output else {
            return Ok(match self.meeting {
                Meeting::MayBe { in_vain: false } | Meeting::Visiting(..) => Sent::Full,
                Meeting::Never | Meeting::MayBe { .. } | Meeting::Hosting(_) | Meeting::Done(_) => {
                    self.counters.no_way_frames += 1;
                    Sent::NoWay
                }
            });
        };
        let taken = output.push(frame)?;
        if output.is_closed() {
            return Ok(Sent::Closed);
        }
        if taken {
            self.unflushed = true;
            self.counters.send(frame.bytes.len());
        }
        Ok(if taken { Sent::Taken } else { Sent::Full })
    }

    fn leave_bodies(&mut self, head_len: Option<(usize, Place)>) {
        let at = |place| head_len.filter(|wanted| wanted.1 == place).map(|w| w.0);
        self.head_len = at(Place::Ring);
        if let Some(input) = &mut self.input {
            input.leave_bodies(at(Place::Pipe));
        }
    }

    fn take_body(&mut self) -> Option<Body> {
        if let Some(lent) = self.lent.take() {
            return Some(Body(Kept::Lent(lent)));
        }
        let piped = self.input.as_mut().and_then(Input::take_body)?;
        Some(Body(Kept::Piped(piped)))
    }

    fn takes_bodies(&self) -> Option<Place> {
        if self.sends_to_ring() {
            return Some(Place::Ring);
        }
        let output = self.output.as_ref().filter(|output| output.takes_bodies());
        output.filter(|_| self.options.keep_offload)?;
        Some(Place::Pipe)
    }

    fn send_with_body(
        &mut self,
        frame: Outgoing<'_>,
        body: &mut Option<Body>,
    ) -> Result<Sent, LinkError> {
        let len = frame.bytes.len() + body.as_ref().map_or(0, Body::len);
        if len > MAX_FRAME_LEN {
            self.counters.refused_frames += 1;
            return Ok(Sent::Refused);
        }
        match body.take() {
            Some(Body(Kept::Lent(lent))) => {
                let sent = self.send_to_ring(frame, Some(&lent)).unwrap_or(Sent::Full);
                if sent == Sent::Full {
                    *body = Some(Body(Kept::Lent(lent)));
                }
                Ok(sent)
            }
            Some(Body(Kept::Piped(piped))) => {
                let mut piped = Some(piped);
                let Some(output) = self.output.as_mut() else {
                    return Ok(Sent::Full);
                };
                let taken = output.push_with_body(frame, &mut piped)?;
                *body = piped.map(|piped| Body(Kept::Piped(piped)));
                if output.is_closed() {
                    return Ok(Sent::Closed);
                }
                if taken {
                    self.unflushed = true;
                    self.counters.send(len);
                }
                Ok(if taken { Sent::Taken } else { Sent::Full })
            }
            None => Ok(Sent::Full),
        }
    }

    fn room(&mut self, most: usize) -> Option<Room<'_>> {
        if !self.sends_to_ring() || self.parted || most > MAX_FRAME_LEN {
            return None;
        }
        match Room::new(&mut self.joined.as_mut()?.producer, most) {
            Ok(room) => room,
            Err(Corrupt) => {
                self.parted = true;
                None
            }
        }
    }

    fn was_put(&mut self, len: usize, wake: bool) {
        self.unflushed = true;
        self.counters.send(len);
        if let (true, Some(joined)) = (wake, &self.joined) {
            joined.wake_peer();
        }
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        if let Some(joined) = &mut self.joined {
            let published = joined.producer.publish();
            if published | joined.consumer.release() {
                joined.wake_peer();
            }
        }
        if let Some(output) = &mut self.output
            && self.unflushed
        {
            output.drain()?;
            self.unflushed = output.backlog() > 0;
            // Now the reader can know that it has seen all of it, or that it never will.
            if !self.unflushed
                && let (Some(bytes), Some(joined)) = (self.switching.take(), &self.joined)
            {
                joined.producer.switched_at(bytes);
                joined.wake_peer();
            }
        }
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.output
            .as_ref()
            .is_none_or(|output| output.backlog() == 0 || output.is_closed())
    }

    fn is_closed(&self) -> bool {
        self.output.as_ref().is_some_and(Output::is_closed)
    }

    fn unsound_end(&self) -> Option<&'static str> {
        self.input.as_ref().and_then(Input::unsound_end)
    }

    fn takes_offload(&self) -> bool {
        self.options.keep_offload || self.sends_to_ring()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn describe(&self) -> String {
        match &self.joined {
            Some(joined) if !joined.both_ways => "pipe, and a ring back".to_owned(),
            Some(_) => "ring".to_owned(),
            None if self.upgraded => "pipe, after a ring".to_owned(),
            None if self.is_one_socket => "socket".to_owned(),
            None => "pipe".to_owned(),
        }
    }

    fn prepare(&mut self, needs: Needs) -> Result<bool, LinkError> {
        // Whoever sleeps has flushed, and acts on what is left. What the meeting adds comes anew.
        let was_joined = self.joined.is_some();
        self.look_after()?;
        let mut busy = self.joined.is_some() != was_joined;
        let (from_ring, to_ring) = (self.receives_from_ring(), self.sends_to_ring());
        // A frame may have found no room before the flush, or before the meeting was over.
        let mut sound = Ok(());
        if needs.send && !to_ring {
            busy |= match (&self.output, &self.meeting) {
                (Some(output), _) => output.has_room(),
                (None, Meeting::MayBe { in_vain: false } | Meeting::Visiting(..)) => false,
                (None, _) => true,
            };
        }
        busy |= needs.receive && !self.left_over.is_empty();
        if let Some(joined) = &mut self.joined {
            if needs.receive && from_ring {
                match joined.consumer.wait_for_frames() {
                    Ok(there) => busy |= there || self.parted,
                    Err(corrupt) => sound = Err(corrupt),
                }
            }
            if needs.send && to_ring {
                match joined.producer.wait_for_room() {
                    // To send is what finds the other way, or that there is none.
                    Ok(room) => busy |= room || self.parted,
                    Err(corrupt) => sound = Err(corrupt),
                }
            }
        }
        if self.check(sound).is_none() {
            busy = true;
        }
        Ok(busy)
    }

    fn watch<'a>(&'a self, needs: Needs, waiting: &mut Waiting<'a>) {
        if let Some(input) = &self.input
            && needs.receive
            && !self.receives_from_ring()
        {
            waiting.add(Tag::Input, input.as_fd(), PollFlags::IN);
        }
        // The switch itself may still have to find room.
        if let Some(output) = &self.output
            && (!self.sends_to_ring() || output.backlog() > 0)
            && !output.is_closed()
        {
            match output.fd() {
                Some(fd) => {
                    // Without a wish to write, it still tells that nobody reads any more.
                    let wish = if output.backlog() > 0 {
                        PollFlags::OUT
                    } else {
                        PollFlags::empty()
                    };
                    waiting.add(Tag::Output, fd, wish);
                }
                None => waiting.at_most(OPEN_EVERY),
            }
        }
        if let Some(joined) = &self.joined {
            waiting.add(Tag::Ring, joined.wakes_me.as_fd(), PollFlags::IN);
            if !self.parted {
                waiting.add(Tag::Connection, joined.connection.as_fd(), PollFlags::IN);
            }
        }
        match &self.meeting {
            Meeting::Hosting(host) => {
                for fd in host.fds() {
                    waiting.add(Tag::Meeting, fd, PollFlags::IN);
                }
            }
            Meeting::Visiting(visit, _) => waiting.add(Tag::Meeting, visit.fd(), PollFlags::IN),
            Meeting::Never | Meeting::MayBe { .. } | Meeting::Done(_) => {}
        }
    }

    fn attend(&mut self, event: Event) -> Result<(), LinkError> {
        match event.tag {
            Tag::Ring => {
                if let Some(joined) = &self.joined {
                    joined.awake();
                    joined.consumer.awake();
                }
            }
            Tag::Connection => {
                self.parted |= self.joined.as_ref().is_some_and(Joined::is_alone);
            }
            Tag::Output => {
                if let Some(output) = &mut self.output {
                    output.drain()?;
                    if event.flags.intersects(GONE) {
                        output.close();
                    }
                }
            }
            Tag::Meeting => self.meet(),
            Tag::Input | Tag::Device => {}
        }
        Ok(())
    }

    fn look_after(&mut self) -> Result<(), LinkError> {
        if matches!(self.meeting, Meeting::Hosting(_) | Meeting::Visiting(..)) {
            self.meet();
        }
        Ok(())
    }
}

impl Drop for PipeLink {
    fn drop(&mut self) {
        if let Some(joined) = &mut self.joined {
            joined.producer.close();
            joined.consumer.release();
            joined.wake_peer();
        }
    }
}
