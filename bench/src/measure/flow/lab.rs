//! Two hosts on a link, as namespaces.

use std::path::PathBuf;
use std::process::Command;

use super::super::tap::run;
use crate::child::Place;

/// The namespaces are those of this process's mount namespace and vanish with it.
#[derive(Debug)]
pub(super) struct Lab(());

/// Every address of 10.8.0.0/16 is the server's: connections are told apart by it, and none has to
/// wait until the ports of another are free again.
const SETUP: &str = "\
netns add flow-client
netns add flow-server
-n flow-client link add eth0 type veth peer name eth0 netns flow-server
-n flow-client address add 10.9.0.1/24 dev eth0
-n flow-server address add 10.9.0.2/24 dev eth0
-n flow-client link set eth0 up
-n flow-server link set eth0 up
-n flow-client link set lo up
-n flow-server link set lo up
-n flow-client route add 10.8.0.0/16 via 10.9.0.2
-n flow-server route add local 10.8.0.0/16 dev lo";

/// How many connections that were closed are kept waiting: with few, a round begins as the one
/// before it did.
const TIME_WAITS: &str = "net.ipv4.tcp_max_tw_buckets=2048";

impl Lab {
    pub(super) fn build() -> anyhow::Result<Self> {
        for line in SETUP.lines() {
            run(Command::new("ip").args(line.split(' ')))?;
        }
        let lab = Self(());
        for host in ["client", "server"] {
            run(Command::new("ip").args([
                "netns",
                "exec",
                &format!("flow-{host}"),
                "sysctl",
                "-qw",
                TIME_WAITS,
                "net.ipv4.ip_local_port_range=1024 65535",
            ]))?;
        }
        Ok(lab)
    }

    pub(super) fn place(&self, host: &str, cpu: Option<usize>) -> Place {
        Place {
            cpu,
            ..Place::in_namespace(PathBuf::from(format!("/run/netns/flow-{host}")))
        }
    }
}
