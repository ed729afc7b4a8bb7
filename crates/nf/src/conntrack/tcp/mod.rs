//! TCP: the state of a connection, and whether a segment is part of it.

mod state;
mod window;

use core::time::Duration;

use plumb_wire::tcp::RST;

use crate::dissect;

use super::{Config, Direction, Invalid, Status, Timeouts};

pub use state::TcpState;

use state::{Kind, Step};
use window::{End, Fit, Numbers, before};

/// A TCP connection as it is seen from the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) state: TcpState,
    /// By [`Direction`].
    ends: [End; 2],
    last: Last,
    retransmissions: u8,
    simultaneous: bool,
}

/// The last segment that mattered, to know retransmissions and answers by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    kind: Kind,
    direction: Direction,
    numbers: Numbers,
    /// What a challenge acknowledged that answered a SYN.
    challenged: u32,
    /// What a SYN offered that was ignored.
    offer: Offer,
    /// A SYN was ignored while the connection was ending: what looks like the last
    /// acknowledgement may be a challenge (RFC 5961 §4).
    expects_challenge: bool,
}

/// The options of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Offer {
    scale: Option<u8>,
    sacks: bool,
}

/// What becomes of a connection by a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The segment is part of it.
    Part {
        /// How long the connection is kept from now on; none for as long as before.
        keep: Option<Duration>,
        /// It has been seen to be open from both sides.
        assures: bool,
    },
    /// The segment is let through with it, and changes nothing.
    Passes,
    /// The segment is the last, and the connection is over at once.
    Ends,
    /// The segment begins a new connection between the same ports.
    Reopens,
    /// The segment is not part of it. The connection is kept so long from now on, if at all
    /// shorter than before.
    Invalid(Invalid, Option<Duration>),
}

/// Says what is wrong with a segment's flags.
pub(super) const fn flags_fault(segment: &dissect::Tcp) -> Option<Invalid> {
    if state::are_possible(segment.flags) {
        None
    } else {
        Some(Invalid::TcpFlags)
    }
}

impl Connection {
    /// The connection that a segment begins, before [`packet`](Self::packet) has seen it.
    pub(super) fn new(segment: &dissect::Tcp, config: &Config) -> Result<Self, Invalid> {
        let kind = Kind::of(segment.flags);
        let numbers = Numbers::of(segment);
        let ends = match state::step(Direction::Original, kind, TcpState::None) {
            Step::To(TcpState::SynSent) => [End::of_syn(segment, numbers), End::default()],
            Step::To(_) if config.tcp_loose => [End::of_middle(numbers), End::unheard()],
            Step::To(_) => return Err(Invalid::TcpNotPickedUp),
            Step::Ignore | Step::Invalid => return Err(Invalid::TcpNoStart),
        };
        Ok(Self {
            state: TcpState::None,
            ends,
            last: Last {
                kind: Kind::None,
                direction: Direction::Original,
                numbers: Numbers {
                    seq: 0,
                    end: 0,
                    ack: 0,
                    window: 0,
                },
                challenged: 0,
                offer: Offer::default(),
                expects_challenge: false,
            },
            retransmissions: 0,
            simultaneous: false,
        })
    }

