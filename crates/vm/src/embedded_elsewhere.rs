//! plumb's own virtual machine monitor exists for x86-64 only: elsewhere it says so.

use crate::{Error, Launch, Runner, RunnerName, Unavailable, Vm};

/// plumb's own monitor, which is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embedded;

impl Embedded {
    fn unavailable() -> Unavailable {
        Unavailable {
            reason: "plumb's own monitor exists for x86-64 only".into(),
            remedy: None,
        }
    }
}

impl Runner for Embedded {
    fn name(&self) -> RunnerName {
        RunnerName::Embedded
    }

    fn check(&self) -> Result<String, Unavailable> {
        Err(Self::unavailable())
    }

    fn launch(&self, _: Launch<'_>) -> Result<Vm, Error> {
        Err(Self::unavailable().into())
    }
}

/// Whether this process was started to be a monitor: never.
#[must_use]
pub fn is_monitor() -> bool {
    false
}

/// Runs no machine.
pub fn main() -> ! {
    std::process::exit(125)
}
