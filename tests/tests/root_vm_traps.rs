//! What has caught others who booted without an operating system. Each test first makes sure, where
//! it can, that the trap is there: an image that steps into it fails.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_record::Trace;
use plumb_tests::{Directory, Done, Records, at_once, plumb, require, run, runners, skip, traces};

/// A lab, and a measurement in it: through a tunnel, without delays.
const TRACE: (&str, &str) = ("php", "trace --json --seed 1 --wait 5s 5.0.8.2");
/// Long enough that every timer of the machine has had its say.
const PING: (&str, &str) = ("php", "ping --json -c 20 -i 50ms -w 5s 5.0.8.2");
/// So far away that the machine sleeps until there is an answer.
const FAR: (&str, &str) = ("plain", "ping --json -c 3 -i 400ms -w 5s 5.0.4.2");

/// The image that is built in.
fn image() -> Vec<u8> {
    let directory = Directory::new();
    let file = directory.file("image");
    run(Command::new(plumb())
        .args(["vm", "image", "--output"])
        .arg(&file))
    .expect(0);
    std::fs::read(file).unwrap()
}

/// A measurement by a machine with such options.
fn from_machine(
    options: &[&str],
    image: Option<&Path>,
    path: Option<&Path>,
    (lab, measurement): (&str, &str),
) -> Done {
    let mut command = Command::new(plumb());
    let uplink = format!("lab:{lab},seed=7");
    command.args(["vm", "run", "--uplink", &uplink]);
    // A BIOS in software takes its time where much else runs.
    command.args(["--deadline", "50s"]).args(options);
    if let Some(image) = image {
        command.arg("--image").arg(image);
    }
    if let Some(path) = path {
        command.env("PATH", path);
    }
    run(command.arg("--").args(measurement.split(' ')))
}

/// The same by the command itself.
fn expected() -> Vec<Trace> {
    let mut command = Command::new(plumb());
    let (lab, measurement) = TRACE;
    command.args(["lab", "run", lab, "--seed", "7", "--"]);
    traces(&run(command.arg(plumb()).args(measurement.split(' '))).expect(0))
}

/// QEMU with other options than plumb gives it: a program in front of the real one, which puts
/// `more` behind all others and `words` before those of the command line.
struct Qemu(Directory);

