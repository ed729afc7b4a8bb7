//! The tap's programs in this kernel, on packets of no interface.

#![forbid(unsafe_code)]

use plumb_ebpf::tap::cbpf::Program;
use plumb_ebpf::tap::{Hook, Limits, Options, Session};

#[test]
fn root_smoke() {
    let filter: Program = "4,40 0 0 12,21 0 1 2048,6 0 0 262144,6 0 0 0"
        .parse()
        .unwrap();
    let session = Session::new(&Options {
        id: 16,
        ring_len: Some(1 << 16),
        limits: Limits::default(),
        filter: Some(filter),
        outputs: Vec::new(),
        balance: false,
        way: None,
        wall_offset_ns: 0,
    })
    .unwrap();
    let mut packet = vec![0u8; 100];
    packet[12] = 8;
    let ran = session.try_packet(Hook::Ingress, &packet, &[], 1).unwrap();
    println!("{:?} {:?}", ran.value as i32, session.counters());
    let n = session.consume(10, |p| {
        println!("{p:?}");
        true
    });
    assert_eq!(n, 1);
    packet[12] = 7;
    session.try_packet(Hook::Ingress, &packet, &[], 1).unwrap();
    println!("{:?}", session.counters());
}
