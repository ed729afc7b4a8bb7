//! Starting a machine, and waiting for what it does.

use core::time::Duration;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use plumb_vm::embedded::Embedded;
use plumb_vm::{Launch, Runner, Vm};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitId, WaitIdOptions};

use crate::guest::Guest;

/// Long enough for everything that works, on a machine that has much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Skips the test that calls it where machines cannot be had.
macro_rules! require {
    () => {
        if let Err(why) = plumb_vm::Runner::check(&crate::run::monitor()) {
            assert!(
                std::env::var_os("TESTS_NO_SKIP").is_none(),
                "this test cannot run: {why}"
            );
            eprintln!("skipped: {why}");
            return;
        }
    };
}
pub(crate) use require;

pub(crate) fn monitor() -> Embedded {
    Embedded::with_program(env!("CARGO_BIN_EXE_plumb-vmm"))
}

/// How a machine ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit code; none if it was killed.
    pub(crate) code: Option<i32>,
    /// What it said on the console.
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn exited(code: i32, said: &str) -> Self {
        let said = said.into();
        Self {
            code: Some(code),
            said,
        }
    }
}

/// A machine, with the other end of its network interface: a socket that frames come from.
pub(crate) struct Machine {
    vm: Option<Vm>,
    said: Vec<u8>,
    pub(crate) wire: UnixDatagram,
}

impl Machine {
    pub(crate) fn start(guest: Guest) -> Self {
        Self::with_image(&guest.elf())
    }

    pub(crate) fn with_image(image: &[u8]) -> Self {
        Self::launch(image, false)
    }

    pub(crate) fn launch(image: &[u8], merge: bool) -> Self {
        let (wire, tap) = UnixDatagram::pair().unwrap();
        wire.set_read_timeout(Some(SOON)).unwrap();
        let launch = Launch {
            name: None,
            image,
            command_line: "test",
            module: b"module",
            memory_mib: 8,
            tap: OwnedFd::from(tap),
            tap_name: "",
            mac: [2, 0, 0, 0, 0, 1],
            merge,
        };
        Self {
            vm: Some(monitor().launch(launch).unwrap()),
            said: Vec::new(),
            wire,
        }
    }

    pub(crate) fn vm(&mut self) -> &mut Vm {
        self.vm.as_mut().unwrap()
    }

    /// Whether the process ends within a time.
    pub(crate) fn has_ended(&self, within: Duration) -> bool {
        readable(self.vm.as_ref().unwrap().process.as_fd(), within)
    }

    /// Whether the console says something within a time.
    pub(crate) fn says(&mut self, text: &str, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !String::from_utf8_lossy(&self.said).contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let console = self.vm.as_ref().unwrap().console.as_fd();
            if left.is_zero() || !readable(console, left) {
                return false;
            }
            let mut bytes = [0; 4096];
            match rustix::io::read(console, &mut bytes) {
                Ok(len) if len > 0 => self.said.extend(&bytes[..len]),
                _ => return false,
            }
        }
        true
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, within: Duration) -> Ended {
        assert!(self.has_ended(within), "it did not end");
        let vm = self.vm.take().unwrap();
        let status = rustix::process::waitid(
            WaitId::PidFd(vm.process.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        let code = status.unwrap().and_then(|status| status.exit_status());
        let mut console = std::fs::File::from(vm.console.try_clone().unwrap());
        console.read_to_end(&mut self.said).unwrap();
        let said = String::from_utf8_lossy(&self.said).into_owned();
        Ended { code, said }
    }
}

pub(crate) fn readable(fd: std::os::fd::BorrowedFd<'_>, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}
