//! How the ends of a pipe come to share rings, and how they go back to the pipe.

use plumb_wire::pcapng::{Rendezvous, TOKEN_LEN};

use super::PipeLink;
use crate::stage::input::Input;
use crate::stage::rendezvous::{Host, Visit};
use crate::stage::ring::{RING_LEN, slot_len};
use crate::stage::{LinkFrame, Outgoing};

/// What the section header says of a stream whose writer reads frames from the same socket.
const BACK: Rendezvous<'_> = Rendezvous {
    token: &[0; TOKEN_LEN],
    path: &[],
};

/// How far the stages at the two ends of the pipe have come to know each other.
#[derive(Debug)]
pub(super) enum Meeting {
    /// They will not.
    Never,
    /// The header of a section may come that says where.
    MayBe {
        /// Sections have come that did not.
        in_vain: bool,
    },
    /// We wait for the reader's call.
    Hosting(Host),
    /// We have called the writer.
    Visiting(Visit, [u8; TOKEN_LEN]),
    /// They have, with this token.
    Done([u8; TOKEN_LEN]),
}

impl PipeLink {
    /// Begins a section, and offers to be met if that may lead to anything.
    pub(super) fn begin(&mut self) {
        let Some(output) = &mut self.output else {
            return;
        };
        if self.options.upgrade && self.input.is_none() {
            // Without a place to meet, packets travel in the pipe.
            let host = output.identity().and_then(|pipe| Host::open(pipe).ok());
            self.meeting = host.map_or(Meeting::Never, Meeting::Hosting);
        }
        let rendezvous = if let Meeting::Hosting(host) = &self.meeting {
            Some(Rendezvous {
                token: host.token(),
                path: host.path(),
            })
        } else {
            self.is_one_socket.then_some(BACK)
        };
        output.begin(rendezvous);
        self.unflushed = true;
    }

    /// Goes back to the pipe that is written, and keeps what the ring back still holds for
    /// [`Link::receive`], which may not be called before what is to be sent has found its way: of a
    /// stage whose two neighbours are gone, each side would wait for the other.
    pub(super) fn part_keeping(&mut self) {
        if let Some(joined) = &mut self.joined {
            // No more than a ring: who is said to be gone may be there, and write on.
            let mut room = RING_LEN;
            let mut frame = LinkFrame::default();
            while let Ok(true) = joined
                .consumer
                .pop(&mut frame.meta, &mut frame.bytes, &mut false)
            {
                let taken = slot_len(frame.bytes.len());
                self.left_over.push_back(core::mem::take(&mut frame));
                match room.checked_sub(taken) {
                    Some(rest) => room = rest,
                    None => break,
                }
            }
        }
        self.part();
    }

    /// Goes back to the pipe. What the neighbour has not taken out of the ring goes there.
    pub(super) fn part(&mut self) {
        let joined = self.joined.take();
        self.parted = false;
        self.switching = None;
        let was_switched = core::mem::take(&mut self.switched);
        if self.output.is_some() {
            if !was_switched {
                // The pipe goes on; it has lost its way back.
                self.meeting = Meeting::Never;
                return;
            }
            self.begin();
            if let (Some(mut joined), Some(output)) = (joined, &mut self.output) {
                let mut frame = LinkFrame::default();
                let producer = &mut joined.producer;
                while let Ok(true) = producer.take_back(&mut frame.meta, &mut frame.bytes) {
                    output.force(Outgoing::from(&frame));
                }
            }
        } else {
            self.meeting = Meeting::MayBe { in_vain: true };
        }
    }

    /// Calls whoever wrote the header of the section.
    pub(super) fn section(&mut self, met: Option<([u8; TOKEN_LEN], Vec<u8>)>) {
        if matches!(self.meeting, Meeting::Never) {
            return;
        }
        if met.as_ref().is_some_and(|(_, path)| path.is_empty()) {
            self.output = self.back.take();
            if self.output.is_some() {
                self.is_one_socket = true;
                self.meeting = Meeting::Never;
                self.begin();
                return;
            }
        }
        // A way back that led to the writer of an earlier section.
        self.joined = None;
        self.parted = false;
        let pipe = self.input.as_ref().and_then(Input::identity);
        let visit = met.and_then(|(token, path)| {
            let visit = Visit::begin(&path, &token, pipe).ok()?;
            Some(Meeting::Visiting(visit, token))
        });
        self.meeting = visit.unwrap_or(Meeting::MayBe { in_vain: true });
    }

    /// Sees how far the meeting has come.
    pub(super) fn meet(&mut self) {
        match &mut self.meeting {
            Meeting::Hosting(host) => {
                let Ok(Some(joined)) = host.attend() else {
                    return;
                };
                let token = *host.token();
                if joined.both_ways
                    && let Some(output) = &mut self.output
                {
                    self.switching = Some(output.switch(&token));
                    self.switched = true;
                    self.unflushed = true;
                }
                self.upgraded |= joined.both_ways;
                self.joined = Some(joined);
                self.meeting = Meeting::Done(token);
            }
            Meeting::Visiting(visit, token) => match visit.attend() {
                Ok(None) => {}
                Ok(Some(joined)) => {
                    self.meeting = Meeting::Done(*token);
                    self.upgraded |= joined.both_ways;
                    self.joined = Some(joined);
                }
                Err(_) => self.meeting = Meeting::MayBe { in_vain: true },
            },
            Meeting::Never | Meeting::MayBe { .. } | Meeting::Done(_) => {}
        }
    }
}
