//! The image's first steps on QEMU's machines: how it comes up, and what it says where it cannot.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that fails may panic, and one that cannot run says so"
)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// What of QEMU a machine is.
const MACHINES: [(&str, &[&str]); 5] = [
    (
        "microvm",
        &["-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max"],
    ),
    // The processor that QEMU has where none is named: without x2APIC, without 1 GiB pages.
    (
        "microvm-plain",
        &["-M", "microvm,acpi=off", "-accel", "tcg"],
    ),
    ("pc", &["-M", "pc", "-accel", "tcg"]),
    ("q35", &["-M", "q35", "-accel", "tcg"]),
    (
        "microvm-kvm",
        &[
            "-M",
            "microvm,acpi=off",
            "-accel",
            "kvm",
            "-cpu",
            "host,-arch-capabilities",
        ],
    ),
];

/// Exit code of QEMU where the image has failed.
const FAILED: i32 = 35;

/// Runs the image on a machine; none if there is no QEMU, or no KVM for it.
fn run(name: &str, arguments: &[&str]) -> Option<Output> {
    let (_, machine) = MACHINES.iter().find(|(other, _)| *other == name).unwrap();
    let lacks = if Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .is_err()
    {
        "qemu-system-x86_64"
    } else if machine.contains(&"kvm")
        && std::fs::File::options()
            .write(true)
            .open("/dev/kvm")
            .is_err()
    {
        "/dev/kvm"
    } else {
        let image = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("image-{}", std::process::id()));
        std::fs::write(&image, plumb_vm::IMAGE).unwrap();
        let mut qemu = Command::new("timeout");
        qemu.args([
            "60",
            "qemu-system-x86_64",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ]);
        qemu.args(["-display", "none", "-serial", "stdio", "-m", "16"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        let output = qemu
            .args(*machine)
            .args(arguments)
            .arg("-kernel")
            .arg(&image);
        let output = output.stdin(Stdio::null()).output().unwrap();
        std::fs::remove_file(&image).unwrap();
        return Some(output);
    };
    assert!(
        std::env::var_os("TESTS_NO_SKIP").is_none(),
        "{lacks} is missing"
    );
    eprintln!("skipped: {lacks} is missing");
    None
}

/// Expects that the image ends with these words on the serial port.
fn fails(name: &str, arguments: &[&str], words: &str) {
    if let Some(output) = run(name, arguments) {
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().last().unwrap_or_default();
        assert!(line.starts_with("plumb: "), "{name}: {output:?}");
        assert!(line.contains(words), "{name}: {said}");
        assert_eq!(output.status.code(), Some(FAILED), "{name}: {output:?}");
    }
}

#[test]
fn on_every_machine_the_image_comes_up_and_says_what_it_lacks() {
    let line = ["-append", "ip=10.0.0.2/24"];
    for (name, _) in MACHINES {
        fails(name, &line, "no virtio network interface");
    }
}

#[test]
fn on_every_machine_the_network_interface_is_found() {
    for (name, machine) in MACHINES {
        let bus = if machine[1].starts_with("microvm") {
            "device"
        } else {
            "pci"
        };
        let device = format!("virtio-net-{bus}");
        fails(name, &["-device", &device], "no channel to the host");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_named() {
    let words = "the command line makes no sense: ip=10.0.0.2";
    fails("microvm", &["-append", "quiet ip=10.0.0.2 poll"], words);
}

#[test]
fn a_machine_with_too_little_memory_says_so() {
    // Of 16 MiB, that and the image leave a quarter of a MiB.
    let module = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large-module");
    std::fs::write(&module, vec![0; 14_300_000]).unwrap();
    let devices = [
        "-device",
        "virtio-net-device",
        "-device",
        "virtio-serial-device",
    ];
    let module = module.to_str().unwrap();
    fails(
        "microvm",
        &[&["-initrd", module], &devices[..]].concat(),
        "out of memory",
    );
}