    /// Takes a segment.
    pub(super) fn packet(
        &mut self,
        direction: Direction,
        segment: &dissect::Tcp,
        status: Status,
        config: &Config,
    ) -> Outcome {
        let kind = Kind::of(segment.flags);
        let old = self.state;
        let mut skips_window = false;
        let mut new = match state::step(direction, kind, old) {
            Step::Invalid => return Outcome::Invalid(Invalid::TcpState, None),
            Step::To(TcpState::SynSent) if matches!(old, TcpState::TimeWait | TcpState::Close) => {
                let closed = self.ends.iter().any(|end| end.closes);
                let reset = self.last.kind == Kind::Rst && self.last.direction == direction;
                if closed || reset {
                    return Outcome::Reopens;
                }
                match self.ignore(direction, kind, segment) {
                    Some(new) => new,
                    None => return Outcome::Passes,
                }
            }
            Step::Ignore => match self.ignore(direction, kind, segment) {
                Some(new) => new,
                None => return Outcome::Passes,
            },
            Step::To(new) => new,
        };
        match new {
            TcpState::TimeWait if self.is_challenge(direction, kind) => {
                self.last.expects_challenge = false;
                return Outcome::Passes;
            }
            TcpState::SynSent2 => self.simultaneous = true,
            TcpState::SynRecv
                if direction == Direction::Reply && kind == Kind::Ack && self.simultaneous =>
            {
                new = TcpState::Established;
            }
            TcpState::Close if kind == Kind::Rst => {
                let Some(reset) = self.reset(direction, segment, status, config) else {
                    return Outcome::Invalid(Invalid::TcpReset, None);
                };
                if !reset.closes {
                    new = old;
                }
                skips_window = reset.skips_window;
            }
            TcpState::None
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::Established
            | TcpState::FinWait
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::TimeWait
            | TcpState::Close => {}
        }
        if !skips_window {
            let liberal = config.tcp_be_liberal;
            match window::check(&mut self.ends, direction, self.state, segment, liberal) {
                Fit::Fits(numbers) if kind == Kind::Ack => self.note(direction, numbers),
                Fit::Fits(_) | Fit::Opens | Fit::Tolerated => {}
                Fit::Passes => return Outcome::Passes,
                Fit::Outside(why) => {
                    let keep = self.outside(direction, kind, status, &config.timeouts);
                    return Outcome::Invalid(why, keep);
                }
            }
        }
        self.last.kind = kind;
        self.last.direction = direction;
        self.state = new;
        if old != new && new == TcpState::FinWait {
            self.ends[direction as usize].closes = true;
        }
        self.outcome(old, kind, segment, status, config)
    }

    /// Takes note of a segment that is let through though it does not fit what is known. Returns
    /// the state that follows if it shows that what is known is wrong.
    fn ignore(
        &mut self,
        direction: Direction,
        kind: Kind,
        segment: &dissect::Tcp,
    ) -> Option<TcpState> {
        let numbers = Numbers::of(segment);
        let last = &mut self.last;
        if kind == Kind::SynAck
            && last.kind == Kind::Syn
            && last.direction != direction
            && segment.ack == last.numbers.end
        {
            // It acknowledges a SYN that was ignored: both ends are in step, and what is known
            // here is of a connection that they have forgotten.
            last.expects_challenge = false;
            let Offer { scale, sacks } = last.offer;
            self.ends[last.direction as usize] = End {
                sent: last.numbers.end,
                limit: last.numbers.end,
                room: last.numbers.window.max(1),
                scale: scale.unwrap_or(0),
                scales: scale.is_some(),
                sacks,
                ..End::default()
            };
            self.ends[direction as usize].reset();
            return Some(TcpState::SynRecv);
        }
        (last.kind, last.direction) = (kind, direction);
        last.numbers = Numbers {
            ack: last.numbers.ack,
            ..numbers
        };
        if kind == Kind::Syn && direction == Direction::Original {
            last.offer = Offer {
                scale: segment.scale,
                sacks: segment.sack_permitted,
            };
            last.expects_challenge = self.state == TcpState::LastAck;
            self.simultaneous = false;
        }
        if self.state == TcpState::SynSent && kind == Kind::Ack && direction == Direction::Reply {
            last.challenged = segment.ack;
        }
        None
    }

    /// Says whether an acknowledgement is the challenge that an ignored SYN has brought about, and
    /// not that of the last FIN.
    fn is_challenge(&self, direction: Direction, kind: Kind) -> bool {
        self.state == TcpState::LastAck
            && kind == Kind::Ack
            && self.last.direction != direction
            && self.last.kind == Kind::Syn
            && self.last.expects_challenge
    }

