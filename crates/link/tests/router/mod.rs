//! Network namespaces of a test's own: a prober, a router, and a target behind it.
//!
//! Every namespace belongs to the thread of its test and vanishes with it.

#![allow(dead_code, reason = "no test file needs all of it")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

pub(crate) mod script;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

pub(crate) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
pub(crate) const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2));
pub(crate) const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
pub(crate) const SOURCE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
pub(crate) const ROUTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2));
pub(crate) const TARGET6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2));

/// Runs `test` in a thread whose network is a prober's behind a router, or says why it cannot.
pub(crate) fn behind_router(test: impl FnOnce() + Send + 'static) {
    in_private_network(move || {
        // The target's namespace is made first, then the router's, then the prober's; what links
        // them is made in the router's.
        let target = network();
        fresh_network();
        let router = network();
        ip(&[
            "link set lo up",
            "link add left address 02:00:00:00:01:02 type veth peer name near address 02:00:00:00:01:01",
            "link add right address 02:00:00:00:02:01 type veth peer name far address 02:00:00:00:02:02",
            "link set left up",
            "link set right up",
            "addr add 10.0.1.2/24 dev left",
            "addr add 10.0.2.1/24 dev right",
            "addr add fd00:1::2/64 dev left nodad",
            "addr add fd00:2::1/64 dev right nodad",
            &format!("link set far netns {}", path(&target)),
        ]);
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv4.icmp_msgs_per_sec=1000000",
            "net.ipv4.icmp_msgs_burst=1000000",
            "net.ipv6.icmp.ratelimit=0",
        ] {
            command("sysctl", &["-q", "-w", setting]);
        }
        enter(&target);
        ip(&[
            "link set lo up",
            "link set far up",
            "addr add 10.0.2.2/24 dev far",
            "addr add fd00:2::2/64 dev far nodad",
            "route add default via 10.0.2.1",
            "-6 route add default via fd00:2::1",
        ]);
        fresh_network();
        let prober = network();
        enter(&router);
        ip(&[&format!("link set near netns {}", path(&prober))]);
        enter(&prober);
        ip(&[
            "link set lo up",
            "link set near up",
            "addr add 10.0.1.1/24 dev near",
            "addr add fd00:1::1/64 dev near nodad",
            "route add default via 10.0.1.2",
            "-6 route add default via fd00:1::2",
        ]);
        test();
    });
}

/// Runs `test` in a thread with a network of its own in which nothing is up.
pub(crate) fn in_private_network(test: impl FnOnce() + Send + 'static) {
    if !plumb_link::capability::has(plumb_link::Capability::SysAdmin) {
        return skip("network namespaces need CAP_SYS_ADMIN");
    }
    let thread = std::thread::spawn(|| {
        fresh_network();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says why a test cannot run, which is a failure where all of them should.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("TESTS_NO_SKIP").is_none(), "{reason}");
    println!("skipped: {reason}");
}

pub(crate) fn fresh_network() {
    // SAFETY: a network namespace is no memory, and no other thread is concerned.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    // For a second, an address that is being checked for duplicates can't be used.
    command(
        "sysctl",
        &["-q", "-w", "net.ipv6.conf.default.accept_dad=0"],
    );
}

/// The network namespace of this thread.
pub(crate) fn network() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

pub(crate) fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

pub(crate) fn path(network: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd())
}

pub(crate) fn ip(lines: &[&str]) {
    for line in lines {
        command("ip", &line.split(' ').collect::<Vec<_>>());
    }
}

pub(crate) fn command(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
