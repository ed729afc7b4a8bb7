//! Which sequence and acknowledgement numbers fit a connection, after Guido van Rooij, "Real
//! Stateful TCP Packet Filtering in IP Filter" (2000): an end may send what the other has room
//! for, and acknowledge what the other has sent.

use plumb_wire::tcp::{ACK, FIN, RST, SYN};

use crate::conntrack::{Direction, Invalid};
use crate::dissect;

use super::TcpState;

/// What is known of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Sequence number behind the last byte that it has sent.
    pub(super) sent: u32,
    /// Sequence number behind the last byte that the other end has room for.
    pub(super) limit: u32,
    /// The most room that it has ever had for what comes, in bytes; 0 as long as it has not been
    /// heard of.
    pub(super) room: u32,
    /// The highest acknowledgement number that it has sent, if any.
    pub(super) acked: Option<u32>,
    /// By how many bits its windows are scaled (RFC 7323).
    pub(super) scale: u8,
    pub(super) scales: bool,
    pub(super) sacks: bool,
    /// What it sends is not held against it: the start of the connection was missed, so that its
    /// scale is not known.
    pub(super) liberal: bool,
    /// It has sent the first FIN.
    pub(super) closes: bool,
    /// It has sent what is not acknowledged.
    pub(super) unacknowledged: bool,
}

/// The numbers of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) seq: u32,
    /// Behind its last byte; SYN and FIN count as one.
    pub(super) end: u32,
    pub(super) ack: u32,
    pub(super) window: u32,
}

/// What the numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// They fit; as they were compared.
    Fits(Numbers),
    /// The simultaneous SYN of the other end, of which nothing is known to compare with.
    Opens,
    /// They do not fit, but need not; nothing was learnt from them.
    Tolerated,
    /// They are old, or a little above the room: the segment passes and changes nothing.
    Passes,
    /// They do not fit.
    Outside(Invalid),
}

/// How old acknowledgements may be at least, in bytes: they come late, and twice.
const LEAST_ACK_ROOM: u32 = 66_000;

/// Says whether `a` is before `b` (RFC 9293 §3.4: modulo 2^32).
pub(super) const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

impl Numbers {
    pub(super) fn of(segment: &dissect::Tcp) -> Self {
        let flags = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        Self {
            seq: segment.seq,
            end: segment
                .seq
                .wrapping_add(segment.payload_len)
                .wrapping_add(flags),
            ack: segment.ack,
            window: segment.window.into(),
        }
    }
}

impl End {
    /// What the first SYN says of who sent it.
    pub(super) fn of_syn(segment: &dissect::Tcp, numbers: Numbers) -> Self {
        let mut end = Self::default();
        end.opens(segment, numbers);
        end
    }

    /// What a segment in the middle says of who sent it.
    pub(super) fn of_middle(numbers: Numbers) -> Self {
        let room = numbers.window.max(1);
        Self {
            sent: numbers.end,
            limit: numbers.end.wrapping_add(room),
            room,
            sacks: true,
            liberal: true,
            ..Self::default()
        }
    }

    /// The other end, when only a segment in the middle was seen.
    pub(super) fn unheard() -> Self {
        Self {
            sacks: true,
            liberal: true,
            ..Self::default()
        }
    }

    /// Takes a SYN for what it says.
    fn opens(&mut self, segment: &dissect::Tcp, numbers: Numbers) {
        (self.sent, self.limit) = (numbers.end, numbers.end);
        self.room = numbers.window.max(1);
        // A SYN without options says nothing of them, not even that there are none.
        if usize::from(segment.header_len) == plumb_wire::tcp::HEADER_LEN {
            return;
        }
        self.scale = segment.scale.unwrap_or(0);
        self.scales = segment.scale.is_some();
        self.sacks = segment.sack_permitted;
        (self.closes, self.unacknowledged, self.acked) = (false, false, None);
    }

    /// Forgets all but that it is not held to its numbers.
    pub(super) fn reset(&mut self) {
        *self = Self {
            liberal: self.liberal,
            ..Self::default()
        };
    }
}

