//! What a tap does in user space with packets of any kind.

use plumb_ebpf::tap::{Choice, Packet, filter};
use plumb_nf::meter::{Meter, MeterOptions, ObservationPoint};
use plumb_nf::{Frame, Output, segment};
use plumb_wire::Instant;

use crate::bytes::Bytes;

const MAX_FLOWS: usize = 5;

/// Reads bytes as what the program in the kernel writes of a packet, and does with the packet what a
/// tap does: chooses, puts together, cuts into segments.
///
/// # Panics
/// If a slice is longer than it may be, or the whole shorter than its slice was.
pub fn slice(data: &[u8]) {
    let Some(packet) = Packet::parse(data) else {
        return;
    };
    let choice = choice();
    let mut bytes = Vec::new();
    for snaplen in [1, 14, 60, 0] {
        let (len, offload) = packet.frame(snaplen, &mut bytes);
        assert!(snaplen == 0 || bytes.len() <= snaplen as usize);
        assert!(len >= packet.len && bytes.len() <= packet.bytes.len() + 4);
        let _ = choice.chooses(&bytes, len);
        let mut frame = Frame::new(packet.at, &bytes);
        frame.offload = offload;
        let mut segments = Vec::new();
        let count = segment(frame, &mut Output::default(), &mut segments);
        assert_eq!(count, segments.len());
        assert!(segments.iter().all(|frame| frame.offload.is_complete()));
    }
}

fn choice() -> Choice {
    let filter = "vlan or (tcp[tcpflags] & tcp-syn != 0 and net 10.0.0.0/8) or ip6";
    Choice::from(filter::compile(filter).expect("a filter"))
}

/// Counts flows of frames, which come behind four bytes each: where it was seen, for how many packets
/// it stands, how much time passes, length.
///
/// # Panics
/// If packets get lost or are in two records, if too many flows are remembered, or if one that has
/// ended is not told of in time.
pub fn meter(data: &[u8]) {
    let second = core::time::Duration::from_secs(1);
    let mut meter = Meter::new(MeterOptions {
        active: second * 20,
        idle: second * 5,
        max_flows: MAX_FLOWS,
    });
    let mut bytes = Bytes(data);
    let mut now = Instant::ZERO;
    let (mut observed, mut told) = (0, 0);
    while !bytes.0.is_empty() {
        let at = bytes.next();
        let point = ObservationPoint {
            interface: u32::from(at & 1),
            is_sent: at & 2 != 0,
        };
        let packets = u32::from(bytes.next().max(1));
        now = now + second * u32::from(bytes.next() & 15);
        let len = usize::from(bytes.next());
        let mut frame = Frame::new(now, bytes.take(len));
        if at & 4 != 0 {
            frame.original_len = u32::from(at) << 8;
        }
        if at & 8 != 0 {
            // Packets of two processors need not come in the order of their times.
            frame.at = Instant::from_nanos(now.as_nanos() / 2);
        }
        observed += u64::from(packets);
        meter.observe(point, &frame, packets);
        meter.handle_timeout(now);
        assert!(meter.poll_timeout().is_none_or(|due| due > now));
        told += tell(&mut meter);
        assert!(meter.counters().flows <= MAX_FLOWS as u64);
    }
    meter.finish();
    told += tell(&mut meter);
    let counters = meter.counters();
    assert_eq!(counters.packets, told);
    assert_eq!(counters.packets + counters.not_ip, observed);
    assert_eq!((counters.flows, meter.poll_timeout()), (0, None));
}

/// Takes all records; returns of how many packets they tell.
fn tell(meter: &mut Meter) -> u64 {
    let mut packets = 0;
    while let Some(flow) = meter.poll_flow() {
        assert!(flow.packets > 0 && flow.first <= flow.last);
        packets += flow.packets;
    }
    packets
}
