//! Where and with what was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// The facts that figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cpus: usize,
    virtual_machine: bool,
    load_before: String,
    kernel: String,
    rustc: String,
    commit: String,
    plumb: String,
    scamper: String,
    traceroute: String,
    mtr: String,
}

impl Machine {
    /// Looks at this machine and at the programs to be measured.
    pub(crate) fn look(plumb: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_once(": "))
                .map(|(_, value)| value.trim().to_owned())
        };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let changed =
            !first_line("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
        Self {
            processor: field("model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: field("flags")
                .is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            load_before: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            kernel: first_line("uname", &["-sr"]),
            rustc: first_line("rustc", &["--version"]),
            commit: first_line("git", &["rev-parse", "--short=12", "HEAD"])
                + if changed { " with changes" } else { "" },
            plumb: first_line(&plumb.to_string_lossy(), &["--version"]),
            scamper: first_line("scamper", &["-v"]),
            traceroute: first_line("traceroute", &["--version"]),
            mtr: first_line("mtr", &["--version"]),
        }
    }

    /// One line a fact.
    pub(crate) fn lines(&self) -> String {
        let or = |text: &str| if text.is_empty() { "not there" } else { text }.to_owned();
        format!(
            "- {}{}, {} CPUs, load before the run {}\n- {}, {}\n- {}, commit {}\n- peers: {}; traceroute: {}; {}",
            self.processor,
            if self.virtual_machine {
                " (virtual machine)"
            } else {
                ""
            },
            self.cpus,
            self.load_before,
            self.kernel,
            self.rustc,
            self.plumb,
            self.commit,
            or(&self.scamper),
            or(&self.traceroute),
            or(&self.mtr),
        )
    }
}

/// The first line that a command prints; empty if it cannot be run.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let said = output
        .map(|o| [o.stdout, o.stderr].concat())
        .unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
