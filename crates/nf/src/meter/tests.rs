use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const OPTIONS: MeterOptions = MeterOptions {
    active: Duration::from_secs(60),
    idle: Duration::from_secs(15),
    max_flows: 4,
};
const POINT: ObservationPoint = ObservationPoint {
    interface: 3,
    is_sent: false,
};

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A frame of TCP from this port with these flags and this many bytes of payload.
fn tcp(ms: u64, port: u16, flags: u8, payload: u16) -> Frame {
    let mut bytes = std::vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend((40 + payload).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    bytes.resize(bytes.len() + usize::from(payload), 0);
    Frame::new(at(ms), &bytes)
}

fn records(meter: &mut Meter) -> Vec<MeteredFlow> {
    core::iter::from_fn(|| meter.poll_flow()).collect()
}

/// Source port, packets, octets and reason of each record.
fn told(meter: &mut Meter) -> Vec<(u16, u64, u64, FlowEndReason)> {
    let short = |flow: MeteredFlow| {
        (
            flow.key.src_port,
            flow.packets,
            flow.octets,
            flow.end_reason,
        )
    };
    records(meter).into_iter().map(short).collect()
}

#[test]
fn a_flow_that_is_quiet_is_told_with_its_times_flags_and_counts() {
    let mut meter = Meter::new(OPTIONS);
    for (ms, flags) in [(0, SYN), (10, 0x10), (30, 0x18)] {
        meter.observe(POINT, &tcp(ms, 1000, flags, 100), 1);
    }
    assert_eq!(meter.poll_timeout(), Some(at(15_030)));
    meter.handle_timeout(at(15_029));
    assert_eq!(meter.poll_flow(), None);
    meter.handle_timeout(at(15_030));
    let flow = meter.poll_flow().unwrap();
    assert_eq!((flow.first, flow.last), (at(0), at(30)));
    assert_eq!((flow.packets, flow.octets, flow.tcp_flags), (3, 420, 0x1a));
    assert_eq!(
        (flow.key.src_port, flow.key.dst_port, flow.key.protocol),
        (1000, 80, 6)
    );
    assert_eq!(flow.end_reason, FlowEndReason::Idle);
    assert_eq!((meter.poll_timeout(), meter.poll_flow()), (None, None));
}

#[test]
fn a_flow_that_goes_on_is_told_from_time_to_time_and_no_packet_twice() {
    let mut meter = Meter::new(OPTIONS);
    for second in 0..130 {
        meter.observe(POINT, &tcp(second * 1000, 1, 0x10, 0), 1);
        meter.handle_timeout(at(second * 1000));
    }
    let active = FlowEndReason::Active;
    assert_eq!(
        told(&mut meter),
        [(1, 60, 2400, active), (1, 60, 2400, active)]
    );
    meter.finish();
    assert_eq!(told(&mut meter), [(1, 10, 400, FlowEndReason::Forced)]);
}

#[test]
fn a_connection_that_has_ended_is_told_soon_with_what_comes_after_its_fin() {
    let mut meter = Meter::new(OPTIONS);
    meter.observe(POINT, &tcp(0, 1, 0x10, 10), 1);
    meter.observe(POINT, &tcp(5, 1, FIN | 0x10, 0), 1);
    meter.observe(POINT, &tcp(9, 1, 0x10, 0), 1);
    meter.handle_timeout(at(2008));
    assert_eq!(told(&mut meter), []);
    meter.handle_timeout(at(2009));
    assert_eq!(told(&mut meter), [(1, 3, 130, FlowEndReason::Ended)]);
    // The same ports again at once are another connection.
    meter.observe(POINT, &tcp(3000, 1, RST, 0), 1);
    meter.observe(POINT, &tcp(3001, 1, SYN, 0), 1);
    assert_eq!(told(&mut meter), [(1, 1, 40, FlowEndReason::Ended)]);
    assert_eq!(meter.counters().flows, 1);
}

#[test]
fn what_has_no_room_is_told_early_and_counted_the_quietest_first_those_that_ended_before_it() {
    let mut meter = Meter::new(OPTIONS);
    for port in 1..=4 {
        meter.observe(POINT, &tcp(u64::from(port), port, 0x10, 0), 1);
    }
    meter.observe(POINT, &tcp(5, 1, 0x10, 0), 1);
    meter.observe(POINT, &tcp(6, 3, FIN, 0), 1);
    meter.observe(POINT, &tcp(7, 5, 0x10, 0), 1);
    meter.observe(POINT, &tcp(8, 6, 0x10, 0), 1);
    let (ended, resources) = (FlowEndReason::Ended, FlowEndReason::Resources);
    assert_eq!(told(&mut meter), [(3, 2, 80, ended), (2, 1, 40, resources)]);
    assert_eq!((meter.counters().evicted, meter.counters().flows), (1, 4));
}

#[test]
fn each_segment_of_a_superframe_has_headers_of_its_own() {
    let mut meter = Meter::new(OPTIONS);
    let mut frame = tcp(0, 1, 0x10, 3000);
    meter.observe(POINT, &frame, 3);
    // Cut to its headers, as the kernel hands it on.
    frame.original_len = u32::try_from(frame.bytes.len()).unwrap();
    frame.bytes.truncate(54);
    meter.observe(POINT, &frame, 3);
    // Longer than its IP header can say.
    frame.bytes[16..18].fill(0);
    meter.observe(POINT, &frame, 3);
    meter.finish();
    let octets = 3 * (3000 + 3 * 40);
    assert_eq!(told(&mut meter), [(1, 9, octets, FlowEndReason::Forced)]);
}

#[test]
fn the_way_the_interface_the_vlan_and_the_type_of_icmp_tell_flows_apart() {
    let mut meter = Meter::new(MeterOptions {
        max_flows: 100,
        ..OPTIONS
    });
    let plain = tcp(0, 1, 0, 0);
    let mut tagged = plain.clone();
    tagged.bytes.splice(12..12, [0x81, 0, 0x20, 7]);
    let mut icmp = plain.clone();
    icmp.bytes[23] = 1;
    icmp.bytes[34..36].copy_from_slice(&[8, 0]);
    let mut fragment = plain.clone();
    fragment.bytes[21] = 9;
    let other = ObservationPoint {
        is_sent: true,
        ..POINT
    };
    let elsewhere = ObservationPoint {
        interface: 4,
        ..POINT
    };
    for (point, frame) in [
        (POINT, &plain),
        (other, &plain),
        (elsewhere, &plain),
        (POINT, &tagged),
        (POINT, &icmp),
        (POINT, &fragment),
    ] {
        meter.observe(point, frame, 1);
        meter.observe(point, frame, 1);
    }
    meter.observe(POINT, &Frame::new(at(0), &[0; 60]), 1);
    meter.observe(POINT, &Frame::default(), 1);
    assert_eq!((meter.counters().packets, meter.counters().not_ip), (12, 2));
    meter.finish();
    let records = records(&mut meter);
    let keys: BTreeSet<FlowKey> = records.iter().map(|flow| flow.key).collect();
    assert_eq!((records.len(), keys.len()), (6, 6));
    assert!(records.iter().all(|flow| flow.packets == 2));
    assert!(keys.iter().any(|key| key.vlan == Some(7)));
    assert!(
        keys.iter()
            .any(|key| key.protocol == 1 && key.dst_port == 0x0800)
    );
    assert!(
        keys.iter()
            .any(|key| key.protocol == 6 && key.src_port == 0 && key.dst_port == 0)
    );
}

proptest! {
    #[test]
    fn every_packet_is_in_one_record_and_the_table_keeps_its_bound(
        steps in proptest::collection::vec((0u64..20_000, 0u16..9, any::<u8>(), 0u16..100), 1..300),
    ) {
        let mut meter = Meter::new(OPTIONS);
        let (mut now, mut packets, mut octets) = (0, 0, 0);
        let mut seen = (0, 0);
        for (wait, port, flags, payload) in steps {
            now += wait;
            meter.handle_timeout(at(now));
            meter.observe(POINT, &tcp(now, port, flags, payload), 1);
            packets += 1;
            octets += u64::from(payload) + 40;
            prop_assert!(meter.counters().flows <= 4);
            let due = meter.poll_timeout().unwrap();
            prop_assert!(due > at(now) && due <= at(now + 15_000));
            for flow in records(&mut meter) {
                prop_assert!(flow.packets > 0 && flow.first <= flow.last);
                seen = (seen.0 + flow.packets, seen.1 + flow.octets);
            }
        }
        meter.finish();
        for flow in records(&mut meter) {
            seen = (seen.0 + flow.packets, seen.1 + flow.octets);
        }
        prop_assert_eq!(seen, (packets, octets));
        prop_assert_eq!((meter.poll_timeout(), meter.counters().flows), (None, 0));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), len: u32) {
        let mut meter = Meter::new(OPTIONS);
        let mut frame = Frame::new(at(1), &bytes);
        frame.original_len = len;
        meter.observe(POINT, &frame, 3);
        if frame.bytes.len() > 14 {
            frame.bytes[12..14].copy_from_slice(if len & 1 == 0 { &[8, 0] } else { &[0x86, 0xdd] });
            frame.bytes[14] = if len & 1 == 0 { 0x45 } else { 0x60 };
            meter.observe(POINT, &frame, 3);
        }
        meter.finish();
    }
}
