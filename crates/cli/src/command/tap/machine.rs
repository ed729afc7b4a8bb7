//! The interfaces of virtual machines, found through the processes that hold their TAP devices.

use std::collections::BTreeSet;
use std::fs;

/// Names of the TAP devices of the machines with these names or process ids.
pub(super) fn interfaces(machines: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if machines.is_empty() {
        return found;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return found;
    };
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let is_one = machines
            .iter()
            .any(|machine| machine.parse() == Ok(pid) || is_named(&arguments(pid), machine));
        if is_one {
            found.extend(devices(pid));
        }
    }
    found
}

fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Whether these are the arguments of a machine of this name: of QEMU's `-name`, which libvirt gives
/// too, Firecracker's `--id`, or of `plumb vm start NAME`.
fn is_named(arguments: &[String], machine: &str) -> bool {
    let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs.any(|(option, value)| match option.as_str() {
        "-name" => value.split(',').enumerate().any(|(at, part)| {
            part.strip_prefix("guest=") == Some(machine) || (at == 0 && part == machine)
        }),
        "--id" => value == machine,
        _ => false,
    })
}

/// Names of the TAP devices that a process has open (proc(5), fdinfo).
pub(super) fn devices(pid: u32) -> Vec<String> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return Vec::new();
    };
    descriptors
        .flatten()
        .filter_map(|descriptor| {
            let info = fs::read_to_string(descriptor.path()).ok()?;
            let name = info.lines().find_map(|line| line.strip_prefix("iff:"))?;
            Some(name.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_the_arguments_of_whoever_runs_it() {
        let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let libvirt = arguments("qemu-system-x86_64 -name guest=web-1,debug-threads=on -S");
        let qemu = arguments("qemu-system-x86_64 -m 64 -name web-1");
        let firecracker = arguments("firecracker --id web-1 --api-sock x");
        for line in [&libvirt, &qemu, &firecracker] {
            assert!(is_named(line, "web-1"));
            assert!(!is_named(line, "web"));
            assert!(!is_named(line, "debug-threads=on"));
        }
        assert!(!is_named(&arguments("vi web-1"), "web-1"));
    }
}