    /// Says what a reset does; none if it is not part of the connection. Blind ones must not end
    /// connections (RFC 5961 §3).
    fn reset(
        &self,
        direction: Direction,
        segment: &dissect::Tcp,
        status: Status,
        config: &Config,
    ) -> Option<Reset> {
        const CLOSES: Reset = Reset {
            closes: true,
            skips_window: false,
        };
        if self.state.is_closing() {
            // The ports may be in use again already, so that numbers say nothing.
            return Some(Reset {
                skips_window: true,
                ..CLOSES
            });
        }
        let is_open = self.state == TcpState::Established && status.contains(Status::ASSURED);
        let mut reset = CLOSES;
        if let Some(acked) = self.ends[direction.opposite() as usize].acked
            && self.last.kind != Kind::Syn
        {
            // With number 0 it most likely answers a SYN that was let through.
            if segment.seq == 0 && !is_open {
                return Some(reset);
            }
            if before(segment.seq, acked) && !config.tcp_ignore_invalid_rst {
                return None;
            }
            let follows_own = self.last.kind == Kind::Ack
                && self.last.direction == direction
                && segment.seq == self.last.numbers.end;
            if !is_open || segment.seq == acked || follows_own {
                return Some(reset);
            }
            // Whoever gets it sends a challenge, and only the answer to that ends the connection.
            reset.closes = false;
        }
        // What it is about may be a segment that was let through without being understood: a SYN
        // of the other end, or what looked like a half-open connection.
        let after_syn = status.contains(Status::SEEN_REPLY)
            && self.last.kind == Kind::Syn
            && self.last.direction != direction;
        let half_open = !status.contains(Status::ASSURED) && self.last.kind == Kind::Ack;
        let of_ignored = (after_syn || half_open) && segment.ack == self.last.numbers.end;
        let of_challenge = self.state == TcpState::SynSent
            && self.last.kind == Kind::Ack
            && self.last.direction == Direction::Reply
            && segment.seq == self.last.challenged;
        reset.skips_window = of_ignored || of_challenge;
        Some(reset)
    }

    /// Counts retransmissions.
    fn note(&mut self, direction: Direction, numbers: Numbers) {
        if self.last.direction == direction && self.last.numbers == numbers {
            self.retransmissions = self.retransmissions.saturating_add(1);
        } else {
            self.last.direction = direction;
            self.last.numbers = numbers;
            self.retransmissions = 0;
        }
    }

    /// Says how long a connection is kept after a segment outside of its window: one that both
    /// ends try to end is not kept for days because the numbers known here are wrong.
    fn outside(
        &mut self,
        direction: Direction,
        kind: Kind,
        status: Status,
        timeouts: &Timeouts,
    ) -> Option<Duration> {
        if !status.contains(Status::ASSURED) || !matches!(kind, Kind::Rst | Kind::Fin) {
            return None;
        }
        if self.last.direction != direction && matches!(self.last.kind, Kind::Fin | Kind::Rst) {
            return Some(timeouts.tcp_unacknowledged);
        }
        (self.last.kind, self.last.direction) = (kind, direction);
        None
    }

    fn outcome(
        &self,
        old: TcpState,
        kind: Kind,
        segment: &dissect::Tcp,
        status: Status,
        config: &Config,
    ) -> Outcome {
        let timeouts = &config.timeouts;
        let new = self.state;
        let of_state = timeout(timeouts, new);
        let mut keep = if self.retransmissions >= config.tcp_max_retrans {
            of_state.min(timeouts.tcp_max_retrans)
        } else if kind == Kind::Rst {
            timeouts.tcp_close
        } else if self.ends.iter().any(|end| end.unacknowledged) {
            of_state.min(timeouts.tcp_unacknowledged)
        } else if self.last.numbers.window == 0 {
            of_state.min(timeouts.tcp_max_retrans)
        } else {
            of_state
        };
        let mut assures = false;
        if !status.contains(Status::SEEN_REPLY) {
            if segment.flags & RST != 0 {
                return Outcome::Ends;
            }
            if kind == Kind::Syn && old == TcpState::SynSent {
                // A client that tries again and again must not keep the entry for ever.
                return Outcome::Part {
                    keep: None,
                    assures,
                };
            }
            if new == TcpState::Established {
                keep = keep.min(timeouts.tcp_unacknowledged);
            }
        } else if !status.contains(Status::ASSURED) {
            assures = new == TcpState::Established
                && matches!(old, TcpState::SynRecv | TcpState::Established);
        }
        Outcome::Part {
            keep: Some(keep),
            assures,
        }
    }
}

/// What a reset does to the connection that it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reset {
    closes: bool,
    /// Its numbers say nothing.
    skips_window: bool,
}

const fn timeout(timeouts: &Timeouts, state: TcpState) -> Duration {
    match state {
        TcpState::None | TcpState::SynSent | TcpState::SynSent2 => timeouts.tcp_syn_sent,
        TcpState::SynRecv => timeouts.tcp_syn_recv,
        TcpState::Established => timeouts.tcp_established,
        TcpState::FinWait => timeouts.tcp_fin_wait,
        TcpState::CloseWait => timeouts.tcp_close_wait,
        TcpState::LastAck => timeouts.tcp_last_ack,
        TcpState::TimeWait => timeouts.tcp_time_wait,
        TcpState::Close => timeouts.tcp_close,
    }
}
