//! Numbers for the words of records.

use plumb_record::{
    DnsTransport, FlowEnd, FlowEvent, FlowOpen, FlowPhase, FlowProtocol, FlowState, TapFlowEnd,
};

use crate::Value;

/// Words that have numbers.
pub(super) trait Code: Copy + Sized + 'static {
    /// Each word with its number.
    const CODES: &'static [(Self, u8)];

    fn same(self, other: Self) -> bool;

    fn code(self) -> Value<'static> {
        let number = Self::CODES.iter().find(|(word, _)| word.same(self));
        Value::Unsigned(number.map_or(0, |&(_, number)| number.into()))
    }

    fn from_code(value: Value<'_>) -> Option<Self> {
        let Value::Unsigned(n) = value else {
            return None;
        };
        let word = Self::CODES
            .iter()
            .find(|(_, number)| u64::from(*number) == n);
        word.map(|&(word, _)| word)
    }
}

macro_rules! codes {
    ($name:ident: $($word:ident = $number:literal),+ $(,)?) => {
        impl Code for $name {
            const CODES: &'static [(Self, u8)] = &[$((Self::$word, $number)),+];

            fn same(self, other: Self) -> bool {
                self == other
            }
        }
    };
}

codes!(FlowProtocol: Tcp = 0, MptcpSubflow = 1, Mptcp = 2, Quic = 3);
codes!(FlowState: New = 0, Established = 1, Finished = 2, NetworkError = 3, ProtocolError = 4);
codes!(FlowPhase: Establishing = 0, Open = 1, Lossy = 2);
codes!(FlowEvent:
    Established = 0, LossyEntered = 1, LossyLeft = 2, ActiveTimeout = 3, IdleTimeout = 4,
    Orphaned = 5, Ended = 6, RecorderStopped = 7, Evicted = 8,
);
codes!(FlowEnd:
    Closed = 1, ResetReceived = 2, ResetSent = 3, Refused = 4, TimedOut = 5, Unreachable = 6,
    Aborted = 7, Error = 8,
);
// biflowDirection (RFC 5103 §6.3); 0 is a direction that was chosen at will.
codes!(FlowOpen: Active = 1, Passive = 2);
// Numbers of protocols.
codes!(DnsTransport: Tcp = 6, Udp = 17);

// flowEndReason (IANA element 136).
codes!(TapFlowEnd: Idle = 1, Active = 2, Ended = 3, Stopped = 4, Evicted = 5);

/// IANA's flowEndReason of a window: why it ended as a flow record, not why the connection did.
pub(super) const fn flow_end_reason(event: FlowEvent) -> u64 {
    match event {
        FlowEvent::IdleTimeout => 1,
        // Still active: IANA has no reason for a record that a change of state ended.
        FlowEvent::Established
        | FlowEvent::LossyEntered
        | FlowEvent::LossyLeft
        | FlowEvent::Orphaned
        | FlowEvent::ActiveTimeout => 2,
        FlowEvent::Ended => 3,
        FlowEvent::RecorderStopped => 4,
        FlowEvent::Evicted => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;
    use crate::table::{FLOW, columns};

    fn described<T: Code + core::fmt::Debug>(element: &str) {
        let column = columns(FLOW)
            .find(|column| column.element.name == element)
            .unwrap();
        for (word, number) in T::CODES {
            let kebab: std::string::String = format!("{word:?}")
                .char_indices()
                .flat_map(|(at, letter)| {
                    let dash = (at > 0 && letter.is_ascii_uppercase()).then_some('-');
                    dash.into_iter().chain([letter.to_ascii_lowercase()])
                })
                .collect();
            let description = column.element.description;
            let there = format!("{number} {kebab}");
            assert!(description.contains(&there), "{element}: {there}");
        }
    }

    #[test]
    fn descriptions_name_every_code() {
        described::<FlowProtocol>("profileKind");
        described::<FlowState>("profileState");
        described::<FlowState>("profileStateBefore");
        described::<FlowPhase>("profilePhase");
        described::<FlowEvent>("profileEvent");
        described::<FlowEnd>("connectionEnd");
    }
}
