//! Name lookups over the loopback interface of a network namespace, as the kernel shows them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod skipping;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use plumb_ebpf::dns::Recorder;
use plumb_record::DnsProfile;
use plumb_wire::Instant;

use skipping::skipped;

/// Nanoseconds of CLOCK_MONOTONIC, and wall time minus that.
fn clocks() -> (u64, u64) {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let monotonic =
        u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (
        monotonic,
        u64::try_from(wall.as_nanos()).unwrap() - monotonic,
    )
}

/// A query for `name`, A, with this identifier.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Asks `server` from this thread and lets it answer with a response code and no record.
fn ask(server: &UdpSocket, client: &UdpSocket, id: u16, name: &str, code: u8) {
    let address = server.local_addr().unwrap();
    client.send_to(&query(id, name), address).unwrap();
    let mut buffer = [0; 512];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    buffer[2] |= 0x80;
    buffer[3] = 0x80 | code;
    server.send_to(&buffer[..len], from).unwrap();
    client.recv_from(&mut buffer).unwrap();
}

#[test]
fn root_lookups_of_this_host_are_seen_in_every_namespace_with_who_asked() {
    // SAFETY: this thread alone goes into a network namespace of its own.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return skipped("it needs root to make a network namespace");
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    if !up.is_ok_and(|status| status.success()) {
        return skipped("it needs ip, of iproute2");
    }
    let (_, offset) = clocks();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let hierarchy = mounts.lines().find_map(|line| {
        let (mut fields, is_unified) = (line.split(' '), line.contains(" cgroup2 "));
        fields.nth(1).filter(|_| is_unified)
    });
    let Some(hierarchy) = hierarchy else {
        return skipped("it needs a cgroup2 hierarchy");
    };
    let mut recorder = match Recorder::start(hierarchy.as_ref()) {
        Ok(recorder) => recorder,
        Err(error) => return skipped(&error.to_string()),
    };
    let began = clocks();
    for server in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 53)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 53)),
    ] {
        let client = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).unwrap();
        let server = UdpSocket::bind(server).unwrap();
        for socket in [&server, &client] {
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
        }
        ask(&server, &client, 1, "found.example", 0);
        ask(&server, &client, 2, "missing.example", 3);
        // Another port is no name server.
        let other = UdpSocket::bind(SocketAddr::new(client.local_addr().unwrap().ip(), 5353));
        ask(&other.unwrap(), &client, 3, "other.example", 0);
    }
    recorder
        .read(Instant::from_nanos(clocks().0), offset)
        .unwrap();

    let me = std::process::id();
    let mut lookups = recorder.lookups();
    let records: Vec<DnsProfile> = core::iter::from_fn(|| lookups.poll_record())
        .filter(|record| record.pid == Some(me))
        .collect();
    let said: Vec<_> = records
        .iter()
        .map(|r| (r.remote_addr.is_ipv6(), r.name.as_str(), r.response_code))
        .collect();
    assert_eq!(
        said,
        [
            (false, "found.example", Some(0)),
            (false, "missing.example", Some(3)),
            (true, "found.example", Some(0)),
            (true, "missing.example", Some(3)),
        ]
    );
    for record in &records {
        assert_eq!(record.queries, 1);
        assert!(record.resolution_ns.is_some_and(|ns| ns > 0), "{record:?}");
        assert!(
            record.flow_id.is_some_and(|cookie| cookie > 0),
            "{record:?}"
        );
        // On its main thread a process has the name of its command; a test runs on another.
        assert!(record.process.is_some(), "{record:?}");
        let start = record.start.0 - offset;
        assert!((began.0..=clocks().0).contains(&start), "{record:?}");
    }
    drop(lookups);
    assert_eq!(recorder.lost(), 0);
}
