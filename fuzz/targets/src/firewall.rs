//! Rules of any kind, and packets that meet those that are good.

use core::time::Duration;

use plumb_nf::firewall::{Config, Firewall, Ruleset, Source};
use plumb_nf::{Frame, Function, Output, Port};
use plumb_wire::{Instant, checksum};

/// Reads the bytes before the first zero as rules, and sends what is behind it through them.
///
/// Each packet is behind two bytes: flags (from the right; IPv6 instead of IPv4; the IPv4 header
/// gets a right checksum; the rules are loaded again first; how much time passes) and length.
///
/// # Panics
/// If an error has no place, or a packet is multiplied by more than its answer.
pub fn firewall(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let main = Source {
        name: "rules".into(),
        text: text.into(),
    };
    let ports = ["left".into(), "right".into()];
    let mut include = |_: &str, _: &str| Err("no other files".into());
    let ruleset = match Ruleset::parse(main, &[], &ports, &mut include) {
        Ok(ruleset) => ruleset,
        Err(error) => {
            assert!(error.line > 0 && error.column > 0, "{error:?}");
            assert!(error.to_string().starts_with("rules:"));
            return;
        }
    };
    let mut data = parts.next().unwrap_or_default();
    let config = Config {
        explain: data.len() % 2 == 1,
        ..Config::default()
    };
    let explain = config.explain;
    let mut firewall = Firewall::new(ruleset.clone(), config);
    let mut out = Output::default();
    let mut now = Instant::from_millis(1);
    while let [flags, len, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        now = now + Duration::from_millis(u64::from(flags >> 5) * 13_000);
        firewall.handle_timeout(now, &mut out);
        if flags & 8 != 0 {
            firewall.reload(ruleset.clone(), now);
        }
        let (from, frame) = frame(*flags, bytes, now);
        let len = frame.bytes.len();
        firewall.handle_frames(from, &mut vec![frame], now, &mut out);
        if explain {
            assert_eq!(out.sent().len(), 1);
        }
        for (_, frame) in out.sent().iter() {
            assert!(frame.bytes.len() <= len.max(1280 + 18), "{len}");
            assert_eq!(frame.comment.is_empty(), !explain);
        }
        out.clear();
        while firewall.poll_event().is_some() {}
    }
    let _ = (firewall.counters(), firewall.details());
}

fn frame(flags: u8, bytes: &[u8], now: Instant) -> (Port, Frame) {
    let mut frame = Frame::new(now, b"\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a");
    let is_v6 = flags & 2 != 0;
    frame
        .bytes
        .extend(if is_v6 { [0x86, 0xdd] } else { [8, 0] });
    frame.bytes.extend(bytes);
    if flags & 4 != 0 && !is_v6 && bytes.len() >= 20 {
        let end = 14 + (usize::from(bytes[0] & 15) * 4).clamp(20, bytes.len());
        frame.bytes[24..26].fill(0);
        let sum = checksum(&frame.bytes[14..end]);
        frame.bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let from = if flags & 1 != 0 {
        Port::Right
    } else {
        Port::Left
    };
    (from, frame)
}
