//! The real image on the runners that other projects made: what each of them must do.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::print_stderr, reason = "a test says why it did not run")]

mod probe;

use core::time::Duration;

use plumb_link::{Interface, Tap, TapOptions, create_bridge, namespace};
use plumb_vm::{Accelerator, Firecracker, IMAGE, Launch, Machine, Qemu, Runner};
use probe::{comes_up_and_goes, require, require_firecracker};

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

#[test]
fn root_the_image_comes_up_on_a_pc() {
    let runner = qemu(Machine::Pc, Accelerator::Tcg);
    require!(&runner);
    comes_up_and_goes(&runner, PATIENCE);
}

#[test]
fn root_the_image_comes_up_on_a_pc_with_pci_express() {
    let runner = qemu(Machine::Q35, Accelerator::Tcg);
    require!(&runner);
    comes_up_and_goes(&runner, PATIENCE);
}

#[test]
fn root_the_image_comes_up_on_a_pc_with_kvm() {
    for machine in [Machine::Pc, Machine::Q35] {
        let runner = qemu(machine, Accelerator::Kvm);
        require!(&runner);
        comes_up_and_goes(&runner, PATIENCE);
    }
}

#[test]
fn root_the_image_comes_up_on_firecracker() {
    let runner = Firecracker::default();
    require_firecracker!(&runner);
    comes_up_and_goes(&runner, PATIENCE);
}

#[test]
fn root_firecrackers_tap_is_what_it_was_before() {
    let runner = Firecracker::default();
    require_firecracker!(&runner);
    namespace::enter_network().unwrap();
    create_bridge("lab0").unwrap();
    let tap = Tap::create(&TapOptions {
        name: "vm0".into(),
        mtu: 1300,
        bridge: Some("lab0".into()),
        ..TapOptions::default()
    })
    .unwrap();
    let before = tap.interface().unwrap();
    let launch = Launch {
        name: None,
        image: IMAGE,
        command_line: "ip=10.0.0.2/24",
        module: &[],
        memory_mib: 8,
        tap: tap.into_fd(),
        tap_name: "vm0",
        mac: [2, 0, 0, 0, 0, 1],
        merge: false,
    };
    let vm = runner.launch(launch).unwrap();
    let after = Interface::find("vm0").unwrap().unwrap();
    assert_eq!(
        after,
        Interface {
            index: after.index,
            ..before
        }
    );
    drop(vm);
    assert_eq!(Interface::find("vm0").unwrap(), None);
}
