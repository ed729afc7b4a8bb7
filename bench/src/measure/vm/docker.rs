//! A Docker engine of the measurement's own: in the lab, out of the way of one that the machine has.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Bench;

/// What the image of the binary and nothing else is called.
const IMAGE: &str = "plumb:bench";

/// An engine that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Engine {
    process: Child,
    folder: PathBuf,
    /// `dockerd` and its `containerd`.
    pub(super) daemons: Vec<u32>,
    /// Its version.
    pub(super) version: String,
}

impl Engine {
    /// Starts an engine in the network namespace of this name, and loads the image. Containers
    /// share that network: an engine's own bridge would lead past the lab.
    ///
    /// # Errors
    /// If no engine is installed, or it does not start.
    pub(super) fn start(bench: &Bench, network: &str) -> anyhow::Result<Self> {
        let found = Command::new("dockerd").arg("--version").output();
        if !found.is_ok_and(|found| found.status.success()) {
            bail!("no dockerd is in PATH");
        }
        let folder = bench.file("docker");
        fs::create_dir_all(&folder)?;
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let log = fs::File::create(folder.join("log"))?;
        // In a process namespace of its own: nothing that the engine starts outlives it, however
        // this program ends.
        let mut process = Command::new("setpriv");
        process
            .args(["--pdeathsig", "KILL"])
            .args(["nsenter", &format!("--net=/run/netns/{network}")])
            .args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args([
                "dockerd",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
            ])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--host"])
            .arg(format!("unix://{}", at("socket")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = process.spawn().context("cannot start setpriv")?;
        let mut said = BufReader::new(process.stderr.take().context("no standard error")?);
        let mut engine = Self {
            process,
            folder,
            daemons: Vec::new(),
            version: String::new(),
        };
        let (mut line, mut last) = (String::new(), String::new());
        loop {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                bail!("dockerd does not start: {}", last.trim());
            }
            if line.contains("API listen on") {
                break;
            }
            last.clone_from(&line);
        }
        // Read on: who cannot say what is left to say waits.
        thread::spawn(move || std::io::copy(&mut said, &mut &log));
        engine.version = engine.docker(&["version", "--format", "{{.Server.Version}}"])?;
        let archive = engine.folder.join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C");
        tar.arg(bench.plumb.parent().context("plumb is in no folder")?);
        tar.arg(bench.plumb.file_name().context("plumb has no name")?);
        finish(&mut tar)?;
        let entry = format!("ENTRYPOINT [\"/{}\"]", name_of(&bench.plumb));
        engine.docker(&["import", "--change", &entry, &text(&archive), IMAGE])?;
        fs::remove_file(archive)?;
        engine.daemons = descendants(engine.process.id())
            .into_iter()
            .filter(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                matches!(name.trim(), "dockerd" | "containerd")
            })
            .collect();
        Ok(engine)
    }

    /// The command that measures with `arguments` in a container of its own.
    pub(super) fn command(&self, group: &str, arguments: &[String]) -> Vec<String> {
        let mut command = self.client();
        command.extend(
            ["run", "--rm", "--network", "host", "--read-only"]
                .into_iter()
                .chain(["--cap-drop", "ALL", "--cap-add", "NET_RAW"])
                .chain(["--security-opt", "no-new-privileges"])
                .map(str::to_owned),
        );
        command.extend([
            "--cgroup-parent".to_owned(),
            format!("/{group}"),
            IMAGE.to_owned(),
        ]);
        command.extend(arguments.iter().cloned());
        command
    }

    fn client(&self) -> Vec<String> {
        let socket = format!("unix://{}", text(&self.folder.join("socket")));
        let config = text(&self.folder.join("client"));
        ["docker", "--config", &config, "--host", &socket]
            .map(str::to_owned)
            .into()
    }

    fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let client = self.client();
        let (program, options) = client.split_first().context("no command")?;
        finish(Command::new(program).args(options).args(arguments))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // All processes of its namespace end with dockerd, the first of them.
        let first = self
            .daemons
            .first()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let killed = first.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        if !killed {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Runs a command to its end, and returns what it said.
fn finish(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A process's children, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|child| child.parse().ok())
        {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
