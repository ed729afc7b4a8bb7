//! Any frames at all.

use super::*;

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let solicit = ndp::Message::Solicitation(ndp::Solicitation {
        target: v6("fd00::2"),
        source_mac: Some(OTHER),
    });
    let own: IpAddr = "10.0.0.2".parse().unwrap();
    let own6: IpAddr = "fd00::2".parse().unwrap();
    let echo4 = echo("5.0.0.1".parse().unwrap(), own, icmp::Kind::EchoRequest);
    let echo6 = echo("2a00::1".parse().unwrap(), own6, icmp::Kind::EchoRequest);
    let frames = [
        arp_reply("10.0.0.1", GATEWAY),
        arp_frame(arp::Operation::Request, "10.0.0.9", OTHER, "10.0.0.2"),
        ndp_frame(solicit, "fd00::9", "fd00::2"),
        framed(OTHER, MAC, ethertype::IPV4, &echo4),
        framed(OTHER, MAC, ethertype::IPV6, &echo6),
        framed(OTHER, MAC, ethertype::IPV4, &[]),
    ];
    let harm = prop::collection::vec((any::<u16>(), any::<u8>()), 0..6);
    let cut = prop_oneof![Just(usize::MAX), 0..100usize];
    (
        prop::sample::select(frames.to_vec()),
        harm,
        cut,
        any::<bool>(),
    )
        .prop_map(|(mut frame, harm, cut, long)| {
            if long {
                frame.resize(1600, 7);
            }
            frame.truncate(cut);
            for (at, by) in harm {
                let len = frame.len().max(1);
                if let Some(byte) = frame.get_mut(usize::from(at) % len) {
                    *byte = by;
                }
            }
            frame
        })
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic_or_grow_or_speak_for_another(
        frames in prop::collection::vec(hostile(), 0..60), targets in prop::collection::vec(any::<u8>(), 0..20), pass in 0..2000u64,
    ) {
        let mut link = interface();
        let mut now = ms(1);
        let mut frames = frames.chunks(4);
        for (number, at) in (0..20).zip(0..) {
            if let Some(last) = targets.get::<usize>(at) {
                let _ = link.sends(number, &std::format!("10.0.0.{last}"), now);
            }
            let own: [IpAddr; 3] = ["10.0.0.2".parse().unwrap(), v6("fd00::2").into(), ndp::link_local(MAC).into()];
            for packet in link.arrives(now, frames.next().unwrap_or_default()) {
                let dst = destination(&packet);
                prop_assert!(dst.is_some_and(|dst| own.contains(&dst)));
            }
            for (_, fate) in link.fates() {
                prop_assert!(!matches!(fate, Fate::Waiting | Fate::NoRoom));
            }
            for frame in link.leaves() {
                let (header, _) = ethernet::Header::parse(&frame).unwrap();
                prop_assert_eq!(header.src, MAC);
                prop_assert_ne!(header.dst, MAC);
                prop_assert!(frame.len() <= 1514);
            }
            now = now + Duration::from_millis(pass);
            link.handle_timeout(now);
            prop_assert!(link.poll_timeout().is_none_or(|due| due > now));
        }
    }
}
