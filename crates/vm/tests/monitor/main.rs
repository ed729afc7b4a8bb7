//! The monitor runs real machines with images of a few instructions. Needs /dev/kvm.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod guest;
mod process;
mod queues;
mod run;

use core::time::Duration;

use guest::Guest;
use run::{Ended, Machine, SOON, require};

#[test]
fn root_what_the_image_says_on_the_serial_port_arrives_and_a_reset_ends_the_machine() {
    require!();
    let machine = Machine::start(Guest::new().say("hello\n").reset());
    let ended = machine.wait(SOON);
    assert_eq!(ended, Ended::exited(0, "hello\n"));
}

#[test]
fn root_the_exit_port_gives_the_exit_code() {
    require!();
    let machine = Machine::start(Guest::new().out(0xf4, 7));
    assert_eq!(machine.wait(SOON), Ended::exited(7, ""));
}

#[test]
fn root_an_image_that_hangs_lives_until_it_is_dropped() {
    require!();
    let guest = Guest::new().say("x");
    let here = guest.here();
    let mut machine = Machine::start(guest.again(here));
    assert!(machine.says("x", SOON));
    assert!(!machine.has_ended(Duration::from_millis(50)));
    let pid = machine.vm().pid;
    drop(machine);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn root_memory_that_nobody_has_reads_as_ones_and_takes_everything() {
    require!();
    let guest = Guest::new()
        .store(0x3000_0000, 17)
        .load_to_port(0x3000_0000, 0xf4);
    assert_eq!(Machine::start(guest).wait(SOON), Ended::exited(0xff, ""));
}

#[test]
fn root_a_failing_image_is_reported() {
    require!();
    let ended = Machine::start(Guest::new().say("oh\n").fail()).wait(SOON);
    assert_eq!(ended.code, Some(125));
    assert!(ended.said.starts_with("oh\nplumb-vmm: "), "{}", ended.said);
}

#[test]
fn root_a_flood_on_the_serial_port_is_lost_and_stops_nothing() {
    require!();
    // Nobody reads it: the pipe is full soon, and the machine runs on.
    let guest = (0..30).fold(Guest::new(), |guest, _| guest.say("0123456789"));
    let here = guest.here();
    let machine = Machine::start(guest.again(here - 300));
    assert!(!machine.has_ended(Duration::from_millis(200)));
}

#[test]
fn root_a_flood_leaves_room_for_the_last_words_of_the_monitor() {
    require!();
    // More than a pipe holds.
    let ended = Machine::start(Guest::new().say(&"x".repeat(70_000)).fail()).wait(SOON);
    assert_eq!(ended.code, Some(125));
    let words = ended.said.trim_start_matches('x');
    assert!(words.starts_with("plumb-vmm: "), "{words}");
    assert_eq!(ended.said.len() - words.len(), 32 * 1024);
}

#[test]
fn root_an_image_that_is_none_is_refused_with_the_reason() {
    require!();
    let ended = Machine::with_image(b"#!/bin/sh\n").wait(SOON);
    assert_eq!(ended.code, Some(125));
    assert!(ended.said.contains("not a 64-bit"), "{}", ended.said);
}

#[test]
fn root_closing_the_channel_ends_the_machine() {
    require!();
    let guest = Guest::new();
    let mut machine = Machine::start(guest.again(0));
    machine
        .vm()
        .channel
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    assert_eq!(machine.wait(SOON), Ended::exited(0, ""));
}
