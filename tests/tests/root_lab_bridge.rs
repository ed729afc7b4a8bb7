//! Many hosts on one lab's bridge: kernels in namespaces of their own, all with the same address.

#![forbid(unsafe_code)]

use std::process::Command;

use plumb_record::Trace;
use plumb_tests::{Records, in_lab, line, plumb, require, run};

/// Starts three hosts on the bridge and traces from all of them at the same time.
const HOSTS: &str = r#"
set -e
export XDG_CONFIG_HOME=/nonexistent
for n in 1 2 3; do
    unshare --net sleep 60 &
    pid=$!
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
    ip link add port$n type veth peer name eth0 netns $pid
    ip link set port$n master $PLUMB_LAB_BRIDGE up
    nsenter --net --target $pid sh -c '
        echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
        for address in $PLUMB_LAB_ADDRESS; do ip address add $address dev eth0; done
        ip link set eth0 up
        for gateway in $PLUMB_LAB_GATEWAY; do ip route add default via $gateway; done
        exec "$TESTED" trace --json --flow 1000 $PLUMB_LAB_TARGETS' > "$OUT.$n" &
    jobs="$jobs $!"
done
wait $jobs
cat "$OUT.1" "$OUT.2" "$OUT.3"
"#;

fn seen(trace: &Trace) -> (String, Vec<String>, Vec<String>) {
    let hops = trace
        .hops
        .iter()
        .map(|hop| format!("{:?} {:?} {:?}", hop.addr, hop.reply_ttl, hop.mpls))
        .collect();
    let tunnels = trace.tunnels.iter().map(line).collect();
    (trace.dst.to_string(), hops, tunnels)
}

#[test]
fn root_hosts_with_one_address_each_find_the_lab_for_themselves() {
    require!("ip", "unshare", "nsenter");
    let out = std::env::temp_dir().join(format!("plumb-bridge-{}", std::process::id()));
    let lab = [
        "lab", "run", "ipv6", "--seed", "7", "--bridge", "lab0", "--", "sh", "-c", HOSTS,
    ];
    let done = run(Command::new(plumb())
        .args(lab)
        .env("TESTED", plumb())
        .env("OUT", &out));
    for n in 1..=3 {
        let _ = std::fs::remove_file(format!("{}.{n}", out.display()));
    }
    let done = done.expect(0);
    let alone = in_lab(
        "ipv6",
        &[
            "trace",
            "--json",
            "--flow",
            "1000",
            "5.0.8.2",
            "2a0b:5000:0:8::2",
        ],
    );
    let mut expected: Vec<_> = Records::of(&alone.expect(0))
        .traces
        .iter()
        .map(seen)
        .collect();
    expected.sort();
    assert_eq!(expected.len(), 2);
    // Three runs, one behind the other: each begins with its own start record.
    let mut hosts: Vec<String> = Vec::new();
    for record in done.stdout.lines() {
        if record.contains("\"type\":\"start\"") {
            hosts.push(String::new());
        }
        let host = hosts.last_mut().unwrap();
        host.push_str(record);
        host.push('\n');
    }
    assert_eq!(hosts.len(), 3, "{done}");
    for stdout in hosts {
        let records = Records::of(&plumb_tests::Done {
            stdout,
            ..done.clone()
        });
        let mut found: Vec<_> = records.traces.iter().map(seen).collect();
        found.sort();
        assert_eq!(found, expected, "{done}");
    }
}

#[test]
fn root_a_lab_on_a_bridge_tells_its_command_what_machines_need() {
    require!("ip");
    let script = "echo $PLUMB_LAB_BRIDGE/$PLUMB_LAB_ADDRESS/$PLUMB_LAB_GATEWAY; ip -o link";
    let lab = [
        "lab", "run", "ipv6", "--bridge", "br-lab", "--", "sh", "-c", script,
    ];
    let done = run(Command::new(plumb()).args(lab)).expect(0);
    let mut lines = done.stdout.lines();
    assert_eq!(
        lines.next().unwrap(),
        "br-lab/5.0.1.1/30 2a0b:5000:0:1::1/126/5.0.1.2 2a0b:5000:0:1::2"
    );
    let links: Vec<&str> = lines.collect();
    assert_eq!(links.len(), 4, "{done}");
    assert!(
        links
            .iter()
            .any(|l| l.contains("internet") && l.contains("master br-lab")),
        "{done}"
    );
    let done = run(
        Command::new(plumb()).args(["lab", "run", "plain", "--bridge", "uplink", "--", "true"])
    );
    assert_eq!(done.code(), Some(2), "{done}");
    assert!(
        done.stderr.contains("cannot create the bridge \"uplink\""),
        "{done}"
    );
}
