//! What the engine sends and what it is given.

use super::*;

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let mut link = interface();
    for (packet, error) in [
        (vec![0x45; 1501], SendError::TooBig),
        (vec![0x45; 19], SendError::Other),
        (vec![], SendError::Other),
        (vec![0x20; 60], SendError::Other),
        (probe("10.0.0.2"), SendError::NoRoute),
        (probe("10.0.255.255"), SendError::Forbidden),
    ] {
        assert_eq!(
            link.transmit(ProbeId(1), &packet, ms(0)),
            Fate::Failed(error)
        );
    }
    assert_eq!(link.sends(1, "224.0.0.1", ms(0)), Fate::Queued);
    assert_eq!(link.leaves()[0][..6], [1, 0, 0x5e, 0, 0, 1]);
}

#[test]
fn the_engine_is_given_what_is_for_this_machine_alone() {
    let mut link = Interface::settled();
    let own: IpAddr = "10.0.0.2".parse().unwrap();
    let from: IpAddr = "5.0.0.1".parse().unwrap();
    let reply = echo(from, own, icmp::Kind::EchoReply);
    let good = framed(GATEWAY, MAC, ethertype::IPV4, &reply);
    assert_eq!(link.arrives(ms(10), &[good]), core::slice::from_ref(&reply));
    let elsewhere = echo(from, "10.0.0.3".parse().unwrap(), icmp::Kind::EchoReply);
    let not_ours = [
        framed(GATEWAY, OTHER, ethertype::IPV4, &reply),
        framed(GATEWAY, ethernet::BROADCAST, ethertype::IPV4, &reply),
        framed(MAC, MAC, ethertype::IPV4, &reply),
        framed(GATEWAY, MAC, ethertype::IPV4, &elsewhere),
        framed(GATEWAY, MAC, ethertype::IPV6, &reply),
        framed(GATEWAY, MAC, 0x8100, &reply),
        vec![0; 13],
    ];
    assert_eq!(link.arrives(ms(10), &not_ours), Vec::<Vec<u8>>::new());
}

#[test]
fn pings_through_a_simulated_segment_come_back() {
    let lab = plumb_sim::labs().iter().find(|lab| lab.name == "plain");
    let topology = Topology::from_toml(lab.unwrap().toml).unwrap();
    let target = topology.targets()[0];
    let mut hub = Hub::new(topology, 1);
    let (own, len) = hub.vantage().v4.unwrap();
    let config = Config {
        v4: Some(Prefix { address: own, len }),
        gateway_v4: Some(Ipv4Addr::from_bits(own.to_bits() ^ 3)),
        ..Config::default()
    };
    let mut link = Interface::new(Wire::default(), config);
    let mut packet = echo(own.into(), target, icmp::Kind::EchoRequest);
    packet[8] = 64;
    let header = ipv4::Header::parse(&packet).unwrap().0;
    header.emit(&mut packet);
    let mut now = ms(1);
    assert_eq!(link.transmit(ProbeId(1), &packet, now), Fate::Waiting);
    let mut received = Vec::new();
    let mut buffer = vec![0; 2048];
    for _ in 0..200 {
        link.fates();
        link.leaves()
            .iter()
            .for_each(|frame| hub.handle_packet(now, frame));
        hub.handle_timeout(now);
        while let Some(t) = hub.poll_transmit(now, &mut buffer) {
            received.extend(link.arrives(now, &[buffer[..t.len].to_vec()]));
        }
        now = now + Duration::from_millis(1);
    }
    let reply = Packet::parse(&received[0]).unwrap();
    assert_eq!((received.len(), reply.src), (1, target));
}
