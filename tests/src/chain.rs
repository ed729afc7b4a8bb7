//! Chains of network namespaces, joined by virtual Ethernet, with the kernel's own routers.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicU32, Ordering};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::{plumb, run, run_with};

/// A chain of namespaces without a way out: the first is the vantage point, the last a host, those
/// between forward. All of it goes away when this is dropped.
#[derive(Debug)]
pub struct Chain {
    names: Vec<String>,
}

impl Chain {
    /// Makes a chain of `len` namespaces, from 2 to 20.
    pub fn new(len: u8) -> Self {
        assert!((2..=20).contains(&len));
        remove_orphans();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{count}-", std::process::id());
        let chain = Self {
            names: (0..len).map(|n| format!("{prefix}{n}")).collect(),
        };
        let links = len - 1;
        let mut all = String::new();
        for name in &chain.names {
            writeln!(all, "netns add {name}").expect("a string");
        }
        batch(None, &all);
        for n in 0..len {
            chain.prepare(n, links);
        }
        for link in 0..links {
            let (near, far) = (&chain.names[usize::from(link)], chain.next(link));
            let args = format!(
                "-n {near} link add right address {} type veth peer name left address {} netns {far}",
                hardware(link, 1),
                hardware(link, 2)
            );
            run(Command::new("ip").args(args.split(' '))).expect(0);
        }
        for n in 0..len {
            chain.configure(n, links);
        }
        // IPv6 takes routes only where both ends of a link are up.
        for n in 0..len {
            chain.add_routes(n, links);
        }
        chain
    }

    /// Addresses that a trace to the end passes, IPv4 if `v4`: those of the interfaces towards the
    /// vantage point.
    pub fn hops(&self, v4: bool) -> Vec<IpAddr> {
        let links = u8::try_from(self.names.len() - 1).expect("a short chain");
        (0..links).map(|link| far(link, v4)).collect()
    }

    /// The address of the last namespace.
    pub fn target(&self, v4: bool) -> IpAddr {
        *self.hops(v4).last().expect("a link")
    }

    /// The address of the vantage point.
    pub fn source(&self, v4: bool) -> IpAddr {
        near(0, v4)
    }

