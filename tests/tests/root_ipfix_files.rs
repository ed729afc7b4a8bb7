//! Files of flow records, read by others.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::process::Command;

use plumb_tests::ipfix_lab::{Lab, compare};
use plumb_tests::{Directory, ndjson, plumb, profiles, require, run};

#[test]
fn root_a_file_is_read_by_tshark_and_a_full_disk_leaves_whole_messages() {
    require!("ip", "tshark");
    let lab = Lab::new(300);
    let (flows, file) = (lab.file("flows.ndjson"), lab.file("flows.ipfix"));
    let mut command = Command::new(plumb());
    run(command.args(["export", &flows, "--ipfix-file", &file])).expect(0);
    compare(&lab.profiles, &file, &[]);

    let small = lab.directory.file("small");
    std::fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=40k none {dir} && {} export {flows} --ipfix-file {dir}/f; \
         code=$?; cp {dir}/f {file}; exit $code",
        plumb().display(),
        dir = small.display(),
    );
    let mut command = Command::new("unshare");
    let done = run(command.args(["--mount", "sh", "-c", &script])).expect(5);
    assert!(done.stderr.contains("No space left"), "{done}");
    let sent: usize = done
        .stderr
        .split(" records sent")
        .next()
        .and_then(|before| before.rsplit(' ').next())
        .unwrap()
        .parse()
        .unwrap();
    assert!((50..300).contains(&sent), "{done}");
    compare(&lab.profiles[..sent], &file, &[]);
}

/// What libfixbuf's `ipfixDump` reads in a file of messages: the numbers and texts of each record of
/// a connection, by the name of the element.
fn ipfix_dump(file: &str) -> Vec<BTreeMap<String, String>> {
    let mut command = Command::new("ipfixDump");
    let done = run(command.args(["--rfc5610", "--data", "--in", file])).expect(0);
    assert_eq!(done.stderr, "", "{done}");
    let mut records: Vec<BTreeMap<String, String>> = Vec::new();
    for line in done.stdout.lines() {
        if line.starts_with("--- data record") {
            records.push(BTreeMap::new());
        }
        // "\t(32473/9)      processId : 7864", "\t(96)      applicationName : (len: 4) curl"
        let Some((_, field)) = line.split_once(')') else {
            continue;
        };
        if let Some((name, value)) = field.split_once(" : ") {
            let text = value
                .strip_prefix("(len: ")
                .and_then(|v| v.split_once(") "));
            let value = text.map_or(value, |(_, text)| text);
            let name = name.trim().rsplit(' ').next().unwrap();
            let record = records.last_mut().unwrap();
            record.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    records.retain(|record| record.contains_key("profileEvent"));
    records
}

#[test]
fn root_a_file_is_read_by_libfixbuf_which_learns_our_own_elements_from_it() {
    require!("ipfixDump");
    let directory = Directory::new();
    let profiles = profiles(300);
    directory.write("flows.ndjson", ndjson(&profiles));
    let file = directory.file("flows.ipfix").to_str().unwrap().to_owned();
    let mut command = Command::new(plumb());
    let flows = directory.file("flows.ndjson");
    let flows = flows.to_str().unwrap();
    run(command.args(["export", flows, "--ipfix-file", &file])).expect(0);
    let read = ipfix_dump(&file);
    assert_eq!(read.len(), profiles.len());
    for (read, profile) in read.iter().zip(&profiles) {
        assert!(
            !read.keys().any(|name| name.contains("alien")),
            "an element that it did not learn: {read:#?}"
        );
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        // It writes every group with four digits.
        let address = |name: &str| -> IpAddr { read[name].parse().unwrap() };
        let family = if profile.local_addr.is_ipv4() { 4 } else { 6 };
        let source = format!("sourceIPv{family}Address");
        let destination = format!("destinationIPv{family}Address");
        assert_eq!(address(&source), profile.local_addr);
        assert_eq!(address(&destination), profile.remote_addr);
        // To the millisecond, as it prints them.
        let end = profile.end.to_string().replace('T', " ");
        for (name, wanted) in [
            (
                "sourceTransportPort",
                number(Some(profile.local_port.into())),
            ),
            (
                "destinationTransportPort",
                number(Some(profile.remote_port.into())),
            ),
            ("flowId", number(Some(profile.flow_id))),
            ("flowEndMilliseconds", end.get(..23).map(str::to_owned)),
            ("transportOctetDeltaCount", number(Some(profile.bytes_sent))),
            (
                "reverseTransportOctetDeltaCount",
                number(Some(profile.bytes_received)),
            ),
            ("acknowledgedOctetDeltaCount", number(profile.bytes_acked)),
            ("packetDeltaCount", number(profile.packets_sent)),
            ("reversePacketDeltaCount", number(profile.packets_received)),
            (
                "retransmittedPacketDeltaCount",
                number(profile.packets_retransmitted),
            ),
            ("smoothedRoundTripTimeNanoseconds", number(profile.rtt_ns)),
            ("processId", number(profile.pid.map(u64::from))),
            (
                "mptcpToken",
                number(profile.mptcp.as_ref().map(|m| m.token.into())),
            ),
            ("congestionControlName", profile.congestion_control.clone()),
            ("controlGroupPath", profile.cgroup.clone()),
            ("applicationName", profile.process.clone()),
        ] {
            assert_eq!(
                read.get(name),
                wanted.as_ref(),
                "{name}: {read:#?} {profile:#?}"
            );
        }
    }
}
