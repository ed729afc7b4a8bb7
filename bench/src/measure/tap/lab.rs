//! Two machines on a bridge, and a monitor, as namespaces.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::child::Place;

/// The collector has another Ethernet address than the monitor: copies end there at once, whether
/// they are in a tunnel or not.
///
/// The namespaces are those of this process's mount namespace and vanish with it.
#[derive(Debug)]
pub(super) struct Lab(());

const SETUP: &str = "\
netns add tap-sw
netns add tap-vm1
netns add tap-vm2
netns add tap-mon
-n tap-sw link add br0 type bridge
-n tap-sw link add vm1 type veth peer name eth0 netns tap-vm1
-n tap-sw link add vm2 type veth peer name eth0 netns tap-vm2
-n tap-sw link add mon type veth peer name mon netns tap-mon
-n tap-sw link set br0 up
-n tap-sw link set vm1 master br0 up
-n tap-sw link set vm2 master br0 up
-n tap-sw link set mon mtu 9000 up
-n tap-mon link set mon mtu 9000 up
-n tap-sw address add 192.0.2.1/24 dev mon
-n tap-mon address add 192.0.2.9/24 dev mon
-n tap-sw neighbour replace 192.0.2.9 lladdr 02:00:00:00:00:99 dev mon nud permanent
-n tap-sw link add vx mtu 8900 type vxlan id 7 dstport 4789 remote 192.0.2.9 dev mon
-n tap-sw link set vx up
-n tap-vm1 address add 10.7.0.1/24 dev eth0
-n tap-vm2 address add 10.7.0.2/24 dev eth0
-n tap-vm1 link set eth0 up
-n tap-vm2 link set eth0 up";

impl Lab {
    pub(super) fn build() -> anyhow::Result<Self> {
        for line in SETUP.lines() {
            run(Command::new("ip").args(line.split(' ')))?;
        }
        let lab = Self(());
        // A collector that expects no tunnel would answer each copy.
        run(lab
            .command("mon", "sysctl")
            .args(["-qw", "net.ipv4.icmp_ratemask=8"]))?;
        run(lab
            .command("sw", "tc")
            .args(["qdisc", "add", "dev", "vm1", "clsact"]))?;
        Ok(lab)
    }

    pub(super) fn command(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("tap-{namespace}"), program]);
        command
    }

    pub(super) fn place(&self, namespace: &str, cpu: usize) -> Place {
        Place {
            cpu: Some(cpu),
            ..Place::in_namespace(PathBuf::from(format!("/run/netns/tap-{namespace}")))
        }
    }

    /// Lets the kernel mirror both directions of the port, or no more.
    pub(super) fn mirror(&self, on: bool) -> anyhow::Result<()> {
        for direction in ["ingress", "egress"] {
            let what = if on {
                "filter add dev vm1 DIRECTION u32 match u32 0 0 action mirred egress mirror dev mon"
            } else {
                "filter del dev vm1 DIRECTION"
            };
            let what = what.replace("DIRECTION", direction);
            run(self.command("sw", "tc").args(what.split(' ')))?;
        }
        Ok(())
    }
}

/// Runs a command, which must succeed.
pub(in crate::measure) fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}