    /// A command in the namespace of this number; its process is the command itself.
    pub fn command(&self, n: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[n]]).arg(program);
        command
    }

    /// The name of the namespace of this number.
    pub fn name(&self, n: usize) -> &str {
        &self.names[n]
    }

    /// A `plumb` command at the vantage point.
    pub fn plumb(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(0, plumb());
        command.args(arguments);
        command
    }

    /// Runs `ip` in the namespace of this number.
    pub fn ip(&self, n: usize, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.names[n]]);
        run(command.args(arguments.split(' '))).expect(0);
    }

    /// Joins two namespaces by one more link, whose both ends have this name.
    pub fn join(&self, device: &str, a: usize, b: usize) {
        let other = &self.names[b];
        self.ip(
            a,
            &format!("link add {device} type veth peer name {device} netns {other}"),
        );
    }

    /// Sets a variable of the kernel in the namespace of this number.
    pub fn sysctl(&self, n: usize, setting: &str) {
        run(self.command(n, "sysctl").args(["-q", "-w", setting])).expect(0);
    }

    fn next(&self, link: u8) -> &str {
        &self.names[usize::from(link) + 1]
    }

    /// Sets what must be set before there are interfaces.
    fn prepare(&self, n: u8, links: u8) {
        let name = &self.names[usize::from(n)];
        let mut settings = vec![
            // Without these, routers answer a few hundred times a second at most.
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv6.icmp.ratelimit=0",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            // An address that is still being tried for duplicates does not answer.
            "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0",
        ];
        if Path::new("/proc/sys/net/ipv4/icmp_msgs_per_sec").exists() {
            settings.extend([
                "net.ipv4.icmp_msgs_per_sec=1000000",
                "net.ipv4.icmp_msgs_burst=100000",
            ]);
        }
        if (1..links).contains(&n) {
            settings.extend(["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        }
        for setting in settings {
            // The global limits can be set in the first namespace only on older kernels.
            let _ = run(
                Command::new("ip").args(["netns", "exec", name, "sysctl", "-q", "-w", setting])
            );
        }
    }

    fn configure(&self, n: u8, links: u8) {
        let name = &self.names[usize::from(n)];
        let mut lines = String::from("link set lo up\n");
        let mut end = |device: &str, link: u8, near_end: bool| {
            for v4 in [true, false] {
                let addr = if near_end {
                    near(link, v4)
                } else {
                    far(link, v4)
                };
                let len = if v4 { 29 } else { 64 };
                let _ = writeln!(lines, "address add {addr}/{len} dev {device}");
            }
            let _ = writeln!(lines, "link set {device} up");
        };
        if n > 0 {
            end("left", n - 1, false);
        }
        if n < links {
            end("right", n, true);
        }
        batch(Some(name), &lines);
        for (device, there) in [("left", n > 0), ("right", n < links)] {
            if there {
                // Checksums that the "hardware" fills in are not yet filled in where quoted.
                let off = format!("netns exec {name} ethtool -K {device} tx off");
                run(Command::new("ip").args(off.split(' '))).expect(0);
            }
        }
    }

    /// Adds routes, and neighbours, so that no first packet waits for their discovery.
    fn add_routes(&self, n: u8, links: u8) {
        let mut lines = String::new();
        let mut neighbour = |addr: IpAddr, hardware: String, device: &str| {
            let _ = writeln!(
                lines,
                "neighbour replace {addr} lladdr {hardware} dev {device} nud permanent"
            );
        };
        for v4 in [true, false] {
            if n > 0 {
                neighbour(near(n - 1, v4), hardware(n - 1, 1), "left");
            }
            if n < links {
                neighbour(far(n, v4), hardware(n, 2), "right");
            }
        }
        for v4 in [true, false] {
            if n < links {
                let _ = writeln!(lines, "route add default via {}", far(n, v4));
            }
            for link in 0..n.saturating_sub(1) {
                let (net, len) = (network(link, v4), if v4 { 29 } else { 64 });
                let _ = writeln!(lines, "route add {net}/{len} via {}", near(n - 1, v4));
            }
        }
        batch(Some(&self.names[usize::from(n)]), &lines);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for name in &self.names {
            remove(name);
        }
    }
}

/// What the names of these namespaces begin with; the process that made them follows.
const PREFIX: &str = "plumb-tests-";

/// Removes what tests left behind that were killed.
fn remove_orphans() {
    let list = run(Command::new("ip").args(["netns", "list"])).stdout;
    for name in list.lines().filter_map(|line| line.split(' ').next()) {
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    // It may never have come to be, or somebody else may be removing it.
    let _ = Command::new("ip")
        .args(["netns", "delete", name])
        .stderr(std::process::Stdio::null())
        .status();
}

fn batch(namespace: Option<&str>, lines: &str) {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    let limit = core::time::Duration::from_secs(30);
    run_with(command.args(["-batch", "-"]), lines.as_bytes(), limit).expect(0);
}

/// The address of a link's end towards the vantage point.
fn near(link: u8, v4: bool) -> IpAddr {
    address(link, v4, 1)
}

/// The address of a link's end away from the vantage point.
fn far(link: u8, v4: bool) -> IpAddr {
    address(link, v4, 2)
}

/// The Ethernet address of a link's end.
fn hardware(link: u8, host: u8) -> String {
    format!("02:00:00:00:{link:02x}:{host:02x}")
}

fn network(link: u8, v4: bool) -> IpAddr {
    address(link, v4, 0)
}

fn address(link: u8, v4: bool, host: u8) -> IpAddr {
    if v4 {
        Ipv4Addr::new(5, 9, link, host).into()
    } else {
        Ipv6Addr::new(0x2a0b, 9, 0, link.into(), 0, 0, 0, host.into()).into()
    }
}
