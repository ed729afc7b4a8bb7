//! What the arguments mean on this machine.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plumb_ebpf::flow::{Filter, Options};

use super::cgroups;
use crate::args;

/// Most networks, and most ports, that the kernel compares with.
const MOST: usize = 1024;

pub(super) fn options(args: &args::Flow) -> Result<Options, String> {
    for (what, count) in [("networks", args.nets.len()), ("ports", args.ports.len())] {
        if count > MOST {
            return Err(format!("there can be {MOST} {what}"));
        }
    }
    let positive = [
        ("--active-timeout", args.active_timeout),
        ("--idle-timeout", args.idle_timeout),
    ];
    if let Some((name, _)) = positive.iter().find(|(_, time)| time.0.is_zero()) {
        return Err(format!("{name} must be longer than nothing"));
    }
    let prefixes = args.nets.iter().map(|net| (net.0, net.1)).collect();
    Ok(Options {
        filter: Filter {
            prefixes,
            ports: args.ports.clone(),
            netns: args.netns.as_deref().map(namespace).transpose()?,
            cgroup: args.cgroup.as_deref().map(group).transpose()?,
            sample: args.sample,
        },
        active_timeout: args.active_timeout.0,
        idle_timeout: args.idle_timeout.0,
        orphan_timeout: args.orphan_timeout.0,
        ring: args.ring << 20,
        without: args.without.clone(),
        per_segment: args.per_segment,
        ..Options::default()
    })
}

/// The number of a network namespace.
fn namespace(name: &str) -> Result<u32, String> {
    let path = match name.parse::<u32>() {
        Ok(process) => PathBuf::from(format!("/proc/{process}/ns/net")),
        Err(_) if name.contains('/') => PathBuf::from(name),
        Err(_) => Path::new("/run/netns").join(name),
    };
    let number = path.metadata().map_err(|error| {
        let path = path.display();
        format!("no network namespace {name}: {path}: {error}")
    })?;
    u32::try_from(number.ino()).map_err(|_| format!("{} is no namespace", path.display()))
}

/// The number of a control group.
fn group(path: &Path) -> Result<u64, String> {
    let full = group_directory(path)?;
    let metadata = full
        .metadata()
        .map_err(|error| format!("no control group {}: {error}", full.display()))?;
    Ok(metadata.ino())
}

/// The directory of a control group, which is named from the root of its hierarchy.
pub(super) fn group_directory(path: &Path) -> Result<PathBuf, String> {
    let root = cgroups::root().ok_or("there is no hierarchy of control groups of version 2")?;
    Ok(if path.starts_with(&root) {
        path.to_owned()
    } else {
        root.join(path.strip_prefix("/").unwrap_or(path))
    })
}
