//! From options to a running machine.

use std::io::{self, Write};

use plumb_vm::{
    Accelerator, Firecracker, IMAGE, Launch, Machine as QemuMachine, Qemu, Runner, RunnerName,
    Unavailable, Vm, embedded,
};

use super::uplink::Uplink;
use crate::args::{AcceleratorName, MachineName, MachineOptions, RunnerChoice};
use crate::exit::Failure;

/// A runner that works here.
#[derive(Debug)]
pub(crate) struct Chosen {
    runner: Box<dyn Runner>,
    /// What exactly it uses.
    pub(crate) uses: String,
    /// Why it was chosen, if the user did not.
    pub(crate) why: Option<String>,
}

impl Chosen {
    /// The runner that the options ask for, or the best that works.
    pub(crate) fn of(options: &MachineOptions) -> Result<Self, Failure> {
        if IMAGE.is_empty() {
            return Err(Failure::usage("machines are for x86-64 only so far"));
        }
        let only_qemu =
            options.machine != MachineName::Microvm || options.accel != AcceleratorName::Auto;
        let candidates: Vec<Box<dyn Runner>> = match options.runner {
            RunnerChoice::Qemu => vec![qemu(options)],
            RunnerChoice::Auto if only_qemu => vec![qemu(options)],
            RunnerChoice::Embedded => vec![Box::new(embedded::Embedded::default())],
            RunnerChoice::Firecracker => vec![Box::new(Firecracker::default())],
            RunnerChoice::Auto => vec![
                Box::new(embedded::Embedded::default()),
                Box::new(Firecracker::default()),
                qemu(options),
            ],
        };
        let auto = options.runner == RunnerChoice::Auto;
        let mut passed_over: Vec<(RunnerName, Unavailable)> = Vec::new();
        for runner in candidates {
            match runner.check() {
                Ok(uses) => {
                    let why = auto.then(|| match only_qemu {
                        true => "--machine and --accel are QEMU's".to_owned(),
                        false => reason(runner.name(), &passed_over),
                    });
                    return Ok(Self { runner, uses, why });
                }
                Err(missing) => passed_over.push((runner.name(), missing)),
            }
        }
        Err(none(&passed_over))
    }

    /// Its name.
    pub(crate) fn name(&self) -> RunnerName {
        self.runner.name()
    }

    /// Says on standard error which runner was chosen and why, if the user did not choose.
    pub(crate) fn announce(&self) {
        if let Some(why) = &self.why {
            drop(writeln!(io::stderr(), "plumb: {} ({why})", self.uses));
        }
    }

    /// Starts a machine that boots `image`, and whose engine reads `module` first. Its `name` is
    /// for whoever looks at processes.
    ///
    /// Takes the uplink's device: what is left of the uplink is what it says.
    pub(crate) fn launch(
        &self,
        name: Option<&str>,
        options: &MachineOptions,
        uplink: &mut Uplink,
        image: &[u8],
        module: &[u8],
    ) -> Result<Vm, Failure> {
        let mut command_line = uplink.command_line();
        if options.poll {
            command_line += " poll";
        }
        let Some(tap) = uplink.tap.take() else {
            return Err(Failure::usage("the uplink has a machine already"));
        };
        self.runner
            .launch(Launch {
                name,
                image,
                command_line: &command_line,
                module,
                memory_mib: options.mem,
                tap,
                tap_name: &uplink.tap_name,
                mac: uplink.mac,
                merge: options.merge,
            })
            .map_err(|e| Failure::usage(format!("{}: {e}", self.runner.name())))
    }
}

/// What to say where merging was asked for and the kernel does not do it.
pub(crate) fn merge_hint(options: &MachineOptions) -> Option<&'static str> {
    let run = std::fs::read_to_string(KSM).unwrap_or_default();
    (options.merge && run.trim() != "1").then_some(
        "nothing is merged before the kernel looks for equal pages: run `echo 1 | sudo tee \
         /sys/kernel/mm/ksm/run`",
    )
}

/// Whether the kernel merges pages.
const KSM: &str = "/sys/kernel/mm/ksm/run";

fn qemu(options: &MachineOptions) -> Box<dyn Runner> {
    Box::new(Qemu {
        program: None,
        machine: match options.machine {
            MachineName::Microvm => QemuMachine::Microvm,
            MachineName::Pc => QemuMachine::Pc,
            MachineName::Q35 => QemuMachine::Q35,
        },
        accelerator: match options.accel {
            AcceleratorName::Auto => None,
            AcceleratorName::Kvm => Some(Accelerator::Kvm),
            AcceleratorName::Tcg => Some(Accelerator::Tcg),
        },
    })
}

fn reason(name: RunnerName, passed_over: &[(RunnerName, Unavailable)]) -> String {
    if passed_over.is_empty() {
        return format!("{name} is the best, and it works here");
    }
    let reasons: Vec<String> = passed_over
        .iter()
        .map(|(name, missing)| format!("no {name}: {missing}"))
        .collect();
    reasons.join("; ")
}

/// No runner can be used: why, and what helps.
fn none(passed_over: &[(RunnerName, Unavailable)]) -> Failure {
    let reasons: Vec<String> = passed_over
        .iter()
        .map(|(name, missing)| match &missing.remedy {
            Some(remedy) => format!("{name}: {missing} ({remedy})"),
            None => format!("{name}: {missing}"),
        })
        .collect();
    let denied = passed_over
        .iter()
        .any(|(_, missing)| missing.reason.contains("Permission denied"));
    let message = format!("no machine can be run here; {}", reasons.join("; "));
    if denied {
        Failure::permission(message)
    } else {
        Failure::usage(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(reason: &str) -> Unavailable {
        Unavailable {
            reason: reason.into(),
            remedy: Some("fix it".into()),
        }
    }

    #[test]
    fn where_nothing_works_every_reason_is_named_and_a_permission_ends_with_3() {
        let failure = none(&[
            (
                RunnerName::Embedded,
                missing("cannot open /dev/kvm: Permission denied"),
            ),
            (RunnerName::Qemu, missing("no qemu")),
        ]);
        assert_eq!(
            failure.message,
            "no machine can be run here; embedded: cannot open /dev/kvm: Permission denied (fix \
             it); qemu: no qemu (fix it)"
        );
        assert_eq!(failure.exit, crate::exit::Exit::Permission);
        let failure = none(&[(RunnerName::Qemu, missing("no qemu"))]);
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
    }

    #[test]
    fn a_choice_says_what_was_passed_over() {
        assert_eq!(
            reason(
                RunnerName::Qemu,
                &[(RunnerName::Embedded, missing("no /dev/kvm"))]
            ),
            "no embedded: no /dev/kvm"
        );
    }
}
