//! A machine with the real image, alone in a private network.

use core::time::Duration;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use plumb_channel::{Configure, Host, Limits, News, Ready};
use plumb_link::{Clock, Interface, Tap, TapOptions, namespace};
use plumb_probe::Config;
use plumb_vm::{IMAGE, Launch, Runner, Vm};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Skips the test that calls it where the runner cannot be used.
macro_rules! require {
    ($runner:expr) => {
        if let Err(why) = plumb_vm::Runner::check($runner) {
            crate::probe::skipped(&why.to_string());
            return;
        }
    };
}
pub(crate) use require;

/// The same where the runner is Firecracker, which no archive has: nothing is missing then.
macro_rules! require_firecracker {
    ($runner:expr) => {
        if let Err(why) = plumb_vm::Runner::check($runner) {
            eprintln!("skipped: {why}");
            return;
        }
    };
}
pub(crate) use require_firecracker;

/// Says why a test did not run; where nothing may be missing, that is a failure.
pub(crate) fn skipped(why: &str) {
    assert!(
        std::env::var_os("TESTS_NO_SKIP").is_none(),
        "this test cannot run: {why}"
    );
    eprintln!("skipped: {why}");
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x17];

/// A machine that was started.
pub(crate) struct Probe {
    vm: Vm,
    host: Host,
    clock: Clock,
    said: String,
}

impl Probe {
    /// Starts a machine in a network namespace of this thread's own, with a session begun.
    pub(crate) fn start(runner: &dyn Runner) -> Self {
        namespace::enter_network().unwrap();
        let tap = Tap::create(&TapOptions {
            name: "vm0".into(),
            mtu: 1400,
            ..TapOptions::default()
        });
        let clock = Clock::new();
        let configure = Configure {
            session: 7,
            engine: Config::default(),
            seed: 1,
            packets: false,
        };
        let mut host = Host::new(&configure, Limits::default(), clock.now());
        let module = host.transmit().to_vec();
        let launch = Launch {
            name: None,
            image: IMAGE,
            command_line: "ip=10.0.0.2/24 gw=10.0.0.1 ip6=fd00::2/64 mtu=1400",
            module: &module,
            memory_mib: 8,
            tap: tap.unwrap().into_fd(),
            tap_name: "vm0",
            mac: MAC,
            merge: true,
        };
        let vm = runner.launch(launch).unwrap();
        host.handle_sent(module.len());
        Self {
            vm,
            host,
            clock,
            said: String::new(),
        }
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.vm.pid
    }

    /// Waits until the engine says what machine it is in.
    pub(crate) fn comes_up(&mut self, patience: Duration) -> Ready {
        let began = Instant::now();
        loop {
            while let Some(news) = self.host.poll_news() {
                if let News::Ready(ready) = news {
                    return ready;
                }
            }
            assert!(began.elapsed() < patience, "nothing came: {}", self.said);
            self.turn();
        }
    }

    /// Waits for a byte, or the end of the machine, which is a failure.
    fn turn(&mut self) {
        let timeout = Timespec::try_from(Duration::from_millis(100)).unwrap();
        let mut fds = [
            PollFd::new(&self.vm.channel, PollFlags::IN),
            PollFd::new(&self.vm.console, PollFlags::IN),
            PollFd::new(&self.vm.process, PollFlags::IN),
        ];
        poll(&mut fds, Some(&timeout)).unwrap();
        let ended = !fds[2].revents().is_empty();
        let mut bytes = [0; 65_536];
        if let Ok(len) = rustix::io::read(self.vm.console.as_fd(), &mut bytes) {
            self.said += &String::from_utf8_lossy(&bytes[..len]);
        }
        if let Ok(len) = self.vm.channel.read(&mut bytes) {
            let now = self.clock.now();
            self.host.handle_bytes(&bytes[..len], now).unwrap();
        }
        assert!(!ended, "the machine has ended: {}", self.said);
        if let Ok(len @ 1..) = self.vm.channel.write(self.host.transmit()) {
            self.host.handle_sent(len);
        }
    }

    /// Ends the machine, and expects nothing of it to be left.
    pub(crate) fn end(self) {
        assert!(Interface::find("vm0").unwrap().is_some());
        let pid = self.pid();
        drop(self);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(Interface::find("vm0").unwrap(), None);
    }
}

/// Expects the machine to be the one that was asked for, and to leave nothing behind.
pub(crate) fn comes_up_and_goes(runner: &dyn Runner, patience: Duration) {
    let mut probe = Probe::start(runner);
    let ready = probe.comes_up(patience);
    assert_eq!((ready.session, ready.mac, ready.mtu), (7, MAC, 1400));
    let addresses: Vec<String> = ready
        .addresses
        .iter()
        .map(|(address, len)| format!("{address}/{len}"))
        .collect();
    assert_eq!(addresses, ["10.0.0.2/24", "fd00::2/64"]);
    probe.end();
}
