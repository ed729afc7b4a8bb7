//! Between a machine that lives long and its clients, one of whom it serves at a time.

use crate::Fault;
use crate::frame::{Frames, LENGTH, MOST_ORDER, MOST_REPORT};
use crate::order::{Order, SHUTDOWN};
use crate::outbox::Outbox;
use crate::report::{PING, REFUSED, TRACE};

/// Hands the orders of one client after the other to a guest, and its reports to the client.
///
/// Whole frames only: a client that goes in mid-word leaves a guest that knows where the next
/// frame begins, and is told that its session has ended. No client can end the machine. What the
/// guest says while there is no client is lost. What frames mean is for the two ends to know.
#[derive(Debug)]
pub struct Relay {
    orders: Frames,
    reports: Frames,
    to_guest: Outbox,
    to_client: Outbox,
    serving: bool,
    jobs: u64,
    clients: u64,
}

impl Relay {
    /// Most bytes that wait for the guest before no more are taken from the client.
    const MOST_FOR_GUEST: usize = 64 * 1024;
    /// Most bytes that wait for the client before no more are taken from the guest.
    const MOST_FOR_CLIENT: usize = MOST_REPORT;

    /// Without a client.
    pub fn new() -> Self {
        Self {
            orders: Frames::new(MOST_ORDER),
            reports: Frames::new(MOST_REPORT),
            to_guest: Outbox::default(),
            to_client: Outbox::default(),
            serving: false,
            jobs: 0,
            clients: 0,
        }
    }

    /// Takes note that a client has come.
    pub const fn begin(&mut self) {
        self.serving = true;
        self.clients += 1;
    }

    /// Takes note that the client has gone: the guest is told to end the session.
    pub fn end(&mut self) {
        self.serving = false;
        self.orders = Frames::new(MOST_ORDER);
        self.to_client = Outbox::default();
        let kind = Order::Reset.kind();
        self.to_guest
            .frame(kind, MOST_ORDER, |w| Order::Reset.write(w));
    }

    /// Takes bytes from the client.
    ///
    /// # Errors
    /// If they are no frames. The client is to be dismissed.
    pub fn handle_client(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.orders.push(bytes);
        while let Some(frame) = self.orders.next_frame()? {
            if frame.get(LENGTH) != Some(&SHUTDOWN) {
                self.to_guest.whole(frame);
            }
        }
        Ok(())
    }

    /// Takes bytes from the guest.
    ///
    /// # Errors
    /// If they are no frames. The machine is of no use any more.
    pub fn handle_guest(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.reports.push(bytes);
        while let Some(frame) = self.reports.next_frame()? {
            if let Some(&(TRACE | PING | REFUSED)) = frame.get(LENGTH) {
                self.jobs += 1;
            }
            if self.serving {
                self.to_client.whole(frame);
            }
        }
        Ok(())
    }

    /// Says whether the client should be read.
    pub fn wants_client(&self) -> bool {
        self.serving && self.to_guest.waiting().len() < Self::MOST_FOR_GUEST
    }

    /// Says whether the guest should be read.
    pub fn wants_guest(&self) -> bool {
        self.to_client.waiting().len() < Self::MOST_FOR_CLIENT
    }

    /// Bytes for the guest.
    pub fn to_guest(&self) -> &[u8] {
        self.to_guest.waiting()
    }

    /// Takes note that this many bytes have left for the guest.
    pub fn sent_to_guest(&mut self, bytes: usize) {
        self.to_guest.advance(bytes);
    }

    /// Bytes for the client.
    pub fn to_client(&self) -> &[u8] {
        self.to_client.waiting()
    }

    /// Takes note that this many bytes have left for the client.
    pub fn sent_to_client(&mut self, bytes: usize) {
        self.to_client.advance(bytes);
    }

    /// Says whether there is a client.
    pub const fn is_serving(&self) -> bool {
        self.serving
    }