impl Qemu {
    fn with(more: &str, words: &str) -> Self {
        let directory = Directory::new();
        let script = format!(
            r#"#!/bin/sh
PATH=${{PATH#*:}}
for argument; do
    shift
    [ "$before" = -append ] && argument="{words} $argument"
    before=$argument
    set -- "$@" "$argument"
done
exec qemu-system-x86_64 "$@" {more}
"#
        );
        let file = directory.write("qemu-system-x86_64", script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file, mode).unwrap();
        Self(directory)
    }

    /// Expects a machine of it to trace as the command itself does.
    fn traces(&self, options: &[&str], expected: &[Trace]) -> Done {
        let options = [&["--runner", "qemu"], options].concat();
        let done = from_machine(&options, None, Some(&self.path()), TRACE).expect(0);
        assert_eq!(traces(&done), expected, "{options:?}: {done}");
        done
    }

    fn path(&self) -> PathBuf {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.0.path().display()).into()
    }
}

/// The last words of a machine that failed.
fn last_words(done: Done) -> String {
    let error = Records::of(&done.expect(5)).end.error.unwrap();
    let (_, words) = error.split_once("its last words: ").expect(&error);
    words.to_owned()
}

#[test]
fn root_interrupts_of_the_8259s_are_masked_before_they_are_taken_for_exceptions() {
    require!();
    let runners = runners();
    if runners.is_empty() {
        skip!("no runner works here");
    }
    /// `mov al, 0xff; out 0x21, al; out 0xa1, al`, as in `boot/entry.s`.
    const MASK: [u8; 6] = [0xb0, 0xff, 0xe6, 0x21, 0xe6, 0xa1];
    let mut unmasked = image();
    let mut places = unmasked.windows(MASK.len());
    let at = places.position(|window| window == MASK).unwrap();
    unmasked[at..at + MASK.len()].fill(0x90);
    let directory = Directory::new();
    let unmasked = directory.write("unmasked", unmasked);

    // plumb's monitor and Firecracker raise the network's interrupt as number 5 of the 8259 as well,
    // a BIOS leaves the timer's as vector 8. The other firmware masks everything itself.
    let bios = Qemu::with("-bios bios-256k.bin", "");
    let expected = expected();
    let mut machines = vec![];
    for runner in runners {
        match runner {
            "qemu" => {
                for machine in ["pc", "q35"] {
                    let options = ["--runner", runner, "--accel", "tcg", "--machine", machine];
                    machines.push((options.to_vec(), Some(bios.path()), 8));
                }
            }
            _ => machines.push((vec!["--runner", runner], None, 5)),
        }
    }
    at_once(machines, |(options, path, vector)| {
        let path = path.as_deref();
        let died = last_words(from_machine(&options, Some(&unmasked), path, PING));
        let exception = format!("plumb: exception {vector} ");
        assert!(died.starts_with(&exception), "{options:?}: {died}");
        let done = from_machine(&options, None, path, PING).expect(0);
        assert_eq!(
            Records::of(&done).pings[0].received,
            20,
            "{options:?}: {done}"
        );
        let done = from_machine(&options, None, path, TRACE).expect(0);
        assert_eq!(traces(&done), expected, "{options:?}: {done}");
    });
}

#[test]
fn root_without_x2apic_and_with_it_a_machine_traces_the_same() {
    require!();
    let runners = runners();
    if !runners.contains(&"qemu") {
        skip!("it needs qemu-system-x86_64");
    }
    let expected = expected();
    let mut processors = vec![
        ("tcg", "max,-x2apic"),
        // Where QEMU has no x2APIC in software, it warns and leaves it out.
        ("tcg", "max,+x2apic"),
        // What QEMU has where none is named: nor has it 1 GiB pages.
        ("tcg", "qemu64"),
    ];
    if runners.contains(&"embedded") {
        processors.push(("kvm", "host,-arch-capabilities,-x2apic"));
        processors.push(("kvm", "host,-arch-capabilities,+x2apic"));
    }
    at_once(processors, |(accelerator, processor)| {
        let qemu = Qemu::with(&format!("-cpu {processor}"), "");
        qemu.traces(&["--accel", accelerator], &expected);
    });
}

#[test]
fn root_a_local_apic_that_was_left_in_x2apic_mode_is_named() {
    require!();
    if !runners().contains(&"embedded") {
        skip!("it needs /dev/kvm");
    }
    let directory = Directory::new();
    let file = directory.write("x2apic", in_x2apic_mode(image()));
    let words = last_words(from_machine(
        &["--runner", "embedded"],
        Some(&file),
        None,
        TRACE,
    ));
    assert!(words.contains("the local APIC is not where"), "{words}");
    assert!(words.contains("or in x2APIC mode"), "{words}");
}

/// The image with a few instructions before its own, in place of its note for other loaders.
fn in_x2apic_mode(mut image: Vec<u8>) -> Vec<u8> {
    const AT: u64 = 0x10_0000;
    let number =
        |image: &[u8], at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let entry = number(&image, 24).to_le_bytes();
    let headers = usize::try_from(number(&image, 32)).unwrap();
    let count = usize::from(image[56]);
    let mut headers = (0..count).map(|index| headers + index * 56);
    let note = headers.find(|at| image[*at] == 4).unwrap();

    // mov ecx, IA32_APIC_BASE; rdmsr; or ah, EN | EXTD; wrmsr; mov eax, entry; jmp rax
    let mut code = vec![
        0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x80, 0xcc, 0x0c, 0x0f, 0x30, 0xb8,
    ];
    code.extend(&entry[..4]);
    code.extend([0xff, 0xe0]);
    image[24..32].copy_from_slice(&AT.to_le_bytes());
    let (offset, len) = (image.len() as u64, code.len() as u64);
    let loaded = [0x7_0000_0001, offset, AT, AT, len, len, 1];
    for (field, value) in loaded.into_iter().enumerate() {
        let at = note + 8 * field;
        image[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    image.extend(code);
    image
}

#[test]
fn root_devices_from_before_virtio_1_have_shorter_headers_and_are_driven() {
    require!();
    let runners = runners();
    if !runners.contains(&"qemu") {
        skip!("it needs qemu-system-x86_64");
    }
    let expected = expected();
    let qemu = Qemu::with("-global virtio-mmio.force-legacy=true", "");
    qemu.traces(&["--accel", "tcg"], &expected);
    if runners.contains(&"embedded") {
        qemu.traces(&["--accel", "kvm"], &expected);
    }
}

#[test]
fn root_a_machine_whose_interrupts_are_all_lost_is_woken_by_its_timer() {
    require!();
    if !runners().contains(&"qemu") {
        skip!("it needs qemu-system-x86_64");
    }
    // Of the devices that are named twice the first counts: with inputs that nothing is wired to.
    let lost: Vec<String> = (0..24)
        .map(|n| {
            format!(
                "virtio_mmio.device=512@{:#x}:20",
                0xfeb0_0000_u32 + n * 0x200
            )
        })
        .collect();
    let qemu = Qemu::with("", &lost.join(" "));
    let options = ["--runner", "qemu", "--accel", "tcg"];
    let done = from_machine(&options, None, Some(&qemu.path()), FAR).expect(0);
    let ping = &Records::of(&done).pings[0];
    assert_eq!(ping.received, 3, "{done}");
    // They came in time and were seen when the timer rang: so it was the timer.
    assert!(ping.rtt_max_ns.unwrap() > 100_000_000, "{done}");
}

#[test]
fn root_a_clock_that_is_measured_with_the_timer_chip_alone_is_right() {
    require!();
    if !runners().contains(&"qemu") {
        skip!("it needs qemu-system-x86_64");
    }
    // In software nobody says how fast the processor's counter counts.
    let options = ["--runner", "qemu", "--accel", "tcg"];
    let far = (FAR.0, "ping --json -c 20 -i 50ms -w 5s 5.0.4.2");
    let done = from_machine(&options, None, None, far).expect(0);
    let rtt = Records::of(&done).pings[0].rtt_min_ns.unwrap();
    // Four links of a millisecond, there and back, and a machine in software behind them.
    assert!((7_900_000..12_000_000).contains(&rtt), "{rtt}: {done}");
}

#[test]
fn root_where_kvm_is_none_the_choice_falls_on_software_and_says_why() {
    require!("unshare", "mount");
    if !runners().contains(&"qemu") {
        skip!("it needs qemu-system-x86_64");
    }
    // It can be opened, and that is all.
    let script = "[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
        \"$TESTED\" vm run --uplink lab:php,seed=7 -- $TRACE";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]);
    let command = command.env("TESTED", plumb()).env("TRACE", TRACE.1);
    let done = run(command.env("PLUMB_FIRECRACKER", "/no")).expect(0);
    let said = &done.stderr;
    for words in [
        "in software (TCG) (no embedded: ",
        "; no firecracker: /no is",
    ] {
        assert!(said.contains(words), "{done}");
    }
    assert_eq!(traces(&done), expected(), "{done}");
}
