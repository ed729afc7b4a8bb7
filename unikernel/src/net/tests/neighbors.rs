//! Whom a packet goes to: how neighbours are asked for, remembered, and given up.

use super::*;

#[test]
fn a_probe_waits_for_the_gateways_address_and_leaves_with_it() {
    let mut link = interface();
    assert_eq!(link.sends(1, "5.0.0.1", ms(0)), Fate::Waiting);
    assert_eq!(link.sends(2, "5.0.0.2", ms(0)), Fate::Waiting);
    let asked = link.leaves();
    assert_eq!(asked.len(), 1, "one question for all");
    let (header, request) = arp_of(&asked[0]);
    assert_eq!(header.dst, ethernet::BROADCAST);
    assert_eq!(request.operation, arp::Operation::Request);
    assert_eq!(request.target, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(request.sender, Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(link.fates(), []);
    link.arrives(ms(1), &[arp_reply("10.0.0.1", GATEWAY)]);
    assert_eq!(link.fates(), [(1, Fate::Queued), (2, Fate::Queued)]);
    assert_eq!(link.sends(3, "5.0.0.3", ms(1)), Fate::Queued);
    let frames = link.leaves();
    for number in 1..4 {
        let packet = probe(&std::format!("5.0.0.{number}"));
        let frame = framed(MAC, GATEWAY, ethertype::IPV4, &packet);
        assert!(frames.contains(&frame), "{number}");
    }
}

#[test]
fn the_gateways_are_asked_before_the_first_probe() {
    let mut link = interface();
    link.start(ms(0));
    let asked = core::mem::take(&mut link.nic.sent);
    assert_eq!(arp_of(&asked[0]).1.target, Ipv4Addr::new(10, 0, 0, 1));
    let (header, ip, message) = ndp_of(&asked[1]);
    assert_eq!(header.dst, [0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!(
        ip.src,
        ndp::link_local(MAC),
        "one link-local address to the other"
    );
    assert_eq!(ip.dst, v6("ff02::1:ff00:1"));
    let expected = ndp::Solicitation {
        target: v6("fe80::1"),
        source_mac: Some(MAC),
    };
    assert_eq!(message, ndp::Message::Solicitation(expected));
    assert_eq!(asked.len(), 2);
    // A family that is not spoken is not asked about.
    let v4_only = Config {
        v6: None,
        ..config()
    };
    let mut link = Interface::new(Wire::default(), v4_only);
    link.start(ms(0));
    assert_eq!(link.nic.sent.len(), 1);
}

#[test]
fn ipv6_goes_through_its_gateway() {
    let mut link = interface();
    assert_eq!(link.sends(1, "2a00::1", ms(0)), Fate::Waiting);
    link.leaves();
    let say = |target_mac| {
        ndp::Message::Advertisement(ndp::Advertisement {
            target: v6("fe80::1"),
            router: true,
            solicited: true,
            overrides: true,
            target_mac,
        })
    };
    // One without an address, or with that of a group, says nothing.
    for mac in [None, Some([0x33; 6])] {
        link.arrives(ms(1), &[ndp_frame(say(mac), "fe80::1", "fd00::2")]);
        assert_eq!(link.fates(), []);
    }
    link.arrives(
        ms(1),
        &[ndp_frame(say(Some(GATEWAY)), "fe80::1", "fd00::2")],
    );
    assert_eq!(link.fates(), [(1, Fate::Queued)]);
    let frame = framed(MAC, GATEWAY, ethertype::IPV6, &probe("2a00::1"));
    assert!(link.leaves().contains(&frame));
}

#[test]
fn four_round_trips_to_the_gateway_are_measured_beside_the_probes() {
    let mut link = interface();
    link.start(ms(0));
    assert_eq!(link.rtt_error(), None);
    let mut questions = 0;
    let mut now = 0;
    for round_trip in [50, 5, 3, 9, 4, 20, 20] {
        let arps = link.leaves().iter().filter(|f| f[12..14] == [8, 6]).count();
        questions += arps;
        now += round_trip;
        link.arrives(ms(now), &[arp_reply("10.0.0.1", GATEWAY)]);
        // The first probe does not wait for the rest.
        assert_eq!(link.sends(1, "5.0.0.1", ms(now)), Fate::Queued);
    }
    assert_eq!(questions, 1 + 4, "the first does not count");
    let (least, most) = link.calibration().round_trips().unwrap();
    assert_eq!((least.as_millis(), most.as_millis()), (3, 9));
    assert_eq!(link.rtt_error(), Some(most));
}

#[test]
fn a_round_trip_of_a_repeated_question_is_none() {
    let mut link = interface();
    link.start(ms(0));
    let reply = [arp_reply("10.0.0.1", GATEWAY)];
    link.arrives(ms(1), &reply);
    link.handle_timeout(ms(101));
    link.arrives(ms(102), &reply);
    assert_eq!(
        link.rtt_error(),
        None,
        "it may be the first that was answered"
    );
    link.arrives(ms(105), &reply);
    assert_eq!(link.rtt_error(), Some(Duration::from_millis(3)));
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_five_times_and_given_up() {
    let mut link = interface();
    assert_eq!(link.sends(1, "5.0.0.1", ms(0)), Fate::Waiting);
    let mut asked = vec![(ms(0), link.leaves().len())];
    let mut given_up = Instant::ZERO;
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
        asked.push((due, link.leaves().len()));
        given_up = due;
    }
    let times = [0, 100, 400, 1000, 2000].map(|t| (ms(t), 1));
    assert_eq!(asked[..5], times);
    assert_eq!(asked[5], (ms(3000), 0));
    let no_route = Fate::Failed(SendError::NoRoute);
    assert_eq!(link.fates(), [(1, no_route)]);
    // For a while nobody waits for it, then it is asked again.
    assert_eq!(given_up, ms(3000));
    assert_eq!(link.sends(2, "5.0.0.1", ms(3500)), no_route);
    assert_eq!(link.sends(3, "5.0.0.1", ms(4000)), Fate::Waiting);
    assert_eq!(link.leaves().len(), 1);
}

#[test]
fn no_more_packets_wait_than_may_and_none_is_lost_to_a_full_queue() {
    let mut link = interface();
    for number in 0..MOST_WAITING as u64 {
        assert_eq!(link.sends(number, "5.0.0.1", ms(0)), Fate::Waiting);
    }
    assert_eq!(link.sends(999, "5.0.0.1", ms(0)), Fate::NoRoom);
    link.leaves();
    link.arrives(ms(1), &[arp_reply("10.0.0.1", GATEWAY)]);
    link.nic.full = true;
    assert_eq!(link.fates(), []);
    assert_eq!(link.sends(999, "5.0.0.1", ms(1)), Fate::NoRoom);
    link.nic.full = false;
    let fates = link.fates();
    let numbers = fates.iter().map(|(number, _)| *number);
    assert!(
        numbers.eq(0..MOST_WAITING as u64),
        "in the order in which they came"
    );
}

#[test]
fn a_walk_over_the_whole_link_is_remembered_in_bounds() {
    let mut link = Interface::settled();
    let mut waits = 0;
    for host in 0..1000u64 {
        let dst = std::format!("10.0.{}.{}", 1 + host / 250, host % 250);
        let fate = link.sends(host, &dst, ms(10));
        assert!(matches!(fate, Fate::Waiting | Fate::NoRoom));
        waits += usize::from(fate == Fate::Waiting);
        let (entries, waiting) = link.state.neighbors.len();
        assert!(entries <= MOST_NEIGHBORS && waiting <= MOST_WAITING);
    }
    assert_eq!(waits, MOST_NEIGHBORS);
    // Those that were asked the longest ago make room when they have failed.
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
    }
    assert_eq!(link.sends(1, "10.0.9.9", ms(5000)), Fate::Waiting);
}

#[test]
fn a_neighbour_in_use_is_asked_again_every_minute() {
    let mut link = Interface::settled();
    assert_eq!(link.sends(1, "5.0.0.1", ms(59_000)), Fate::Queued);
    assert_eq!(link.leaves().len(), 1);
    assert_eq!(
        link.sends(1, "5.0.0.1", ms(61_000)),
        Fate::Queued,
        "without delay"
    );
    let frames = link.leaves();
    assert_eq!(
        arp_of(&frames[1]).0.dst,
        GATEWAY,
        "only the neighbour is asked"
    );
    // Its successor answers for the address.
    link.handle_timeout(ms(61_100));
    link.handle_timeout(ms(61_400));
    let frames = link.leaves();
    assert_eq!(arp_of(&frames[0]).0.dst, GATEWAY);
    assert_eq!(arp_of(&frames[1]).0.dst, ethernet::BROADCAST);
    link.arrives(ms(61_401), &[arp_reply("10.0.0.1", OTHER)]);
    assert_eq!(link.poll_timeout(), None);
    link.sends(2, "5.0.0.1", ms(61_402));
    assert_eq!(link.leaves()[0][..6], OTHER);
    // Nobody answers any more.
    link.sends(3, "5.0.0.1", ms(200_000));
    while let Some(due) = link.poll_timeout() {
        link.handle_timeout(due);
    }
    assert_eq!(link.sends(4, "5.0.0.1", ms(203_001)), Fate::Waiting);
}
