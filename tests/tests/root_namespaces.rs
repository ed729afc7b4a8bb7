//! Chains of kernel routers: every method, both IP versions, options, and what is said when the
//! network is not there.

#![forbid(unsafe_code)]
use plumb_record::StopReason;
use plumb_tests::{Chain, Records, require, run};

#[test]
fn root_every_method_sees_every_router_of_both_ip_versions() {
    require!("ip", "ethtool");
    let chain = Chain::new(5);
    for v4 in [true, false] {
        for method in ["--icmp", "--udp", "--tcp"] {
            let target = chain.target(v4).to_string();
            let done = run(&mut chain.plumb(&["trace", "--json", method, &target])).expect(0);
            let records = Records::of(&done);
            let trace = records.trace();
            let seen: Vec<_> = trace.hops.iter().filter_map(|hop| hop.addr).collect();
            assert_eq!(seen, chain.hops(v4), "{done}");
            assert_eq!(trace.stop_reason, StopReason::Completed);
            assert_eq!(trace.src, chain.source(v4));
            assert_eq!(trace.tunnels, []);
            for hop in &trace.hops {
                // Linux starts at 64, and those before it on the way back take one each.
                assert_eq!(hop.reply_ttl, Some(65 - hop.ttl), "{done}");
                let rtt = hop.rtt_ns.unwrap();
                assert!((1..50_000_000).contains(&rtt), "{done}");
            }
        }
    }
}
