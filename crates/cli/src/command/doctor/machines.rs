//! What `plumb vm` needs: a runner, a TAP device, and for density equal pages merged.

use plumb_vm::{Firecracker, Qemu, Runner, Unavailable, embedded};

use super::{Check, State};

/// What the checks look at.
pub(super) struct Machines {
    /// Whether each runner works, and what it would use.
    pub(super) runners: Vec<(&'static str, Result<String, Unavailable>)>,
    /// Whether the TUN device, which TAP devices come from too, can be opened.
    pub(super) tun: bool,
    /// Whether CAP_NET_ADMIN is there.
    pub(super) admin: bool,
    /// What forbids private networks, if anything does.
    pub(super) no_namespaces: Option<String>,
    /// The kernel's switch for merging pages, if it has one.
    pub(super) ksm: Option<String>,
    /// The path of this program.
    pub(super) program: String,
}

/// Asks the runners of this system.
pub(super) fn runners() -> Vec<(&'static str, Result<String, Unavailable>)> {
    let runners: [(&str, Box<dyn Runner>); 3] = [
        ("embedded runner", Box::new(embedded::Embedded::default())),
        ("Firecracker", Box::new(Firecracker::default())),
        ("QEMU", Box::new(Qemu::default())),
    ];
    runners.map(|(name, runner)| (name, runner.check())).into()
}

pub(super) const KSM: &str = "/sys/kernel/mm/ksm/run";

impl Machines {
    pub(super) fn checks(&self) -> Vec<Check> {
        let mut checks: Vec<Check> = self
            .runners
            .iter()
            .map(|(name, found)| runner(name, found))
            .collect();
        checks.push(self.tap());
        checks.push(self.merging());
        checks
    }

    fn tap(&self) -> Check {
        let (state, found, fix) = match (self.tun, self.admin, &self.no_namespaces) {
            (false, ..) => (State::Limited, "there is no TUN device".to_owned(), None),
            (true, true, _) => (State::Ok, "any network can be reached".to_owned(), None),
            (true, false, None) => (
                State::Limited,
                "no CAP_NET_ADMIN: labs can be reached, and TAP devices that were made for this \
                 user"
                    .to_owned(),
                Some(format!("sudo setcap cap_net_admin+ep {}", self.program)),
            ),
            (true, false, Some(obstacle)) => (
                State::Limited,
                format!("no CAP_NET_ADMIN, and no labs because {obstacle}"),
                Some(format!("sudo setcap cap_net_admin+ep {}", self.program)),
            ),
        };
        Check {
            name: "TAP devices",
            state,
            found,
            why: "plumb vm reaches networks through one",
            fix,
        }
    }

    fn merging(&self) -> Check {
        let (state, found, fix) = match self.ksm.as_deref() {
            Some("1") => (State::Ok, "is on", None),
            Some(_) => (
                State::Limited,
                "is off",
                Some(format!("echo 1 | sudo tee {KSM}")),
            ),
            None => (State::Limited, "this kernel has none", None),
        };
        Check {
            name: "page merging",
            state,
            found: found.to_owned(),
            why: "plumb vm --merge takes half the memory where there are many machines",
            fix,
        }
    }
}

fn runner(name: &'static str, found: &Result<String, Unavailable>) -> Check {
    let (state, found, fix) = match found {
        Ok(uses) => (State::Ok, uses.clone(), None),
        Err(missing) => (
            State::Limited,
            missing.reason.clone(),
            missing.remedy.clone(),
        ),
    };
    Check {
        name,
        state,
        found,
        why: "plumb vm takes the first runner that works",
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines() -> Machines {
        Machines {
            runners: vec![("QEMU", Ok("QEMU 7.2, microvm, KVM".into()))],
            tun: true,
            admin: true,
            no_namespaces: None,
            ksm: Some("1".into()),
            program: "/usr/bin/plumb".into(),
        }
    }

    #[test]
    fn a_system_that_has_all_of_it_needs_no_fix() {
        for check in machines().checks() {
            assert_eq!((check.state, &check.fix), (State::Ok, &None), "{check:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_fix_and_keeps_nobody_from_tracing() {
        let missing = Unavailable {
            reason: "no qemu".into(),
            remedy: Some("install it".into()),
        };
        let checks = Machines {
            runners: vec![("QEMU", Err(missing))],
            admin: false,
            ksm: Some("0".into()),
            ..machines()
        }
        .checks();
        let fixes: Vec<_> = checks.iter().filter_map(|c| c.fix.as_deref()).collect();
        assert_eq!(
            fixes,
            [
                "install it",
                "sudo setcap cap_net_admin+ep /usr/bin/plumb",
                "echo 1 | sudo tee /sys/kernel/mm/ksm/run",
            ]
        );
        assert!(checks.iter().all(|check| check.state == State::Limited));
    }

    #[test]
    fn without_capability_and_namespaces_there_is_no_way_out_and_the_obstacle_is_named() {
        let checks = Machines {
            admin: false,
            no_namespaces: Some("user.max_user_namespaces is 0".into()),
            ..machines()
        }
        .checks();
        let tap = checks.iter().find(|c| c.name == "TAP devices").unwrap();
        assert!(tap.found.ends_with("because user.max_user_namespaces is 0"));
    }
}
