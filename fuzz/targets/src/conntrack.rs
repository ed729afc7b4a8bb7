//! Connection tracking, reassembly and anti-spoofing under frames of any kind.

use core::time::Duration;

use plumb_nf::antispoof::Antispoof;
use plumb_nf::conntrack::{Config, Conntrack, State, Tracked};
use plumb_nf::dissect::Dissected;
use plumb_nf::reassembly::{self, Outcome, Reassembler};
use plumb_nf::{Frame, Output, Port};
use plumb_wire::frame::{Offload, VNET_HEADER_LEN};
use plumb_wire::{Instant, checksum};

const MAX_ENTRIES: u32 = 6;
const MAX_DATAGRAMS: usize = 3;

/// Sends frames through what a firewall has in front of its rules.
///
/// The bytes are packets from the IP header on, each behind two bytes: flags (from the right; the
/// IPv4 header gets a right checksum and that of the transport is taken for verified; an offload
/// state comes first; IPv6 instead of IPv4; the rules drop it; how much time passes) and length.
///
/// # Panics
/// If a table outgrows its limit, something invalid has no reason, or time does not empty it.
pub fn conntrack(mut data: &[u8]) {
    let variant = data.first().copied().unwrap_or(0);
    let config = Config {
        max_entries: MAX_ENTRIES,
        per_source: u32::from(variant % 4),
        tcp_be_liberal: variant & 16 != 0,
        tcp_loose: variant & 32 == 0,
        events: true,
        ..Config::default()
    };
    let mut tracker = Conntrack::new(config, u64::from(variant));
    let mut reassembler = Reassembler::new(reassembly::Config {
        max_datagrams: MAX_DATAGRAMS,
        max_bytes: 2000,
        ..reassembly::Config::default()
    });
    let antispoof = Antispoof::default();
    let mut out = Output::default();
    let mut now = Instant::from_millis(1);
    while let [flags, len, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        now = now + Duration::from_millis(u64::from(flags >> 5) * 13_000);
        tracker.handle_timeout(now);
        reassembler.handle_timeout(now, &mut out);
        let (from, frame) = frame(*flags, bytes, now);
        let packet = Dissected::new(&frame);
        let _ = antispoof.check(from, &packet, &frame);
        match reassembler.push(from, &packet, frame, now, &mut out) {
            Outcome::Alone(frame) => track(&mut tracker, &packet, &frame, *flags, now),
            Outcome::Whole(datagram) => {
                assert!(datagram.fragments.len() > 1);
                let packet = Dissected::new(&datagram.whole);
                assert!(packet.ip.is_some_and(|ip| !ip.is_piece()));
                track(&mut tracker, &packet, &datagram.whole, *flags, now);
            }
            Outcome::Taken => {}
        }
        assert!(reassembler.held() <= 8);
    }
    let later = now + Duration::from_secs(1_000_000);
    tracker.handle_timeout(later);
    reassembler.handle_timeout(later, &mut out);
    assert!(tracker.is_empty() && tracker.poll_timeout().is_none());
    assert!(reassembler.held() == 0 && reassembler.poll_timeout().is_none());
}

fn track(tracker: &mut Conntrack, packet: &Dissected, frame: &Frame, flags: u8, now: Instant) {
    let mut tracked = Tracked::untracked();
    tracker.track(packet, frame, now, &mut tracked);
    assert_eq!(tracked.state == State::Invalid, tracked.invalid.is_some());
    if flags & 16 == 0 && tracker.confirm(&mut tracked, now).is_ok() {
        tracker.set_mark(&mut tracked, u32::from(flags));
        assert!(tracked.id.is_none_or(|id| tracker.get(id).is_some()));
    }
    assert!(tracker.len() <= usize::try_from(MAX_ENTRIES).unwrap_or(0));
    assert_eq!(tracker.iter().count(), tracker.len());
}

fn frame(flags: u8, mut bytes: &[u8], at: Instant) -> (Port, Frame) {
    let from = if flags & 1 == 0 {
        Port::Left
    } else {
        Port::Right
    };
    let mut frame = Frame::new(at, &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    if flags & 4 != 0 && bytes.len() >= VNET_HEADER_LEN {
        frame.offload = Offload::parse(bytes).unwrap_or_default();
        bytes = &bytes[VNET_HEADER_LEN..];
    }
    let is_v6 = flags & 8 != 0;
    frame
        .bytes
        .extend(if is_v6 { [0x86, 0xdd] } else { [8, 0] });
    frame.bytes.extend(bytes);
    if flags & 2 != 0 {
        frame.offload.checksum_verified = true;
        let header = frame.bytes.get(14).map_or(0, |b| usize::from(b & 15) * 4);
        if !is_v6 && header >= 20 && frame.bytes.len() >= 14 + header {
            frame.bytes[24..26].fill(0);
            let sum = checksum(&frame.bytes[14..14 + header]);
            frame.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }
    (from, frame)
}
