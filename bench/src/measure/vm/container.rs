//! OCI bundles of the static binary and nothing else, and the networks that they use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::json;

use super::Bench;
use super::lab::{BRIDGE, Lab};
use crate::child::Place;

/// Makes a network namespace with an interface on the lab's bridge, and returns it.
pub(super) fn network(lab: &Lab, name: &str) -> anyhow::Result<Place> {
    let script = set_up(lab, name);
    sh(lab, &script).with_context(|| format!("cannot make the network {name}"))?;
    Ok(Place::in_namespace(format!("/run/netns/{name}").into()))
}

/// Shell commands that make a network namespace with an interface on the lab's bridge. Runs in the
/// lab's network namespace. The kernel chooses the MAC address, by which the lab tells its guests
/// apart.
fn set_up(lab: &Lab, name: &str) -> String {
    let (address, gateway) = (&lab.address, &lab.gateway);
    format!(
        "ip -batch - <<END && ip -n {name} -batch - <<END\n\
         netns add {name}\n\
         link add v{name} mtu 1500 type veth peer name eth0 netns {name}\n\
         link set v{name} master {BRIDGE} addrgenmode none up\n\
         END\n\
         link set lo up\n\
         link set eth0 addrgenmode none up\n\
         addr add {address} dev eth0\n\
         route replace default via {gateway} dev eth0 onlink\n\
         END\n"
    )
}

fn sh(lab: &Lab, script: &str) -> anyhow::Result<()> {
    let place = lab.place();
    let script = script.to_owned();
    let output = std::thread::spawn(move || -> anyhow::Result<_> {
        place.enter()?;
        Ok(Command::new("sh")
            .args(["-ec", &script])
            .stdin(Stdio::null())
            .output()?)
    });
    let Ok(output) = output.join() else {
        bail!("the thread broke");
    };
    let output = output?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A bundle that a runtime can run.
#[derive(Debug)]
pub(super) struct Bundle {
    runtime: &'static str,
    folder: PathBuf,
    /// For a network namespace that is made for each run: how, but for its name.
    fresh: Option<String>,
}

/// What stands for the name of the network namespace.
const NAME: &str = "@";

impl Bundle {
    /// Lays out a file system with one file. `fresh`: a network namespace is made for each run and
    /// removed after it; otherwise one is ready.
    pub(super) fn new(
        bench: &Bench,
        lab: &Lab,
        runtime: &'static str,
        fresh: bool,
    ) -> anyhow::Result<Self> {
        let folder = bench.file(&format!("bundle-{runtime}-{fresh}"));
        for mounted in ["proc", "dev"] {
            fs::create_dir_all(folder.join("rootfs").join(mounted))?;
        }
        fs::copy(&bench.plumb, folder.join("rootfs/plumb"))?;
        if !fresh {
            network(lab, runtime)?;
        }
        Ok(Self {
            runtime,
            folder,
            fresh: fresh.then(|| set_up(lab, NAME)),
        })
    }

    /// The command that runs it once.
    pub(super) fn command(
        &self,
        group: &str,
        instance: usize,
        arguments: &[String],
    ) -> Vec<String> {
        let runtime = self.runtime;
        let network = match self.fresh {
            Some(_) => format!("{runtime}{instance}"),
            None => runtime.to_owned(),
        };
        // Each instance has its own configuration; the file system is shared.
        let folder = self.folder.join(format!("instance{instance}"));
        let _ = write(&folder, &self.config(group, instance, &network, arguments));
        let container = format!("plumb-bench-{}-{runtime}-{instance}", std::process::id());
        let mut command: Vec<String> = Vec::new();
        if let Some(set_up) = &self.fresh {
            // How the runtime ends is how the arm ends.
            let script = format!(
                "{}\nset +e\n\"$@\"\nstatus=$?\nip netns del {network}\nexit $status",
                set_up.replace(NAME, &network)
            );
            command.extend(["sh", "-ec"].map(str::to_owned));
            command.extend([script, "sh".to_owned()]);
        }
        command.push(runtime.to_owned());
        command.extend(["run", "--bundle"].map(str::to_owned));
        command.extend([folder.to_string_lossy().into_owned(), container]);
        command
    }

    fn config(
        &self,
        group: &str,
        instance: usize,
        network: &str,
        arguments: &[String],
    ) -> serde_json::Value {
        let args: Vec<&str> = ["/plumb"]
            .into_iter()
            .chain(arguments.iter().map(String::as_str))
            .collect();
        let capabilities = ["CAP_NET_RAW"];
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": args,
                "env": [],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
                "noNewPrivileges": true,
            },
            "root": { "path": self.folder.join("rootfs"), "readonly": true },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": {
                "cgroupsPath": format!("/{group}/container{instance}"),
                "namespaces": [
                    { "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" },
                    { "type": "network", "path": format!("/run/netns/{network}") },
                ],
            },
        })
    }
}

fn write(folder: &Path, config: &serde_json::Value) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join("config.json"), config.to_string())?)
}
