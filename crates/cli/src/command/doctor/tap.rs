//! What `plumb tap` needs.

use plumb_ebpf::tap::{self, Choice, Limits, Options, Session};

use super::{Check, State};

/// What came of trying.
pub(super) struct Tap {
    /// Whether the programs can be loaded, and then whether they can be attached by links.
    pub(super) loaded: Result<bool, (bool, String)>,
    /// The path of this program.
    pub(super) program: String,
}

impl Tap {
    /// Loads the programs, attaches them to nothing, and forgets them.
    pub(super) fn look(program: String) -> Self {
        let session = Session::new(&Options {
            id: std::process::id(),
            ring_len: None,
            limits: Limits::default(),
            choice: Choice::default(),
            prefixes: Vec::new(),
            outputs: Vec::new(),
            balance: false,
            way: None,
            wall_offset_ns: 0,
        });
        let loaded = match session {
            Ok(session) => Ok(tap::has_tcx(&session)),
            Err(error) => Err((error.is_permission(), error.to_string())),
        };
        Self { loaded, program }
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let why = "plumb tap copies packets in the kernel";
        let mut checks = vec![match &self.loaded {
            Ok(_) => Check {
                name: "eBPF",
                state: State::Ok,
                found: "the programs can be loaded".to_owned(),
                why,
                fix: None,
            },
            Err((is_permission, error)) => Check {
                name: "eBPF",
                state: State::Limited,
                found: if *is_permission {
                    "no CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON".to_owned()
                } else {
                    error.clone()
                },
                why,
                fix: is_permission.then(|| {
                    format!(
                        "sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep {}",
                        self.program
                    )
                }),
            },
        }];
        if let Ok(has_tcx) = self.loaded {
            checks.push(Check {
                name: "tcx",
                state: if has_tcx { State::Ok } else { State::Limited },
                found: if has_tcx {
                    "the kernel has links for programs on interfaces"
                } else {
                    "the kernel has none (Linux 6.6): programs hang on clsact"
                }
                .to_owned(),
                why: "a tap by a link is gone with its process, whatever ends that",
                fix: None,
            });
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_helps() {
        let look = |loaded| Tap {
            loaded,
            program: "/bin/plumb".to_owned(),
        };
        let ok = look(Ok(true)).checks();
        assert!(ok.len() == 2 && ok.iter().all(|check| check.state == State::Ok));
        assert_eq!(look(Ok(false)).checks()[1].state, State::Limited);
        let denied = look(Err((true, "x".to_owned()))).checks();
        assert!(
            denied[0]
                .fix
                .as_ref()
                .is_some_and(|fix| fix.contains("cap_bpf"))
        );
        assert_eq!(
            look(Err((false, "old".to_owned()))).checks()[0].found,
            "old"
        );
    }
}
