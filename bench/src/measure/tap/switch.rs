//! Open vSwitch in place of the bridge, without its mirror and with it. Its datapath in user space
//! needs no module of the kernel, and what it does is the processor time of one process.

use core::time::Duration;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;

use super::lab::run;
use super::{load, ratio2};
use crate::child::{Place, threads_cpu_ns};
use crate::measure::{Bench, OTHER_CPU, PROBER_CPU};
use crate::report::spread;

/// The two machines have the addresses that the load knows. Packet sockets get what is sent as it
/// is, so no checksum may be left to an interface.
const SETUP: &str = "\
ip netns add tap-ovs
ip netns add tap-ovs-vm1
ip netns add tap-ovs-vm2
ip netns add tap-ovs-mon
ip -n tap-ovs link add vm1 type veth peer name eth0 netns tap-ovs-vm1
ip -n tap-ovs link add vm2 type veth peer name eth0 netns tap-ovs-vm2
ip -n tap-ovs link add mon type veth peer name eth0 netns tap-ovs-mon
ip -n tap-ovs link set vm1 up
ip -n tap-ovs link set vm2 up
ip -n tap-ovs link set mon up
ip netns exec tap-ovs-vm1 ethtool -K eth0 tx off
ip netns exec tap-ovs-vm2 ethtool -K eth0 tx off
ip -n tap-ovs-vm1 address add 10.7.0.1/24 dev eth0
ip -n tap-ovs-vm2 address add 10.7.0.2/24 dev eth0
ip -n tap-ovs-vm1 link set eth0 up
ip -n tap-ovs-vm2 link set eth0 up
ip -n tap-ovs-mon link set eth0 up";

const BRIDGE: &str = "--timeout=10 add-br br0 -- set bridge br0 datapath_type=netdev \
-- add-port br0 vm1 -- add-port br0 vm2 -- add-port br0 mon";
const MIRROR: &str = "--timeout=10 -- --id=@mon get port mon \
-- --id=@all create mirror name=all select_all=true output-port=@mon \
-- set bridge br0 mirrors=@all";
const NO_MIRROR: &str = "--timeout=10 clear bridge br0 mirrors";

/// Where Debian and others keep the layout of its database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// A switch that takes longer to begin, or to hand on what it has, does not work.
const PATIENCE: Duration = Duration::from_secs(10);

const NAMES: [&str; 2] = ["no mirror", "mirror of all ports"];

/// What one run cost.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    mirror: &'static str,
    /// Processor time of the switch for each packet that arrives at the receiver, ns.
    packet_ns: f64,
    /// Packets that arrive in a second, in thousands.
    kpps: f64,
}

/// Alternates both ways, where there is such a switch.
pub(super) fn measure(bench: &mut Bench, rounds: usize) -> anyhow::Result<()> {
    let said = |program| {
        let done = Command::new(program).arg("--version").output().ok()?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        said.lines().next().map(str::to_owned)
    };
    let (Some(version), Some(_)) = (said("ovs-vswitchd"), said("ethtool")) else {
        bench
            .report
            .say("Open vSwitch or ethtool is not installed: its mirror is not measured.");
        return Ok(());
    };
    let switch = Switch::start(&bench.file("ovs"))?;
    let duration = Duration::from_millis(if bench.quick { 100 } else { 400 });
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for n in 0..2 {
            let mode = (n + round) % 2;
            let run = switch.run(mode == 1, duration)?;
            bench.report.run("switch", &run)?;
            runs[mode].push(run);
        }
    }
    let of = |n: usize, figure: fn(&Run) -> f64| runs[n].iter().map(figure).collect::<Vec<_>>();
    let cost = |n| of(n, |run| run.packet_ns);
    let rows: Vec<_> = (0..2)
        .map(|n| {
            vec![
                NAMES[n].to_owned(),
                spread(cost(n), 0),
                ratio2(cost(n), cost(0)),
                spread(of(n, |run| run.kpps), 0),
            ]
        })
        .collect();
    let pairs = cost(1).into_iter().zip(cost(0));
    let more: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
    bench.report.say(&format!(
        "{version} in place of the bridge (`datapath_type=netdev`, ports by packet sockets), the same UDP \
         sender, {rounds} alternating rounds. Processor time is that of the switch's process for each \
         packet that arrives at the receiver; what the kernel does for senders and receivers is not in \
         it. The mirror takes all ports (`select_all`) to a third; every run has seen its packets \
         arrive there. It costs {} ns more.",
        spread(more, 0)
    ));
    bench.report.table(
        &[
            "Open vSwitch",
            "ns of the switch's CPU for a packet",
            "to no mirror",
            "kpps that arrive",
        ],
        &rows,
    );
    Ok(())
}

/// A switch with a database of its own; both end when it is dropped.
#[derive(Debug)]
struct Switch {
    folder: PathBuf,
    /// The switch before its database.
    children: Vec<Child>,
}

