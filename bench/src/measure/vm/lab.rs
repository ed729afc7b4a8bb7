//! A lab with a bridge, held open while arms run in it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use super::Bench;
use crate::child::Place;

/// The bridge's name.
pub(super) const BRIDGE: &str = "lab0";
/// A TAP device on it that stays.
pub(super) const DEVICE: &str = "ready0";
/// The target: behind the tunnel of `php`.
pub(super) const TARGET: &str = "5.0.8.2";
/// Routers that the tunnel hides.
pub(super) const HIDDEN: usize = 3;

/// A lab that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Lab {
    process: Child,
    tcpdump: Option<Child>,
    /// IPv4 address with prefix length of whoever probes.
    pub(super) address: String,
    /// Router of the bridge's network.
    pub(super) gateway: String,
    /// What tcpdump writes.
    pub(super) capture: PathBuf,
}

impl Lab {
    /// Starts the lab, and tcpdump on its bridge.
    pub(super) fn open(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        let script =
            "echo \"$PLUMB_LAB_ADDRESS\"; echo \"$PLUMB_LAB_GATEWAY\"; exec sleep infinity";
        let mut process = with_us(bench.plumb())
            .args(["lab", "run", name, "--seed", "1", "--bridge", BRIDGE, "--"])
            .args(["sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        // Addresses of both versions, separated by spaces or commas: the one without a colon.
        let mut v4 = || -> anyhow::Result<String> {
            let line = lines.next().context("the lab ended")??;
            line.split([' ', ','])
                .find(|word| word.contains('.'))
                .map(str::to_owned)
                .with_context(|| format!("no IPv4 address in {line:?}"))
        };
        let (address, gateway) = (v4()?, v4()?);
        let mut lab = Self {
            process,
            tcpdump: None,
            address,
            gateway,
            capture: bench.file("vm.pcap"),
        };
        lab.make_device()?;
        lab.watch()?;
        Ok(lab)
    }

    /// The network namespace that the bridge is in.
    pub(super) fn place(&self) -> Place {
        Place::in_namespace(format!("/proc/{}/ns/net", self.process.id()).into())
    }

    /// Makes a TAP device on the bridge, for machines that find theirs ready.
    fn make_device(&self) -> anyhow::Result<()> {
        let make = format!(
            "ip tuntap add dev {DEVICE} mode tap vnet_hdr && ip link set {DEVICE} master {BRIDGE} up"
        );
        let made = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.process.id()))
            .args(["sh", "-c", &make])
            .status()
            .context("cannot start nsenter")?;
        if !made.success() {
            bail!("cannot make a TAP device");
        }
        Ok(())
    }

    /// Lets tcpdump note when packets come by.
    fn watch(&mut self) -> anyhow::Result<()> {
        let mut child = with_us("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.process.id()))
            // As another user it would forget with whom it ends.
            .args(["tcpdump", "-Z", "root", "-i", "any", "-n", "-U"])
            .arg("--immediate-mode")
            .args(["-s", "64", "--time-stamp-precision", "nano", "-w"])
            .arg(&self.capture)
            .arg("arp or icmp")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start tcpdump")?;
        let said = child.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let listens = lines.any(|line| line.contains("listening on"));
        self.tcpdump = Some(child);
        if !listens {
            bail!("tcpdump does not listen");
        }
        // Read on: who cannot say what is left to say ends.
        std::thread::spawn(move || lines.count());
        Ok(())
    }
}

/// A program that the kernel ends with the thread that starts it, which has to be the main one:
/// whatever ends this process, nothing stays.
fn with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.tcpdump.iter_mut().chain([&mut self.process]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
