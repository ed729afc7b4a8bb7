//! What the kernel's routes say, and how soon what sends past them follows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod router;

use core::net::IpAddr;
use core::time::Duration;

use plumb_link::route::{RouteError, Sources, source_for};
use plumb_link::{Mode, Receive};
use plumb_wire::SendError;

use router::script::{echo_request, exchange, open};
use router::{SOURCE, TARGET, behind_router, ip};

#[test]
fn root_the_source_address_of_many_destinations_is_that_of_each_alone() {
    behind_router(|| {
        ip(&[
            "addr add 10.0.1.9/32 dev near",
            "route add 20.0.0.0/8 via 10.0.1.2 src 10.0.1.9",
            "route add blackhole 20.9.0.0/16",
        ]);
        let destinations: [[u8; 4]; 8] = [
            [20, 1, 2, 3],
            [20, 9, 1, 1],
            [30, 1, 1, 1],
            [10, 0, 1, 2],
            [10, 0, 1, 1],
            [10, 0, 1, 9],
            [10, 0, 1, 255],
            [127, 0, 0, 5],
        ];
        let mut sources = Sources::new(None).unwrap();
        let plain = |answer: Result<IpAddr, RouteError>| answer.map_err(|e| e.to_string());
        for round in 0..100 {
            for destination in destinations.map(IpAddr::from) {
                let alone = plain(source_for(destination, None));
                assert_eq!(plain(sources.source_for(destination)), alone, "{round}");
            }
        }
        let chosen = source_for([20, 1, 2, 3].into(), None).unwrap();
        assert_eq!(chosen, IpAddr::from([10, 0, 1, 9]));
        ip(&["route del 20.0.0.0/8"]);
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(sources.source_for([20, 1, 2, 3].into()).unwrap(), SOURCE);
    });
}

#[test]
fn root_a_packet_socket_sends_past_routing_but_follows_it_within_a_second() {
    behind_router(|| {
        let request = |seq| vec![echo_request(SOURCE, TARGET, 9, seq)];
        let mut port = open(Mode::Packet, Receive::Sockets);
        for seq in 0..2 {
            // The kernel learns of the neighbour, then sends the first to it itself.
            assert_eq!(exchange(&mut port, request(seq), 1).received.len(), 1);
            std::thread::sleep(Duration::from_millis(20));
        }
        exchange(&mut port, request(2), 1);
        ip(&["route del default"]);
        let past_routing = exchange(&mut port, request(3), 1);
        assert_eq!(past_routing.received.len(), 1);
        std::thread::sleep(Duration::from_millis(1000));
        let later = exchange(&mut port, request(4), 0);
        assert_eq!(later.failed, [(0, SendError::NoRoute)]);
    });
}