impl Switch {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        for line in SETUP.lines() {
            let mut words = line.split(' ');
            run(Command::new(words.next().unwrap_or("ip")).args(words))?;
        }
        let mut switch = Self {
            folder: folder.to_owned(),
            children: Vec::new(),
        };
        run(switch
            .command("ovsdb-tool")
            .args(["create", &switch.file("conf.db"), SCHEMA]))?;
        switch.spawn(
            "ovsdb-server",
            &[
                &switch.file("conf.db"),
                &format!("--remote=punix:{}", switch.file("db.sock")),
                &format!("--unixctl={}", switch.file("db.ctl")),
            ],
        )?;
        switch.wait_for("db.sock")?;
        switch.control("--no-wait init")?;
        switch.spawn(
            "ovs-vswitchd",
            &[
                &format!("unix:{}", switch.file("db.sock")),
                &format!("--unixctl={}", switch.file("vs.ctl")),
            ],
        )?;
        switch.wait_for("vs.ctl")?;
        switch.control(BRIDGE)?;
        switch.see_that_it_forwards()?;
        Ok(switch)
    }

    fn file(&self, name: &str) -> String {
        crate::measure::text(&self.folder.join(name))
    }

    /// A command that leaves alone what else there is of Open vSwitch on this machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"] {
            command.env(name, &self.folder);
        }
        command
    }

    /// Starts one of its processes, which ends with this one at the latest.
    fn spawn(&mut self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let log = File::create(self.file(&format!("{program}.log")))?;
        let child = self
            .command("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c"])
            .arg(OTHER_CPU.to_string())
            .args(["ip", "netns", "exec", "tap-ovs", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        self.children.insert(0, child);
        Ok(())
    }

    fn wait_for(&self, file: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.folder.join(file).exists() {
            if started.elapsed() > PATIENCE {
                bail!("Open vSwitch does not begin: no {file}: {}", self.said());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What its processes have said, for errors.
    fn said(&self) -> String {
        ["ovsdb-server.log", "ovs-vswitchd.log"]
            .map(|log| fs::read_to_string(self.folder.join(log)).unwrap_or_default())
            .concat()
    }

    fn control(&self, arguments: &str) -> anyhow::Result<()> {
        run(self
            .command("ovs-vsctl")
            .arg(format!("--db=unix:{}", self.file("db.sock")))
            .args(arguments.split(' ')))
        .with_context(|| self.said())
    }

    /// Both machines know each other when this has succeeded.
    fn see_that_it_forwards(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut ping = Command::new("ip");
        ping.args("netns exec tap-ovs-vm1 ping -q -c 1 -W 1 10.7.0.2".split(' '));
        while let Err(error) = run(&mut ping) {
            if started.elapsed() > PATIENCE {
                return Err(error.context("Open vSwitch hands nothing on"));
            }
        }
        Ok(())
    }

    fn pid(&self) -> anyhow::Result<i32> {
        let child = self.children.first().context("no switch")?;
        Ok(child.id().cast_signed())
    }

    fn run(&self, mirror: bool, duration: Duration) -> anyhow::Result<Run> {
        self.control(if mirror { MIRROR } else { NO_MIRROR })?;
        // Flows that it knows would go on as before.
        run(self.command("ovs-appctl").args([
            "--target",
            &self.file("vs.ctl"),
            "revalidator/purge",
        ]))?;
        self.see_that_it_forwards()?;
        let receiver = Place::in_namespace(PathBuf::from("/run/netns/tap-ovs-vm2"));
        let sender = Place {
            cpu: Some(PROBER_CPU),
            ..Place::in_namespace(PathBuf::from("/run/netns/tap-ovs-vm1"))
        };
        let before = (self.cpu_ns()?, received("vm2")?, received("mon")?);
        let sent = load::send_unread(&receiver, &sender, duration)?;
        // What it has not yet handed on is part of it.
        let mut arrived = received("vm2")?;
        loop {
            thread::sleep(Duration::from_millis(30));
            let now = received("vm2")?;
            if now == arrived {
                break;
            }
            arrived = now;
        }
        let arrived = (arrived - before.1) as f64;
        let mirrored = (received("mon")? - before.2) as f64;
        let wanted = if mirror { arrived } else { 0.0 };
        if arrived < 100.0 || (mirrored - wanted).abs() > arrived / 100.0 {
            bail!(
                "with {}, {mirrored} packets came out of the mirror's port and {arrived} at the \
                 receiver: {}",
                NAMES[usize::from(mirror)],
                self.said()
            );
        }
        Ok(Run {
            mirror: NAMES[usize::from(mirror)],
            packet_ns: (self.cpu_ns()? - before.0) as f64 / arrived,
            kpps: arrived / sent.seconds / 1e3,
        })
    }

    fn cpu_ns(&self) -> anyhow::Result<u64> {
        match threads_cpu_ns(self.pid()?) {
            0 => bail!("Open vSwitch has ended: {}", self.said()),
            ns => Ok(ns),
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Packets that the interface in this namespace has received so far.
fn received(namespace: &str) -> anyhow::Result<u64> {
    let mut command = Command::new("ip");
    command.args("-j -s -n".split(' '));
    command.arg(format!("tap-ovs-{namespace}"));
    let done = command.args("link show eth0".split(' ')).output()?;
    let said: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    said[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .context("ip does not say how many packets an interface received")
}
