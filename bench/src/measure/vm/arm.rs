//! The ways to run the trace.

use std::process::Command;

use super::Bench;
use super::container::{self, Bundle};
use super::docker::Engine;
use super::lab::{BRIDGE, DEVICE, Lab, TARGET};
use crate::child::Place;

/// A way to run the trace.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) name: String,
    /// Bytes that have to be on a node for it.
    pub(super) artifact: u64,
    /// Where its command runs; the lab's namespace if it says nothing.
    pub(super) place: Option<Place>,
    /// Whether other arms are compared with it.
    pub(super) is_reference: bool,
    /// Whether many of it are run at once.
    pub(super) dense: bool,
    /// Whether the kernel may merge its pages.
    pub(super) merge: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Command(Vec<String>),
    Container(Bundle),
    Docker(Engine),
}

impl Arm {
    /// The command of a run. Whatever makes control groups makes them in `group`.
    pub(super) fn command(&self, group: &str) -> Vec<String> {
        self.command_of(group, 0, &trace_arguments())
    }

    /// Processes that work for it and were there before: what they do meanwhile counts.
    pub(super) fn daemons(&self) -> &[u32] {
        match &self.kind {
            Kind::Docker(engine) => &engine.daemons,
            Kind::Command(_) | Kind::Container(_) => &[],
        }
    }

    /// The command that measures with `arguments`, as the `instance`-th at once.
    pub(super) fn command_of(
        &self,
        group: &str,
        instance: usize,
        arguments: &[String],
    ) -> Vec<String> {
        match &self.kind {
            Kind::Command(prefix) => prefix.iter().chain(arguments).cloned().collect(),
            Kind::Container(bundle) => bundle.command(group, instance, arguments),
            Kind::Docker(engine) => engine.command(group, arguments),
        }
    }
}

/// The network that a process has to itself: an interface on the lab's bridge.
const HOST: &str = "native";

/// What every arm measures.
fn trace_arguments() -> Vec<String> {
    ["trace", "-r", "unlimited", "--json", TARGET]
        .map(str::to_owned)
        .into()
}

/// The arms that can run here, and the names of the others with the reason.
pub(super) type Arms = (Vec<Arm>, Vec<(String, String)>);

/// All arms.
pub(super) fn all(bench: &Bench, lab: &Lab) -> anyhow::Result<Arms> {
    let plumb = bench.plumb().to_owned();
    let size = |path: &str| std::fs::metadata(path).map_or(0, |m| m.len());
    let mut arms = Vec::new();
    let mut left_out = Vec::new();
    let host = container::network(lab, HOST)?;
    arms.push(Arm {
        name: "process".into(),
        artifact: size(&plumb),
        place: Some(host),
        is_reference: false,
        dense: false,
        merge: false,
        kind: Kind::Command(vec![plumb.clone()]),
    });
    for runtime in ["crun", "runc"] {
        if !runs(runtime, "--version") {
            left_out.push((runtime.to_owned(), "it is not installed".to_owned()));
            continue;
        }
        for fresh in [false, true] {
            let name = if fresh {
                format!("{runtime}, network made for it")
            } else {
                runtime.to_owned()
            };
            arms.push(Arm {
                artifact: size(&plumb),
                place: None,
                is_reference: name == "crun",
                dense: name.starts_with("crun,"),
                merge: false,
                kind: Kind::Container(Bundle::new(bench, lab, runtime, fresh)?),
                name,
            });
        }
    }
    match Engine::start(bench, HOST) {
        Ok(engine) => arms.push(Arm {
            name: format!("Docker {}", engine.version),
            artifact: size(&plumb),
            place: None,
            is_reference: false,
            dense: false,
            merge: false,
            kind: Kind::Docker(engine),
        }),
        Err(error) => left_out.push(("Docker".into(), format!("{error:#}"))),
    }
    let image = image_size(&plumb);
    for (name, options, merge, dense) in [
        (
            "microVM, embedded",
            &["--runner", "embedded"][..],
            false,
            true,
        ),
        (
            "microVM, embedded, TAP device made before",
            &["--runner", "embedded", "--uplink", DEVICE][..],
            false,
            false,
        ),
        (
            "microVM, embedded, pages merged",
            &["--runner", "embedded", "--merge"][..],
            true,
            true,
        ),
        (
            "microVM, Firecracker",
            &["--runner", "firecracker"][..],
            false,
            true,
        ),
        (
            "microVM, QEMU microvm, KVM",
            &["--runner", "qemu", "--machine", "microvm", "--accel", "kvm"][..],
            false,
            false,
        ),
        (
            "microVM, QEMU microvm, in software",
            &["--runner", "qemu", "--machine", "microvm", "--accel", "tcg"][..],
            false,
            false,
        ),
    ] {
        let mut prefix = vec![plumb.clone(), "vm".into(), "run".into()];
        prefix.extend(options.iter().map(|o| (*o).to_owned()));
        if !options.contains(&"--uplink") {
            prefix.extend(["--uplink", BRIDGE].map(str::to_owned));
        }
        prefix.push("--address".to_owned());
        prefix.push(lab.address.clone());
        prefix.extend(["--gateway".to_owned(), lab.gateway.clone(), "--".to_owned()]);
        let arm = Arm {
            name: name.to_owned(),
            artifact: image,
            place: None,
            is_reference: false,
            dense,
            merge,
            kind: Kind::Command(prefix),
        };
        match super::run::once(bench, lab, &arm) {
            Ok(_) => arms.push(arm),
            Err(error) => {
                left_out.push((name.to_owned(), format!("{error:#}").replace('\n', "; ")))
            }
        }
    }
    Ok((arms, left_out))
}

/// Bytes of the image.
fn image_size(plumb: &str) -> u64 {
    let output = Command::new(plumb).args(["vm", "image", "--json"]).output();
    output
        .ok()
        .and_then(|o| serde_json::from_slice::<serde_json::Value>(&o.stdout).ok())
        .and_then(|value| value["bytes"].as_u64())
        .unwrap_or(0)
}

fn runs(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .output()
        .is_ok_and(|output| output.status.success())
}