    /// Jobs whose last event the guest has reported.
    pub const fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Clients that have come.
    pub const fn clients(&self) -> u64 {
        self.clients
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::report::TEXT;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len() + 1).unwrap();
        let mut frame = len.to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(payload);
        frame
    }

    const RESET: [u8; 5] = [1, 0, 0, 0, 8];

    fn take_for_guest(relay: &mut Relay) -> Vec<u8> {
        let bytes = relay.to_guest().to_vec();
        relay.sent_to_guest(bytes.len());
        bytes
    }

    #[test]
    fn a_client_that_goes_in_mid_word_leaves_whole_frames_and_a_reset() {
        let mut relay = Relay::new();
        relay.begin();
        let order = frame(1, b"configure");
        relay.handle_client(&order).unwrap();
        relay.handle_client(&order[..7]).unwrap();
        relay.end();
        relay.begin();
        relay.handle_client(&frame(2, b"next")).unwrap();
        let expected = [order, RESET.to_vec(), frame(2, b"next")].concat();
        assert_eq!(take_for_guest(&mut relay), expected);
        assert_eq!(relay.clients(), 2);
    }

    #[test]
    fn a_client_hears_no_half_word_that_was_for_the_one_before() {
        let mut relay = Relay::new();
        relay.begin();
        let report = frame(TEXT, b"for the first");
        relay.handle_guest(&report).unwrap();
        relay.sent_to_client(3);
        relay.end();
        relay.handle_guest(&report).unwrap();
        relay.handle_guest(&report[..9]).unwrap();
        relay.begin();
        relay.handle_guest(&report[9..]).unwrap();
        assert_eq!(relay.to_client(), report, "whole, and one only");
    }

    #[test]
    fn no_client_ends_the_machine() {
        let mut relay = Relay::new();
        relay.begin();
        relay.handle_client(&frame(SHUTDOWN, b"")).unwrap();
        relay.handle_client(&frame(1, b"x")).unwrap();
        assert_eq!(take_for_guest(&mut relay), frame(1, b"x"));
    }

    #[test]
    fn jobs_are_counted_by_their_last_events_whoever_listens() {
        let mut relay = Relay::new();
        for kind in [TRACE, PING, REFUSED, TEXT] {
            relay.handle_guest(&frame(kind, b"record")).unwrap();
        }
        assert_eq!((relay.jobs(), relay.to_client()), (3, &[][..]));
    }

    #[test]
    fn neither_side_is_read_while_the_other_takes_nothing() {
        let mut relay = Relay::new();
        assert!(!relay.wants_client(), "there is none");
        relay.begin();
        let order = frame(1, &vec![0; MOST_ORDER - 1]);
        let report = frame(TEXT, &vec![0; MOST_REPORT - 1]);
        for _ in 0..16 {
            assert!(relay.wants_client());
            relay.handle_client(&order).unwrap();
        }
        assert!(relay.wants_guest() && !relay.wants_client());
        relay.handle_guest(&report).unwrap();
        assert!(!relay.wants_guest());
        relay.sent_to_client(100);
        assert!(relay.wants_guest());
        take_for_guest(&mut relay);
        assert!(relay.wants_client());
    }

    #[test]
    fn what_is_no_frame_is_a_fault() {
        let mut relay = Relay::new();
        assert_eq!(relay.handle_client(&[0; 4]), Err(Fault::Empty));
        let long = Fault::TooLong { len: u32::MAX };
        assert_eq!(relay.handle_guest(&[0xff; 4]), Err(long));
    }

    proptest! {
        #[test]
        fn frames_pass_whole_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in prop::collection::vec(1..40usize, 1..60),
        ) {
            let all: Vec<u8> = payloads.iter().flat_map(|p| frame(1, p)).collect();
            let mut relay = Relay::new();
            relay.begin();
            let mut rest = &all[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                relay.handle_client(now).unwrap();
                relay.handle_guest(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(relay.to_guest(), &all[..]);
            prop_assert_eq!(relay.to_client(), &all[..]);
        }
    }
}
