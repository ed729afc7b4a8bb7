//! Private networks: what comes out of them, and that nothing of them stays.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod private;

use core::time::Duration;
use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::Instant;

use plumb_link::namespace::{self, Child};
use plumb_link::{ProbePort, ProbePortOptions, Tun, TunOptions};
use private::{NOBODY, become_user, in_a_process, say, skipped};

const BARRED: i32 = 77;

fn command(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Runs a command in a private network, in a process of its own, and returns how it ended.
fn inside(words: &[&str]) -> i32 {
    in_a_process(move || {
        if let Err(error) = namespace::enter() {
            say(&error.to_string());
            return BARRED;
        }
        let child = Child::spawn(&command(words), &[("PLUMB_TEST", "inside".into())]).unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.into();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

#[test]
fn root_a_command_ends_the_private_network_with_its_status() {
    if inside(&["true"]) == BARRED {
        return skipped("no private network");
    }
    for (words, status) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "test \"$PLUMB_TEST\" = inside"], 0),
        (&["no-such-command"], 127),
        (&["/"], 126),
    ] {
        assert_eq!(inside(words), status, "{words:?}");
    }
}

#[test]
fn root_loopback_is_up_inside_and_no_other_interface_is_there() {
    // Two lines of heading, then one for each interface.
    let script = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' \n' | grep -qx lo && \
                  grep -q 127.0.0.1 /proc/net/fib_trie";
    match inside(&["sh", "-c", script]) {
        BARRED => skipped("no private network"),
        status => assert_eq!(status, 0),
    }
}

#[test]
fn root_nobody_has_a_private_network_too_with_raw_sockets_and_devices_in_it() {
    let status = in_a_process(|| {
        become_user(NOBODY);
        if let Err(error) = namespace::enter() {
            say(&error.to_string());
            return BARRED;
        }
        drop(ProbePort::open(&ProbePortOptions::default()).unwrap());
        match Tun::create(&TunOptions::default()) {
            Ok(tun) => assert!(!tun.name().is_empty()),
            // The device file may be for root only.
            Err(error) => {
                say(&error.to_string());
                return BARRED;
            }
        }
        0
    });
    match status {
        BARRED => say("skipped: nobody may not have a private network with a device"),
        status => assert_eq!(status, 0),
    }
}

/// Processes whose command line has `mark`.
fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

fn wait_until(what: &str, met: impl Fn() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn root_when_its_maker_is_killed_nothing_of_a_private_network_is_left() {
    const MAKER: &str = "PLUMB_LINK_MAKER";
    if let Some(mark) = std::env::var_os(MAKER) {
        // This is the maker: it never looks after its command.
        let mark = mark.into_string().unwrap();
        let script = format!(
            "(sleep 300; : {mark}) & (trap '' TERM HUP INT; sleep 300; : {mark}) & wait; : {mark}"
        );
        namespace::enter().unwrap();
        let words = command(&["sh", "-c", &script]);
        let _child = Child::spawn(&words, &[]).unwrap();
        std::thread::sleep(Duration::from_secs(300));
        return;
    }
    if inside(&["true"]) == BARRED {
        return skipped("no private network");
    }
    let mark = format!("mark-{}-{}", std::process::id(), "of-a-killed-network");
    let name = "root_when_its_maker_is_killed_nothing_of_a_private_network_is_left";
    let mut maker = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(MAKER, &mark)
        .spawn()
        .unwrap();
    wait_until("the command starts", || marked(&mark) >= 3);
    maker.kill().unwrap();
    maker.wait().unwrap();
    wait_until("all of it ends", || marked(&mark) == 0);
}
