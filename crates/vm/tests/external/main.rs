//! The real image on the runners that other projects made: what each of them must do.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::print_stderr, reason = "a test says why it did not run")]

mod probe;

use core::time::Duration;

use plumb_vm::{Accelerator, Machine, Qemu};
use probe::{comes_up_and_goes, require};

/// Long enough for a BIOS in software on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn qemu(machine: Machine, accelerator: Accelerator) -> Qemu {
    Qemu {
        program: None,
        machine,
        accelerator: Some(accelerator),
    }
}

#[test]
fn root_the_image_comes_up_on_qemus_microvm_in_software() {
    let runner = qemu(Machine::Microvm, Accelerator::Tcg);
    require!(&runner);
    comes_up_and_goes(&runner, PATIENCE);
}

#[test]
fn root_the_image_comes_up_on_qemus_microvm_with_kvm() {
    let runner = qemu(Machine::Microvm, Accelerator::Kvm);
    require!(&runner);
    comes_up_and_goes(&runner, PATIENCE);
}
