//! The interfaces of virtual machines, found through the processes that hold their TAP devices.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use plumb_link::HeldTap;
use plumb_link::namespace::Network;

/// The machines that a session was told of.
#[derive(Debug, Default)]
pub(super) struct Machines {
    /// Names, or process ids.
    names: Vec<String>,
    /// The process that a name was found to stand for.
    known: BTreeMap<String, u32>,
}

/// A process that runs a machine.
#[derive(Debug)]
struct Machine {
    process: u32,
    devices: Vec<HeldTap>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Names of the machines' interfaces in the network namespace of this thread.
    pub(super) devices: BTreeSet<String>,
    /// What is wrong.
    pub(super) troubles: BTreeSet<Trouble>,
}

/// Why a machine is not tapped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// There is none of this name.
    Missing(String),
    /// There are several of this name: these processes.
    Several(String, Vec<u32>),
    /// Its interfaces are in another network namespace; the process is its own.
    Elsewhere(String, u32),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(
                f,
                "there is no machine {name:?} with a TAP device: no QEMU, Firecracker or `plumb vm` of \
                 this name, and no such process id"
            ),
            Self::Several(name, processes) => {
                let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
                write!(
                    f,
                    "{} machines are called {name:?}: say which one by its process id, {}",
                    processes.len(),
                    processes.join(" or ")
                )
            }
            Self::Elsewhere(name, process) => write!(
                f,
                "the interfaces of the machine {name:?} (process {process}) are in another network \
                 namespace, which --netns enters"
            ),
        }
    }
}

impl Machines {
    pub(super) fn new(names: &[String]) -> Self {
        Self {
            names: names.to_vec(),
            known: BTreeMap::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Looks for them. A name that has stood for a process goes on to do so, as long as that runs.
    pub(super) fn look(&mut self) -> Found {
        let mut found = Found::default();
        if self.is_empty() {
            return found;
        }
        let here = Network::current().ok();
        for (name, machines) in candidates(&self.names) {
            let known = self.known.get(&name);
            let machine = match &machines[..] {
                [] => {
                    self.known.remove(&name);
                    found.troubles.insert(Trouble::Missing(name));
                    continue;
                }
                [machine] => machine,
                several => match several.iter().find(|m| known == Some(&m.process)) {
                    Some(machine) => machine,
                    None => {
                        let processes = several.iter().map(|m| m.process).collect();
                        found.troubles.insert(Trouble::Several(name, processes));
                        continue;
                    }
                },
            };
            self.known.insert(name.clone(), machine.process);
            let is_here = |device: &&HeldTap| device.network.is_none() || device.network == here;
            let devices: Vec<&HeldTap> = machine.devices.iter().filter(is_here).collect();
            if devices.is_empty() {
                let trouble = Trouble::Elsewhere(name, machine.process);
                found.troubles.insert(trouble);
            }
            found.devices.extend(devices.iter().map(|d| d.name.clone()));
        }
        found
    }

    /// The network namespace of all that these machines have, if it is one, and not this thread's.
    pub(super) fn elsewhere(&self) -> Option<Network> {
        let machines = candidates(&self.names).into_values().flatten();
        let mut devices = machines.flat_map(|machine| machine.devices);
        let network = devices.next()?.network?;
        let is_one = devices.all(|device| device.network.as_ref() == Some(&network));
        let is_here = Network::current().is_ok_and(|here| here == network);
        (is_one && !is_here).then_some(network)
    }
}

/// The processes that each name may stand for: those that hold a TAP device, since a program that
/// only starts the machine has the same arguments.
fn candidates(names: &[String]) -> BTreeMap<String, Vec<Machine>> {
    let mut found: BTreeMap<String, Vec<Machine>> = BTreeMap::new();
    for name in names {
        found.entry(name.clone()).or_default();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let mut arguments = None;
        for (name, machines) in &mut found {
            let is_one = name.parse() == Ok(process)
                || is_named(
                    arguments.get_or_insert_with(|| self::arguments(process)),
                    name,
                );
            if is_one {
                let devices = HeldTap::of(process);
                if !devices.is_empty() {
                    machines.push(Machine { process, devices });
                }
            }
        }
    }
    for machines in found.values_mut() {
        machines.sort_by_key(|machine| machine.process);
    }
    found
}

fn arguments(process: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Whether these are the arguments of a machine of this name: of QEMU's `-name`, which libvirt and
/// `plumb vm` give too, Firecracker's `--id`, or of plumb's own monitor.
fn is_named(arguments: &[String], machine: &str) -> bool {
    if plumb_vm::embedded::machine_name(arguments) == Some(machine) {
        return true;
    }
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs.any(|(option, value)| match option.as_str() {
        "-name" | "--name" => value.split(',').enumerate().any(|(at, part)| {
            let name = match part.split_once('=') {
                Some(("guest", name)) => Some(name),
                None if at == 0 => Some(part),
                _ => None,
            };
            name == Some(machine)
        }),
        "--id" => value == machine,
        _ => option.strip_prefix("--id=") == Some(machine),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_the_arguments_of_whoever_runs_it() {
        let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for line in [
            "qemu-system-x86_64 -name guest=web-1,debug-threads=on -S",
            "qemu-system-x86_64 -name debug-threads=on,guest=web-1",
            "qemu-system-x86_64 -m 64 -name web-1",
            "qemu-system-x86_64 -m 64 -name web-1,process=x",
            "firecracker --id web-1 --api-sock x",
            "firecracker --id=web-1 --api-sock x",
            "plumb-vmm memory=8 mac=02:00:00:00:00:01 name=web-1 parent=1 -- ip=10.0.0.1/8",
        ] {
            assert!(is_named(&arguments(line), "web-1"), "{line}");
            for other in ["web", "web-11", "debug-threads=on", "name=web-1", ""] {
                assert!(!is_named(&arguments(line), other), "{line}: {other}");
            }
        }
        for line in [
            "vi web-1",
            "plumb-vmm memory=8 -- name=web-1",
            "",
            "firecracker --id",
        ] {
            assert!(!is_named(&arguments(line), "web-1"), "{line}");
        }
    }

    #[test]
    fn troubles_are_told_in_one_line_each() {
        let name = || "web-1".to_owned();
        for (trouble, word) in [
            (Trouble::Missing(name()), "no machine \"web-1\""),
            (Trouble::Several(name(), vec![7, 9]), "7 or 9"),
            (Trouble::Elsewhere(name(), 7), "--netns"),
        ] {
            let line = trouble.to_string();
            assert!(line.contains(word) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn who_is_not_there_is_missing() {
        let mut machines = Machines::new(&["no such machine".to_owned()]);
        let found = machines.look();
        assert!(found.devices.is_empty());
        assert!(matches!(found.troubles.first(), Some(Trouble::Missing(_))));
        assert_eq!(machines.elsewhere(), None);
        assert_eq!(Machines::default().look(), Found::default());
    }
}
