//! Network functions under frames of any kind.

use plumb_nf::impair::{Impair, Impairment, Loss};
use plumb_nf::nat::{Config, Filtering, Forward, Nat, Protocol};
use plumb_nf::{Frame, Function, Output, Port, Probability};
use plumb_wire::frame::{Offload, VNET_HEADER_LEN};
use plumb_wire::{Instant, checksum};

const OUTSIDE: [u8; 4] = [198, 51, 100, 1];

/// Sends frames through a NAT, and through a bad link.
///
/// The bytes are frames, each behind two bytes: flags (from the right; the IP header gets a right
/// checksum; an offload state comes first; ARP instead of IPv4; how much time passes) and length.
///
/// # Panics
/// If a function makes frames of nothing, shows an inside address outside, or never rests.
pub fn nat(data: &[u8]) {
    let config = Config {
        outside: vec![OUTSIDE.into()],
        filtering: match data.first().map(|b| b % 3) {
            Some(0) => Filtering::EndpointIndependent,
            Some(1) => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        },
        forwards: vec![Forward {
            protocol: Protocol::Tcp,
            outside: OUTSIDE.into(),
            ports: 80..=81,
            inside: [10, 0, 0, 2].into(),
            inside_port: 8080,
        }],
        decrement_ttl: data.len() % 2 == 1,
        max_mappings: 8,
        max_sessions: 12,
        ..Config::default()
    };
    let Ok(mut nat) = Nat::new(config) else {
        return;
    };
    let shown = |to: Port, frame: &Frame| {
        let source = frame.bytes.get(26..30);
        let is_v4 = frame.bytes.get(12..14) == Some(&[8, 0]);
        assert!(to == Port::Left || !is_v4 || source == Some(&OUTSIDE));
    };
    drive(&mut nat, data, shown);
    let some = Probability::ratio(1, 4);
    let bad = Impairment {
        delay: core::time::Duration::from_millis(3),
        loss: Loss::Random(some),
        duplicate: some,
        corrupt: some,
        reorder: some,
        rate: Some(1_000_000),
        limit: 16,
        ..Impairment::default()
    };
    drive(&mut Impair::new(bad, bad, 1), data, |_, _| {});
}

fn drive(function: &mut impl Function, mut data: &[u8], seen: impl Fn(Port, &Frame)) {
    let mut out = Output::default();
    let mut now = Instant::from_millis(1);
    let mut timeouts = 0;
    while let [flags, len, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        let (from, frame) = frame(*flags, bytes, now);
        now = now + core::time::Duration::from_secs(u64::from(flags >> 5) * 20);
        while let Some(due) = function.poll_timeout().filter(|due| *due <= now) {
            function.handle_timeout(due, &mut out);
            timeouts += 1;
            assert!(timeouts < 100_000, "a timeout comes again and again");
        }
        function.handle_frames(from, &mut vec![frame], now, &mut out);
        for (to, frame) in out.sent().iter() {
            seen(*to, frame);
        }
        out.clear();
    }
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
    let is_arp = flags & 8 != 0;
    frame.bytes.extend(if is_arp { [8, 6] } else { [8, 0] });
    frame.bytes.extend(bytes);
    let header = frame.bytes.get(14).map_or(0, |b| usize::from(b & 15) * 4);
    if flags & 2 != 0 && !is_arp && header >= 20 && frame.bytes.len() >= 14 + header {
        frame.bytes[24..26].fill(0);
        let sum = checksum(&frame.bytes[14..14 + header]);
        frame.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    (from, frame)
}
