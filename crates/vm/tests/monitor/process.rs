//! The monitor's process: what it may do, and that nothing of it stays.

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::guest::Guest;
use crate::run::{Machine, SOON, readable, require};

/// An image that says when it runs and then hangs.
fn hanging() -> Guest {
    let guest = Guest::new().say("up");
    let here = guest.here();
    guest.again(here)
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().split_whitespace().collect()
}

#[test]
fn root_every_thread_has_given_up_everything_before_the_image_runs() {
    require!();
    let mut machine = Machine::start(hanging());
    assert!(machine.says("up", SOON));
    let process = format!("/proc/{}", machine.vm().pid);
    let threads = fs::read_dir(format!("{process}/task")).unwrap();
    let threads: Vec<_> = threads
        .map(|thread| thread.unwrap().path())
        // KVM has a thread of its own in the process, which runs no code of it.
        .filter(|thread| {
            !fs::read_to_string(thread.join("comm"))
                .unwrap()
                .starts_with("kvm")
        })
        .collect();
    assert_eq!(threads.len(), 2);
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        if rustix::process::geteuid().is_root() && there_is_nobody() {
            assert_eq!(field(&status, "Uid:"), ["65534"; 4]);
            assert_eq!(field(&status, "Gid:"), ["65534"; 4]);
            assert_eq!(field(&status, "Groups:"), [""; 0]);
        }
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(&status, capabilities), ["0000000000000000"]);
        }
        assert_eq!(field(&status, "NoNewPrivs:"), ["1"]);
        assert_eq!(field(&status, "Seccomp:"), ["2"], "filtered");
    }
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    for name in ["Max open files", "Max core file size"] {
        assert_eq!(field(&limits, name)[..2], ["0", "0"], "{name}");
    }
    let mut open: Vec<_> = fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .map(|fd| {
            let target = fs::read_link(fd.unwrap().path()).unwrap();
            let target = target.display().to_string();
            target.split(['[', ':']).next().unwrap().to_owned() + kvm(&target)
        })
        .collect();
    open.sort();
    // Channel, frames, console twice, what they are waited for with, machine and processor.
    let expected = [
        "anon_inode",
        "anon_inodekvm-vcpu",
        "anon_inodekvm-vm",
        "pipe",
        "pipe",
        "socket",
        "socket",
    ];
    assert_eq!(open, expected);
}

/// Whether the user namespace has the user 65534.
fn there_is_nobody() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap());
        let (from, _, len) = (numbers.next(), numbers.next(), numbers.next());
        let from = from.unwrap();
        (from..from + len.unwrap()).contains(&65_534)
    })
}

fn kvm(target: &str) -> &'static str {
    match target {
        _ if target.contains("kvm-vm") => "kvm-vm",
        _ if target.contains("kvm-vcpu") => "kvm-vcpu",
        _ => "",
    }
}

#[test]
fn root_pages_are_merged_only_if_that_is_wanted() {
    require!();
    for merge in [false, true] {
        let mut machine = Machine::launch(&hanging().elf(), merge);
        assert!(machine.says("up", SOON));
        let Ok(state) = fs::read_to_string(format!("/proc/{}/ksm_stat", machine.vm().pid)) else {
            eprintln!("skipped: this kernel does not tell");
            return;
        };
        let expected = if merge { "yes" } else { "no" };
        assert_eq!(field(&state, "ksm_merge_any:"), [expected], "{state}");
    }
}

#[test]
fn root_a_killed_monitor_is_noticed() {
    require!();
    let mut machine = Machine::start(hanging());
    assert!(machine.says("up", SOON));
    let vm = machine.vm();
    rustix::process::pidfd_send_signal(&vm.process, Signal::KILL).unwrap();
    let pid = vm.pid;
    assert_eq!(machine.wait(SOON).code, None);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is reaped");
}

/// Set where the test below is the other process of itself.
const PARENT: &str = "PLUMB_TEST_PARENT";

/// The other process: it starts a machine, says so, and waits to be killed.
fn be_a_parent_with_a_machine() {
    let mut machine = Machine::start(hanging());
    assert!(machine.says("up", SOON));
    let mut out = std::io::stdout();
    writeln!(out, "\nmachine {}", machine.vm().pid).unwrap();
    std::thread::sleep(3 * SOON);
}

#[test]
fn root_a_machine_ends_with_its_parent_however_that_dies() {
    require!();
    if std::env::var_os(PARENT).is_some() {
        return be_a_parent_with_a_machine();
    }
    // With one thread, the test runs on the main one, whose death the kernel tells of; otherwise
    // the closed channel does.
    for threads in ["1", "2"] {
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "--test-threads", threads])
            .arg("process::root_a_machine_ends_with_its_parent_however_that_dies")
            .env(PARENT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let pid: i32 = lines
            .find_map(|line| line.unwrap().strip_prefix("machine ")?.parse().ok())
            .expect("a machine");
        let machine =
            rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        assert!(!readable(machine.as_fd(), Duration::ZERO));
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(readable(machine.as_fd(), SOON), "{threads}");
    }
}

#[test]
fn root_an_image_that_waits_costs_no_time() {
    require!();
    // Interrupts are off, so that nothing ever wakes it.
    let mut machine = Machine::start(Guest::new().say("up").halt());
    assert!(machine.says("up", SOON));
    let stat = format!("/proc/{}/stat", machine.vm().pid);
    let spent = || -> u64 {
        let stat = fs::read_to_string(&stat).unwrap();
        let fields = stat.split_whitespace().skip(13).take(2);
        fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    };
    let (before, start) = (spent(), Instant::now());
    while start.elapsed() < Duration::from_millis(500) {
        assert!(!machine.has_ended(Duration::from_millis(100)));
    }
    assert!(spent() - before <= 1, "{} ticks", spent() - before);
}
