//! A network that costs next to nothing: one link to a BPF program that answers as five routers
//! and a destination, on the other CPU. What a prober does here is its own doing.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::chain::{self, UPLINK};
use crate::child::Place;

/// Compiled on the spot.
const PROGRAM: &str = include_str!("../bpf/mirror.bpf.c");
const SOURCE: &str = "facing";
const MIRROR: &str = "mirror";

/// The namespaces are those of this process's mount namespace and vanish with it.
#[derive(Debug)]
pub(crate) struct Mirror(());

impl Mirror {
    /// Builds the namespaces, with the program on `cpu`. Must run after the chain was built.
    pub(crate) fn build(scratch: &Path, cpu: usize) -> anyhow::Result<Self> {
        let (source, object) = (scratch.join("mirror.bpf.c"), scratch.join("mirror.o"));
        fs::write(&source, PROGRAM)?;
        let (source, object) = (source.to_string_lossy(), object.to_string_lossy());
        let machine = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        let arguments = [
            "-O2", "-g", "-target", "bpf", &machine, "-c", &source, "-o", &object,
        ];
        chain::command("clang", &arguments, None).context("cannot compile the mirror")?;
        let (near, far) = ("02:00:00:00:ff:01", "02:00:00:00:ff:02");
        chain::ip(
            &["-batch", "-"],
            &format!(
                "netns add {SOURCE}\nnetns add {MIRROR}\n\
                 link add {UPLINK} netns {SOURCE} address {near} type veth peer name left netns {MIRROR} address {far}\n"
            ),
        )?;
        for (namespace, end, section) in [(SOURCE, UPLINK, "xdp.pass"), (MIRROR, "left", "xdp")] {
            chain::within(&Place::in_namespace(chain::path(namespace)), || {
                fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").map_err(Into::into)
            })?;
            let xdp = format!(
                "link set lo up\nlink set {end} up\nlink set {end} xdp object {object} section {section}\n"
            );
            chain::ip(&["-netns", namespace, "-batch", "-"], &xdp)?;
        }
        chain::ip(
            &["-netns", SOURCE, "-batch", "-"],
            &format!(
                "address add 5.0.0.1/30 dev {UPLINK}\n\
                 neighbour replace 5.0.0.2 lladdr {far} nud permanent dev {UPLINK}\n\
                 route add default via 5.0.0.2\n"
            ),
        )?;
        // A queue of the kernel's, so that whoever sends too fast is told instead of losing packets.
        let queue = [
            "-netns", SOURCE, "qdisc", "replace", "dev", UPLINK, "root", "pfifo", "limit", "20000",
        ];
        chain::command("tc", &queue, None)?;
        let threaded = "echo 1 >/sys/class/net/left/threaded";
        chain::ip(&["netns", "exec", MIRROR, "sh", "-c", threaded], "")?;
        pin("napi/left-", cpu)?;
        Ok(Self(()))
    }

    /// The namespace and processor of a prober.
    pub(crate) fn source(&self, cpu: Option<usize>) -> Place {
        Place {
            cpu,
            ..Place::in_namespace(chain::path(SOURCE))
        }
    }
}

/// Ties the kernel threads whose name begins so to a processor, and lets nothing ordinary delay
/// them.
fn pin(name: &str, cpu: usize) -> anyhow::Result<()> {
    let mut found = false;
    for process in fs::read_dir("/proc")?.flatten() {
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let pid = process
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse().ok());
        if let (true, Some(pid)) = (
            comm.starts_with(name),
            pid.and_then(rustix::process::Pid::from_raw),
        ) {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            rustix::thread::sched_setaffinity(Some(pid), &set)?;
            rustix::process::setpriority_process(Some(pid), crate::NICE)?;
            found = true;
        }
    }
    if !found {
        bail!("the kernel made no thread for the mirror's link");
    }
    Ok(())
}
