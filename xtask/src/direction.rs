//! Nothing points upward: which crate may know which, and which may contain unsafe code.

use anyhow::{Context, Result};

use crate::Report;
use crate::metadata::{self, Kind, Package};

/// A crate's place in the house.
struct Room {
    name: &'static str,
    /// Crates of this workspace that its library and binaries may depend on.
    knows: &'static [&'static str],
    may_be_unsafe: bool,
}

const fn room(name: &'static str, knows: &'static [&'static str]) -> Room {
    let may_be_unsafe = false;
    Room {
        name,
        knows,
        may_be_unsafe,
    }
}

const ROOMS: &[Room] = &[
    room("plumb-wire", &[]),
    room("plumb-record", &["plumb-wire"]),
    room("plumb-ipfix", &["plumb-wire", "plumb-record"]),
    room("plumb-probe", &["plumb-wire", "plumb-record"]),
    room("plumb-nf", &["plumb-wire"]),
    room("plumb-sim", &["plumb-wire"]),
    Room {
        may_be_unsafe: true,
        ..room("plumb-link", &["plumb-wire"])
    },
    room(
        "plumb-channel",
        &["plumb-wire", "plumb-record", "plumb-probe"],
    ),
    room("plumb-quic", &["plumb-wire", "plumb-record"]),
    Room {
        may_be_unsafe: true,
        ..room("plumb-vm", &["plumb-wire", "plumb-record", "plumb-link"])
    },
    Room {
        may_be_unsafe: true,
        ..room("plumb-ebpf", &["plumb-wire", "plumb-record"])
    },
    Room {
        may_be_unsafe: true,
        ..room(
            "plumb-unikernel",
            &["plumb-wire", "plumb-record", "plumb-probe", "plumb-channel"],
        )
    },
    room(
        "plumb-cli",
        &[
            "plumb-wire",
            "plumb-record",
            "plumb-probe",
            "plumb-nf",
            "plumb-sim",
            "plumb-link",
            "plumb-channel",
            "plumb-ebpf",
            "plumb-ipfix",
            "plumb-vm",
        ],
    ),
    room(
        "plumb-fuzz",
        &[
            "plumb-wire",
            "plumb-nf",
            "plumb-record",
            "plumb-probe",
            "plumb-sim",
            "plumb-channel",
            "plumb-ipfix",
            "plumb-unikernel",
            "plumb-ebpf",
            "plumb-vm",
            "plumb-cli",
        ],
    ),
    // Whole-system tests run the binary; benchmarks also measure an engine alone, and are the ends
    // of pipelines.
    room("plumb-tests", &["plumb-wire", "plumb-record", "plumb-sim"]),
    room(
        "plumb-bench",
        &[
            "plumb-wire",
            "plumb-record",
            "plumb-probe",
            "plumb-sim",
            "plumb-link",
        ],
    ),
    room("xtask", &[]),
];

pub(crate) fn check() -> Result<Report> {
    let members = metadata::members()?;
    let mut faults = upward(&members, ROOMS);
    for package in &members {
        let room = ROOMS.iter().find(|room| room.name == package.name);
        if room.is_none_or(|room| !room.may_be_unsafe) {
            for root in &package.roots {
                let text = std::fs::read_to_string(root)
                    .with_context(|| format!("{} cannot be read", root.display()))?;
                if !text.contains("#![forbid(unsafe_code)]") {
                    faults.push(format!("{}: add #![forbid(unsafe_code)]", root.display()));
                }
            }
        }
    }
    let checked = format!("{} crates, nothing points upward", members.len());
    Ok(Report { checked, faults })
}

/// One line for each dependency that the rooms do not allow. What tests depend on is free, so that
/// an engine may be tried on the simulator.
fn upward(members: &[Package], rooms: &[Room]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in members {
        let name = &package.name;
        let Some(room) = rooms.iter().find(|room| room.name == name) else {
            faults.push(format!(
                "{name} has no place: add it in xtask/src/direction.rs"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            let ours = members.iter().any(|member| member.name == other);
            if ours && dependency.kind != Kind::Dev && !room.knows.contains(&other) {
                faults.push(format!("{name} depends on {other}, which is not below it"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, on: &[(&str, Kind)]) -> Package {
        let dependencies = on.iter().map(|&(name, kind)| Dependency {
            name: name.into(),
            ident: name.into(),
            kind,
        });
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            folder: "/".into(),
            source: None,
            licence: None,
            dependencies: dependencies.collect(),
            roots: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_below_may_be_depended_on_except_by_tests() {
        let rooms = [room("low", &[]), room("high", &["low"])];
        let check =
            |low: &[_], high: &[_]| upward(&[package("low", low), package("high", high)], &rooms);
        let none: [(&str, Kind); 0] = [];
        assert_eq!(
            check(&none, &[("low", Kind::Normal), ("serde", Kind::Normal)]),
            [""; 0]
        );
        assert_eq!(check(&[("high", Kind::Dev)], &none), [""; 0]);
        assert_eq!(
            check(&[("high", Kind::Normal)], &none),
            ["low depends on high, which is not below it"]
        );
        assert_eq!(
            check(&[("high", Kind::Build)], &none),
            ["low depends on high, which is not below it"]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_a_fault() {
        let faults = upward(&[package("new", &[])], &[]);
        assert_eq!(
            faults,
            ["new has no place: add it in xtask/src/direction.rs"]
        );
    }
}