/// Holds a segment against what is known, and takes over what it says if it fits. `liberal` lets
/// all of them pass.
pub(super) fn check(
    ends: &mut [End; 2],
    direction: Direction,
    state: TcpState,
    segment: &dissect::Tcp,
    liberal: bool,
) -> Fit {
    let [original, reply] = ends;
    let (sender, receiver) = match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    };
    let has = |flag: u8| segment.flags & flag != 0;
    let raw = Numbers::of(segment);
    let Numbers {
        mut seq,
        mut end,
        mut ack,
        window,
    } = raw;
    let mut sack = if receiver.sacks { segment.sack } else { ack };

    let is_opening = matches!(state, TcpState::SynSent | TcpState::SynRecv);
    if has(SYN) && (sender.room == 0 || is_opening && after(end, sender.sent)) {
        let first = sender.room == 0;
        sender.opens(segment, raw);
        // Both must offer to scale (RFC 7323 §2.2).
        if direction == Direction::Reply && !(sender.scales && receiver.scales) {
            (sender.scale, receiver.scale) = (0, 0);
        }
        if !has(ACK) && (first || direction == Direction::Reply) {
            return Fit::Opens;
        }
    } else if sender.room == 0 {
        sender.sent = end;
        sender.room = (window << sender.scale).max(1);
        sender.limit = end.wrapping_add(sender.room);
        if receiver.room == 0 {
            (receiver.sent, receiver.limit) = (sack, sack);
        } else if sack == receiver.sent.wrapping_add(1) {
            // The answer to a keep-alive.
            receiver.sent = sack;
        }
    }

    // Some stacks set ACK in resets without a number.
    if !has(ACK) || has(RST) && ack == 0 {
        (ack, sack) = (receiver.sent, receiver.sent);
    }
    // A reset that answers a SYN.
    if has(RST) && seq == 0 && state == TcpState::SynSent {
        (seq, end) = (sender.sent, sender.sent);
    }

    let ack_room = sender.room.max(LEAST_ACK_ROOM);
    let ack_is_recent = !before(sack, receiver.sent.wrapping_sub(ack_room));
    let ack_was_sent = !after(sack, receiver.sent);
    let is_recent = !before(end, sender.sent.wrapping_sub(receiver.room));
    let misfit = if after(seq, sender.limit) {
        let above = end.wrapping_sub(sender.limit).wrapping_add(1);
        let is_little = receiver.room != 0 && above <= receiver.room;
        if is_little && is_recent && ack_is_recent && ack_was_sent {
            // It will be acknowledged if it is let through, and that must not look wrong then.
            sender.sent = end;
            sender.unacknowledged = true;
            Some(Fit::Passes)
        } else {
            Some(Fit::Outside(Invalid::TcpAboveWindow))
        }
    } else if !ack_was_sent {
        Some(Fit::Outside(Invalid::TcpAckNotSent))
    } else if receiver.room != 0 && !is_recent || !ack_is_recent {
        Some(Fit::Passes)
    } else {
        None
    };
    if let Some(misfit) = misfit {
        return if liberal || sender.liberal {
            Fit::Tolerated
        } else {
            misfit
        };
    }

    let scaled = if has(SYN) {
        window
    } else {
        window << sender.scale
    };
    sender.room = sender.room.max(scaled.wrapping_add(sack.wrapping_sub(ack)));
    if after(end, sender.sent) {
        sender.sent = end;
        sender.unacknowledged = true;
    }
    if has(ACK) && sender.acked.is_none_or(|acked| after(ack, acked)) {
        sender.acked = Some(ack);
    }
    if receiver.room != 0 && after(end, sender.limit) {
        receiver.room = receiver.room.wrapping_add(end.wrapping_sub(sender.limit));
    }
    let limit = sack.wrapping_add(scaled);
    if !before(limit, receiver.limit) {
        receiver.limit = limit.wrapping_add(u32::from(scaled == 0));
    }
    if ack == receiver.sent {
        receiver.unacknowledged = false;
    }
    Fit::Fits(Numbers {
        seq,
        end,
        ack,
        window,
    })
}
