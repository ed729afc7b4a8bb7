//! Checks of what `plumb flow` needs: types of the kernel, and leave to load programs.

use super::{Check, State};

/// What is looked at.
pub(super) struct Programs<'a> {
    /// The content of a file.
    pub(super) read: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the kernel describes its types.
    pub(super) types: bool,
    /// Whether CAP_BPF is there.
    pub(super) bpf: bool,
    /// Whether CAP_PERFMON is there.
    pub(super) perfmon: bool,
    /// The path of this program.
    pub(super) program: String,
}

/// Where the kernel describes its types.
pub(super) const TYPES: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

impl Programs<'_> {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![self.types(), self.privilege()]
    }

    fn types(&self) -> Check {
        let state = if self.types {
            State::Ok
        } else {
            State::Limited
        };
        let found = if self.types { "is there" } else { "is missing" };
        Check {
            name: "kernel types",
            state,
            found: format!("{TYPES} {found}"),
            why: "plumb flow finds members of the kernel's structures by it",
            fix: (!self.types)
                .then(|| "boot a kernel that was built with CONFIG_DEBUG_INFO_BTF=y".to_owned()),
        }
    }

    fn privilege(&self) -> Check {
        let lockdown = (self.read)(LOCKDOWN).is_some_and(|text| text.contains("[confidentiality]"));
        let lacking: Vec<_> = [(self.bpf, "CAP_BPF"), (self.perfmon, "CAP_PERFMON")]
            .into_iter()
            .filter_map(|(has, name)| (!has).then_some(name))
            .collect();
        let (state, found, fix) = if lockdown {
            (
                State::Limited,
                "are forbidden: the kernel is locked down".to_owned(),
                Some("boot without lockdown=confidentiality".to_owned()),
            )
        } else if lacking.is_empty() {
            (State::Ok, "may be loaded".to_owned(), None)
        } else {
            (
                State::Limited,
                format!("may not be loaded: no {}", lacking.join(", no ")),
                Some(format!(
                    "sudo setcap cap_bpf,cap_perfmon+ep {}",
                    self.program
                )),
            )
        };
        Check {
            name: "kernel programs",
            state,
            found,
            why: "plumb flow watches connections with them",
            fix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named_with_the_way_out() {
        let open = Programs {
            read: &|_| None,
            types: true,
            bpf: true,
            perfmon: true,
            program: "/usr/bin/plumb".into(),
        };
        assert!(open.checks().iter().all(|check| check.state == State::Ok));
        let none = Programs {
            types: false,
            perfmon: false,
            ..open
        };
        let checks = none.checks();
        assert!(checks[0].fix.as_deref().unwrap().contains("BTF"));
        assert_eq!(checks[1].found, "may not be loaded: no CAP_PERFMON");
        assert_eq!(
            checks[1].fix.as_deref(),
            Some("sudo setcap cap_bpf,cap_perfmon+ep /usr/bin/plumb")
        );
        let locked = Programs {
            read: &|_| Some("none integrity [confidentiality]".into()),
            ..none
        };
        assert!(locked.checks()[1].found.contains("locked down"));
    }
}
