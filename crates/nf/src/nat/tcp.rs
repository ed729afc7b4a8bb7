//! How far a TCP connection is, as RFC 7857 §2 asks a NAT to know.

use plumb_wire::tcp;

/// What has been seen of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    inside: Half,
    outside: Half,
    /// The last packet was a reset.
    reset: bool,
}

/// What has been seen of one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Half {
    /// It has sent a SYN, or anything later where the start was missed.
    opened: bool,
    /// It has sent a FIN.
    finished: bool,
}

impl Connection {
    /// Takes note of a packet with these flags.
    pub(super) fn packet(&mut self, from_inside: bool, flags: u8) {
        if flags & tcp::RST != 0 {
            self.reset = true;
            return;
        }
        let is_over = self.reset || self.inside.finished && self.outside.finished;
        if flags & (tcp::SYN | tcp::ACK) == tcp::SYN && is_over {
            // The same ports are used for a new connection.
            *self = Self::default();
        }
        self.reset = false;
        let half = if from_inside {
            &mut self.inside
        } else {
            &mut self.outside
        };
        half.opened = true;
        half.finished |= flags & tcp::FIN != 0;
    }

    /// Says whether both ends are open and not both finished, so that long silence is normal.
    pub(super) const fn is_established(self) -> bool {
        self.inside.opened
            && self.outside.opened
            && !(self.inside.finished && self.outside.finished)
            && !self.reset
    }
}
