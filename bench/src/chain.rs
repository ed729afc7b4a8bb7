//! The network that the probes cross: seven namespaces in a row, `source`, five routers, and a
//! destination that answers for 20.0.0.0/12.

use core::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::child::Place;

/// Hops from the source to every destination: five routers and the destination.
pub(crate) const HOPS: usize = 6;
/// The source's interface.
pub(crate) const UPLINK: &str = "right";

/// The namespaces are those of this process's mount namespace and vanish with it.
#[derive(Debug)]
pub(crate) struct Chain(());

impl Chain {
    /// Builds the namespaces. Must run in a mount namespace of its own.
    pub(crate) fn build() -> anyhow::Result<Self> {
        fs::create_dir_all("/run/netns")?;
        command("mount", &["-t", "tmpfs", "none", "/run/netns"], None)?;
        let mut outside = String::new();
        for node in 0..=HOPS {
            let _ = writeln!(outside, "netns add {}", name(node));
        }
        for link in 0..HOPS {
            let (left, right) = (name(link), name(link + 1));
            let (near, far) = (mac(link, 1), mac(link, 2));
            let _ = writeln!(
                outside,
                "link add right netns {left} address {near} type veth peer name left netns {right} address {far}"
            );
        }
        ip(&["-batch", "-"], &outside)?;
        for node in 0..=HOPS {
            set_up(node)?;
        }
        Ok(Self(()))
    }

    /// The namespace and processor of a prober.
    pub(crate) fn source(&self, cpu: Option<usize>) -> Place {
        Place {
            cpu,
            ..Place::in_namespace(path(&name(0)))
        }
    }
}

/// The `index`-th of the addresses that answer.
pub(crate) fn target(index: u32) -> core::net::Ipv4Addr {
    core::net::Ipv4Addr::from_bits(0x1400_0001 + index)
}

/// The `index`-th of the addresses that the first router drops packets to.
pub(crate) fn silent_target(index: u32) -> core::net::Ipv4Addr {
    core::net::Ipv4Addr::from_bits(0x1500_0001 + index)
}

fn name(node: usize) -> String {
    format!("hop{node}")
}

/// Where `ip netns` keeps a namespace.
pub(crate) fn path(namespace: &str) -> PathBuf {
    PathBuf::from(format!("/run/netns/{namespace}"))
}

fn mac(link: usize, end: u8) -> String {
    format!("02:00:00:00:{link:02x}:{end:02x}")
}

fn set_up(node: usize) -> anyhow::Result<()> {
    let mut batch = String::from("link set lo up\n");
    if node > 0 {
        let link = node - 1;
        let _ = write!(
            batch,
            "address add 5.0.{link}.2/30 dev left\nlink set left up\n\
             neighbour replace 5.0.{link}.1 lladdr {} nud permanent dev left\n",
            mac(link, 1)
        );
        if node > 1 {
            let _ = writeln!(batch, "route add 5.0.0.0/16 via 5.0.{link}.1");
        }
    }
    if node < HOPS {
        let _ = write!(
            batch,
            "address add 5.0.{node}.1/30 dev right\nlink set right up\n\
             neighbour replace 5.0.{node}.2 lladdr {} nud permanent dev right\n\
             route add default via 5.0.{node}.2\n",
            mac(node, 2)
        );
    } else {
        batch.push_str("route add local 20.0.0.0/12 dev lo\n");
    }
    if node == 1 {
        batch.push_str("route add blackhole 21.0.0.0/12\n");
    }
    ip(&["-netns", &name(node), "-batch", "-"], &batch)?;
    for end in ["left", "right"] {
        // Where there is no ethtool, checksums of ICMP are complete anyway.
        let _ = ip(
            &[
                "netns",
                "exec",
                &name(node),
                "ethtool",
                "-K",
                end,
                "tx",
                "off",
            ],
            "",
        );
    }
    within(&Place::in_namespace(path(&name(node))), || {
        for (key, value) in SYSCTLS {
            match fs::write(format!("/proc/sys/net/{key}"), value) {
                // The ends of the chain have one interface each.
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot set {key} of {}", name(node)));
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Does something at a place, in a thread that ends there.
pub(crate) fn within<T: Send>(
    place: &Place,
    action: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            place.enter()?;
            action()
        });
        thread.join().unwrap_or_else(|_| bail!("a thread broke"))
    })
}

const SYSCTLS: [(&str, &str); 10] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/left/rp_filter", "0"),
    ("ipv4/conf/right/rp_filter", "0"),
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_echo_ignore_all", "0"),
    ("ipv4/icmp_msgs_per_sec", "10000000"),
    ("ipv4/icmp_msgs_burst", "10000000"),
];

/// Runs ip(8) with commands on its standard input.
pub(crate) fn ip(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    command("ip", arguments, Some(input))
}

/// Runs a command that must succeed.
pub(crate) fn command(
    program: &str,
    arguments: &[&str],
    input: Option<&str>,
) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.unwrap_or_default().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
